"""Kag and Saligrama's experiments on the adding task: FPTT, what it consists of, and BPTT beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import optax

from onward import cells, networks
from onward.algorithms import BPTT
from onward.evaluation import evaluate
from onward.figures import COLOURS, DASHES, GREY
from onward.intermediate import IntermediateLosses
from onward.optimizers import fptt
from onward.reproduce.study import Row, Study, panels, read_curve, record
from onward.tasks import Adding as AddingTask
from onward.training import updates_per_batch


@dataclass(frozen=True)
class Method:
    """How a sequence is learnt from: in `windows` or whole, with losses on the way or at the end, and with `fptt`."""

    windows: bool = True
    losses: bool = True
    alpha: float | None = None
    linear: float = 1.0
    variant: Any = "running"
    rising: bool = False  # alpha grows linearly from a tenth of it
    more: bool = False  # as many updates as with windows, on as many more sequences
    sgd: float | None = None  # the learning rate of gradient descent in place of Adam


METHODS = {
    "BPTT": Method(windows=False, losses=False),
    "BPTT, as many updates": Method(windows=False, losses=False, more=True),
    "BPTT, losses on the way": Method(windows=False),
    "windows, no regulariser": Method(),
    "FPTT, alpha 0.5": Method(alpha=0.5),
    "FPTT, alpha 0.1": Method(alpha=0.1),
    "FPTT, alpha 0.5, linear 1/2": Method(alpha=0.5, linear=0.5),
    "FPTT, alpha rising to 0.5, linear 1/2": Method(alpha=0.5, linear=0.5, rising=True),
    "FPTT, as printed, alpha 0.5": Method(alpha=0.5, variant="paper"),
    "windows, no regulariser, SGD": Method(sgd=0.5),
    "FPTT, alpha 0.5, SGD": Method(alpha=0.5, sgd=0.5),
}
ALWAYS_ONE = 1 / 6  # the error of the best answer that does not look
POINT = ("length", "method", "windows", "seed", "steps")
LONGER = (  # length, method, windows and batches
    (200, "BPTT", 1, 2000),
    (200, "windows, no regulariser", 10, 2000),
    (200, "FPTT, alpha 0.5, linear 1/2", 10, 2000),
    (500, "windows, no regulariser", 10, 2000),
    (500, "windows, no regulariser", 100, 1000),
    (500, "FPTT, alpha 0.5, linear 1/2", 100, 1000),
    (500, "windows, no regulariser", 500, 1000),
    (500, "FPTT, alpha 0.5, linear 1/2", 500, 1000),
    *(
        (length, method, windows, 1000)
        for length in (500, 750, 1000)
        for method, windows in (
            ("BPTT", 1),
            ("windows, no regulariser", math.isqrt(length)),
            ("FPTT, alpha 0.5, linear 1/2", math.isqrt(length)),
        )
    ),
    (750, "FPTT, alpha 0.5, linear 1/2", 100, 1000),
)


@dataclass(frozen=True)
class AddingSettings:
    """Each method at `length` from each seed; `judged` times on the way the error on `evaluated` sequences.

    Then what `longer` lists (length, method, windows, batches), with `longer_units` and from one seed. So many updates
    as with windows take as many times longer, and are made from one seed.
    """

    length: int = 100
    seeds: int = 3
    steps: int = 1600
    batch_size: int = 128
    units: int = 64
    windows: int = 10
    judged: int = 20
    rate: float = 1e-3
    clip: float = 1.0
    evaluated: int = 1024
    longer: tuple[tuple[int, str, int, int], ...] = ()
    longer_units: int = 128


class AddingStudy(Study):
    """Figures 1 and 3: which part of FPTT learns the adding task."""

    name = "adding"
    summary = "The adding task: windows, losses on the way, and FPTT's regulariser, each with and without the others."
    full = AddingSettings(longer=LONGER)
    quick = AddingSettings(24, 1, 60, 32, 16, 4, 4, 1e-2)
    batch = 128

    def points(self, settings: AddingSettings, seed: int) -> Sequence[Row]:
        found = []
        for one in range(seed, seed + settings.seeds):
            for name, method in METHODS.items():
                if one == seed or not method.more:
                    count = settings.windows if method.windows else 1
                    steps = settings.steps * (settings.windows if method.more else 1)
                    found.append((settings.length, name, count, one, steps))
        found += [(length, name, count, seed, steps) for length, name, count, steps in settings.longer]
        return [dict(zip(POINT, point, strict=True)) for point in found]

    def measure(self, settings: AddingSettings, point: Row, earlier: Sequence[Row]) -> Row:
        units = settings.units if point["length"] == settings.length else settings.longer_units
        return _train(self, replace(settings, units=units), point)

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        lengths = list(dict.fromkeys(row["length"] for row in rows))
        named = _with_windows(rows)
        names = list(dict.fromkeys([*METHODS, *(row["method"] for row in named)]))
        figure, axes = panels(-(-len(lengths) // 2), 2, 3.2)
        handles = {}
        for number, length in enumerate(lengths):
            axis = axes[number // 2][number % 2]
            _curves(axis, [row for row in named if row["length"] == length], "method", names)
            axis.set_title(f"T = {length}", fontsize=9)
            lines, labels = axis.get_legend_handles_labels()
            handles |= dict(zip(labels, lines, strict=True))
        for axis in axes.flat[len(lengths) :]:
            axis.set_visible(False)
        figure.legend(
            handles.values(), handles.keys(), fontsize=7.5, frameon=False, ncols=3, loc="outside lower center"
        )
        return {"adding": figure}

    def describe(self, rows: Sequence[Row]) -> str:
        return _table(_with_windows(rows), "length", "method") + " SGD: plain, at a rate of 0.5; all others are Adam's."


@dataclass(frozen=True)
class WindowSettings(AddingSettings):
    """Each number of windows, with FPTT and without its regulariser."""

    length: int = 200
    seeds: int = 1
    steps: int = 2000
    counts: tuple[int, ...] = (1, 3, 5, 10, 100, 200)


class AddingWindows(Study):
    """Figure 2: the number of windows of a sequence."""

    name = "adding-k"
    summary = "The adding task by the number K of windows that a sequence is cut into, with FPTT and without."
    full = WindowSettings()
    quick = WindowSettings(24, 1, 60, 32, 16, 4, 4, 1e-2, counts=(1, 4, 24))
    batch = 128
    methods = ("windows, no regulariser", "FPTT, alpha 0.5", "FPTT, alpha 0.5, linear 1/2")

    def points(self, settings: WindowSettings, seed: int) -> Sequence[Row]:
        return [
            dict(zip(POINT, (settings.length, name, count, one, settings.steps), strict=True))
            for one in range(seed, seed + settings.seeds)
            for count in settings.counts
            for name in self.methods
        ]

    def measure(self, settings: WindowSettings, point: Row, earlier: Sequence[Row]) -> Row:
        return _train(self, settings, point)

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        figure, axes = panels(1, len(self.methods), 3.0)
        for axis in axes[0][1:]:
            axis.sharey(axes[0][0])
        for axis, method in zip(axes[0], self.methods, strict=True):
            some = [row for row in rows if row["method"] == method]
            _curves(axis, some, "windows", sorted({row["windows"] for row in rows}))
            axis.set_title(method, fontsize=9)
        handles = axes[0][0].get_legend_handles_labels()
        figure.legend(*handles, fontsize=7.5, frameon=False, title="K", title_fontsize=7.5, loc="outside right center")
        return {"adding-k": figure}

    def describe(self, rows: Sequence[Row]) -> str:
        return _table(rows, "windows", "method")


def _train(study: Study, settings: AddingSettings, point: Row) -> Row:
    method, length, steps, seed = METHODS[point["method"]], point["length"], point["steps"], point["seed"]
    task = AddingTask(length=length, evaluation_size=settings.evaluated)
    network = networks.cell_stack(cells.LSTM, 2, 1, units=settings.units, key=jax.random.key(seed))
    updates = updates_per_batch(length, None, point["windows"])
    last = optax.adam(settings.rate) if method.sgd is None else optax.sgd(method.sgd)
    parts = [optax.clip_by_global_norm(settings.clip), last]
    if method.alpha is not None:
        rising = optax.linear_schedule(method.alpha / 10, method.alpha, steps * updates)
        parts.insert(0, fptt(rising if method.rising else method.alpha, linear=method.linear, variant=method.variant))
    try:
        trained = study.train(
            network,
            task,
            algorithm=BPTT() if method.windows else BPTT(checkpoint="sqrt"),
            optimizer=optax.chain(*parts),
            steps=steps,
            batch_size=settings.batch_size,
            windows_per_sequence=point["windows"],
            intermediate=IntermediateLosses(None if method.windows else settings.windows) if method.losses else None,
            validate_every=max(1, steps // settings.judged),
            keep_best=False,
            seed=seed,
        )
    except FloatingPointError:
        return dict.fromkeys(("error", "median", "anchor", "batch_seconds"), float("nan")) | {"curve": ""}
    recorded = record(trained, "mean_squared_error")
    curve = read_curve(recorded)
    error, anchor = (
        evaluate(net, task, "test", 256)["mean_squared_error"] for net in (trained.network, trained.anchor)
    )
    return {
        "error": error,
        "median": float(np.median(curve[-(len(curve) // 4 or 1) :])),
        "anchor": anchor,
        **recorded,
    }


def _with_windows(rows: Sequence[Row]) -> list[Row]:
    """The rows by length and windows; the method's name has the number where it is not the first length's."""
    usual = {1} | {row["windows"] for row in rows if row["length"] == rows[0]["length"]}

    def name(row: Row) -> str:
        windows = {row["length"]: "T", math.isqrt(row["length"]): "sqrt(T)"}.get(row["windows"], row["windows"])
        return row["method"] if row["windows"] in usual else f"{row['method']}, K = {windows}"

    by_windows = sorted(rows, key=lambda row: (row["length"], row["windows"]))
    return [{**row, "method": name(row)} for row in by_windows]


def _curves(axis: Any, rows: Sequence[Row], key: str, values: Sequence[Any]) -> None:
    """Validation error against the share of batches, a line for each value of `key`, the median over seeds."""
    for index, value in enumerate(values):
        curves = [read_curve(row) for row in rows if row[key] == value and read_curve(row)]
        if not curves:
            continue
        line = np.median(np.array([curve[: min(map(len, curves))] for curve in curves]), axis=0)
        style = {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS)]}
        axis.plot(np.arange(1, len(line) + 1) / len(line), line, **style, label=str(value))
    axis.axhline(ALWAYS_ONE, color=GREY, linewidth=0.8)
    axis.set_yscale("log")
    axis.set_xlabel("share of the batches")
    axis.set_ylabel("validation error")
    axis.tick_params(length=0)


def _table(rows: Sequence[Row], *keys: str) -> str:
    titles = [*keys, "batches", "test error", "lowest", "median", "of the anchor", "seconds a batch"]
    lines, learnt = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)], []
    rows = [{**row, "lowest": min(read_curve(row), default=np.nan)} for row in rows]
    for names in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        some = [row for row in rows if tuple(row[key] for key in keys) == names]
        shown = ("error", "lowest", "median", "anchor", "batch_seconds")
        numbers = [np.median([row[key] for row in some]) for key in shown]
        if numbers[0] < ALWAYS_ONE / 10:
            learnt.append(f"{keys[0]} {names[0]}, {names[1]} ({numbers[0]:.4f})")
        texts = [*map(str, names), f"{some[0]['steps']:,}", *(f"{number:.4f}" for number in numbers)]
        lines.append(f"| {' | '.join(texts)} |")
    seeds = len({row["seed"] for row in rows})
    lines.append(f"\nLearnt, to a tenth of what always to answer 1 gives: {'; '.join(learnt) or 'by none'}.")
    return "\n".join(lines) + (
        f"\n\nMean squared errors, medians over seeds (up to {seeds}); always to answer 1 gives 0.1667. "
        "Test error: of the last parameters. Lowest: of the validation errors. Median: of those in the last quarter of "
        "the batches. The regulariser's anchor is judged beside the parameters; without it they are the same."
    )
