"""The MNIST98 experiments of the forward-propagation-of-errors post: how far each algorithm gets, and each pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import optax

from onward import networks, optimizers
from onward.algorithms import BPTT, Algorithm, ForwardErrors, SnAp, SpatialBP
from onward.evaluation import evaluate
from onward.figures import COLOURS, GREY
from onward.reproduce.study import Row, Study, panels
from onward.tasks import make
from onward.training import updates_per_batch

SAME_RATE = "that of forward errors"
AS_PUBLISHED = "forward errors, as published"
FINAL = "best", SAME_RATE
ALGORITHMS: dict[str, tuple[Algorithm, int | None]] = {  # and the window, where parameters change on the way
    "spatial BP": (SpatialBP(), None),
    "BPTT": (BPTT(), None),
    "forward errors": (ForwardErrors(), None),
    "SnAp(1) every 49 steps": (SnAp(1), 49),
    AS_PUBLISHED: (ForwardErrors(warmup="shoot", segments=None), None),
}
PUBLISHED = {
    "spatial BP": (0.731, 96.55),
    "BPTT": (0.691, 98.30),
    "forward errors": (0.673, 98.19),
    AS_PUBLISHED: (0.673, 98.19),
}


@dataclass(frozen=True)
class Training:
    """AdamW with cosine decay after `warmup` batches, clipped at norm 1; no weight decay of recurrent parameters.

    `steps`: batches of `batch_size` samples. `units`: complex ones of an LRU, and the width between layers.
    `recurrent_factor`: learning rate of recurrent parameters, relative to that of the others. `aligned`: how often on
    the way the gradient is compared with BPTT's.
    """

    steps: int = 15625
    batch_size: int = 64
    layers: int = 4
    units: int = 32
    warmup: int = 100
    weight_decay: float = 0.01
    recurrent_factor: float = 0.5
    aligned: int = 40


@dataclass(frozen=True)
class TableSettings:
    """Every algorithm at every r_min: each learning rate for `search` batches, then the best one in full.

    Forward errors as published only at the smallest, where it is in doubt.
    """

    training: Training = Training()
    search: int = 500
    r_mins: tuple[float, ...] = (0.9, 0.99)
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


class Mnist98Table(Study):
    """The post's table, with its own search for learning rates, and SnAp(1) beside it."""

    name = "mnist98-table"
    summary = "Test loss and accuracy on MNIST98, four LRU layers of 32 units, beside the published figures."
    full = TableSettings()
    quick = TableSettings(Training(steps=40, layers=2, units=8, warmup=4, aligned=2), 0, (0.9,), (3e-3,))
    batch = 64

    def points(self, settings: TableSettings, seed: int) -> Sequence[Row]:
        points: list[Row] = []
        ours = [name for name in ALGORITHMS if name != AS_PUBLISHED]
        for r_min, algorithms in [
            *((r_min, ours) for r_min in settings.r_mins),
            (min(settings.r_mins), [AS_PUBLISHED]),
        ]:
            names = [{"algorithm": name, "r_min": r_min, "seed": seed} for name in algorithms]
            if len(settings.rates) > 1:
                points += [{"steps": settings.search, **n, "choice": rate} for n in names for rate in settings.rates]
            points += [{"steps": settings.training.steps, **name, "choice": "best"} for name in names]
        for r_min in settings.r_mins if len(settings.rates) > 1 else ():  # their gradients agree: so should the results
            bptt = {"algorithm": "BPTT", "r_min": r_min, "seed": seed, "choice": SAME_RATE}
            points.append({"steps": settings.training.steps, **bptt})
        return points

    def measure(self, settings: TableSettings, point: Row, earlier: Sequence[Row]) -> Row:
        algorithm, window = ALGORITHMS[point["algorithm"]]
        rate = point["choice"]
        if rate == SAME_RATE:
            found = [row for row in earlier if (row["choice"], row["r_min"]) == ("best", point["r_min"])]
            other, own = (next(row for row in found if row["algorithm"] == n) for n in ("forward errors", "BPTT"))
            rate = other["rate"]
            if own["rate"] == rate:  # there is such a run
                return {name: own[name] for name in ("rate", "loss", "accuracy", "cosine", "seconds_per_batch")}
        if rate == "best":
            tried = [r for r in earlier if all(r[key] == point[key] for key in ("algorithm", "r_min", "seed"))]
            losses = {row["rate"]: row["loss"] for row in tried if np.isfinite(row["loss"])}
            rate = min(losses, key=lambda rate: losses[rate]) if losses else settings.rates[0]
        training = replace(settings.training, steps=point["steps"])
        split = "test" if point["choice"] in FINAL else "validation"
        return {
            "rate": rate,
            **_train(self, algorithm, window, training, point["r_min"], rate, point["seed"], split),
        }

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        figure, axes = panels(1, 2, 3.6)
        final = [row for row in rows if row["choice"] == "best"]
        search = [row for row in rows if row["choice"] not in FINAL]
        r_mins = sorted({row["r_min"] for row in rows})
        for place, (row, colour) in enumerate(zip(final, _colours(final), strict=True)):
            axes[0][0].barh(place, row["accuracy"] * 100, color=colour, height=0.62)
            note = f" {row['accuracy']:.2%}"
            if row["algorithm"] in PUBLISHED:
                axes[0][0].plot([PUBLISHED[row["algorithm"]][1]] * 2, [place - 0.4, place + 0.4], color=GREY)
            axes[0][0].annotate(note, (row["accuracy"] * 100, place), va="center")
        axes[0][0].set_yticks(range(len(final)), [f"{row['algorithm']}, r_min {row['r_min']:g}" for row in final])
        axes[0][0].invert_yaxis()
        axes[0][0].set_xlim(max(0, min(row["accuracy"] for row in final) * 100 - 5), 101)
        axes[0][0].set_xlabel("test accuracy, %; grey line: the post's")
        for name, colour in zip(ALGORITHMS, COLOURS, strict=False):
            for r_min, style in zip(r_mins, ("-", "--", ":"), strict=False):
                line = sorted((r["rate"], r["loss"]) for r in search if (r["algorithm"], r["r_min"]) == (name, r_min))
                if line:
                    label = f"{name}, r_min {r_min:g}"
                    axes[0][1].plot(
                        *zip(*line, strict=True), style, color=colour, marker="o", markersize=3, label=label
                    )
        if search:
            axes[0][1].set_xscale("log")
            handles = axes[0][1].get_legend_handles_labels()
            figure.legend(*handles, fontsize=7.5, frameon=False, ncols=3, loc="outside lower center")
        axes[0][1].set_xlabel("learning rate")
        axes[0][1].set_ylabel(f"validation loss after {search[0]['steps'] if search else 0:,} batches")
        return {"table": figure}

    def describe(self, rows: Sequence[Row]) -> str:
        lines = [
            "| algorithm | r_min | learning rate | batches | test loss | test accuracy | the post |",
            "|" + "---|" * 7,
        ]
        for row in rows:
            if row["choice"] in FINAL:
                known = PUBLISHED.get(row["algorithm"])
                post = f"{known[0]:.3f} / {known[1]:.2f} %" if known else "not in it"
                numbers = f"{row['r_min']:g} | {row['rate']:g} | {row['steps']:,} | {row['loss']:.3f}"
                name = row["algorithm"] if row["choice"] == "best" else f"{row['algorithm']}, rate of forward errors"
                lines.append(f"| {name} | {numbers} | {row['accuracy']:.2%} | {post} |")
        return "\n".join(lines) + "\n\nThe post's figures are the best of its own search, means of three seeds."


