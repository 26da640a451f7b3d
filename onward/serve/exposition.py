"""Metrics in Prometheus' text format (version 0.0.4)."""

import bisect
import math
import threading
from collections.abc import Iterable, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[tuple[str, str], ...]


class Counter:
    """Counts by labels, from any thread."""

    def __init__(self):
        self._lock, self._counts = threading.Lock(), {}

    def add(self, **labels: str) -> None:
        """One more."""
        key = tuple(labels.items())
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1

    def read(self) -> dict[Labels, int]:
        """All counts so far."""
        with self._lock:
            return dict(self._counts)


class Histogram:
    """How many values were at most each of `bounds`, from any thread."""

    def __init__(self, bounds: Sequence[float]):
        self.bounds = (*bounds, math.inf)
        self._lock, self._counts, self._sum = threading.Lock(), [0] * len(self.bounds), 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value`, so many times."""
        with self._lock:
            self._counts[bisect.bisect_left(self.bounds, value)] += times
            self._sum += value * times

    def read(self) -> tuple[list[int], float]:
        """Counts up to and with each bound, and the sum of all values."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        for index in range(1, len(counts)):
            counts[index] += counts[index - 1]
        return counts, total


def family(name: str, kind: str, text: str, samples: Iterable[tuple[Labels, float]]) -> str:
    """A metric: its help line, its type, and a line for each of its labels."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    return "\n".join([*lines, *(f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples)]) + "\n"


def single(name: str, kind: str, text: str, value: float) -> str:
    """A metric without labels."""
    return family(name, kind, text, [((), value)])


def labelled(name: str, kind: str, text: str, label: str, values: Mapping[str, float]) -> str:
    """A metric with one label."""
    return family(name, kind, text, [(((label, key),), value) for key, value in values.items()])


def histogram(name: str, text: str, values: Histogram) -> str:
    """A histogram: buckets, sum and count."""
    counts, total = values.read()
    lines = [f"# HELP {name} {text}", f"# TYPE {name} histogram"]
    for bound, count in zip(values.bounds, counts, strict=True):
        lines.append(f"{name}_bucket{_labels((('le', _number(bound)),))} {count}")
    return "\n".join([*lines, f"{name}_sum {_number(total)}", f"{name}_count {counts[-1]}"]) + "\n"


def _labels(labels: Labels) -> str:
    escape = lambda text: text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")  # noqa: E731
    return "{" + ",".join(f'{name}="{escape(value)}"' for name, value in labels) + "}" if labels else ""


def _number(value: float) -> str:
    if math.isfinite(value):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
