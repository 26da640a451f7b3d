"""The report of `onward gradients`: a table of all numbers, figures, and one HTML page that opens without a network."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onward import figures
from onward.figures import Curves
from onward.gradient_comparison import QUANTITIES, GradientComparison
from onward.page import Row, Section, framed, page, table
from onward.report import number, size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, NUMBERS = "report.html", "gradients.csv"
FIGURES = ("windows", "groups", "errors", "cost")
COLUMNS = ("algorithm", "gradient", "cosine", "norm", "bias", "deviation", "s / step", "memory")
LAST = "all"  # what the table of numbers calls all windows together
ERRORS = "Relative to the norm of the exact gradient, all windows together; a bar that is longer ends at 2."
NOTES = (
    "The exact gradient of a window is that of its losses through the whole past, at fixed weights: what RTRL gives. "
    "Exact: by theory, the algorithm's is the same. Unbiased: its mean over keys is.",
    "Cosine: mean over the windows. Norm, bias and deviation: of the gradients of all windows as one vector, relative "
    "to the norm of the exact one; bias is how far the mean over keys is off, deviation how far draws scatter.",
    "After ±: the bias that chance alone leaves in the mean over so many keys, deviation / sqrt(keys). A bias of no "
    "more than about that is no sign of one.",
    "Time of a step of the stream for the whole batch, and memory of the compiled window, as its compiler plans it.",
)


@dataclass(frozen=True)
class GradientReport:
    """A comparison and what is said around it. `labels` and `exactness`: a text for each algorithm."""

    title: str
    comparison: GradientComparison
    labels: Sequence[str]
    exactness: Sequence[str]
    facts: Mapping[str, str]

    @property
    def run(self) -> list[int]:
        """Places of the algorithms that were not declined; a figure's colours go by the order here."""
        return [place for place, reason in enumerate(self.comparison.declined) if not reason]

    def rows(self) -> list[list[str]]:
        """Entries under `COLUMNS` for each algorithm, as text."""
        found = self.comparison
        overall = {name: found.overall(name)[:, 0] for name in QUANTITIES}
        rows = []
        for place, (label, exactness) in enumerate(zip(self.labels, self.exactness, strict=True)):
            cosine, *others = (float(overall[name][place]) for name in QUANTITIES)
            ratio, bias, deviation = (number(value, 2) for value in others)
            if found.algorithms[place].stochastic and not found.declined[place]:
                bias = f"{bias} ±{number(float(found.noise[place, 0]), 2)}"
            seconds, memory = float(found.seconds[place]), float(found.memory[place])
            cost = brief(seconds), size(None if math.isnan(memory) else memory)
            rows.append([label, exactness, number(cosine, 3), ratio, bias, deviation, *cost])
        return rows

    def summary(self) -> str:
        """One sentence: who points where the exact gradient does, and who least."""
        cosines = self.comparison.overall("cosine")[:, 0]
        ranked = sorted((place for place in self.run if math.isfinite(cosines[place])), key=lambda i: -cosines[i])
        if not ranked:
            return "There is no gradient to compare with: no window has a loss, or every algorithm was declined."
        parts = ", ".join(f"{self.labels[place]} {cosines[place]:.3f}" for place in ranked)
        return f"Cosine with the exact gradient, mean over {len(self.comparison.ends)} windows: {parts}."

    def write(self, folder: Path, config: str) -> Path:
        """Write the table of numbers, the figures (PNG and SVG) and the page into `folder`; the page's path."""
        self._write_numbers(folder / NUMBERS)
        drawings = figures.save(dict(zip(FIGURES, self._draw(), strict=True)), folder)
        for name, svg in drawings.items():
            (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
        windows, groups, errors, cost = (framed(drawings[name]) for name in FIGURES)
        sections = [
            Section("Results", "", self._table()),
            Section("Over time", "Window by window along the stream; several keys: the mean over them.", windows),
            Section("By group of parameters", "Cosine with the exact gradient, mean over the windows.", groups),
            Section("Bias and variance", ERRORS, errors),
            Section("Cost", "On the machine named below.", cost),
        ]
        footer = f"All figures come from this run: {NUMBERS} holds every number."
        text = page(self.title, self.summary(), sections, facts=self.facts, config=config, footer=footer)
        (folder / PAGE).write_text(text, encoding="utf-8")
        return folder / PAGE

    def _table(self) -> str:
        rows = [
            Row(
                cells,
                colour=figures.colour(self.run.index(place)) if place in self.run else "transparent",
                note=f"declined: {reason}" if (reason := self.comparison.declined[place]) else "",
            )
            for place, cells in enumerate(self.rows())
        ]
        return table(COLUMNS, rows, left=COLUMNS.index("gradient"), notes=NOTES)

    def _write_numbers(self, path: Path) -> None:
        """A line for each algorithm, window and group; all windows together under `LAST`."""
        found = self.comparison
        overall = [found.overall(name)[:, None] for name in QUANTITIES]
        values = [np.concatenate([getattr(found, n), all_], 1) for n, all_ in zip(QUANTITIES, overall, strict=True)]
        norms = np.concatenate([found.exact_norm, np.sqrt((found.exact_norm**2).sum(0, keepdims=True))])
        windows = [*map(str, range(len(found.ends))), LAST]
        ends = [*found.ends, found.ends[-1]]
        with path.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, lineterminator="\n")
            head = ("algorithm", "window", "last_step", "group", *QUANTITIES, "exact_norm")
            lines.writerow((*head, "seconds_per_step", "memory_bytes"))
            for a, label in enumerate(self.labels):
                cost = [f"{value:.9g}" for value in (found.seconds[a], found.memory[a])]
                for w, (window, end) in enumerate(zip(windows, ends, strict=True)):
                    for g, group in enumerate(found.groups):
                        numbers = [f"{value:.9g}" for value in (*(q[a, w, g] for q in values), norms[w, g])]
                        lines.writerow((label, window, end, group, *numbers, *cost))

    def _draw(self) -> "tuple[Figure, Figure, Figure, Figure]":
        found, run = self.comparison, self.run
        labels, none = [self.labels[place] for place in run], (np.zeros(0), np.zeros(0))
        asked = found.exact_norm[:, 0] > 0
        line = lambda values, place: (found.ends[asked].astype(float), values[place, asked, 0])  # noqa: E731
        curves = [
            Curves(self.labels[place], none, none, line(found.cosine, place), line(found.norm_ratio, place))
            for place in run
        ]
        along = f"step of the stream, in {len(found.ends)} windows"
        shown = {name: [_or_none(found.overall(name)[place, 0]) for place in run] for name in ("bias", "deviation")}
        errors = [
            ("Bias", "distance of the mean from the exact gradient", shown["bias"], "{:.3g}"),
            ("Standard deviation", "scatter around the mean over keys", shown["deviation"], "{:.3g}"),
        ]
        costs = [
            ("Time", "microseconds for a step", [_or_none(1e6 * found.seconds[place]) for place in run], "{:,.3g} µs"),
            ("Memory", "memory of a window, MB", [_or_none(found.memory[place] / 1e6) for place in run], "{:,.3g} MB"),
        ]
        return (
            figures.alignment(curves, reference="the exact gradient", along=along),
            _heat_map(found.overall("cosine")[run], labels, found.groups),
            figures.bars(labels, errors, most=2.0),
            figures.bars(labels, costs),
        )


def brief(seconds: float) -> str:
    """A short time in the unit that suits it; a dash if there is none."""
    if not math.isfinite(seconds):
        return "–"
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 1e-9:.3g} ns"


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _heat_map(cosines: np.ndarray, labels: Sequence[str], groups: Sequence[str]) -> "Figure":
    """Cosines [algorithms, groups], a row for each group."""
    figure, (axis,) = figures.new_figure(1, height=0.9 + 0.27 * len(groups))
    axis.imshow(cosines.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(labels)), labels)
    axis.xaxis.tick_top()
    axis.set_yticks(range(len(groups)), groups)
    axis.grid(visible=False)
    axis.tick_params(length=0)
    for column, row in np.ndindex(cosines.shape):
        value = cosines[column, row]
        text, light = (f"{value:.3f}", value > 0.5) if np.isfinite(value) else ("–", False)
        axis.text(column, row, text, ha="center", va="center", color="white" if light else figures.INK)
    return figure
