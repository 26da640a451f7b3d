"""What one sample costs a learner: per call beside the bare compiled function and `eqx.filter_jit`, and in chunks.

python benchmarks/learner_speed.py [--units 32] [--runs 5]
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

FEATURES = 4


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


def chunks(units: int, runs: int) -> None:
    """`run` over 4,096 samples, by the window."""
    print(f"GRU of {units}, run over 4,096 samples")
    for name, algorithm in (("e-prop", ow.EProp()), ("BPTT", ow.BPTT())):
        for window in (1, 8, 32, 128):
            learner = ow.Learner(network(units), ow.losses.squared_error, algorithm, optax.adam(1e-3), window)
            rng = np.random.default_rng(0)
            shape = 4096, FEATURES
            chunk = ow.Sample(rng.normal(size=shape), rng.normal(size=(4096, 1)), np.ones(4096))
            state = learner.init()
            jax.block_until_ready(learner.run(state, chunk))
            times = []
            for _ in range(runs):
                start = time.perf_counter()
                jax.block_until_ready(learner.run(state, chunk))
                times.append(1e6 * (time.perf_counter() - start) / 4096)
            print(f"  {name:<8} window {window:<4}{statistics.median(times):8.2f} us a sample")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    per_sample(options.units, options.runs)
    chunks(options.units, options.runs)
