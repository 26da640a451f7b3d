"""The report of a comparison: one HTML file that opens without a network, and its figures as PNG files."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onward import figures
from onward.figures import Curves
from onward.page import Row, Section, framed, page, table

COLUMNS = ("algorithm", "test loss", "score", "s / epoch", "memory", "gradient", "cosine mean", "cosine last")
LEARNING = (
    "Left: the training loss of each batch (faint) and its running mean. Right: what the network gets wrong on the "
    "validation set."
)
ALIGNMENT = (
    "Each algorithm's gradient against BPTT's, for the same batch at the same weights. A cosine of 1 and a norm of 1 "
    "mean that nothing is lost; a cosine near 0 means that the direction has little to do with the loss of the whole "
    "sequence."
)
FOOTER = "All figures come from this run: metrics.jsonl holds every measurement, results.json the table."
RESULTS, METRICS, CONFIG, PAGE = "results.json", "metrics.jsonl", "config.toml", "report.html"


@dataclass(frozen=True)
class Result:
    """What came of one algorithm.

    **Units.** `seconds_per_step` and `seconds_per_epoch` in seconds; `memory` in bytes, of the compiled training step
    over all devices; `exact_share`: share of the parameters whose gradient is exact by theory, in [0, 1]; `stochastic`:
    the gradient is right in the mean over keys; `cosine_*` and `norm_ratio` compare the gradient with BPTT's during
    training. None: not measured.
    """

    label: str
    slug: str
    text: str
    status: str  # "finished", "stopped", "failed" or "declined"
    reason: str = ""
    updates: int = 1
    exact: bool = False
    exact_share: float = 0.0
    stochastic: bool = False
    kind: str = ""
    passes: str = "1"
    source: str = ""
    test: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    seconds_per_step: float | None = None
    seconds_per_epoch: float | None = None
    memory: int | None = None
    cosine_mean: float | None = None
    cosine_last: float | None = None
    norm_ratio: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Everything that a report is written from, besides the metrics: what was run, where, and what came of it."""

    title: str
    task: dict[str, Any]  # name, primary, higher_is_better, loss (label of its axis), epochs (bool), text
    network: dict[str, Any]  # text
    machine: dict[str, Any]  # text, peak_rss (bytes of the whole process, or None)
    versions: dict[str, str]
    created: str
    batch_size: int
    steps: int
    epoch_steps: int
    epoch_text: str  # "epoch of 859 batches", or "1,000 batches" where the task has no epochs
    results: tuple[Result, ...]

    def save(self, folder: Path) -> None:
        """Write `results.json`."""
        text = json.dumps(asdict(self), indent=2, default=float)
        (folder / RESULTS).write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> Comparison:
    """The comparison that `save` wrote into `folder`."""
    table = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    return Comparison(**{**table, "results": tuple(Result(**result) for result in table["results"])})


def write(folder: Path, comparison: Comparison | None = None) -> Path:
    """Write figures and `report.html` into a folder that holds metrics and configuration; the page's path.

    `comparison`: by default what `results.json` in the folder says.
    """
    comparison = comparison or load(folder)
    events = read_events(folder / METRICS)
    curves = [curves_of(comparison, result, events.get(result.slug, [])) for result in comparison.results]
    curves = [curve for curve in curves if curve is not None]
    drawn = {
        "learning": figures.learning_curves(
            curves, score_label=_score_label(comparison), loss_label=comparison.task["loss"]
        ),
        "alignment": figures.alignment(curves),
        "cost": figures.cost(curves, seconds_label=f"seconds for one {comparison.epoch_text}"),
    }
    config = folder / CONFIG
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    (folder / PAGE).write_text(render(comparison, figures.save(drawn, folder), text), encoding="utf-8")
    return folder / PAGE


