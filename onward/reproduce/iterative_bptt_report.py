"""What the rows of the study of "Exact iterative BPTT" say: its figures and its text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from onward.figures import COLOURS, DASHES, GREY, TITLE
from onward.reproduce.iterative_bptt_chaos import PIECE
from onward.reproduce.study import Row, panels, read_curve

CHANCE = 0.25  # the accuracy of guessing one of four symbols


def draw(rows: Sequence[Row]) -> dict[str, Any]:
    """File name without suffix -> figure."""
    gradients, axes = panels(1, 2, 3.3)
    _draw_drift(axes[0][0], _some(rows, part="exactness"))
    _draw_cross_terms(axes[0][1], _some(rows, part="cross-terms"))
    memory, axes = panels(1, 2, 3.3)
    _draw_cost(axes[0][0], _some(rows, part="cost"))
    _draw_learning(axes[0][1], _some(rows, part="learning"))
    chaos, axes = panels(1, 2, 3.3)
    _draw_growth(axes[0][0], _some(rows, part="chaos"))
    _draw_norms(axes[0][1], _some(rows, part="chaos"))
    return {"gradients": gradients, "cost-and-memory": memory, "chaos": chaos}


def describe(rows: Sequence[Row]) -> str:
    """What was found, from the rows alone."""
    said = {
        "Exactness": _say_exactness(_some(rows, part="exactness")),
        "Half of the cross terms": _say_cross_terms(_some(rows, part="cross-terms")),
        "Cost of a step": _say_cost(_some(rows, part="cost")),
        "Memory beyond the window": _say_learning(_some(rows, part="learning")),
        "Chaos": _say_chaos(_some(rows, part="chaos")),
    }
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in said.items())


def _say_exactness(rows: Sequence[Row]) -> str:
    rates = _distinct(rows, "rate")
    lines = _table(
        ["layer", *(f"rate {rate:g}" for rate in rates)],
        [
            [cell, *(f"{_median(_some(rows, cell=cell, rate=rate), 'drift'):.2g}" for rate in rates)]
            for cell in _distinct(rows, "cell")
        ],
    )
    return (
        "RTRL's gradients, summed over all steps, differ from autodiff along the parameters as they moved (eq. 8; at "
        f"rate 0, BPTT) by at most {max(row['error'] for row in rows):.1g} of their norm, at any rate. The table: how "
        "far the last step's gradient is from BPTT's at the parameters of that moment, as if they had never moved "
        f"(relative distance, median over seeds).\n\n{lines}"
    )


def _say_cross_terms(rows: Sequence[Row]) -> str:
    table = []
    for cell in _distinct(rows, "cell"):
        for method in _distinct(rows, "method"):
            some = _some(rows, cell=cell, method=method)
            last = _some(some, steps=max(_distinct(some, "steps")))
            figures = (_median(last, key) for key in ("kept", "dropped", "error", "cosine"))
            table.append([cell, method, *(f"{figure:.2g}" for figure in figures)])
    spans = _distinct(rows, "steps")
    return (
        "The theorem says that of each pair of cross terms one is zero. Norms of both halves as shares of the whole "
        f"Jacobian dR_t / dR_(t-1), and what dropping one makes of the layer's gradient over {max(spans)} steps:\n\n"
        + _table(["layer", "kept are", "kept", "dropped", "relative error", "cosine"], table)
        + "\n\nMedians over seeds. One loop or two, the RNN is the same network with the same numbers."
    )


def _say_cost(rows: Sequence[Row]) -> str:
    counts = _distinct(rows, "steps")
    table = [
        [method, *(f"{_median(_some(rows, method=method, steps=count), 'microseconds'):.3g}" for count in counts)]
        for method in _distinct(rows, "method")
    ]
    text = "Microseconds for the gradient of one step, by its number in the sequence:\n\n"
    text += _table(["", *(f"{count:,}" for count in counts)], table)
    pairs = [[_some(rows, method=method, steps=count)[0] for method in ("naive BPTT", "RTRL")] for count in counts]
    dearer = [naive["steps"] for naive, rtrl in pairs if naive["microseconds"] > rtrl["microseconds"]]
    if dearer:
        text += f"\n\nNaive BPTT takes longer than RTRL from step {min(dearer):,} on, of those measured."
    memory = " and ".join(f"{row['method']} {row['memory'] / 1e3:,.0f} kB" for row in pairs[-1])
    return f"{text} At step {counts[-1]:,} {memory} are needed; RTRL's are the same at every step."


def _say_learning(rows: Sequence[Row]) -> str:
    table = []
    for method in _distinct(rows, "method"):
        some = _some(rows, method=method)
        each = ", ".join(f"{row['accuracy']:.1%}" for row in some)
        table.append([method, each, f"{_median(some, 'microseconds') / 1e3:.1f}"])
    return (
        f"One of four symbols is to be kept and told; guessing gives {CHANCE:.0%}. Test accuracy from each seed, and "
        f"milliseconds a batch:\n\n{_table(['method', 'accuracy', 'ms'], table)}\n\n"
        "BPTT updates once a sequence, the others at every step or window. States live on from window to window: what "
        "they happen to keep can be read without any credit to what put it there."
    )


def _say_chaos(rows: Sequence[Row]) -> str:
    table = []
    for gain in _distinct(rows, "gain"):
        for decay in _distinct(rows, "decay"):
            some = _some(rows, gain=gain, decay=decay)
            losses = [row["loss"] for row in some]
            failed = sum(not np.isfinite(loss) for loss in losses)
            loss = f"{np.median(losses):.2g}" if not failed else f"not finite in {failed} of {len(losses)}"
            figures = (_median(some, key) for key in ("lyapunov", "growth", "cosine"))
            table.append([f"{gain:g}", f"{decay:g}", *(f"{figure:.3f}" for figure in figures), loss])
    return (
        "Medians over seeds; the exponent and the growth of the influence's norm in natural logarithms a step. "
        "The loss is that of learning, at every step, to make a sine; always to answer 0 gives 0.5.\n\n"
        + _table(["gain", "decay", "Lyapunov exponent", "growth", "cosine with BPTT", "loss of learning"], table)
    )


def _draw_drift(axis, rows: Sequence[Row]) -> None:
    for index, cell in enumerate(_distinct(rows, "cell")):
        rates = [rate for rate in _distinct(rows, "rate") if rate]
        drift = [_median(_some(rows, cell=cell, rate=rate), "drift") for rate in rates]
        axis.plot(rates, drift, marker="o", markersize=3, color=COLOURS[index], label=cell)
    axis.set_xscale("log")
    axis.set_yscale("log")
    _finish(axis, "Parameters that move", "learning rate of every step", "relative distance to BPTT's gradient")


def _draw_cross_terms(axis, rows: Sequence[Row]) -> None:
    for index, cell in enumerate(_distinct(rows, "cell")):
        for dash, method in zip(DASHES, _distinct(rows, "method"), strict=False):
            some = _some(rows, cell=cell, method=method)
            spans = _distinct(some, "steps")
            error = [_median(_some(some, steps=span), "error") for span in spans]
            if max(error) > 1e-9:
                axis.plot(spans, error, color=COLOURS[index], linestyle=dash, label=f"{cell}, {method}")
    axis.set_xscale("log")
    axis.set_xticks(_distinct(rows, "steps"), [str(span) for span in _distinct(rows, "steps")])
    axis.minorticks_off()
    _finish(axis, "Half of the cross terms", "steps", "relative error of the gradient")


def _draw_cost(axis, rows: Sequence[Row]) -> None:
    for index, method in enumerate(_distinct(rows, "method")):
        some = _some(rows, method=method)
        xy = [row["steps"] for row in some], [row["microseconds"] for row in some]
        axis.plot(*xy, marker="o", markersize=3, color=COLOURS[index], label=method)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    _finish(axis, "Time of one step's gradient", "number of the step", "microseconds")


def _draw_learning(axis, rows: Sequence[Row]) -> None:
    axis.axhline(CHANCE, color=GREY, linewidth=0.8)
    for index, method in enumerate(_distinct(rows, "method")):
        curves = [read_curve(row) for row in _some(rows, method=method)]
        line = np.median([curve[: min(map(len, curves))] for curve in curves], axis=0)
        place = np.arange(1, len(line) + 1) / len(line)
        axis.plot(place, line, color=COLOURS[index % len(COLOURS)], linestyle=DASHES[index // 4], label=method)
    axis.set_ylim(0, 1.05)
    _finish(axis, "A symbol to keep beyond the window", "share of the batches", "validation accuracy")
    axis.legend(fontsize=7, frameon=False, ncols=3, loc="lower right")


def _draw_growth(axis, rows: Sequence[Row]) -> None:
    axis.axhline(0, color=GREY, linewidth=0.8)
    for index, decay in enumerate(_distinct(rows, "decay")):
        points = _columns(_some(rows, decay=decay), "lyapunov", "growth")
        axis.plot(*points, "o", markersize=3.5, color=COLOURS[index], label=f"decay {decay:g}")
    (exponents,) = _columns(rows, "lyapunov")
    exponents = np.linspace(min(exponents), max(exponents), 200)
    for index, decay in enumerate(_distinct(rows, "decay")):
        axis.plot(exponents, np.maximum(0, exponents + np.log(decay)), color=COLOURS[index], linewidth=0.8)
    _finish(axis, "The influence grows as the network is chaotic", "Lyapunov exponent", "growth of its norm a step")


def _draw_norms(axis, rows: Sequence[Row]) -> None:
    gain = max(_distinct(rows, "gain"))
    for index, decay in enumerate(_distinct(rows, "decay")):
        curves = [read_curve(row) for row in _some(rows, gain=gain, decay=decay)]
        line = np.median(curves, axis=0)
        axis.plot(PIECE * np.arange(1, len(line) + 1), line, color=COLOURS[index], label=f"decay {decay:g}")
    _finish(axis, f"Gain {gain:g}", "steps", "log10 of the influence's norm")


def _finish(axis, title: str, x: str, y: str) -> None:
    axis.set_title(title, **TITLE)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.tick_params(length=0)
    axis.legend(fontsize=7.5, frameon=False)


def _some(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _distinct(rows: Sequence[Row], key: str) -> list[Any]:
    """Values in the order in which they come."""
    return list(dict.fromkeys(row[key] for row in rows))


def _median(rows: Sequence[Row], key: str) -> float:
    return float(np.median([row[key] for row in rows]))


def _columns(rows: Sequence[Row], *keys: str) -> list[list[float]]:
    return [[row[key] for row in rows] for key in keys]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))