@dataclass(frozen=True)
class PassesSettings:
    """One training for each number of passes, at one learning rate and r_min."""

    training: Training = Training(steps=1500)
    r_min: float = 0.9
    rate: float = 3e-3


class Passes(Study):
    """What each further pass of forward propagation of errors is worth: 1 is SpatialBP, layers + 1 is BPTT."""

    name = "passes"
    summary = "Accuracy on MNIST98 and agreement with BPTT's gradient, by the number of passes that errors are given."
    full = PassesSettings()
    quick = PassesSettings(Training(steps=40, layers=2, units=8, warmup=4, aligned=8))
    batch = 64

    def points(self, settings: PassesSettings, seed: int) -> Sequence[Row]:
        return [{"passes": passes, "seed": seed} for passes in range(1, settings.training.layers + 2)]

    def measure(self, settings: PassesSettings, point: Row, earlier: Sequence[Row]) -> Row:
        algorithm = ForwardErrors(passes=point["passes"])
        same = settings.training, settings.r_min, settings.rate
        return _train(self, algorithm, None, *same, point["seed"], "test")

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        figure, axes = panels(1, 3)
        x = [row["passes"] for row in rows]
        quantities = {
            "test accuracy, %": [row["accuracy"] * 100 for row in rows],
            "mean cosine with BPTT's gradient": [row["cosine"] for row in rows],
            "seconds a batch": [row["seconds_per_batch"] for row in rows],
        }
        for axis, (label, values), colour in zip(axes[0], quantities.items(), COLOURS, strict=False):
            axis.plot(x, values, marker="o", color=colour)
            axis.set_xticks(x)
            axis.set_xlabel("passes")
            axis.set_ylabel(label)
            axis.tick_params(length=0)
        axes[0][2].set_ylim(bottom=0)
        return {"passes": figure}

    def describe(self, rows: Sequence[Row]) -> str:
        lines = ["| passes | test accuracy | test loss | mean cosine with BPTT | seconds a batch |", "|" + "---|" * 5]
        lines += [
            f"| {row['passes']} | {row['accuracy']:.2%} | {row['loss']:.3f} | {row['cosine']:.4f} | "
            f"{row['seconds_per_batch']:.3f} |"
            for row in rows
        ]
        return "\n".join(lines)


