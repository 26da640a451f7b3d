"""RTRL of a tanh layer: against the machine's matrix-product rate, plain NumPy, and long windows.

    python benchmarks/rtrl_speed.py [--units 128] [--inputs 32]

Prints, all measured in one run: the machine's float32 rate for the influence's own matrix product; seconds a step at
window 1 and the share of that rate; the plain NumPy formulation; the window of as many steps as units, its speed
relative to window 1, and the difference of gradient and carried influence between the two.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from common import medians, report

import onward as ow


def numpy_step(weight, influence, state, input, immediate_rows):
    """One step of the textbook recursion S' = J S + M in NumPy, for h' = tanh(W h + U x + b) (one bias)."""
    new = np.tanh(weight @ state + input)
    slope = 1 - new**2
    influence = (slope[:, None] * weight) @ influence
    units = len(state)
    view = influence.reshape(units, units, -1)
    view[np.arange(units), np.arange(units)] += slope[:, None] * immediate_rows
    return new, influence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--inputs", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8, help="steps timed at window 1 and in NumPy")
    options = parser.parse_args()
    units, inputs, steps = options.units, options.inputs, options.steps
    rng = np.random.default_rng(0)
    net = ow.stack(ow.cells.RNN(inputs, units, key=jax.random.key(0)))
    parameters, static = eqx.partition(net, eqx.is_inexact_array)
    algorithm, loss = ow.RTRL(), ow.losses.squared_error
    columns = units + inputs + 2

    def data(length):
        arrays = rng.normal(size=(length, inputs)), rng.normal(size=(length, units)), np.ones(length)
        return ow.Sample(*(jnp.asarray(a, jnp.float32) for a in arrays))

    @jax.jit
    def stepwise(parameters, carry, window):
        def step(state, sample):
            carry, total = state
            carry, estimate = algorithm.run(eqx.combine(parameters, static), loss, carry, sample)
            return (carry, jax.tree.map(jnp.add, total, estimate.gradient)), estimate.loss

        start = carry, jax.tree.map(jnp.zeros_like, parameters)
        return jax.lax.scan(step, start, jax.tree.map(lambda leaf: leaf[:, None], window))[0]

    @jax.jit
    def windowed(parameters, carry, window):
        carry, estimate = algorithm.run(eqx.combine(parameters, static), loss, carry, window)
        return carry, estimate.gradient

    short, long = data(steps), data(units)
    carry = algorithm.init(net)
    matrix, wide = jnp.ones((units, units)), jnp.ones((units, units * columns))
    product = jax.jit(lambda a, b: a @ b)
    weight = np.asarray(net.nodes["0_rnn"].weight_hh)
    state, influence = np.zeros(units, np.float32), np.zeros((units, units * (columns - 1)), np.float32)
    rows = np.ones((units, columns - 1), np.float32)

    def in_numpy():
        s, p = state, influence
        for _ in range(steps):
            s, p = numpy_step(weight, p, s, state, rows)
        return p

    times = medians(
        {
            "product": lambda: product(matrix, wide),
            "window 1": lambda: stepwise(parameters, carry, short),
            "numpy": in_numpy,
            "window N": lambda: windowed(parameters, carry, long),
        }
    )
    slower = times["numpy"] / times["window 1"]
    flops = 2 * units * units * units * columns
    one, many = times["window 1"] / steps, times["window N"] / units
    (carry_a, gradient_a), (carry_b, gradient_b) = (f(parameters, carry, long) for f in (stepwise, windowed))

    def difference(a, b):
        flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (a, b)]
        return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))

    report(
        f"RTRL, tanh, {units} units, {inputs} inputs, float32",
        {
            "matrix-product rate": f"{flops / times['product'] / 1e9:.1f} GFLOP/s for the influence's own product",
            "window 1": f"{one * 1e6:.0f} us a step, {times['product'] / one:.0%} of that rate",
            "plain NumPy": f"{times['numpy'] / steps * 1e6:.0f} us a step, {slower:.1f} times window 1",
            f"window {units}": f"{many * 1e6:.0f} us a step, {one / many:.1f} times faster than window 1",
            "same gradient to": f"{difference(gradient_a, gradient_b):.1e} relative",
            "same influence to": f"{difference(carry_a.memory, carry_b.memory):.1e} relative",
        },
    )


if __name__ == "__main__":
    main()
