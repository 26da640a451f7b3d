"""Exact online learning of an LRU layer against its own forward pass: time and memory.

    python benchmarks/lru_online.py [--units 128] [--inputs 32] [--batch 32]

Prints the ratio of RTRL (exact on this layer) and SnAp-1 to the forward pass alone, measured in turn in one run, and
the carried influence in multiples of the parameters.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from common import medians, report

import onward as ow
from onward.unroll import Rule, Window


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("units", 128), ("inputs", 32), ("batch", 32), ("length", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    net = ow.stack(ow.cells.LRU(options.inputs, options.units, key=jax.random.key(0)))
    parameters, static = eqx.partition(net, eqx.is_inexact_array)
    rng = np.random.default_rng(0)
    shape = options.batch, options.length
    arrays = rng.normal(size=(*shape, options.inputs)), rng.normal(size=(*shape, 2 * options.units)), np.ones(shape)
    window = ow.Sample(*(jnp.asarray(a, jnp.float32) for a in arrays))

    @jax.jit
    def forward(parameters, window):
        network = eqx.combine(parameters, static).effective()
        states = jax.tree.map(lambda s: jnp.broadcast_to(s, (options.batch, *s.shape)), network.initial_state())
        output = Window(network, Rule("none", "spatial"), states, window.input).output
        return jnp.mean(jnp.sum((output - window.target) ** 2, axis=(1, 2)))

    def learn(algorithm):
        @jax.jit
        def run(parameters, carry, window):
            carry, estimate = algorithm.run(eqx.combine(parameters, static), ow.losses.squared_error, carry, window)
            return carry, estimate.gradient, estimate.loss

        carry = algorithm.init(net, batch=options.batch)
        return (lambda: run(parameters, carry, window)), carry

    rtrl, carry = learn(ow.RTRL())
    snap, _ = learn(ow.SnAp(1))
    bptt, _ = learn(ow.BPTT())
    times = medians({"forward": lambda: forward(parameters, window), "RTRL": rtrl, "SnAp(1)": snap, "BPTT": bptt})
    size = sum(leaf.size for leaf in jax.tree.leaves(parameters))
    carried = sum(leaf.size for leaf in jax.tree.leaves(carry.memory)) / options.batch
    rows = {"forward": f"{times['forward'] / options.length * 1e6:.2f} us a step for the batch"}
    rows |= {
        name: f"{times[name] / times['forward']:.2f} times the forward pass" for name in ("RTRL", "SnAp(1)", "BPTT")
    }
    rows["carried influence"] = f"{carried / size:.2f} times the parameters, per sequence"
    report(f"LRU, {options.units} units, {options.inputs} inputs, batch {options.batch}, {options.length} steps", rows)


if __name__ == "__main__":
    main()
