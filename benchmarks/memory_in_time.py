"""Compiled temporary memory of every algorithm against the length of the window.

python benchmarks/memory_in_time.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from common import report

import onward as ow

LENGTHS = 1_000, 10_000, 100_000


def main() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    net = ow.stack(
        ow.cells.GRU(4, 16, key=keys[0]), ow.cells.LRU(16, 16, key=keys[1]), readout=eqx.nn.Linear(32, 2, key=keys[2])
    )
    parameters, static = eqx.partition(net, eqx.is_inexact_array)
    rows = {}
    for algorithm in (ow.BPTT(), ow.BPTT(checkpoint="sqrt"), ow.RTRL(), ow.SnAp(1), ow.EProp(), ow.SpatialBP()):

        def work(parameters, carry, window, algorithm=algorithm):
            network = eqx.combine(parameters, static)
            carry, estimate = algorithm.run(network, ow.losses.squared_error, carry, window)
            return carry, estimate.gradient, estimate.loss

        sizes = []
        for length in LENGTHS:
            shapes = (jax.ShapeDtypeStruct((length, *rest), jnp.float32) for rest in ((4,), (2,), ()))
            compiled = jax.jit(work).lower(parameters, algorithm.init(net), ow.Sample(*shapes)).compile()
            sizes.append(compiled.memory_analysis().temp_size_in_bytes)
        rows[repr(algorithm)] = "  ".join(f"{size / 1e6:10.3f} MB" for size in sizes)
    report("temporary memory at T = " + ", ".join(f"{length:,}" for length in LENGTHS), rows)


if __name__ == "__main__":
    main()
