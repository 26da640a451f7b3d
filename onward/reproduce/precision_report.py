"""What the rows of the precision study say: its figure and its text."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from onward.figures import COLOURS, DASHES, GREY, TITLE
from onward.reproduce.numbers import KINDS
from onward.reproduce.study import Row, panels

METHODS = ("published", "accumulate", "backward")
FORWARD = METHODS[:2]
WANTED = 1e-2  # two digits of the gradient are right
COLOUR = {"float32": COLOURS[1], "float64": COLOURS[0], "double-double": COLOURS[2]}
TITLES = {"published": "published: eps_0 by shooting", "accumulate": "accumulate: eps_0 as a sum"}
MARKERS = ("o", "s", "^", "D")
SMALL_RIGHT: dict[str, Any] = {"fontsize": 7.5, "ha": "right", "va": "top"}
SMALL_END: dict[str, Any] = {"fontsize": 7.5, "ha": "right", "va": "bottom"}
SMALL_MIDDLE: dict[str, Any] = {"fontsize": 7.5, "ha": "right", "va": "center"}


def draw(rows: Sequence[Row]) -> dict[str, Any]:
    """File name without suffix -> figure."""
    figure, axes = panels(2, 2, height=3.6)
    for axis, method in zip(axes[0], FORWARD, strict=True):
        _draw_errors(axis, rows, method)
    _draw_limits(axes[1][0], rows)
    _draw_digits(axes[1][1], rows)
    return {"precision": figure}


def describe(rows: Sequence[Row]) -> str:
    """What was found, from the rows alone."""
    parts = _say_limits(rows), _say_collapse(rows), _say_logs(rows), _say_digits(rows)
    return "\n\n".join(part for part in parts if part)


def _some(rows: Sequence[Row], **wanted) -> list[Row]:
    return sorted(
        (row for row in rows if all(row[key] == value for key, value in wanted.items())), key=lambda row: row["x"]
    )


def _lines(rows: Sequence[Row], kind: str, method: str) -> list[list[Row]]:
    """One for each T, in the order of x."""
    some = _some(rows, kind=kind, warmup=method)
    return [_some(some, T=length) for length in sorted({row["T"] for row in some})]


def exhausted(line: Sequence[Row]) -> float | None:
    """The x where the error becomes as large as the gradient, between two rows; None if it does not."""
    for before, row in zip((None, *line), line, strict=False):
        if row["log10_error"] >= 0:
            if before is None or not math.isfinite(row["log10_error"]):
                return float(row["x"])
            share = before["log10_error"] / (before["log10_error"] - row["log10_error"])
            return before["x"] + share * (row["x"] - before["x"])
    return None


def overflowed(line: Sequence[Row]) -> float | None:
    """The middle between the last x with finite results and the first without; None if all are finite."""
    for before, row in zip((None, *line), line, strict=False):
        if row["finite"] < 0.5:
            return float(row["x"]) if before is None else (before["x"] + row["x"]) / 2
    return None


def slope(rows: Sequence[Row], method: str) -> tuple[float, float] | None:
    """Digits needed as a + b x, by least squares: (b, a)."""
    some = _some(rows, kind="decimal", warmup=method)
    if len({row["x"] for row in some}) < 2:
        return None
    b, a = np.polyfit([row["x"] for row in some], [row["digits"] for row in some], 1)
    return float(b), float(a)


def _draw_errors(axis, rows: Sequence[Row], method: str) -> None:
    """Error against x: colour is the mantissa, dashes the log domain, markers T; pale, backward at the largest T."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    axis.axhline(0, color=GREY, linewidth=0.8)
    for kind in KINDS:
        for line, marker in zip(_lines(rows, kind, method), MARKERS, strict=False):
            axis.plot(*_xy(line), marker=marker, markevery=4, markersize=3.2, linewidth=1, **_style(kind))
        ends = [x for x in map(exhausted, _lines(rows, kind, method)) if x is not None]
        if kind in COLOUR and ends:
            middle = float(np.median(ends))
            axis.axvline(middle, color=COLOUR[kind], linewidth=0.8, linestyle=DASHES[2])
            axis.text(middle + 0.4, -35.6, f"{middle:.1f}", color=COLOUR[kind], fontsize=8, va="bottom")
        for line in _lines(rows, kind, "backward")[-1:] if kind in COLOUR else []:
            axis.plot(*_xy(line), color=COLOUR[kind], alpha=0.45, linewidth=1.2)
            axis.text(49.5, line[-1]["log10_error"] - 0.6, "backward", color=COLOUR[kind], **SMALL_RIGHT)
    axis.set_xlim(0, 50)
    axis.set_ylim(-36, 6)
    axis.yaxis.set_major_locator(MultipleLocator(6))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{value:g}}}$"))
    axis.set_title(TITLES[method], **TITLE)
    axis.set_xlabel("x = T log10(1 / |lambda|)")
    axis.set_ylabel("relative error of the gradient")
    axis.tick_params(length=0)
    if method == FORWARD[0]:
        legend = axis.legend(handles=_key(rows), fontsize=7.5, loc=(0.44, 0.17), ncols=2, columnspacing=0.8)
        legend.get_frame().set(alpha=1, edgecolor="none")


