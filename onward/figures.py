"""Figures of comparisons: learning curves, alignment with a reference gradient, bars. Matplotlib is imported late."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which stays distinct for colour-blind readers; yellow is left out for want of contrast.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (4, 1.5)), "-.", ":")
GREY, INK = "#5f6670", "#30343a"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": "#9aa0a8",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e7e9ec",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "onward",
}
TITLE: dict[str, Any] = {"loc": "left", "fontsize": 10.5, "fontweight": "bold"}


@dataclass(frozen=True)
class Curves:
    """What one algorithm's lines are drawn from: x in training sequences seen, every array `[points]`.

    `loss`, `score`, `cosine`, `norm_ratio`: pairs (x, y). `seconds`: for an epoch; `memory`: bytes; either may be None.
    """

    label: str
    loss: tuple[np.ndarray, np.ndarray]
    score: tuple[np.ndarray, np.ndarray]
    cosine: tuple[np.ndarray, np.ndarray]
    norm_ratio: tuple[np.ndarray, np.ndarray]
    seconds: float | None = None
    memory: float | None = None


def learning_curves(runs: Sequence[Curves], *, score_label: str, loss_label: str) -> "Figure":
    """Training loss (running mean over faint batches) and the validation score, both against sequences seen."""
    figure, (left, right) = new_figure(2)
    for index, run in enumerate(runs):
        x, y = run.loss
        left.plot(x, y, color=colour(index), linewidth=0.6, alpha=0.13)
        left.plot(x, _smooth(y), **_line(index))
        right.plot(*run.score, marker="o", markersize=3, **_line(index))
    smooth = [(run.loss[0], _smooth(run.loss[1])) for run in runs]
    values = _values(smooth)
    if values.size:
        low, high = float(values.min()), float(values.max())
        left.set_ylim(max(0.0, low - 0.12 * (high - low)), high + 0.08 * (high - low or 1.0))
    _log_axis(right, _values([run.score for run in runs]))
    _finish(left, "Training loss", loss_label, smooth, runs)
    _finish(right, "Validation", score_label, [run.score for run in runs], runs)
    return figure


def alignment(
    runs: Sequence[Curves], *, reference: str = "BPTT's gradient", along: str = "training sequences seen"
) -> "Figure":
    """Cosine of each algorithm's gradient with a reference, and its length relative to that, `along` an axis."""
    figure, (left, right) = new_figure(2)
    for index, run in enumerate(runs):
        left.plot(*run.cosine, marker="o", markersize=2.5, **_line(index))
        right.plot(*run.norm_ratio, marker="o", markersize=2.5, **_line(index))
    left.set_ylim(min([0.0, *_values([run.cosine for run in runs])]) - 0.03, 1.06)
    _finish(left, "Direction", f"cosine with {reference}", [run.cosine for run in runs], runs, along)
    ratios = np.append(_values([run.norm_ratio for run in runs]), 1.0)
    if ratios.max() > 4 * max(ratios.min(), 1e-12):
        _log_axis(right, ratios)
    else:
        right.set_ylim(0, 1.15 * ratios.max())
    right.axhline(1, color=GREY, linewidth=0.8, zorder=1)
    _finish(right, "Length", f"norm relative to {reference}", [run.norm_ratio for run in runs], runs, along)
    return figure


def cost(runs: Sequence[Curves], *, seconds_label: str) -> "Figure":
    """Bars for the time of an epoch and the memory of a training step."""
    megabytes = [None if run.memory is None else run.memory / 1e6 for run in runs]
    return bars(
        [run.label for run in runs],
        [
            ("Time", seconds_label, [run.seconds for run in runs], "{:.3g} s"),
            ("Memory", "memory of the compiled training step, MB", megabytes, "{:,.3g} MB"),
        ],
    )


def bars(
    labels: Sequence[str],
    columns: Sequence[tuple[str, str, Sequence[float | None], str]],
    most: float = np.inf,
) -> "Figure":
    """A bar for each label in panels side by side: title, label of the axis, values, and the format of a value.

    What is longer than `most` is drawn so long.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(len(columns), height=0.75 + 0.36 * max(len(labels), 2))
    for axis, (title, label, values, form) in zip(axes, columns, strict=True):
        shown = [min(value or 0.0, most) for value in values]
        places = np.arange(len(labels))
        axis.barh(places, shown, color=[colour(i) for i in range(len(labels))], height=0.62)
        axis.set_yticks(places, labels)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlim(0, 1.22 * max([*shown, 1e-9]))
        axis.xaxis.set_major_locator(MaxNLocator(5))
        for place, value, end in zip(places, values, shown, strict=True):
            text = "not measured" if value is None else form.format(value)
            axis.annotate(text, (end, place), xytext=(4, 0), textcoords="offset points", va="center")
        axis.set_title(title, **TITLE)
        axis.set_xlabel(label)
        axis.tick_params(length=0)
    return figure


def png(figure: "Figure", dpi: int = 160) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: "Figure") -> str:
    """The figure as an `<svg>` element that can stand in a page: no header, no links, no fixed size."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def save(drawn: Mapping[str, "Figure"], folder: Path) -> dict[str, str]:
    """Write each figure as a PNG file; all as `<svg>` elements, by name."""
    for name, figure in drawn.items():
        (folder / f"{name}.png").write_bytes(png(figure))
        figure.set_layout_engine("none")  # what the first drawing has laid out stays
    return {name: svg(figure) for name, figure in drawn.items()}


