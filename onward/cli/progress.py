"""Live progress of training: bars on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


class Screen(Console):
    """Where a command prints; a reader who goes away, as in `onward train ... | head`, does not end the run."""

    def on_broken_pipe(self) -> None:
        """Go on in silence, where Rich would end the process."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Reporter:
    """Takes the events of one or several runs and shows how they stand. Use as a context manager.

    **Arguments.** `console`: where to; bars if it is a terminal. `labels`: slug -> what a run is called. `steps`:
    batches in each run. `primary`: the metric of validation to show.
    """

    def __init__(self, console: Console, labels: dict[str, str], steps: int, primary: str):
        self._console, self._labels, self._steps, self._primary = console, labels, steps, primary
        self._figures: dict[str, dict[str, float]] = {slug: {} for slug in labels}
        self._bars: dict[str, TaskID] = {}
        self._progress: Progress | None = None
        self._clock: dict[str, tuple[float, int]] = {}
        self._printed = 0.0

    @contextmanager
    def shown(self) -> Iterator["Reporter"]:
        """Show the bars as long as this lasts."""
        if not self._console.is_terminal:
            yield self
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24 if self._console.width >= 110 else 8),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
        )
        with Progress(*columns, console=self._console, speed_estimate_period=60) as self._progress:
            for slug, label in self._labels.items():
                self._bars[slug] = self._progress.add_task(label, total=self._steps, start=False, figures="waiting")
            yield self

    def begin(self, slug: str) -> None:
        """A run starts: from here its time counts."""
        if self._progress is not None:
            self._progress.start_task(self._bars[slug])
            self._progress.update(self._bars[slug], figures="compiling")
        else:
            self._console.print(f"{self._labels[slug]}: compiling", soft_wrap=True)

    def event(self, slug: str, event: dict[str, Any]) -> None:
        """Show what an event says."""
        kind, figures = event["event"], self._figures[slug]
        if kind == "train" and event["loss"] is not None:
            old = figures.get("loss")
            figures["loss"] = event["loss"] if old is None else 0.95 * old + 0.05 * event["loss"]
        elif kind == "alignment" and event["cosine"] is not None:
            figures["cosine"] = event["cosine"]
        elif kind == "validation" and event.get(self._primary) is not None:
            figures["validation"] = event[self._primary]
        if self._progress is not None:
            self._progress.update(self._bars[slug], completed=event["step"], figures=self._text(figures))
        elif kind in ("validation", "resume") or (kind == "train" and self._due()):
            self._line(slug, event["step"], figures)

    def skip(self, slug: str, why: str) -> None:
        """A run that is not made now, such as one that was finished before."""
        if self._progress is not None:
            self._progress.update(self._bars[slug], completed=self._steps, figures=why)
        else:
            self._console.print(f"{self._labels[slug]}: {why}", soft_wrap=True)

    def _due(self) -> bool:
        return time.monotonic() - self._printed > SECONDS_BETWEEN_LINES

    def _line(self, slug: str, step: int, figures: dict[str, float]) -> None:
        now = time.monotonic()
        self._printed = now
        since, before = self._clock.get(slug, (now, step))
        self._clock[slug] = now, step
        left = ""
        if step > before:  # at the speed since the last line
            seconds = (now - since) / (step - before) * (self._steps - step)
            left = f"  {int(seconds) // 60}:{int(seconds) % 60:02d} left"
        text = f"{self._labels[slug]}: step {step:,} of {self._steps:,}  {self._text(figures)}{left}"
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    def _text(self, figures: dict[str, float]) -> str:
        parts = []
        if "loss" in figures:
            parts.append(f"loss {figures['loss']:.3f}")
        if "validation" in figures:
            value = figures["validation"]
            parts.append(f"accuracy {value:.1%}" if self._primary == "accuracy" else f"validation {value:.4g}")
        if "cosine" in figures:
            parts.append(f"cosine {figures['cosine']:.2f}")
        return "  ".join(parts)
