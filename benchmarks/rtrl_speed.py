"""RTRL of a tanh layer: against the machine's matrix-product rate, plain NumPy, and long windows.

    python benchmarks/rtrl_speed.py [--units 128] [--inputs 32] [--lazy 16]

Prints, all measured in one run: float32 rates of the influence's own matrix product and of a large square one; seconds
a step at window 1 and the share of those rates; the recursion in NumPy, as it is written in textbooks and as quick as
we could make it (in place, the immediate derivatives added where they are not zero), both with the gradient; window
1 with the influence kept lazily, against all of those, and the difference of its gradient; the
window of as many steps as units, its speed relative to window 1, and the difference of gradient and carried influence.
"""

import argparse
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from common import medians, report

import onward as ow


def textbook_step(weight, influence, state, input, sources, error):
    """One step of S' = J S + M and error S' in NumPy, for h' = tanh(W h + U x + b) (one bias)."""
    units = len(state)
    new = np.tanh(weight @ state + input)
    slope = 1 - new**2
    immediate = np.zeros((units, units, len(sources)), weight.dtype)
    immediate[np.arange(units), np.arange(units)] = slope[:, None] * sources
    influence = (slope[:, None] * weight) @ influence + immediate.reshape(units, -1)
    return new, influence, error @ influence


def quick_step(weight, influence, state, input, sources, error, out):
    """The same, written into `out`."""
    units = len(state)
    new = np.tanh(weight @ state + input)
    slope = 1 - new**2
    np.matmul(slope[:, None] * weight, influence, out=out)
    out.reshape(units, units, -1)[np.arange(units), np.arange(units)] += slope[:, None] * sources
    return new, out, error @ out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--inputs", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8, help="steps timed at window 1 and in NumPy")
    parser.add_argument("--lazy", type=int, default=16, help="steps between updates of the influence, where lazy")
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

    @functools.partial(jax.jit, static_argnames="algorithm")
    def stepwise(parameters, carry, window, algorithm=algorithm):
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

    short, long, lazily = data(steps), data(units), ow.RTRL(lazy=options.lazy)
    carry, lazy_carry = algorithm.init(net), lazily.init(net)
    matrix, wide, square = jnp.ones((units, units)), jnp.ones((units, units * columns)), jnp.ones((1024, 1024))
    product = jax.jit(lambda a, b: a @ b)
    weight = np.asarray(net.nodes["0_rnn"].weight_hh)
    state, influence = np.zeros(units, np.float32), np.zeros((units, units * (columns - 1)), np.float32)
    sources, error, numpy_square = np.ones(columns - 1, np.float32), state + 1, np.ones((1024, 1024), np.float32)

    double = [array.astype(np.float64) for array in (weight, influence, state, sources, error)]

    def textbook(weight=weight, influence=influence, state=state, sources=sources, error=error):
        s, p = state, influence
        for _ in range(steps):
            s, p, gradient = textbook_step(weight, p, s, state, sources, error)
        return gradient

    both = influence.copy(), influence.copy()

    def quick():
        s = state
        for i in range(steps):
            s, _, gradient = quick_step(weight, both[i % 2], s, state, sources, error, both[1 - i % 2])
        return gradient

    times = medians(
        {
            "product": lambda: product(matrix, wide),
            "square": lambda: product(square, square),
            "numpy square": lambda: numpy_square @ numpy_square,
            "window 1": lambda: stepwise(parameters, carry, short),
            "lazy": lambda: stepwise(parameters, lazy_carry, long, algorithm=lazily),
            "textbook": textbook,
            "textbook, float64": lambda: textbook(*double),
            "quick": quick,
            "window N": lambda: windowed(parameters, carry, long),
        }
    )
    flops = 2 * units * units * units * columns
    one, many = times["window 1"] / steps, times["window N"] / units
    lazy = times["lazy"] / units
    (carry_a, gradient_a), (carry_b, gradient_b) = (f(parameters, carry, long) for f in (stepwise, windowed))
    gradient_c = stepwise(parameters, lazy_carry, long, algorithm=lazily)[1]

    rates = {name: 2 * 1024**3 / times[name] for name in ("square", "numpy square")}

    def difference(a, b):
        flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (a, b)]
        return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))

    report(
        f"RTRL, tanh, {units} units, {inputs} inputs, float32",
        {
            "matrix-product rate": f"{flops / times['product'] / 1e9:.1f} GFLOP/s for the influence's own product",
            "  1024 x 1024 in JAX": f"{rates['square'] / 1e9:.1f} GFLOP/s",
            "  1024 x 1024 in NumPy": f"{rates['numpy square'] / 1e9:.1f} GFLOP/s",
            "window 1": f"{one * 1e6:.0f} us a step, {flops / one / 1e9:.1f} GFLOP/s: {times['product'] / one:.0%}, "
            f"{flops / one / rates['square']:.0%}, {flops / one / rates['numpy square']:.0%} of those rates",
            **{
                f"NumPy, {name}": f"{times[name] / steps * 1e6:.0f} us a step, {times[name] / times['window 1']:.1f} "
                "times window 1"
                for name in ("textbook", "textbook, float64", "quick")
            },
            f"window 1, lazy={options.lazy}": f"{lazy * 1e6:.0f} us a step, {one / lazy:.1f} times faster; NumPy takes "
            + ", ".join(
                f"{times[name] / steps / lazy:.1f} ({name})" for name in ("textbook", "textbook, float64", "quick")
            )
            + f" times as long; the same gradient to {difference(gradient_c, gradient_a):.1e} relative",
            f"window {units}": f"{many * 1e6:.0f} us a step, {one / many:.1f} times faster than window 1",
            "same gradient to": f"{difference(gradient_a, gradient_b):.1e} relative",
            "same influence to": f"{difference(carry_a.memory, carry_b.memory):.1e} relative",
        },
    )


if __name__ == "__main__":
    main()