def data_uri(image: bytes) -> str:
    """A PNG as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over a centred stretch of `width` values, shorter at both ends; `[n]` -> `[n]`."""
    values = np.asarray(values, float)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - width // 2, 0), np.minimum(index + (width + 1) // 2, len(values))
    return (sums[high] - sums[low]) / np.maximum(high - low, 1)


def new_figure(columns: int, height: float = 3.5) -> tuple["Figure", Sequence["Axes"]]:
    """A figure in the house style and its panels, side by side."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, height), layout="constrained")
        return figure, figure.subplots(1, columns, squeeze=False)[0]


def _finish(
    axis: "Axes",
    title: str,
    label: str,
    lines: Sequence[tuple],
    runs: Sequence[Curves],
    along: str = "training sequences seen",
) -> None:
    """Title, labels, and each line's name at its right end, moved apart where they would overlap."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.set_title(title, **TITLE)
    axis.set_ylabel(label)
    axis.set_xlabel(along)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.tick_params(length=0)
    ends = [(i, float(x[-1]), float(y[-1])) for i, (x, y) in enumerate(lines) if len(y) and np.isfinite(y[-1])]
    if not ends:
        axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color=GREY)
        return
    axis.set_xlim(0, max(x for _, x, _ in ends) * 1.01 or 1)
    axis.autoscale_view(scalex=False)
    transform = axis.transData + axis.transAxes.inverted()
    heights = spread([float(transform.transform((x, y))[1]) for _, x, y in ends], 0.075)
    for (index, x, y), height in zip(ends, heights, strict=True):
        axis.annotate(
            runs[index].label,
            (x, y),
            xytext=(1.035, height),
            textcoords="axes fraction",
            va="center",
            color=colour(index),
            fontweight="bold",
            fontsize=8.8,
            arrowprops={"arrowstyle": "-", "color": colour(index), "linewidth": 0.7, "shrinkA": 0, "shrinkB": 2},
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The same heights in [0, 1], moved apart so that neighbours keep `gap`, in the same order."""
    gap = min(gap, 1 / max(1, len(heights) - 1))
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = [min(max(heights[i], 0.0), 1.0) for i in order]
    for _ in range(200):
        for low, high in zip(range(len(placed) - 1), range(1, len(placed)), strict=True):
            lack = gap - (placed[high] - placed[low])
            if lack > 0:
                placed[low] -= lack / 2
                placed[high] += lack / 2
        placed = [min(max(place, 0.0), 1.0) for place in placed]
    result = [0.0] * len(heights)
    for place, index in zip(placed, order, strict=True):
        result[index] = place
    return result


def _smooth(values: np.ndarray) -> np.ndarray:
    return running_mean(values, max(1, len(values) // 25))


def _values(lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The finite y values of all lines."""
    values = np.concatenate([y for _, y in lines] or [np.zeros(0)])
    return values[np.isfinite(values)]


def _log_axis(axis: "Axes", values: np.ndarray) -> None:
    """A logarithmic y axis around positive values, with round ticks and no powers of ten; linear if there are none."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    values = values[values > 0]
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    axis.set_yscale("log")
    axis.set_ylim(low / 1.15, high * 1.15)
    steps = [m * 10.0**e for e in range(-12, 9) for m in (1, 2, 5)]
    ticks = [tick for tick in steps if low / 1.15 <= tick <= high * 1.15]
    if len(ticks) < 2:
        ticks = [float(f"{value:.2g}") for value in np.geomspace(low, high, 4)] if high > low * 1.02 else [low]
    if len(ticks) > 9:
        ticks = [tick for tick in ticks if f"{tick:e}".startswith("1")]
    axis.yaxis.set_major_locator(FixedLocator(ticks))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def colour(index: int) -> str:
    """Colour of the algorithm that stands at this place."""
    return COLOURS[index % len(COLOURS)]


def _line(index: int) -> dict[str, Any]:
    dash = (index + index // len(COLOURS)) % len(DASHES)  # another one when the colours come round again
    return {"color": colour(index), "linestyle": DASHES[dash], "linewidth": 1.8}
