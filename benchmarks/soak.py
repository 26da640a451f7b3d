"""A learner on a stream that drifts, jumps, spikes and has gaps, for ten million samples: does anything wear out?

    python benchmarks/soak.py [--samples 10000000] [--report 1000000]

The stream is an oscillation whose period, level and spread wander, with a jump of regime every 200,000 samples, one
sample in 10,000 a thousand times too large, and one in 100 missing. Prints, by stretch: time a sample, error beside the
naive forecast's, the norms of parameters and of the influence, units that have stopped moving, and refused updates.
"""

import argparse
import time

import jax
import numpy as np
import optax

import onward as ow
from onward.baselines import forecasts
from onward.forecaster import make_network
from onward.limits import limit_norms

CHUNK = 10_000
PERIOD = 50


class Stream:
    """Chunks of the series, made as they are needed."""

    def __init__(self, seed: int):
        self.random, self.step, self.phase = np.random.default_rng(seed), 0, 0.0
        self.level, self.spread, self.period = 0.0, 1.0, float(PERIOD)

    def chunk(self, size: int) -> np.ndarray:
        random = self.random
        if self.step % 200_000 == 0:
            self.level += random.normal() * 5
            self.period = PERIOD * random.uniform(0.5, 2.0)
            self.spread = random.uniform(0.2, 5.0)
        self.phase += size * 2 * np.pi / self.period
        phases = self.phase + np.arange(-size, 0) * 2 * np.pi / self.period
        values = self.level + self.spread * (np.sin(phases) + 0.3 * np.sin(2 * phases) + 0.1 * random.normal(size=size))
        values[random.random(size) < 1e-4] *= 1000
        values[random.random(size) < 1e-2] = np.nan
        self.step += size
        return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--report", type=int, default=1_000_000)
    parser.add_argument("--cell", default="rtu")
    options = parser.parse_args()
    optimizer = optax.flatten(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)))
    optimizer = optax.chain(optimizer, limit_norms())
    network = make_network(options.cell, 1, 32, 0, start=1.0)
    learner = ow.Learner(network, ow.losses.squared_error, ow.RTRL(), optimizer, horizon=1, normalize=True)
    state, stream, weight = learner.init(), Stream(0), np.ones(CHUNK, np.float32)
    began, spent, errors, before = time.perf_counter(), 0.0, [], None
    print("samples    us a sample   MAE   of naive   |parameters|   |influence|   still units   refused", flush=True)
    for done in range(CHUNK, options.samples + 1, CHUNK):
        values = stream.chunk(CHUNK).astype(np.float32)[:, None]
        start = time.perf_counter()
        state, output = learner.run(state, ow.Sample(values, values, weight))
        output = np.asarray(output)
        if done > CHUNK:  # the first chunk compiles
            spent += time.perf_counter() - start
        naive = forecasts(values[:, 0].astype(float), 1)
        pair = np.abs(np.stack([output[:-1, 0] - values[1:, 0], naive[:-1] - values[1:, 0]]))
        errors.append(np.nanmedian(pair, axis=1))
        if done % options.report == 0:
            known = learner.unpack(state)
            norm = lambda tree: float(np.sqrt(sum((np.asarray(x, float) ** 2).sum() for x in jax.tree.leaves(tree))))  # noqa: E731
            activity = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(known.carry.states)])
            still = "" if before is None else f"{np.mean(np.abs(activity - before) < 1e-6):.0%}"
            before = activity
            mae, base = np.mean(errors, axis=0)
            sizes = f"{norm(known.parameters):12.1f}   {norm(known.carry.memory):11.1f}"
            print(
                f"{done:>10}   {1e6 * spent / (done - CHUNK if done == options.report else options.report):10.2f}   "
                f"{mae:.3f}   {mae / base:8.3f}   {sizes}   {still:>11}   {int(known.refused):7}",
                flush=True,
            )
            if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(known)):
                raise SystemExit("something is not finite")
            spent, errors = 0.0, []
    print(f"all finite; {time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
