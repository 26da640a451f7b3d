"""Kag and Saligrama's experiments on images read pixel by pixel: BPTT and FPTT, cells, and the auxiliary loss."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import optax

from onward import cells, networks
from onward.algorithms import BPTT, RTRL, EProp, SnAp
from onward.data import load_cifar10
from onward.evaluation import evaluate
from onward.figures import COLOURS, DASHES
from onward.intermediate import IntermediateLosses
from onward.optimizers import fptt
from onward.reproduce.adding import Method
from onward.reproduce.study import Row, Study, panels, read_curve, record
from onward.tasks import make
from onward.training import updates_per_batch

CELLS = {"LSTM": cells.LSTM, "GRU": cells.GRU, "antisymmetric": cells.AntisymmetricRNN, "LRU": cells.LRU}
OPTIONS: dict[str, dict[str, Any]] = {"LRU": {"r_min": 0.9}}
WHOLE = BPTT(checkpoint="sqrt")  # of 784 steps it is also quicker than to write all down
ALGORITHMS = {"BPTT": BPTT(), "e-prop": EProp(), "SnAp(1)": SnAp(1), "RTRL": RTRL()}
METHODS = {
    "BPTT": Method(windows=False, losses=False),
    "BPTT, auxiliary loss": Method(windows=False),
    "windows, no regulariser": Method(),
    "FPTT": Method(alpha=0.1),
    "FPTT, linear 1/2": Method(alpha=0.1, linear=0.5),
}
# Test accuracies of the paper's tables 2, 3 and 6 after 200 epochs, in percent.
PUBLISHED = {
    ("smnist", "LSTM", "BPTT"): 97.71,
    ("smnist", "LSTM", "FPTT"): 98.67,
    ("psmnist", "LSTM", "BPTT"): 88.91,
    ("psmnist", "LSTM", "FPTT"): 94.75,
    ("scifar10", "LSTM", "BPTT"): 60.11,
    ("scifar10", "LSTM", "BPTT, auxiliary loss"): 65.65,
    ("scifar10", "LSTM", "FPTT"): 71.03,
    ("scifar10", "GRU", "BPTT"): 66.28,
    ("scifar10", "GRU", "FPTT"): 71.37,
    ("scifar10", "antisymmetric", "BPTT"): 62.41,
    ("scifar10", "antisymmetric", "FPTT"): 72.13,
}


@dataclass(frozen=True)
class ImageSettings:
    """LSTM-128 and the optimizer of the authors' scripts; the rate falls to a tenth at shares of the batches."""

    steps: int = 500
    units: int = 128
    batch_size: int = 128
    windows: int = 10
    rate: float = 1e-3
    drops: tuple[float, ...] = (0.5, 0.75, 0.9)
    clip: float = 1.0
    judged: int = 10
    validation: int = 2000
    tested: int = 500


