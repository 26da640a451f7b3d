"""Figures and text of the study of deep e-prop."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from onward.figures import COLOURS, DASHES
from onward.reproduce.study import Row, panels, read_curve


def draw(rows: Sequence[Row]) -> dict[str, Any]:
    """Agreement with BPTT; learning curves; cost; what updates after every step do to the gradient."""
    return {"gradients": _gradients(rows), "learning": _learning(rows), "cost": _cost(rows), "online": _online(rows)}


def describe(rows: Sequence[Row]) -> str:
    """The findings, one paragraph or table for each part."""
    return "\n\n".join((_verdict(rows), _agreement(rows), _accuracies(rows), _costs(rows), _off_policy(rows)))


def _of(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _values(rows: Sequence[Row], key: str) -> list[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _pairs(rows: Sequence[Row], part: str, first: str, second: str) -> list[tuple[Row, Row]]:
    """Rows of two algorithms at the same place."""
    named = ("task", "cell", "depth", "T", "rate", "seed")
    others = {tuple(row[key] for key in named): row for row in _of(rows, part=part, algorithm=second)}
    found = [(row, others.get(tuple(row[key] for key in named))) for row in _of(rows, part=part, algorithm=first)]
    return [(row, other) for row, other in found if other is not None]


def _verdict(rows):
    gradients = [pair for pair in _pairs(rows, "gradient", "traces", "spatial") if pair[0]["depth"] > 1]
    closer = sum(traces["cosine"] > spatial["cosine"] for traces, spatial in gradients)
    gain = np.median([traces["cosine"] - spatial["cosine"] for traces, spatial in gradients])
    learnt = _pairs(rows, "learning", "traces", "spatial")
    better, worse = (sum(sign * _mean(t) > sign * _mean(s) for t, s in learnt) for sign in (1, -1))
    rise = np.median([_mean(traces) - _mean(spatial) for traces, spatial in learnt])
    return (
        f"Credit through depth and time: at initial weights the gradient of nested traces is closer to BPTT's than "
        f"that of the spatial shortcut at {closer} of {len(gradients)} points of more than one layer (median gain in "
        f"cosine {gain:+.3f}). Of {len(learnt)} trainings of more than one layer its validation accuracy, in the mean "
        f"over the training, is the higher in {better} and the lower in {worse} (median difference "
        f"{100 * rise:+.1f} points)."
    )


def _mean(row):
    """Of validation accuracies on the way, which also says how fast a network learns; 0 for one that diverged."""
    return float(np.mean(read_curve(row) or [0.0]))


def _agreement(rows):
    some = _of(rows, part="gradient")
    lines = ["Mean cosine with BPTT's gradient (cells only, initial weights), traces / spatial:", ""]
    depths = sorted(_values(some, "depth"))
    lines += [
        f"| task | cell | {' | '.join(f'{depth} layers' for depth in depths)} |",
        "|---" * (2 + len(depths)) + "|",
    ]
    for task in _values(some, "task"):
        for cell in _values(some, "cell"):
            cells = [_pair(_of(some, task=task, cell=cell, depth=depth)) for depth in depths]
            lines.append(f"| {task} | {cell} | {' | '.join(cells)} |")
    worst = min((row["cosine"] for row in _of(some, algorithm="RTRL")), default=1.0)
    quiet = {
        cell: min(row["activity"] for row in _of(some, algorithm="BPTT", cell=cell)) for cell in _values(some, "cell")
    }
    active = ", ".join(f"{cell} {value:.2f}" for cell, value in quiet.items())
    return "\n".join(lines) + (
        f"\n\nRTRL is the same recursion with full derivatives: its lowest cosine is {worst:.6f}. Means over lengths. "
        f"With one layer both forms are the same. Mean absolute emission of the quietest layer (of ALIF: the share "
        f"that fires): {active}."
    )


def _pair(rows):
    """Mean cosines of the two forms, which are one where there is one layer."""
    found = [[row["cosine"] for row in _of(rows, algorithm=name)] for name in ("traces", "spatial")]
    return " / ".join(f"{np.mean(each):.2f}" for each in found if each)


def _accuracies(rows):
    some = _of(rows, part="learning")
    names = _values(some, "algorithm")
    lines = ["Validation accuracy, mean over the training -> test accuracy, %; last network's cosine with BPTT's:", ""]
    lines += [f"| task | layers | cell | {' | '.join(names)} |", "|---" * (3 + len(names)) + "|"]
    for task in _values(some, "task"):
        for depth in _values(some, "depth"):
            for cell in _values(some, "cell"):
                here = {row["algorithm"]: row for row in _of(some, task=task, depth=depth, cell=cell)}
                shown = [_learnt(here[name]) if name in here else "" for name in names]
                lines.append(f"| {task} | {depth} | {cell} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _learnt(row):
    return f"{100 * _mean(row):.0f} -> {100 * row['accuracy']:.1f} ({row['cosine']:.2f})"


def _costs(rows):
    lines = [
        "Time and memory of a batch's gradient, influence included, as multiples of BPTT's (medians over cells):",
        "",
    ]
    names = [name for name in _values(_of(rows, part="gradient"), "algorithm") if name != "BPTT"]
    lines += [f"| task | T | layers | {' | '.join(names)} |", "|---" * (3 + len(names)) + "|"]
    places = [(row["task"], row["T"], row["depth"]) for row in _of(rows, part="gradient", algorithm="BPTT")]
    for task, length, depth in dict.fromkeys(places):
        here = _of(rows, task=task, T=length, depth=depth)
        cells = []
        for name in names:
            pairs = _pairs(here, "gradient", name, "BPTT")
            ratios = [np.median([a[key] / b[key] for a, b in pairs]) for key in ("microseconds", "memory") if pairs]
            cells.append(" / ".join(f"{ratio:.2f}" for ratio in ratios))
        lines.append(f"| {task} | {length} | {depth} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _off_policy(rows):
    some = _of(rows, part="online")
    lines = ["Updates after every step (MNIST98, two layers, SGD): relative distance of the last step's gradient from "]
    lines[0] += "the one whose whole past has the same weights, median over cells; and of that one from BPTT's:"
    rates = sorted(_values(some, "rate"))
    heads = [*(f"rate {rate:g}" for rate in rates), f"bias at rate {rates[0]:g}" if rates else "bias", "us a step"]
    lines += ["", f"| algorithm | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for name in _values(some, "algorithm"):
        mine = _of(some, algorithm=name)
        found = [np.median([row["distance"] for row in _of(mine, rate=rate)]) for rate in rates]
        found += [np.median([row["bias"] for row in _of(mine, rate=rates[0])])]
        cost = np.median([row["microseconds"] for row in mine])
        lines.append(f"| {name} | {' | '.join(f'{value:.2g}' for value in found)} | {cost:.1f} |")
    return "\n".join(lines)


def _gradients(rows):
    """By depth for each task, by T, and layer by layer of the deepest networks."""
    some = _of(rows, part="gradient")
    tasks, cells = _values(some, "task"), _values(some, "cell")
    figure, axes = panels(2, 3, 3.2)
    base = some[0]["T"]
    for axis, task in zip(axes[0], tasks, strict=False):
        _lines(axis, [row for row in _of(some, task=task) if row["T"] == base or task != tasks[0]], cells, "depth")
        axis.set_title(task, loc="left", fontsize=10, fontweight="bold")
        axis.set_xlabel("layers")
    long = [row for row in _of(some, task=tasks[0]) if row["T"] != base]
    depth = long[0]["depth"] if long else some[0]["depth"]
    _lines(axes[1][0], _of(some, task=tasks[0], depth=depth), cells, "T")
    axes[1][0].set_xscale("log", base=2)
    axes[1][0].set_xlabel(f"T of {tasks[0]}, {depth} layers")
    deepest = max(row["depth"] for row in some)
    for axis, task in zip(axes[1][1:], tasks, strict=False):
        _layers(axis, _of(some, task=task, depth=deepest), cells)
        axis.set_xlabel(f"layer from below, {task}, {deepest} layers")
    for axis in axes.flat:
        axis.set_ylim(-0.35, 1.08)
        axis.tick_params(length=0)
    for line in axes:
        line[0].set_ylabel("cosine with BPTT's gradient")
    handles = axes[0][0].get_legend_handles_labels()
    figure.legend(*handles, fontsize=7.5, frameon=False, ncols=len(cells), loc="outside lower center")
    return figure


def _lines(axis, rows, cells, key):
    for index, cell in enumerate(cells):
        for name, dash in (("traces", DASHES[0]), ("spatial", DASHES[1])):
            here = _of(rows, cell=cell, algorithm=name)
            if name == "traces":  # of one layer the two are the same
                here += _of(rows, cell=cell, algorithm="spatial", depth=1)
            here.sort(key=lambda row: row[key])
            points = [row[key] for row in here], [row["cosine"] for row in here]
            style = {"color": COLOURS[index], "linestyle": dash, "marker": "o", "markersize": 3}
            axis.plot(*points, **style, label=f"{cell}, {name}")


def _layers(axis, rows, cells):
    for index, cell in enumerate(cells):
        for name, dash in (("traces", DASHES[0]), ("spatial", DASHES[1])):
            for row in _of(rows, cell=cell, algorithm=name)[:1]:
                values = [float(value) for value in str(row["layers"]).split()]
                style = {"color": COLOURS[index], "linestyle": dash, "marker": "o", "markersize": 3}
                axis.plot(range(1, len(values) + 1), values, **style)


def _learning(rows):
    """Validation accuracy of the deeper networks, a row for each cell and a column for each task."""
    some = _of(rows, part="learning")
    tasks, cells, names = (_values(some, key) for key in ("task", "cell", "algorithm"))
    deepest = max(row["depth"] for row in some)
    figure, axes = panels(len(cells), len(tasks), 2.2)
    for line, cell in zip(axes, cells, strict=True):
        for axis, task in zip(line, tasks, strict=True):
            for row in _of(some, task=task, cell=cell, depth=deepest):
                curve = [100 * value for value in read_curve(row)]
                index = names.index(row["algorithm"])
                style = {"color": COLOURS[index], "linestyle": DASHES[index], "label": row["algorithm"]}
                axis.plot(np.arange(1, len(curve) + 1) / max(1, len(curve)), curve, **style)
            axis.set_title(f"{cell}, {task}", loc="left", fontsize=9)
            axis.tick_params(length=0)
        line[0].set_ylabel("validation accuracy, %")
    for axis in axes[-1]:
        axis.set_xlabel(f"share of the batches, {deepest} layers")
    handles = axes[0][0].get_legend_handles_labels()
    figure.legend(*handles, fontsize=7.5, frameon=False, ncols=len(names), loc="outside lower center")
    return figure


def _cost(rows):
    """Time and memory against depth, in medians over cells."""
    some = _of(rows, part="gradient")
    some = _of(some, task=some[0]["task"], T=some[0]["T"])
    figure, axes = panels(1, 2)
    for index, name in enumerate(_values(some, "algorithm")):
        mine = _of(some, algorithm=name)
        depths = sorted(_values(mine, "depth"))
        for axis, key in zip(axes[0], ("microseconds", "memory"), strict=True):
            middle = [np.median([row[key] for row in _of(mine, depth=depth)]) for depth in depths]
            axis.plot(depths, middle, marker="o", markersize=3, color=COLOURS[index], label=name)
    for axis, label in zip(axes[0], ("us a step and sequence", "memory of a batch's gradient, bytes"), strict=True):
        axis.set_yscale("log")
        axis.set_xlabel("layers")
        axis.set_ylabel(label)
        axis.tick_params(length=0)
    axes[0][0].legend(fontsize=7.5, frameon=False)
    return figure


def _online(rows):
    """Distance from the gradient of frozen weights against the rate, and the bias of that gradient."""
    some = _of(rows, part="online")
    cells = _values(some, "cell")
    figure, axes = panels(1, len(cells))
    for axis, cell in zip(axes[0], cells, strict=True):
        for index, name in enumerate(_values(some, "algorithm")):
            mine = sorted(_of(some, cell=cell, algorithm=name), key=lambda row: row["rate"])
            rates = [row["rate"] for row in mine]
            axis.plot(rates, [row["distance"] for row in mine], color=COLOURS[index], marker="o", label=name)
            if name != "RTRL":
                bias = [row["bias"] for row in mine]
                axis.plot(rates, bias, color=COLOURS[index], linestyle=DASHES[1], label=f"{name}: bias")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_title(cell, loc="left", fontsize=9)
        axis.set_xlabel("learning rate")
        axis.tick_params(length=0)
    axes[0][0].set_ylabel("relative distance")
    axes[0][0].legend(fontsize=7, frameon=False)
    return figure
