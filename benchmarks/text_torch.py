"""BPTT of a word-level language model, with its softmax over all words, against the same in PyTorch, on all cores.

    python benchmarks/text_torch.py [--vocabulary 10000] [--units 128] [--batch 128] [--length 50]

Embedding, one LSTM, a map to the words and the mean cross-entropy, on the same weights and words. One virtual device
per core, the batch sharded over them, as the command line does; torch uses its own threads. `BPTT(checkpoint=...)`
keeps the outputs of so many words at a time.
"""

import argparse
import os
from typing import Any

import jax

jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

import equinox as eqx  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from common import medians, report  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

import onward as ow  # noqa: E402


class Model(torch.nn.Module):
    """The network `net` in PyTorch."""

    def __init__(self, net: ow.Network):
        super().__init__()
        nodes = net.nodes
        tensor = lambda leaf: torch.tensor(np.asarray(leaf))  # noqa: E731
        self.embedding = torch.nn.Embedding.from_pretrained(tensor(nodes["embedding"].weight), freeze=False)
        self.lstm = ow.interop.to_torch([nodes["lstm_1"]], batch_first=True)
        self.readout = torch.nn.Linear(nodes["readout"].in_features, nodes["readout"].out_features)
        self.readout.weight.data, self.readout.bias.data = map(tensor, (nodes["readout"].weight, nodes["readout"].bias))

    def forward(self, words):
        return self.readout(self.lstm(self.embedding(words))[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("vocabulary", 10_000), ("units", 128), ("batch", 128), ("length", 50), ("runs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    net = ow.networks.language_model(options.vocabulary, units=options.units, key=jax.random.key(0))
    model = Model(net)
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    parameters, static = eqx.partition(net, eqx.is_inexact_array)
    parameters = jax.device_put(parameters, NamedSharding(mesh, PartitionSpec()))
    shape = options.batch, options.length
    words = np.random.default_rng(0).integers(0, options.vocabulary, (2, *shape))
    weight = np.full(shape, 1 / options.length, np.float32)
    window = jax.device_put(ow.Sample(*map(jnp.asarray, (*words, weight))), NamedSharding(mesh, PartitionSpec("batch")))

    def compiled(algorithm):
        def gradient(parameters, window):
            network = eqx.combine(parameters, static)
            carry = algorithm.init(network, batch=options.batch)
            _, estimate = algorithm.run(network, ow.losses.cross_entropy, carry, window)
            return estimate.loss, estimate.gradient

        return jax.jit(gradient).lower(parameters, window).compile()

    def in_torch():
        model.zero_grad()
        inputs, targets = map(torch.tensor, words)
        loss = torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        return float(loss.detach())

    algorithms = (ow.BPTT(), ow.BPTT(checkpoint=max(1, options.length // 6)))
    programs = {str(algorithm): compiled(algorithm) for algorithm in algorithms}
    work: dict[str, Any] = {"torch": in_torch}
    work |= {name: lambda program=program: program(parameters, window) for name, program in programs.items()}
    times = medians(work, options.runs)
    found = {"torch": f"{times['torch']:.3f} s ({torch.get_num_threads()} threads)"}
    for name, program in programs.items():
        plan: Any = program.memory_analysis()
        ratio, memory = times[name] / times["torch"], plan.temp_size_in_bytes / 1e6
        found[name] = f"{times[name]:.3f} s, {ratio:.2f} of torch's, {memory:,.0f} MB a device"
    found["same loss to"] = f"{abs(float(programs[str(algorithms[0])](parameters, window)[0]) / in_torch() - 1):.1e}"
    title = f"{options.vocabulary:,} words, LSTM of {options.units}, batch {options.batch}, T = {options.length}"
    report(f"{title}, {len(jax.devices())} devices", found)


if __name__ == "__main__":
    main()
