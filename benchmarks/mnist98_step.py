"""One training step of the MNIST98 network (4 LRU blocks of 32, batch 64): seconds and temporary memory by algorithm.

    python benchmarks/mnist98_step.py [--length 784]

At another length than 98 the pixels are random. Seconds are also given relative to BPTT's.
"""

import argparse
import os

import jax

jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

import equinox as eqx  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from common import medians, report  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

import onward as ow  # noqa: E402
from onward.networks import lru_blocks  # noqa: E402

ALGORITHMS = (
    ow.BPTT(),
    ow.BPTT(checkpoint="sqrt"),
    ow.SpatialBP(),
    ow.SnAp(1),
    ow.EProp(),
    ow.ForwardErrors(),
    ow.ForwardErrors(segments=None),
    ow.ForwardErrors(warmup="shoot", segments=None),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=98)
    length = parser.parse_args().length
    task = ow.tasks.make("mnist98")
    net = lru_blocks(task.input_size, task.output_size, key=jax.random.key(0))
    parameters, static = eqx.partition(net, eqx.is_inexact_array)
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    sample = jax.tree.map(jnp.asarray, task.train_batch(0, 0, 64))
    if length != 98:
        pixels = np.random.default_rng(0).uniform(size=(64, length, 1)).astype(np.float32)
        label = jnp.broadcast_to(sample.target[:, :1], (64, length))
        sample = ow.Sample(jnp.asarray(pixels), label, jnp.full((64, length), 1 / length))
    sample = jax.device_put(sample, NamedSharding(mesh, PartitionSpec("batch")))
    parameters = jax.device_put(parameters, NamedSharding(mesh, PartitionSpec()))
    work, memory = {}, {}
    for algorithm in ALGORITHMS:

        def step(parameters, sample, algorithm=algorithm):
            network = eqx.combine(parameters, static)
            carry = algorithm.init(network, batch=64)
            _, estimate = algorithm.run(network, task.loss, carry, sample)
            return estimate.loss, estimate.gradient

        compiled = jax.jit(step).lower(parameters, sample).compile()
        work[repr(algorithm)] = lambda c=compiled: c(parameters, sample)
        memory[repr(algorithm)] = compiled.memory_analysis().temp_size_in_bytes
    times = medians(work)
    rows = {
        name: f"{times[name]:.4f} s, {times[name] / times[repr(ow.BPTT())]:.2f} of BPTT's, "
        f"{memory[name] / 1e6:.1f} MB temporary a device"
        for name in work
    }
    report(f"MNIST98 network, 4 LRU blocks of 32, batch 64, T = {length}, {len(jax.devices())} devices", rows)


if __name__ == "__main__":
    main()
