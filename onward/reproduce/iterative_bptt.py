"""The claims of the note "Exact iterative BPTT", each measured: exactness, cross terms, cost, memory, chaos."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from onward.reproduce import iterative_bptt_parts as parts
from onward.reproduce.iterative_bptt_chaos import chaos
from onward.reproduce.iterative_bptt_report import describe, draw
from onward.reproduce.study import Row, Study

COLUMNS = ("error", "drift", "cosine", "kept", "dropped", "microseconds", "memory", "accuracy", "loss")
COLUMNS += ("lyapunov", "growth", "curve")
PARTS = {
    "exactness": parts.exactness,
    "cross-terms": parts.cross_terms,
    "cost": parts.cost,
    "learning": parts.learning,
    "chaos": chaos,
}
DIRECTIONS = ("directional", "reversed")


@dataclass(frozen=True)
class Settings:
    """Layers of `units` that read `inputs` normal inputs for `length` steps, from each of `seeds` seeds.

    `rates`: learning rates of an update after every step. `spans`: of losses, with half of the cross terms.
    `counts`: step numbers at which a step is timed, the median of `runs` runs. `look_back`: N of the N-th order, and
    the window of truncated BPTT. `delay`, `memory_units`, `batches`, `batch_size`, `rate`: of the copy task and its
    training. `gains`, `decays`: of the chaotic network, its influence and its training on a `stream`. These two from
    each of `trained` seeds.
    """

    cells: tuple[str, ...] = tuple(parts.CELLS)
    units: int = 16
    inputs: int = 4
    length: int = 50
    seeds: int = 5
    rates: tuple[float, ...] = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
    spans: tuple[int, ...] = (2, 5, 10, 20, 50)
    counts: tuple[int, ...] = (1, 8, 64, 512, 4096)
    runs: int = 50
    look_back: int = 6
    delay: int = 14
    memory_units: int = 8
    batches: int = 600
    batch_size: int = 32
    rate: float = 1e-2
    judged: int = 20
    trained: int = 3
    gains: tuple[float, ...] = (0.8, 1.5, 2.0, 3.0)
    decays: tuple[float, ...] = (1.0, 0.9, 0.7, 0.5)
    chaotic_units: int = 48
    chaotic_length: int = 200
    stream: int = 2000
    stream_rate: float = 1e-2


class IterativeBPTT(Study):
    """The note has no experiments; these are (a) to (d) of what it says, and its baselines."""

    name = "iterative-bptt"
    summary = (
        "Exact iterative BPTT: exactness with fixed and moving parameters, half of the cross terms, cost by step "
        "number, memory beyond a window, and gradients in chaos."
    )
    full = Settings()
    quick = Settings(
        cells=("RNN, two loops", "LSTM"),
        units=6,
        length=12,
        seeds=1,
        rates=(0.0, 1e-3),
        spans=(12,),
        counts=(16, 256),
        runs=2,
        look_back=3,
        delay=4,
        memory_units=6,
        batches=60,
        judged=3,
        trained=1,
        gains=(0.8, 3.0),
        decays=(1.0, 0.5),
        chaotic_units=16,
        chaotic_length=60,
        stream=200,
    )
    double = True

    def points(self, settings: Settings, seed: int) -> Sequence[Row]:
        return [_point(**named) for named in _named(settings, seed)]

    def measure(self, settings: Settings, point: Row, earlier: Sequence[Row]) -> Row:
        measured = PARTS[point["part"]](self, settings, point)
        return {**dict.fromkeys(COLUMNS, math.nan), "curve": "", **measured}

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        return draw(rows)

    def describe(self, rows: Sequence[Row]) -> str:
        return describe(rows)


def _named(settings: Settings, seed: int) -> Iterator[dict[str, Any]]:
    seeds, trained = (range(seed, seed + count) for count in (settings.seeds, settings.trained))
    for cell in settings.cells:
        for rate in settings.rates:
            yield from ({"part": "exactness", "cell": cell, "rate": rate, "seed": at} for at in seeds)
    for cell in settings.cells:
        for method in DIRECTIONS:
            for steps in settings.spans:
                named = {"part": "cross-terms", "cell": cell, "method": method, "steps": steps}
                yield from (named | {"seed": at} for at in seeds)
    for method in parts.stepwise(settings.look_back):
        for steps in settings.counts:
            yield {"part": "cost", "cell": "GRU", "method": method, "steps": steps, "seed": seed}
    for method in parts.learners(settings.look_back):
        named = {"part": "learning", "cell": "LSTM", "method": method, "rate": settings.rate}
        yield from (named | {"seed": at} for at in trained)
    for gain in settings.gains:
        for decay in settings.decays:
            yield from ({"part": "chaos", "cell": "RNN", "gain": gain, "decay": decay, "seed": at} for at in trained)


def _point(*, part: str, cell: str, seed: int, **named: Any) -> Row:
    """One row's name; what does not concern its part is left at these values."""
    unused = {"method": "", "steps": 0, "rate": 0.0, "gain": 0.0, "decay": 1.0}
    return {"part": part, "cell": cell, **(unused | named), "seed": seed}