def read_events(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Events of a `metrics.jsonl` by the algorithm they belong to; lines that are cut short are left out."""
    events: dict[str, list[dict[str, Any]]] = {}
    if not path.is_file():
        return events
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        events.setdefault(event.get("algorithm", ""), []).append(event)
    return events


def curves_of(comparison: Comparison, result: Result, events: Iterable[Mapping[str, Any]]) -> Curves | None:
    """What the figures draw of one algorithm; None if it never ran."""
    if result.status == "declined":
        return None
    events = list(events)
    primary = comparison.task["primary"]

    def series(event: str, name: str, transform=lambda value: value):
        points = [(e["step"], e[name]) for e in events if e.get("event") == event and _finite(e.get(name))]
        x = np.array([step for step, _ in points], float) * comparison.batch_size
        return x, np.array([transform(value) for _, value in points], float)

    accuracy = primary == "accuracy"
    return Curves(
        label=result.label,
        loss=series("train", "loss"),
        score=series("validation", primary, lambda value: max(100 * (1 - value), 1e-2) if accuracy else value),
        cosine=series("alignment", "cosine"),
        norm_ratio=series("alignment", "norm_ratio"),
        seconds=result.seconds_per_epoch,
        memory=result.memory,
    )


def render(comparison: Comparison, drawings: Mapping[str, str], config: str) -> str:
    """The page, as text; `drawings` are `<svg>` elements by name."""
    facts = {
        "Task": comparison.task["text"],
        "Network": comparison.network["text"],
        "Training": f"{comparison.steps:,} batches of {comparison.batch_size}, the same for every algorithm",
        "Machine": comparison.machine["text"],
        "Versions": ", ".join(f"{name} {version}" for name, version in comparison.versions.items()),
        "Made": comparison.created,
    }
    sections = [
        Section("Results", "", _table(comparison)),
        Section("Learning curves", LEARNING, framed(drawings["learning"])),
        Section("Alignment with BPTT's gradient", ALIGNMENT, framed(drawings["alignment"])),
        Section("Cost", "On the machine named below.", framed(drawings["cost"])),
    ]
    title, lead = comparison.title, summary(comparison)
    return page(title, lead, sections, facts=facts, config=config, footer=FOOTER)


def columns(comparison: Comparison) -> list[str]:
    """Headings of the table of results, on the screen and in the report."""
    named = {"score": f"test {comparison.task['primary'].replace('_', ' ')}"}
    if not comparison.task["epochs"]:
        named["s / epoch"] = "s / 1,000"
    return [named.get(name, name) for name in COLUMNS]


def row(comparison: Comparison, result: Result) -> list[str]:
    """One algorithm's entries under `columns`, as text."""
    score = result.test.get(comparison.task["primary"])
    if score is not None and comparison.task["primary"] == "accuracy":
        shown = f"{100 * score:.2f}\u00a0%"
    else:
        shown = number(score)
    return [
        result.label,
        number(result.test.get("loss")),
        shown,
        number(result.seconds_per_epoch, 1),
        size(result.memory),
        exactness(result.exact, result.exact_share, result.stochastic),
        number(result.cosine_mean, 3),
        number(result.cosine_last, 3),
    ]


def exactness(exact: bool, share: float, stochastic: bool) -> str:
    """`exact`, or else `biased` or `unbiased` with the share of parameters that are exact all the same."""
    if exact:
        return "exact"
    kind = "unbiased" if stochastic else "biased"
    return f"{kind} (exact for {100 * share:.0f}\u00a0%)" if share else kind


def summary(comparison: Comparison) -> str:
    """One sentence: which algorithm came out best, and how far the others are behind."""
    name, higher = comparison.task["primary"], comparison.task["higher_is_better"]
    tested = [r for r in comparison.results if r.status == "finished" and _finite(r.test.get(name))]
    if not tested:
        return "No algorithm has been trained to the end."
    ordered = sorted(tested, key=lambda r: r.test[name], reverse=higher)
    unit = name.replace("_", " ")
    show = (lambda v: f"{100 * v:.2f}\u00a0%") if name == "accuracy" else number
    others = ", ".join(f"{r.label} {show(r.test[name])}" for r in ordered[1:])
    sequences = comparison.steps * comparison.batch_size
    after = f"after {sequences:,} training sequences"
    return f"{ordered[0].label} reaches a test {unit} of {show(ordered[0].test[name])} {after}" + (
        f"; {others}." if others else "."
    )


def notes(comparison: Comparison) -> list[str]:
    """How each column of the table is to be read."""
    rss = comparison.machine.get("peak_rss")
    process = f" The whole process, with all data and every algorithm, peaked at {size(rss)}." if rss else ""
    lines = [
        "Every algorithm starts from the same weights and sees the same batches in the same order. A name followed by "
        "@n updates the weights after every n steps while the sequence runs; without it there is one update at the end "
        "of each sequence.",
        "Test figures are those of the weights that were best on the validation set. Seconds are for one "
        f"{comparison.epoch_text}, training alone.",
        "Memory is that of the compiled training step: its arguments, results and temporary arrays on all devices, as "
        f"the compiler plans them.{process}",
        "Exact: by theory, the gradient of a whole sequence at fixed weights is BPTT's. Biased: it is not; in brackets "
        "the share of the parameters for which it is all the same.",
        "Cosine: between the algorithm's gradient and BPTT's for the whole network, measured on training batches at "
        "the weights of that moment; the mean over training and the last value.",
    ]
    lines += [f"{r.label}: {r.status}. {r.reason}" for r in comparison.results if r.status in ("stopped", "failed")]
    return lines


def number(value: float | None, decimals: int = 4) -> str:
    """A number with `decimals` places, or as many significant digits where it is small or large; a dash if none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value and not 10.0**-decimals <= abs(value) < 1e5:
        return f"{value:.{decimals}g}"
    return f"{value:,.{decimals}f}"


def size(value: float | None) -> str:
    """Bytes in the unit that suits them."""
    if value is None:
        return "–"
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= unit:
            return f"{value / unit:.3g} {name}" if value < 999.5 * unit else f"{value / unit:,.0f} {name}"
    return f"{value:.0f} B"


def _table(comparison: Comparison) -> str:
    drawn = [r for r in comparison.results if r.status != "declined"]
    rows = [
        Row(
            row(comparison, result),
            colour=figures.colour(drawn.index(result)) if result in drawn else "transparent",
            note=f"declined: {result.reason}" if result.status == "declined" else "",
        )
        for result in comparison.results
    ]
    return table(columns(comparison), rows, left=COLUMNS.index("gradient"), notes=notes(comparison))


def _score_label(comparison: Comparison) -> str:
    name = comparison.task["primary"]
    return "error, % of answers (log scale)" if name == "accuracy" else f"{name.replace('_', ' ')} (log scale)"


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
