"""What one sample costs a learner: per call beside the bare compiled function and `eqx.filter_jit`, and in chunks.

    python benchmarks/learner_speed.py [--units 32] [--runs 5]

Chunks stand beside the same network by hand in plain JAX: its forward pass alone, and Adam on windows of BPTT and of
e-prop, whose formulas for this one network are written out.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import onward as ow

FEATURES, SAMPLES = 4, 4096


def network(units: int) -> ow.Network:
    cell = ow.cells.GRU(FEATURES, units, key=jax.random.key(0))
    return ow.stack(cell, readout=eqx.nn.Linear(units, 1, key=jax.random.key(1)))


def microseconds(call, count: int, runs: int) -> list[float]:
    """Of each of `count` calls, in `runs` runs."""
    call(count // 4)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        jax.block_until_ready(call(count))
        times.append(1e6 * (time.perf_counter() - start) / count)
    return times


def per_sample(units: int, runs: int) -> None:
    """`learn` beside the same arithmetic as one compiled function of a flat tuple, and behind `eqx.filter_jit`."""
    net = network(units)
    optimizer, algorithm = optax.adam(1e-3), ow.EProp()
    learner = ow.Learner(net, ow.losses.squared_error, algorithm, optimizer)
    x, y = np.ones(FEATURES, np.float32), np.ones(1, np.float32)

    def learn(count):
        state = learner.init()
        for _ in range(count):
            state = learner.learn(state, x, y)
        return state

    def predict(count):
        state = learner.init()
        for _ in range(count):
            output = learner.predict(state, x)
        return output

    bare_function = jax.jit(lambda arrays, x, y: learner._learn(arrays, (x, y, jnp.float32(1), jnp.bool_(False)))[0])

    def bare(count):
        arrays = learner.init().arrays
        for _ in range(count):
            arrays = bare_function(arrays, x, y)
        return arrays

    @eqx.filter_jit
    def step(net, memory, carry, x, y):
        window = ow.Sample(x[None], y[None], jnp.ones(1))
        carry, estimate = algorithm.run(net, ow.losses.squared_error, carry, window)
        updates, memory = optimizer.update(estimate.gradient, memory)
        return eqx.apply_updates(net, updates), memory, carry

    def obvious(count):
        now, memory, carry = net, optimizer.init(eqx.filter(net, eqx.is_inexact_array)), algorithm.init(net)
        for _ in range(count):
            now, memory, carry = step(now, memory, carry, x, y)
        return memory

    calls = {"bare compiled call": bare, "learn": learn, "eqx.filter_jit": obvious, "predict": predict}
    times = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            times[name] += microseconds(call, 2000, 1)
    base = statistics.median(times["bare compiled call"])
    print(f"GRU of {units}, e-prop, Adam, one sample a call (medians of {runs} interleaved runs)")
    for name, some in times.items():
        middle = statistics.median(some)
        print(f"  {name:<20}{middle:8.1f} us   {middle / base:5.2f} of the bare call")


def by_hand(units: int, window: int) -> dict[str, Callable]:
    """A GRU and its readout: forward alone, and Adam on the gradient of each window by BPTT and by e-prop."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"w": (3 * units, FEATURES), "u": (3 * units, units), "out": (1, units)}
    weights = {name: 0.2 * jax.random.normal(k, s) for (name, s), k in zip(shapes.items(), keys, strict=True)}
    weights |= {"b": jnp.zeros(3 * units), "c": jnp.zeros(units)}
    optimizer = optax.adam(1e-3)

    def gates(drive, recurrent, c):
        reset, update = jnp.split(jax.nn.sigmoid((drive + recurrent)[..., : 2 * units]), 2, axis=-1)
        above = recurrent[..., 2 * units :] + c
        return reset, update, above, jnp.tanh(drive[..., 2 * units :] + reset * above)

    def unroll(weights, state, inputs):
        def step(state, drive):
            recurrent = weights["u"] @ state
            _, update, _, new = gates(drive, recurrent, weights["c"])
            state = (1 - update) * new + update * state
            return state, (state, recurrent)

        drives = inputs @ weights["w"].T + weights["b"]
        state, (states, recurrent) = jax.lax.scan(step, state, drives)
        return state, states @ weights["out"].T, (drives, recurrent, states)

    def loss(weights, state, inputs, targets):
        state, outputs, _ = unroll(weights, state, inputs)
        return jnp.sum((outputs - targets) ** 2), (state, outputs)

    def bptt(weights, state, inputs, targets):
        (_, (state, outputs)), gradient = jax.value_and_grad(loss, has_aux=True)(weights, state, inputs, targets)
        return state, gradient, outputs

    def eprop(weights, carry, inputs, targets):
        """The traces of the windows before are carried; those of this one are summed from its end, as slopes."""
        first, traces = carry
        last, outputs, (drives, recurrent, states) = unroll(weights, first, inputs)
        before = jnp.concatenate([first[None], states[:-1]])
        reset, update, above, new = gates(drives, recurrent, weights["c"])
        errors = 2 * (outputs - targets)

        def back(later, now):
            kept, signal = now
            both = later + jnp.stack([signal, jnp.zeros_like(signal)])
            return kept * both, both

        end = jnp.stack([jnp.zeros(units), jnp.ones(units)])
        start, sums = jax.lax.scan(back, end, (update, errors @ weights["out"]), reverse=True)

        def rows(sums):
            toward_new = sums * (1 - update) * (1 - new**2)
            toward_update = sums * (before - new) * update * (1 - update)
            low = jnp.concatenate([toward_new * above * reset * (1 - reset), toward_update], axis=1)
            driven, heard = (jnp.concatenate([low, third], axis=1) for third in (toward_new, toward_new * reset))
            return {
                "w": driven.T @ inputs,
                "u": heard.T @ before,
                "b": driven.sum(0),
                "c": heard[:, 2 * units :].sum(0),
            }

        def add(found, factor):
            factors = {"w": jnp.tile(factor, 3)[:, None], "b": jnp.tile(factor, 3), "c": factor}
            factors["u"] = factors["w"]
            return {name: found[name] + factors[name] * traces[name] for name in traces}

        gradient = add(rows(sums[:, 0]), start[0]) | {"out": errors.T @ states}
        return (last, add(rows(sums[:, 1]), start[1])), gradient, outputs

    def learning(gradient_of, carry):
        def learn(known, piece):
            weights, memory, carry = known
            carry, gradient, outputs = gradient_of(weights, carry, *piece)
            updates, memory = optimizer.update(gradient, memory)
            return (optax.apply_updates(weights, updates), memory, carry), outputs

        start = weights, optimizer.init(weights), carry
        return jax.jit(lambda x, y: jax.lax.scan(learn, start, (cut(x), cut(y)))[1])

    cut = lambda leaf: leaf.reshape(-1, window, leaf.shape[-1])  # noqa: E731
    still = jnp.zeros(units)
    no_traces = {name: jnp.zeros_like(weights[name]) for name in ("w", "u", "b", "c")}
    return {
        "forward by hand": jax.jit(lambda x, y: jax.lax.scan(lambda s, i: unroll(weights, s, i)[:2], still, cut(x))[1]),
        "BPTT by hand": learning(bptt, still),
        "e-prop by hand": learning(eprop, (still, no_traces)),
    }


def chunks(units: int, runs: int) -> None:
    """`run` over 4,096 samples, by the window."""
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=(SAMPLES, size)), jnp.float32) for size in (FEATURES, 1))
    print(f"GRU of {units}, run over {SAMPLES:,} samples, us a sample (medians of {runs} interleaved runs)")
    for window in (1, 8, 32, 128):
        calls = by_hand(units, window)
        for name, algorithm in (("BPTT", ow.BPTT()), ("e-prop", ow.EProp())):
            learner = ow.Learner(network(units), ow.losses.squared_error, algorithm, optax.adam(1e-3), window)
            state = learner.init()
            calls[name] = lambda x, y, learner=learner, state=state: learner.run(
                state, ow.Sample(x, y, np.ones(SAMPLES, np.float32))
            )
        times = {name: [] for name in calls}
        for _ in range(runs + 1):
            for name, call in calls.items():
                start = time.perf_counter()
                jax.block_until_ready(call(x, y))
                times[name].append(1e6 * (time.perf_counter() - start) / SAMPLES)
        shown = "   ".join(f"{name} {statistics.median(some[1:]):6.2f}" for name, some in times.items())
        print(f"  window {window:<4} {shown}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    per_sample(options.units, options.runs)
    chunks(options.units, options.runs)
