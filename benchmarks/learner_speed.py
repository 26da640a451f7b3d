"""What one sample costs a learner: per call beside the bare compiled function and `eqx.filter_jit`, and in chunks.

    python benchmarks/learner_speed.py [--units 32] [--runs 5]

Chunks stand beside the same network by hand in plain JAX: its forward pass alone, and windows of BPTT with Adam.
"""

import argparse
import statistics
import time

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


def by_hand(units: int, window: int):
    """A GRU, its readout, Adam on BPTT's gradient of each window: forward alone, and learning; `(call, call)`."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"w": (3 * units, FEATURES), "u": (3 * units, units), "out": (1, units)}
    weights = {name: 0.2 * jax.random.normal(k, s) for (name, s), k in zip(shapes.items(), keys, strict=True)}
    weights |= {"b": jnp.zeros(3 * units), "c": jnp.zeros(units)}
    optimizer = optax.adam(1e-3)

    def unroll(weights, state, inputs):
        def step(state, drive):
            below, above = jnp.split(drive, [2 * units])
            recurrent = weights["u"] @ state
            reset, update = jnp.split(jax.nn.sigmoid(below + recurrent[: 2 * units]), 2)
            new = jnp.tanh(above + reset * (recurrent[2 * units :] + weights["c"]))
            state = (1 - update) * new + update * state
            return state, state

        state, states = jax.lax.scan(step, state, inputs @ weights["w"].T + weights["b"])
        return state, states @ weights["out"].T

    def loss(weights, state, inputs, targets):
        state, outputs = unroll(weights, state, inputs)
        return jnp.sum((outputs - targets) ** 2), (state, outputs)

    def learn(known, piece):
        weights, memory, state = known
        (_, (state, outputs)), gradient = jax.value_and_grad(loss, has_aux=True)(weights, state, *piece)
        updates, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(weights, updates), memory, state), outputs

    cut = lambda leaf: leaf.reshape(-1, window, leaf.shape[-1])  # noqa: E731
    start = weights, optimizer.init(weights), jnp.zeros(units)
    forward = jax.jit(lambda x, y: jax.lax.scan(lambda s, piece: unroll(weights, s, piece), start[2], cut(x))[1])
    both = jax.jit(lambda x, y: jax.lax.scan(learn, start, (cut(x), cut(y)))[1])
    return forward, both


def chunks(units: int, runs: int) -> None:
    """`run` over 4,096 samples, by the window."""
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=(SAMPLES, size)), jnp.float32) for size in (FEATURES, 1))
    print(f"GRU of {units}, run over {SAMPLES:,} samples, us a sample (medians of {runs} interleaved runs)")
    for window in (1, 8, 32, 128):
        calls = dict(zip(("forward by hand", "BPTT by hand"), by_hand(units, window), strict=True))
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