def _train(study, algorithm, window, training: Training, r_min, rate, seed, split) -> Row:
    """Train the post's network and judge it; a loss that is no longer finite counts as NaN, and accuracy as 0."""
    task = make("mnist98")
    network = networks.lru_blocks(
        task.input_size,
        task.output_size,
        width=training.units,
        units=training.units,
        layers=training.layers,
        r_min=r_min,
        key=jax.random.key(seed),
    )
    updates = updates_per_batch(task.length, window)
    schedule = optax.warmup_cosine_decay_schedule(0, rate, training.warmup * updates, training.steps * updates)
    optimizer = optimizers.adamw(
        network,
        schedule,
        weight_decay=training.weight_decay,
        recurrent_factor=training.recurrent_factor,
        clip=1.0,
    )
    options = {"steps": training.steps, "batch_size": training.batch_size, "window": window, "seed": seed}
    try:
        trained = study.train(
            network,
            task,
            algorithm=algorithm,
            optimizer=optimizer,
            align_every=max(1, training.steps // training.aligned),
            **options,
        )
    except FloatingPointError:
        return {"loss": float("nan"), "accuracy": 0.0, "cosine": float("nan"), "seconds_per_batch": float("nan")}
    values = evaluate(trained.network, task, split, 500)
    cosines = [event["cosine"] for event in trained.history if event["event"] == "alignment"]
    seconds = next(e["seconds_per_step"] for e in reversed(trained.history) if e["event"] == "end")
    return {
        "loss": values["loss"],
        "accuracy": values["accuracy"],
        "cosine": float(np.mean(cosines)),
        "seconds_per_batch": seconds,
    }


def _colours(rows):
    return [COLOURS[list(ALGORITHMS).index(row["algorithm"])] for row in rows]
