"""Timing for the benchmark scripts: medians of interleaved runs, so that ratios hold on a noisy machine."""

import statistics
import time
from collections.abc import Callable

import jax


def medians(work: dict[str, Callable[[], object]], runs: int = 7) -> dict[str, float]:
    """Median seconds of each function; one warm-up each, then all in turn, `runs` times."""
    return {name: statistics.median(values) for name, values in timings(work, runs).items()}


def timings(work: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each function; one warm-up each, then all in turn, `runs` times."""
    for function in work.values():
        jax.block_until_ready(function())
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(runs):
        for name, function in work.items():
            time.sleep(0.1)  # the threads of BLAS and OpenMP go on spinning for a while after their work
            start = time.perf_counter()
            jax.block_until_ready(function())
            times[name].append(time.perf_counter() - start)
    return times


def report(title: str, rows: dict[str, str]) -> None:
    """Print a title and aligned rows."""
    print(f"\n{title}")
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value}")
