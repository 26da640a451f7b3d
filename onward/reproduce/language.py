"""Kag and Saligrama's language models: BPTT and FPTT on PTB-300, and what alpha is best there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import optax

from onward import networks
from onward.algorithms import BPTT
from onward.evaluation import evaluate
from onward.figures import COLOURS, DASHES, GREY
from onward.optimizers import fptt
from onward.reproduce.study import Row, Study, panels, read_curve, record
from onward.tasks import make

PUBLISHED = {"BPTT": 117.09, "FPTT": 106.27}  # test perplexity of the paper's table 5, 100 epochs


@dataclass(frozen=True)
class LanguageSettings:
    """The authors' LSTM and SGD; the rate falls to a quarter at shares of the run, where they watch for a plateau.

    `steps`: batches, None for `epochs` of them. `lmbda`, `beta`: of FPTT. `clip`: of the gradient of the mean loss.
    """

    epochs: float = 4
    steps: int | None = None
    length: int = 300
    windows: int = 6
    batch_size: int = 128
    units: int = 256
    dropout: float = 0.2
    rate: float = 2.0
    momentum: float = 0.9
    drops: tuple[float, ...] = (0.6, 0.8)
    clip: float = 0.25
    alphas: tuple[float, ...] = (0.5,)
    beta: float = 0.5
    lmbda: float = 2.0
    judged: int = 8


SMALL = LanguageSettings(steps=24, length=60, batch_size=16, units=8, judged=1)


class PTB300(Study):
    """Table 5, PTB-300."""

    name = "ptb300"
    summary = "Perplexity of an LSTM on texts cut every 300 words: BPTT and FPTT side by side."
    full = LanguageSettings()
    quick = SMALL
    batch = 128

    def points(self, settings: LanguageSettings, seed: int) -> Sequence[Row]:
        methods = [("BPTT", 1, None), ("windows, no regulariser", settings.windows, None)]
        methods += [("FPTT", settings.windows, alpha) for alpha in settings.alphas]
        text = _text()
        return [{"text": text, "method": m, "windows": k, "alpha": a or 0.0, "seed": seed} for m, k, a in methods]

    def measure(self, settings: LanguageSettings, point: Row, earlier: Sequence[Row]) -> Row:
        task = make(point["text"], length=settings.length)
        count = task.batches(settings.batch_size) or 1
        steps = settings.steps or round(settings.epochs * count)
        network = networks.language_model(
            task.output_size,
            units=settings.units,
            dropout=settings.dropout,
            key=jax.random.key(point["seed"]),
        )
        windows = point["windows"]
        falls = {int(share * steps * windows): 0.25 for share in settings.drops}
        pull = [fptt(point["alpha"], settings.beta, settings.lmbda)] if point["alpha"] else []
        optimizer = optax.chain(
            optax.scale(windows),  # a window's loss is its mean, as theirs, and not its share of the sequence's
            *pull,
            optax.clip_by_global_norm(settings.clip),
            optax.sgd(optax.piecewise_constant_schedule(settings.rate, falls), settings.momentum),
        )
        try:
            trained = self.train(
                network,
                task,
                algorithm=BPTT(checkpoint=settings.length // settings.windows if windows == 1 else None),
                optimizer=optimizer,
                steps=steps,
                batch_size=settings.batch_size,
                windows_per_sequence=windows,
                validate_every=max(1, steps // settings.judged),
                seed=point["seed"],
            )
        except FloatingPointError:
            lost = dict.fromkeys(("perplexity", "at_anchor", "batch_seconds"), float("nan"))
            return {"epochs": steps / count, **lost, "curve": ""}
        return {
            "epochs": steps / count,
            "perplexity": evaluate(trained.best, task, "test")["perplexity"],
            "at_anchor": evaluate(trained.anchor, task, "test")["perplexity"] if pull else float("nan"),
            **record(trained, "perplexity"),
        }

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        figure, axes = panels(1, 1, 3.4)
        axis = axes[0][0]
        for place, row in enumerate(rows):
            curve = read_curve(row)
            epochs = np.arange(1, len(curve) + 1) / max(1, len(curve)) * row["epochs"]
            dash, colour = DASHES[place // len(COLOURS) % len(DASHES)], COLOURS[place % len(COLOURS)]
            axis.plot(epochs, curve, color=colour, linestyle=dash, label=_label(row))
        for (name, value), side in zip(self.published(rows).items(), ("bottom", "top"), strict=False):
            axis.axhline(value, color=GREY, linewidth=0.8)
            where = {"xycoords": ("axes fraction", "data"), "va": side, "fontsize": 7, "color": GREY}
            axis.annotate(f"{name}, the paper's test", (0.01, value), **where)
        axis.set_yscale("log")
        axis.set_xlabel("epochs")
        axis.set_ylabel("validation perplexity")
        axis.legend(fontsize=7.5, frameon=False)
        return {self.name: figure}

    def published(self, rows: Sequence[Row]) -> dict[str, float]:
        """Test perplexities of the paper's table 5, of the same text, by method."""
        return PUBLISHED if rows and rows[0]["text"] == "ptb" else {}

    def describe(self, rows: Sequence[Row]) -> str:
        lines = ["| text | method | epochs | test perplexity | of the last anchor | the paper | seconds a batch |"]
        lines.append("|" + "---|" * 7)
        for row in rows:
            known = self.published(rows).get(row["method"])
            paper = f"{known} in 100 epochs" if known else ""
            anchor = f"{row['at_anchor']:.2f}" if row["alpha"] else ""
            figures = f"{row['epochs']:.3g} | {row['perplexity']:.2f} | {anchor} | {paper}"
            lines.append(f"| {row['text']} | {_label(row)} | {figures} | {row['batch_seconds']:.3f} |")
        ranked = sorted(rows, key=lambda row: (np.isnan(row["perplexity"]), row["perplexity"]))
        order = ", ".join(f"{_label(row)} ({row['perplexity']:.1f})" for row in ranked)
        note = "The test perplexity is that of the parameters which were best on validation."
        return "\n".join(lines) + f"\n\nFrom best to worst: {order}.\n\n{note}"


class Alpha(PTB300):
    """Table 8."""

    name = "alpha"
    summary = "Perplexity on texts cut every 300 words by FPTT's alpha."
    full = LanguageSettings(epochs=2, units=128, alphas=(1.0, 0.5, 0.1, 0.05, 0.01, 0.001), judged=4)
    quick = replace(SMALL, alphas=(1.0, 0.01))

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        figures = super().draw(rows)
        figures["curves"] = figures.pop(self.name)
        figure, axes = panels(1, 1, 3.0)
        axis = axes[0][0]
        for row, colour in zip((row for row in rows if not row["alpha"]), COLOURS, strict=False):
            axis.axhline(row["perplexity"], color=colour, linewidth=0.8, label=_label(row))
        some = sorted((row["alpha"], row["perplexity"]) for row in rows if row["alpha"])
        axis.plot(*np.transpose(some), "o-", color=COLOURS[2], label="FPTT")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("alpha")
        axis.set_ylabel("test perplexity")
        axis.legend(fontsize=7.5, frameon=False)
        return figures | {self.name: figure}

    def published(self, rows: Sequence[Row]) -> dict[str, float]:
        return {}  # of a larger network and 50 times the epochs


def _label(row: Row) -> str:
    return f"FPTT, alpha {row['alpha']:g}" if row["alpha"] else str(row["method"])


def _text() -> str:
    """The Penn Treebank where it is, and else Brown."""
    try:
        make("ptb")
    except FileNotFoundError:
        return "brown"
    return "ptb"
