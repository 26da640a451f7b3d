"""How close forward propagation of errors comes to BPTT's gradient, as a network forgets faster and sequences grow."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from onward import losses
from onward.algorithms import BPTT, Algorithm, ForwardErrors, ReversibleBPTT
from onward.cells import LRU
from onward.gradients import value_and_grad
from onward.network import stack
from onward.reproduce.study import Row, Study, panels, shades
from onward.sample import Sample

# The algorithm of each method, for a precision of errors; and for each arithmetic the network's precision, and that of
# errors where it differs, which only means something to what inverts them.
METHODS: dict[str, Callable[[Any], Algorithm]] = {
    "published": lambda errors: ForwardErrors(warmup="shoot", segments=None, precision=errors),
    "accumulate": lambda errors: ForwardErrors(segments=None, precision=errors),
    "segments": lambda errors: ForwardErrors(),
    "reversible": lambda errors: ReversibleBPTT(),
    "reversible, 15 checkpoints": lambda errors: ReversibleBPTT(checkpoints=15),
}
ARITHMETIC = {"float32": ("float32", None), "float64 errors": ("float32", "float64"), "float64": ("float64", None)}
INVERTING = ("published", "accumulate")
GOOD = 0.99999
LARGEST = 1e3  # relative error that is drawn


@dataclass(frozen=True)
class Settings:
    """A layer of `units` complex units, `inputs` normal inputs, a loss at every step of `batch` sequences."""

    r_mins: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    lengths: tuple[int, ...] = (32, 98, 256, 784, 2048, 10000)
    repetitions: int = 3
    units: int = 32
    inputs: int = 8
    batch: int = 2


class GradientQuality(Study):
    """The figure of the forward-propagation-of-errors post, for its method, those that mend it, and reversible BPTT."""

    name = "gradient-quality"
    summary = "Cosine and relative error of the gradient of one LRU layer, against BPTT's in float64, by r_min and T."
    full = Settings()
    double = True
    quick = Settings(r_mins=(0.0, 0.5, 0.9, 0.99), lengths=(32, 98, 784), repetitions=1)

    def points(self, settings: Settings, seed: int) -> Sequence[Row]:
        return [
            {"method": method, "arithmetic": arithmetic, "r_min": r_min, "T": length, "seed": seed + repetition}
            for length in settings.lengths
            for method in METHODS
            for arithmetic in ARITHMETIC
            if method in INVERTING or ARITHMETIC[arithmetic][1] is None
            for r_min in settings.r_mins
            for repetition in range(settings.repetitions)
        ]

    def measure(self, settings: Settings, point: Row, earlier: Sequence[Row]) -> Row:
        problem = _problem(settings, point["r_min"], point["T"], point["seed"])
        precision, errors = ARITHMETIC[point["arithmetic"]]
        gradient = _gradient(METHODS[point["method"]](errors), precision)
        return compare(gradient(*problem), _gradient(BPTT(), "float64")(*problem))

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        return {
            "cosine": _figure(rows, "cosine", "cosine with BPTT's gradient"),
            "relative-error": _figure(rows, "relative_error", "relative error of the gradient"),
        }

    def describe(self, rows: Sequence[Row]) -> str:
        sentences = []
        for method in METHODS:
            for arithmetic in ARITHMETIC:
                some = [row for row in rows if (row["method"], row["arithmetic"]) == (method, arithmetic)]
                if not some:
                    continue
                good = sum(row["cosine"] >= GOOD for row in some)
                worst = min(some, key=lambda row: row["cosine"])
                sentences.append(
                    f"- {method}, {arithmetic}: cosine at least {GOOD} at {good} of {len(some)} points; lowest "
                    f"{worst['cosine']:.7f}, at r_min {worst['r_min']}, T = {worst['T']}; median relative error "
                    f"{np.median([row['relative_error'] for row in some]):.2g}, largest "
                    f"{max(row['relative_error'] for row in some):.2g}."
                )
        return "\n".join(sentences) + (
            "\n\nA gradient that is not finite counts as cosine 0 and error infinite. Points: every r_min, T and seed."
        )


@functools.cache
def _gradient(algorithm: Algorithm, precision: str):
    @eqx.filter_jit
    def gradient(network, sample):
        network, sample = _cast((network, sample), precision)
        return value_and_grad(network, losses.squared_error, sample, algorithm=algorithm)[1].nodes["0_lru"]

    return gradient


def _problem(settings: Settings, r_min: float, length: int, seed: int):
    """A network and a sample whose numbers are those of float32, whatever precision they are used in."""
    keys = jax.random.split(jax.random.key(seed), 2)
    layer = LRU(settings.inputs, settings.units, r_min=r_min, key=keys[0])
    network = stack(layer, readout=eqx.nn.Linear(layer.output_size, 1, key=keys[1]))
    rng = np.random.default_rng(seed)
    shape = settings.batch, length
    arrays = rng.normal(size=(*shape, settings.inputs)), rng.normal(size=(*shape, 1)), np.ones(shape)
    return _cast((network, Sample(*map(jnp.asarray, arrays))), "float32")


def _cast(tree, precision):
    return jax.tree.map(lambda leaf: leaf.astype(precision) if eqx.is_inexact_array(leaf) else leaf, tree)


def compare(gradient: PyTree, reference: PyTree) -> Row:
    """Cosine and relative error; 0 and infinity for a gradient that is not finite."""
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (gradient, reference))
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not np.isfinite(a).all():
        return {"cosine": 0.0, "relative_error": math.inf}
    scale = np.abs(a).max() or 1.0  # what has exploded is far from 1: its square may not be finite
    a = a / scale
    cosine = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + np.finfo(float).tiny))
    error = float(np.linalg.norm(a - b / scale) / np.linalg.norm(b) * scale)
    return {"cosine": cosine, "relative_error": error}


def _figure(rows: Sequence[Row], quantity: str, label: str):
    """A column of panels for each method, a row for single and for double precision."""
    names = list(METHODS)
    double = ["float64 errors" if name in INVERTING else "float64" for name in names]
    figure, axes = panels(2, len(names))
    figure.set_figwidth(15)
    lengths = sorted({row["T"] for row in rows})
    r_mins = sorted({row["r_min"] for row in rows})
    for line, kinds in enumerate((["float32"] * len(names), double)):
        for axis, method, arithmetic in zip(axes[line], names, kinds, strict=True):
            for length, shade in zip(lengths, shades(len(lengths)), strict=True):
                some = [r for r in rows if (r["method"], r["arithmetic"], r["T"]) == (method, arithmetic, length)]
                middle = [np.median([row[quantity] for row in some if row["r_min"] == r]) for r in r_mins]
                middle = np.minimum(middle, LARGEST)
                axis.plot(range(len(r_mins)), middle, color=shade, marker="o", markersize=3, label=f"T = {length:,}")
            axis.set_xticks(range(len(r_mins)), [f"{r:g}".lstrip("0") or "0" for r in r_mins], fontsize=7.5)
            axis.set_title(f"{method},\n{arithmetic}", loc="left", fontsize=10, fontweight="bold")
            axis.set_xlabel("r_min")
            axis.tick_params(length=0)
            if quantity == "cosine":
                axis.set_ylim(-0.35, 1.08)
            else:
                axis.set_yscale("log")
                axis.set_ylim(1e-16, 2 * LARGEST)
        axes[line][0].set_ylabel(label)
    axes[0][0].legend(fontsize=7.5, frameon=False)
    return figure
