"""Figures and text of the study of deep e-prop."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from onward.figures import COLOURS, DASHES
from onward.reproduce.study import Row, panels, read_curve


def draw(rows: Sequence[Row]) -> dict[str, Any]:
    """Agreement with BPTT; learning curves, by depth and T; cost; what updates after every step do to the gradient."""
    figures = {"gradients": _gradients(rows), "learning": _learning(rows), "cost": _cost(rows), "online": _online(rows)}
    if len(_values(_of(rows, part="learning"), "depth")) > 1:
        figures["learning-by-depth"] = _by_depth(rows)
    return figures


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
        f"| task | T | cell | {' | '.join(f'{depth} layers' for depth in depths)} |",
        "|---" * (3 + len(depths)) + "|",
    ]
    for task, length, cell in dict.fromkeys((row["task"], row["T"], row["cell"]) for row in some):
        cells = [_pair(_of(some, task=task, T=length, cell=cell, depth=depth)) for depth in depths]
        lines.append(f"| {task} | {length} | {cell} | {' | '.join(cells)} |")
    worst = min((row["cosine"] for row in _of(some, algorithm="RTRL")), default=1.0)
    quiet = {
        cell: min(row["activity"] for row in _of(some, algorithm="BPTT", cell=cell)) for cell in _values(some, "cell")
    }
    active = ", ".join(f"{cell} {value:.2f}" for cell, value in quiet.items())
    return "\n".join(lines) + (
        f"\n\nRTRL is the same recursion with full derivatives: its lowest cosine is {worst:.6f}. "
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
    lines += [f"| task | layers | T | rate | cell | {' | '.join(names)} |", "|---" * (5 + len(names)) + "|"]
    keys = "task", "depth", "T", "rate", "cell"
    for place in dict.fromkeys(tuple(row[key] for key in keys) for row in some):
        here = _of(some, **dict(zip(keys, place, strict=True)))
        shown = [_learnt(_of(here, algorithm=name)) for name in names]
        lines.append(f"| {' | '.join(map(str, place))} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n\nImmediate: spatial errors alone, learnt from by RMSprop in place of Adam."


def _learnt(rows):
    """Means over seeds, whose number is told."""
    if not rows:
        return ""
    on_the_way, at_end = (100 * np.mean([of(row) for row in rows]) for of in (_mean, lambda row: row["accuracy"]))
    cosine = np.mean([row["cosine"] for row in rows])
    return f"{on_the_way:.0f} -> {at_end:.1f} ({cosine:.2f})" + (f", {len(rows)} seeds" if len(rows) > 1 else "")


def _costs(rows):
    lines = [
        "Time / memory of a batch's gradient, what is carried on included, as multiples of BPTT's:",
        "",
    ]
    names = [name for name in _values(_costed(rows), "algorithm") if name != "BPTT"]
    lines += [f"| cell | layers | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for cell, depth in dict.fromkeys((row["cell"], row["depth"]) for row in _costed(rows)):
        here = _of(_costed(rows), cell=cell, depth=depth)
        cells = []
        for name in names:
            ratios = [
                f"{a[key] / b[key]:.2g}"
                for a, b in _pairs(here, "gradient", name, "BPTT")
                for key in ("microseconds", "memory")
            ]
            cells.append(" / ".join(ratios))
        lines.append(f"| {cell} | {depth} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _costed(rows):
    return [row for row in _of(rows, part="gradient") if np.isfinite(row["microseconds"])]


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
    """Of the first task by depth and by T, and by task; and layer by layer of each task's deepest networks."""
    some = _of(rows, part="gradient")
    tasks, cells = _values(some, "task"), _values(some, "cell")
    figure, axes = panels(2, 3, 3.2)
    base, depth = some[0]["T"], some[-1]["depth"]
    first = _of(some, task=tasks[0])
    _lines(axes[0][0], _of(first, T=base), cells, "depth")
    axes[0][0].set_xlabel(f"layers, {tasks[0]}")
    _lines(axes[0][1], _of(first, depth=depth), cells, "T")
    axes[0][1].set_xlabel(f"T of {tasks[0]}, {depth} layers")
    _lines(axes[0][2], [row for row in _of(some, depth=depth) if row["T"] == base or row not in first], cells, "task")
    axes[0][2].set_xlabel(f"task, {depth} layers")
    for axis, task in zip(axes[1], tasks, strict=False):
        here = _of(some, task=task)
        deepest = max(row["depth"] for row in here)
        _layers(axis, _of(here, depth=deepest), cells)
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
            if key != "task":
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
    """Validation accuracy at the depth and T that all are learnt at: a row a cell, a column a task and rate."""
    some = _of(rows, part="learning")
    cells, names = (_values(some, key) for key in ("cell", "algorithm"))
    tasks = list(dict.fromkeys((row["task"], row["rate"]) for row in some))
    common = _common(some)
    depth, length = common[0]["depth"], {row["task"]: row["T"] for row in common}
    figure, axes = panels(len(cells), len(tasks), 2.2)  # all of the tasks' panels, though not every cell learns each
    for line, cell in zip(axes, cells, strict=True):
        for axis, (task, rate) in zip(line, tasks, strict=True):
            here = _of(some, task=task, rate=rate, cell=cell, depth=depth, T=length[task])
            axis.set_visible(bool(here))
            for name in _values(here, "algorithm"):
                curves = [read_curve(row) for row in _of(here, algorithm=name) if read_curve(row)]
                curve = 100 * np.mean(curves, axis=0) if curves else []
                index = names.index(name)
                style = {"color": COLOURS[index], "linestyle": DASHES[index % len(DASHES)], "label": name}
                axis.plot(np.arange(1, len(curve) + 1) / max(1, len(curve)), curve, **style)
            axis.set_title(f"{cell}, {task}, rate {rate:g}", loc="left", fontsize=9)
            axis.tick_params(length=0)
        line[0].set_ylabel("validation accuracy, %")
    for axis in axes[-1]:
        axis.set_xlabel(f"share of the batches, {depth} layers")
    handles = axes[0][0].get_legend_handles_labels()
    figure.legend(*handles, fontsize=7.5, frameon=False, ncols=len(names), loc="outside lower center")
    return figure