def _draw_limits(axis, rows: Sequence[Row]) -> None:
    """Two bars for each kind of numbers: dark as far as digits reach, pale as far as range does."""
    names = [(kind, method) for kind in KINDS for method in FORWARD if _some(rows, kind=kind, warmup=method)]
    for place, (kind, method) in enumerate(names):
        lines = _lines(rows, kind, method)
        ends = [x for x in map(exhausted, lines) if x is not None]
        overflows = [x for x in map(overflowed, lines) if x is not None]
        colour = _style(kind)["color"]
        reach = max(line[-1]["x"] for line in lines)
        far = float(np.median(overflows)) if overflows else reach
        axis.barh(place, far, color=colour, alpha=0.25, height=0.7)
        if ends:
            axis.barh(place, float(np.median(ends)), color=colour, height=0.7)
            axis.text(float(np.median(ends)) / 1.06, place, f"{np.median(ends):.1f}", color="white", **SMALL_MIDDLE)
        axis.text(
            far * 1.06, place, f"overflow at {far:.0f}" if overflows else "no overflow", fontsize=7.5, va="center"
        )
    axis.set_yticks(range(len(names)), [f"{kind}, {method}" for kind, method in names], fontsize=7.5)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlim(1, 2500)
    axis.set_xticks([1, 3, 10, 30, 100, 300], ["1", "3", "10", "30", "100", "300"])
    axis.minorticks_off()
    axis.grid(axis="y", visible=False)
    axis.set_title("Where digits (dark) and range (pale) end", **TITLE)
    axis.set_xlabel("x = T log10(1 / |lambda|), medians over T")
    axis.tick_params(length=0)


def _draw_digits(axis, rows: Sequence[Row]) -> None:
    """Digits that decimals need, with the line fitted to them, and the digits that kinds of fixed length carry."""
    for index, method in enumerate(METHODS):
        some, colour = _some(rows, kind="decimal", warmup=method), COLOURS[(0, 1, 6)[index]]
        fit = slope(rows, method)
        if fit is None:
            continue
        ends = np.asarray([0, some[-1]["x"]])
        axis.plot(ends, fit[1] + fit[0] * ends, color=colour, linewidth=1, linestyle=DASHES[index])
        axis.plot(
            [row["x"] for row in some],
            [row["digits"] for row in some],
            linestyle="",
            marker="os^"[index],
            markersize=(6, 4, 4)[index],
            markerfacecolor="none" if index == 0 else colour,
            color=colour,
            label=f"{method}: {_linear(fit)}",
        )
    for kind, colour in COLOUR.items():
        digits, across = KINDS[kind].digits, axis.get_yaxis_transform()
        axis.axhline(digits, color=colour, linewidth=0.8, linestyle=DASHES[2])
        axis.text(1, digits + 1, f"{kind}, {digits:.1f}", transform=across, color=colour, **SMALL_END)
    axis.set_title("Digits needed for an error of 1%", **TITLE)
    axis.set_xlabel("x = T log10(1 / |lambda|)")
    axis.set_ylabel("significant decimal digits")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.tick_params(length=0)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, frameon=False)


def _xy(line: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row["x"] for row in line], [row["log10_error"] for row in line]


def _style(kind: str) -> dict[str, Any]:
    return {"color": COLOUR[kind.removeprefix("log ")], "linestyle": DASHES[1] if kind.startswith("log ") else "-"}


def _key(rows: Sequence[Row]) -> list[Any]:
    from matplotlib.lines import Line2D

    lengths = sorted({row["T"] for row in rows if row["kind"] in KINDS})
    return [Line2D([], [], label=kind, **_style(kind)) for kind in KINDS] + [
        Line2D([], [], label=f"T = {length:,}", color=GREY, linestyle="", marker=marker, markersize=4)
        for length, marker in zip(lengths, MARKERS, strict=False)
    ]


