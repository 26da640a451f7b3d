"""Real speech by rates and by spikes: one layer on Japanese Vowels, by cell and algorithm, test accuracy and cost.

    python benchmarks/japanese_vowels.py [--cells gru leaky lif alif] [--steps 300] [--seeds 3]

A layer of 32 units, a linear readout and the mean of its outputs, Adam at 0.01, batches of 32 utterances. The cells are
a GRU and leaky tanh units (rates), and LIF and ALIF units (spikes, whose input weights are three times their usual
size: cepstrum coefficients are smaller than the inputs of variance 1 that they are made for). Printed: test accuracy
of each seed (always naming the third speaker gives 24 %), milliseconds a batch, and of the trained layer the mean
absolute emission in the utterances' own frames, which for spiking units is the share that fires in a frame.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from common import report

import onward as ow

CELLS = {"gru": ow.cells.GRU, "leaky": ow.cells.LeakyRNN, "lif": ow.cells.LIF, "alif": ow.cells.ALIF}
SPIKING = ("lif", "alif")
ALGORITHMS = {
    "BPTT": ow.BPTT(),
    "EProp": ow.EProp(),
    "EProp, random feedback": ow.EProp(feedback="random"),
    "SpatialBP": ow.SpatialBP(),
}


def build(cell: str, task: ow.tasks.Task, seed: int, units: int = 32) -> ow.Network:
    """One layer, a readout and a mean over the frames so far."""
    net = ow.networks.cell_stack(
        CELLS[cell], task.input_size, task.output_size, units=units, pooling=True, key=jax.random.key(seed)
    )
    if cell in SPIKING:
        name = net.recurrent_names[0]
        net = eqx.tree_at(lambda n: n.nodes[name].weight_ih, net, 3 * net.nodes[name].weight_ih)
    return net


def activity(net: ow.Network, sample: ow.Sample) -> float:
    """Mean absolute emission in frames up to each utterance's last."""
    name = net.recurrent_names[0]

    def step(states, x):
        states, _ = net.step(states, x)
        return states, net.nodes[name].emit(states[name])

    emissions = jax.vmap(lambda x: jax.lax.scan(step, net.initial_state(), x)[1])(jnp.asarray(sample.input))
    own = jnp.cumsum(jnp.asarray(sample.weight)[:, ::-1], axis=1)[:, ::-1] > 0
    return float(jnp.sum(jnp.abs(emissions) * own[..., None]) / (jnp.sum(own) * emissions.shape[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    task = ow.tasks.make("japanese-vowels")
    for cell in arguments.cells:
        rows = {}
        for name, algorithm in ALGORITHMS.items():
            accuracies, active, seconds = [], [], []
            for seed in range(arguments.seeds):
                trained = ow.train(
                    build(cell, task, seed),
                    task,
                    algorithm=algorithm,
                    optimizer=optax.adam(1e-2),
                    batch_size=32,
                    steps=arguments.steps,
                    seed=seed,
                )
                accuracies.append(ow.evaluate(trained.network, task, "test", 370)["accuracy"])
                active.append(activity(trained.network, next(task.evaluation("test", 370))))
                seconds += [e["seconds_per_step"] for e in trained.history if e["event"] == "end"]
            found = ", ".join(f"{100 * each:.1f}" for each in accuracies)
            milliseconds = 1e3 * min(seconds)
            rows[name] = f"{found} %   {milliseconds:.2f} ms   active {sum(active) / len(active):.2f}"
        report(f"{cell}: test accuracy by seed, least time a batch, activity", rows)


if __name__ == "__main__":
    main()