def _common(rows):
    """Rows of the algorithm that is only tried at the depth and T that all are learnt at."""
    return _of(rows, algorithm="immediate")


def _by_depth(rows):
    """Validation accuracy, mean over the training, of the first task by depth and by T: a row for each cell."""
    some = _of(rows, part="learning")
    task, depth, length, rate = (_common(some)[0][key] for key in ("task", "depth", "T", "rate"))
    some = _of(some, task=task, rate=rate, seed=some[0]["seed"])
    cells = _values([row for row in some if row["depth"] != depth], "cell")
    names = "BPTT", "traces", "spatial"
    figure, axes = panels(len(cells), 2, 2.4)
    for line, cell in zip(axes, cells, strict=True):
        for axis, key, held in zip(line, ("depth", "T"), ({"T": length}, {"depth": depth}), strict=True):
            for index, name in enumerate(names):
                here = _of(some, cell=cell, algorithm=name, **held)
                if name == "traces" and key == "depth":  # of one layer the two are the same
                    here += _of(some, cell=cell, algorithm="spatial", **(held | {"depth": 1}))
                here.sort(key=lambda row: row[key])
                style = {"color": COLOURS[index], "linestyle": DASHES[index], "marker": "o", "markersize": 3}
                axis.plot([row[key] for row in here], [100 * _mean(row) for row in here], **style, label=name)
            axis.set_xticks(sorted({row[key] for row in _of(some, cell=cell, **held)}))
            axis.set_title(f"{cell}, {task}", loc="left", fontsize=9)
            axis.tick_params(length=0)
        line[0].set_ylabel("mean validation accuracy, %")
    axes[-1][0].set_xlabel(f"layers, T = {length}")
    axes[-1][1].set_xlabel(f"T, {depth} layers")
    handles = axes[0][0].get_legend_handles_labels()
    figure.legend(*handles, fontsize=7.5, frameon=False, ncols=len(names), loc="outside lower center")
    return figure


def _cost(rows):
    """Time and memory of the first cell against depth."""
    some = _costed(rows)
    some = _of(some, cell=some[0]["cell"])
    figure, axes = panels(1, 2)
    for index, name in enumerate(_values(some, "algorithm")):
        mine = _of(some, algorithm=name)
        depths = sorted(_values(mine, "depth"))
        for axis, key in zip(axes[0], ("microseconds", "memory"), strict=True):
            found = [_of(mine, depth=depth)[0][key] for depth in depths]
            axis.plot(depths, found, marker="o", markersize=3, color=COLOURS[index], label=name)
    for axis, label in zip(axes[0], ("us a step and sequence", "memory of a batch's gradient, bytes"), strict=True):
        axis.set_yscale("log")
        axis.set_xlabel(f"{some[0]['cell']} layers")
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