def _say_limits(rows: Sequence[Row]) -> str:
    """One line for each kind of numbers and warm-up: where digits and range end."""
    sentences = []
    for kind in KINDS:
        for method in FORWARD:
            lines = _lines(rows, kind, method)
            if lines:
                ends, overflows = list(map(exhausted, lines)), list(map(overflowed, lines))
                digits, last = lines[0][0]["digits"], max(line[-1]["x"] for line in lines)
                sentences.append(
                    f"- {kind} ({digits:.1f} digits), {method}: all digits are wrong {_from(ends, '.1f')}; overflow "
                    f"{_from(overflows, '.0f')} (measured up to {last:.0f})."
                )
    return "\n".join(sentences)


def _say_collapse(rows: Sequence[Row]) -> str:
    """Whether the error is a function of x: its slope before digits run out, and how far apart lengths are."""
    slopes, gaps, backward = [], [], []
    for kind in KINDS:
        for method in FORWARD:
            lines = _lines(rows, kind, method)
            for line in lines:
                some = [row for row in line if row["log10_error"] < 0]
                if len(some) > 2:
                    slopes.append(float(np.polyfit(*_xy(some), 1)[0]))
            for x in {row["x"] for line in lines for row in line}:
                at_x = [row["log10_error"] for row in _some(rows, kind=kind, warmup=method, x=x)]
                if len(at_x) > 1 and max(at_x) < 0:
                    gaps.append(max(at_x) - min(at_x))
        backward += [row["log10_error"] + row["digits"] for row in _some(rows, kind=kind, warmup="backward")]
    if not (slopes and gaps and backward):
        return ""
    return (
        f"The loss follows x: log10 of the error rises with slope {np.median(slopes):.2f} in x (median of all lines, "
        f"as far as digits are left), and at the same x lengths T differ by {np.median(gaps):.1f} digits (median; at "
        f"most {max(gaps):.1f}). Run backward, the same numbers lose at most "
        f"{max(backward):.1f} digits at any x: it is the inversion that loses them."
    )


def _say_logs(rows: Sequence[Row]) -> str:
    """Log-domain numbers against floats of the same mantissa."""
    sentences = []
    for name in KINDS:
        plain = {_place(row): row for row in rows if row["kind"] == name}
        logs = {key: row for row in rows if row["kind"] == f"log {name}" and (key := _place(row)) in plain}
        pairs = [(row, plain[key]) for key, row in logs.items() if row["warmup"] in FORWARD]
        lost = [log for log, other in pairs if other["finite"] < 0.5]
        worse = {}
        for log, other in pairs:
            if other["log10_error"] < 0:
                worse.setdefault(log["T"], []).append(log["log10_error"] - other["log10_error"])
        if worse:
            by_length = ", ".join(f"{np.median(worse[length]):.1f} at T = {length:,}" for length in sorted(worse))
            sentences.append(
                f"- log {name} is finite at {sum(row['finite'] == 1 for row in lost)} of the {len(lost)} points where "
                f"{name} overflows, and has a right digit at {sum(row['log10_error'] < 0 for row in lost)} of them. "
                f"Where {name} has digits left, its error is larger by so many digits (median): {by_length}."
            )
    if not sentences:
        return ""
    return (
        "What the log domain changes (the absolute error of a logarithm is the relative error of its number, and "
        "rises with the logarithm and with every step of a product):\n\n" + "\n".join(sentences)
    )


def _say_digits(rows: Sequence[Row]) -> str:
    fits = {method: fit for method in METHODS if (fit := slope(rows, method))}
    if not fits:
        return ""
    lines = "; ".join(f"{method} {_linear(fit)}" for method, fit in fits.items())
    return (
        f"Digits needed for a relative error of {WANTED:g}, by least squares: {lines}. A longer mantissa moves the "
        "end to a larger x; one that is long enough for every window grows with T, by log10(1 / |lambda|) digits a "
        "step for each unit, so that memory is no longer O(1). Segments keep several ordinary numbers instead."
    )


def _place(row: Row) -> tuple[str, int, Any]:
    return row["warmup"], row["T"], row["x"]


def _linear(fit: tuple[float, float]) -> str:
    return f"{fit[1]:.1f} {'-' if fit[0] < 0 else '+'} {abs(fit[0]):.3f} x"


def _from(values: Sequence[float | None], form: str) -> str:
    """From the least to the largest over T, of those that are known."""
    known = sorted({format(value, form) for value in values if value is not None}, key=float)
    return f"from x = {' to '.join(dict.fromkeys((known[0], known[-1])))}" if known else "nowhere"
