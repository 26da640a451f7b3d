"""What SnAp(n) costs where connections are few: influence kept and time a step, by share of connections.

    python benchmarks/snap_sparsity.py [--units 128] [--densities 1 0.25 0.125 0.0625 0.03125]

One GRU layer of which a share of the recurrent connections is left (`cells.Sparse`), 16 inputs, float32, one sequence,
step by step. Printed: numbers of influence that are carried, and microseconds a step (median of interleaved runs of 64
steps) beside RTRL's on the same network. BPTT's are of the whole window.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
from common import medians, report

import onward as ow

INPUT, STEPS = 16, 64
ALGORITHMS = {"BPTT": ow.BPTT(), "SnAp(1)": ow.SnAp(1), "SnAp(2)": ow.SnAp(2), "SnAp(3)": ow.SnAp(3), "RTRL": ow.RTRL()}


def stepwise(net: ow.Network, algorithm: ow.Algorithm):
    """A compiled function without arguments: the gradient of a sequence, asked after every step but of BPTT."""
    x = jnp.sin(jnp.arange(float(STEPS * INPUT))).reshape(STEPS, INPUT)
    sample = ow.Sample(x, jnp.zeros((STEPS, 1)), jnp.ones(STEPS))
    windows = sample if algorithm.kind == "offline" else jax.tree.map(lambda leaf: leaf[:, None], sample)
    parameters, static = eqx.partition(net, eqx.is_inexact_array)

    def one(parameters, carry, window):
        carry, estimate = algorithm.run(eqx.combine(parameters, static), ow.losses.squared_error, carry, window)
        return carry, estimate.gradient

    def whole(parameters, carry):
        if algorithm.kind == "offline":
            return one(parameters, carry, windows)

        def add(state, window):
            carry, gradient = one(parameters, state[0], window)
            return (carry, jax.tree.map(jnp.add, state[1], gradient)), None

        return jax.lax.scan(add, (carry, jax.tree.map(jnp.zeros_like, parameters)), windows)[0]

    carry = algorithm.init(net)
    compiled = jax.jit(whole).lower(parameters, carry).compile()
    return (lambda: compiled(parameters, carry)), sum(leaf.size for leaf in jax.tree.leaves(carry.memory))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--densities", type=float, nargs="+", default=[1.0, 0.25, 0.125, 0.0625, 0.03125])
    arguments = parser.parse_args()
    keys = jax.random.split(jax.random.key(0))
    for density in arguments.densities:
        cell = ow.cells.GRU(INPUT, arguments.units, key=keys[0])
        cell = ow.cells.Sparse(cell, density) if density < 1 else cell
        net = ow.stack(cell, readout=eqx.nn.Linear(arguments.units, 1, key=keys[1]))
        made = {name: stepwise(net, algorithm) for name, algorithm in ALGORITHMS.items()}
        seconds = medians({name: work for name, (work, _) in made.items()}, runs=5)
        rows = {
            name: f"{size:>12,} numbers   {1e6 * seconds[name] / STEPS:>10.1f} us" for name, (_, size) in made.items()
        }
        report(f"{arguments.units} GRU units, {100 * density:g} % of the recurrent connections", rows)


if __name__ == "__main__":
    main()