class Images(Study):
    """What the studies of this module share: rows are (task, cell, method)."""

    full = ImageSettings()
    quick = ImageSettings(steps=60, units=16, batch_size=32, judged=4, validation=200)
    batch = 128
    tasks: tuple[str, ...] = ()
    cells: tuple[str, ...] = ("LSTM",)
    algorithms: tuple[str, ...] = ("BPTT",)
    methods: tuple[str, ...] = ("BPTT", "FPTT")

    def points(self, settings: ImageSettings, seed: int) -> Sequence[Row]:
        return [
            {"task": task, "cell": cell, "algorithm": algorithm, "method": method, "seed": seed}
            for task in (self.tasks or (_table_task(),))
            for cell in self.cells
            for algorithm in self.algorithms
            for method in self.methods
        ]

    def measure(self, settings: ImageSettings, point: Row, earlier: Sequence[Row]) -> Row:
        task = make(point["task"], validation=settings.validation)
        method, seed = METHODS[point["method"]], point["seed"]
        count = settings.windows if method.windows else 1
        kind, options = CELLS[point["cell"]], OPTIONS.get(point["cell"], {})
        sizes = {"units": settings.units, "key": jax.random.key(seed)}
        network = networks.cell_stack(kind, task.input_size, task.output_size, **sizes, **options)
        updates = settings.steps * updates_per_batch(task.length, None, count)
        drops = {int(share * updates): 0.1 for share in settings.drops}
        pull = [fptt(method.alpha, linear=method.linear)] if method.alpha else []
        parts = [
            optax.clip_by_global_norm(settings.clip),
            optax.adam(optax.piecewise_constant_schedule(settings.rate, drops)),
        ]
        try:
            trained = self.train(
                network,
                task,
                algorithm=ALGORITHMS[point["algorithm"]] if method.windows else WHOLE,
                optimizer=optax.chain(*pull, *parts),
                steps=settings.steps,
                batch_size=settings.batch_size,
                windows_per_sequence=count,
                intermediate=IntermediateLosses(None if method.windows else settings.windows)
                if method.losses
                else None,
                validate_every=max(1, settings.steps // settings.judged),
                keep_best=False,
                seed=seed,
            )
        except FloatingPointError:
            lost = dict.fromkeys(("loss", "batch_seconds"), float("nan"))
            return {"steps": settings.steps, "accuracy": 0.0, **lost, "curve": ""}
        values = evaluate(trained.network, task, "test", settings.tested)
        return {
            "steps": settings.steps,
            "accuracy": values["accuracy"],
            "loss": values["loss"],
            **record(trained, "accuracy"),
        }

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        """A panel for each task; where there are several algorithms, for each of them and each cell."""
        apart = ("task", "cell", "algorithm") if len(self.algorithms) > 1 else ("task",)
        places = list(dict.fromkeys(tuple(row[key] for key in apart) for row in rows))
        columns = min(3, len(places))
        figure, axes = panels(-(-len(places) // columns), columns, 3.2)
        for axis, place in zip(axes.flat, places, strict=False):
            for row in (row for row in rows if tuple(row[key] for key in apart) == place):
                curve = [100 * value for value in read_curve(row)]
                colour = COLOURS[self.methods.index(row["method"]) % len(COLOURS)]
                dash = "-" if len(apart) > 1 else DASHES[self.cells.index(row["cell"]) % len(DASHES)]
                names = [row["method"]] if len(apart) > 1 else _names(row, self.cells, self.algorithms)
                at = np.arange(1, len(curve) + 1) / max(1, len(curve)) * row["steps"]
                label = ", ".join(names) + (" (diverged)" if np.isnan(row["loss"]) else "")
                axis.plot(at, curve, color=colour, linestyle=dash, label=label)
            axis.set_title(", ".join(place), fontsize=9)
            axis.set_xlabel("batches")
            axis.set_ylabel("validation accuracy, %")
            axis.tick_params(length=0)
            axis.legend(fontsize=7.5, frameon=False)
        lowest, highest = zip(*(axis.get_ylim() for axis in axes.flat[: len(places)]), strict=True)
        for axis in axes.flat:
            axis.set_ylim(min(lowest), max(highest))
            axis.set_visible(axis in axes.flat[: len(places)])
        return {self.name: figure}

    def describe(self, rows: Sequence[Row]) -> str:
        lines = ["| task | cell | gradient | method | batches | test accuracy | the paper | seconds a batch |"]
        lines.append("|" + "---|" * 8)
        for row in rows:
            known = PUBLISHED.get((row["task"], row["cell"], row["method"])) if row["algorithm"] == "BPTT" else None
            names = " | ".join(row[key] for key in ("task", "cell", "algorithm", "method"))
            paper = f"{known:.2f} % in 200 epochs" if known else ""
            lost = np.isnan(row["loss"])
            accuracy, seconds = ("diverged", "") if lost else (f"{row['accuracy']:.2%}", f"{row['batch_seconds']:.3f}")
            figures = f"{row['steps']:,} | {accuracy} | {paper} | {seconds}"
            lines.append(f"| {names} | {figures} |")
        for task in dict.fromkeys(row["task"] for row in rows):
            ranked = sorted((row for row in rows if row["task"] == task), key=lambda row: -row["accuracy"])
            names = (", ".join(_names(row, self.cells, self.algorithms)) for row in ranked)
            found = ("diverged" if np.isnan(row["loss"]) else f"{row['accuracy']:.1%}" for row in ranked)
            order = "; ".join(f"{name} ({value})" for name, value in zip(names, found, strict=True))
            lines.append(f"\n{task}, from best to worst: {order}.")
        return "\n".join(lines) + (
            "\n\nFPTT: running variant, alpha 0.1, beta 0.5, losses at the ends of windows. The learning rate falls to "
            "a tenth at each of three points on the way, as in the authors' scripts, whose runs are many times longer."
        )


def _names(row: Row, cells: Sequence[str], algorithms: Sequence[str]) -> list[str]:
    """What tells a row from the others of its task."""
    shown = (row["cell"], len(cells)), (row["algorithm"], len(algorithms)), (row["method"], 2)
    return [name for name, count in shown if count > 1]


class SequentialImages(Images):
    """Table 6, left."""

    name = "smnist"
    summary = "MNIST and Fashion-MNIST pixel by pixel (784 steps): BPTT and FPTT side by side."
    tasks = ("smnist", "sfashion")


class PermutedImages(Images):
    """Table 6, middle."""

    name = "psmnist"
    summary = "MNIST and Fashion-MNIST in a fixed random order of pixels: BPTT and FPTT side by side."
    tasks = ("psmnist", "psfashion")


def _table_task() -> str:
    """The task of the paper's tables 2 and 3 where its data are, and else permuted Fashion-MNIST."""
    try:
        load_cifar10()
    except FileNotFoundError:
        return "psfashion"
    return "scifar10"


class Architectures(Images):
    """Table 2."""

    name = "architectures"
    summary = "LSTM, GRU and AntisymmetricRNN, each with BPTT and FPTT, on CIFAR-10 or else permuted Fashion-MNIST."
    cells = ("LSTM", "GRU", "antisymmetric")
    full = replace(Images.full, steps=300)


class OnlineFPTT(Images):
    """Beyond the paper: windows whose gradient knows of those before."""

    name = "fptt-online"
    summary = "FPTT on online gradients: windows of permuted MNIST with e-prop, SnAp(1) and RTRL in place of BPTT."
    tasks = ("psmnist",)
    cells = ("GRU", "LRU")
    algorithms = tuple(ALGORITHMS)  # of a layer of LRUs RTRL, SnAp(1) and e-prop give the same gradient
    methods = ("windows, no regulariser", "FPTT", "FPTT, linear 1/2")
    full = replace(Images.full, steps=1000, units=16, batch_size=32, windows=28, rate=3e-3)
    quick = replace(Images.quick, steps=8, units=4, batch_size=8, windows=28, judged=2, validation=100)

    def points(self, settings: ImageSettings, seed: int) -> Sequence[Row]:
        points = super().points(settings, seed)
        return [p for p in points if (p["cell"], p["algorithm"]) not in (("LRU", "e-prop"), ("LRU", "SnAp(1)"))]


class AuxiliaryLoss(Images):
    """Table 3."""

    name = "auxiliary-loss"
    summary = "FPTT's losses on the way and its windows, each alone, on CIFAR-10 or else permuted Fashion-MNIST."
    methods = ("BPTT", "BPTT, auxiliary loss", "windows, no regulariser", "FPTT")
    full = replace(Images.full, steps=300)
