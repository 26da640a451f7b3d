"""What every algorithm costs, measured, against the number of units and the length of the window."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from onward import cells, losses
from onward.algorithms import (
    BPTT,
    KFRTRL,
    OK,
    RTRL,
    UORO,
    Algorithm,
    EProp,
    ForwardErrors,
    NthOrder,
    ReversibleBPTT,
    SnAp,
    SpatialBP,
)
from onward.algorithms.error_passes import levels_of
from onward.figures import COLOURS, DASHES
from onward.network import Network, stack
from onward.reproduce.study import Row, Study, clock, panels
from onward.sample import Sample

# The window, where it is not the whole sequence; and the exponents of memory in N and T and of time a step in N that
# the post's table gives for a dense layer. Its RTRL goes step by step.
ALGORITHMS: dict[str, tuple[Algorithm, int | None, tuple[int, int, int] | None]] = {
    "BPTT": (BPTT(), None, (1, 1, 2)),
    "BPTT, checkpoints": (BPTT(checkpoint="sqrt"), None, None),
    "reversible BPTT": (ReversibleBPTT(), None, (1, 0, 2)),
    "RTRL, step by step": (RTRL(), 1, (3, 0, 4)),
    "RTRL": (RTRL(), None, None),
    "SnAp(1), step by step": (SnAp(1), 1, (2, 0, 3)),
    "SnAp(1)": (SnAp(1), None, None),
    "e-prop": (EProp(), None, None),
    "spatial BP": (SpatialBP(), None, None),
    "8th order": (NthOrder(8), None, None),
    "forward errors, one segment": (ForwardErrors(segments=None), None, (2, 0, 3)),
    "forward errors": (ForwardErrors(), None, None),
    "RTRL, lazy, step by step": (RTRL(lazy=16), 1, None),
    "SnAp(2), a ring": (SnAp(2), None, None),
    "e-prop, nested traces": (EProp(depth="traces"), None, None),
    "UORO": (UORO(), None, None),
    "KF-RTRL": (KFRTRL(), None, None),
    "OK(4)": (OK(4), None, None),
}
CELLS = {"dense": cells.RNN, "diagonal": cells.LRU}


@dataclass(frozen=True)
class Settings:
    """N grows at T = `length`, and T at N = `size`; the median of `runs` runs counts."""

    sizes: tuple[int, ...] = (16, 32, 64, 128, 256)
    lengths: tuple[int, ...] = (64, 256, 1024, 4096)
    size: int = 32
    length: int = 128
    runs: int = 5


class Complexity(Study):
    """Exponents of memory and time, fitted to measurements, beside those of the post's table."""

    name = "complexity"
    summary = "Memory and time of one layer's gradient by algorithm, number of units N and length T of the window."
    full = Settings()
    quick = Settings(sizes=(8, 32), lengths=(32, 128), size=8, length=32, runs=2)

    def points(self, settings: Settings, seed: int) -> Sequence[Row]:
        grid = [(size, settings.length) for size in settings.sizes]
        grid += [(settings.size, length) for length in settings.lengths if (settings.size, length) not in grid]
        return [
            {"layer": layer, "algorithm": name, "N": size, "T": length, "seed": seed}
            for layer in CELLS
            for name in ALGORITHMS
            for size, length in grid
        ]

    def measure(self, settings: Settings, point: Row, earlier: Sequence[Row]) -> Row:
        algorithm, window, _ = ALGORITHMS[point["algorithm"]]
        network = _network(point["layer"], algorithm, point["N"], jax.random.key(point["seed"]))
        rng = np.random.default_rng(point["seed"])
        length = point["T"]
        arrays = rng.normal(size=(length, 4)), rng.normal(size=(length, 1)), np.ones(length)
        sample = Sample(*(jnp.asarray(array, jnp.float32) for array in arrays))
        carry = algorithm.init(network, jax.random.key(point["seed"]))
        parameters, static = eqx.partition(network, eqx.is_inexact_array)

        def whole(parameters, carry, sample):
            carry, estimate = algorithm.run(eqx.combine(parameters, static), losses.squared_error, carry, sample)
            return carry, estimate.gradient

        def stepwise(parameters, carry, sample):
            def step(state, sample):
                carry, total = state
                carry, gradient = whole(parameters, carry, sample)
                return (carry, jax.tree.map(jnp.add, total, gradient)), None

            start = carry, jax.tree.map(jnp.zeros_like, parameters)
            return jax.lax.scan(step, start, sample)[0]

        if window == 1:
            sample = jax.tree.map(lambda leaf: leaf[:, None], sample)
        work = stepwise if window == 1 else whole
        seconds, temporary = clock(work, parameters, carry, sample, runs=settings.runs)
        carried = sum(leaf.nbytes for leaf in jax.tree.leaves(carry))
        depth = max(levels_of(network.effective()).values(), default=0)
        return {
            "memory": temporary + carried,
            "microseconds_per_step": seconds / length * 1e6,
            "passes": depth + 1 if isinstance(algorithm, ForwardErrors) else 1,
        }

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        return {f"complexity-{layer}": _figure([row for row in rows if row["layer"] == layer]) for layer in CELLS}

    def describe(self, rows: Sequence[Row]) -> str:
        columns = (
            "layer",
            "algorithm",
            "memory ~ N^a",
            "memory ~ T^b",
            "time a step ~ N^c",
            "time a step ~ T^d",
            "the post",
        )
        lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for layer in CELLS:
            for name, (_, _, published) in ALGORITHMS.items():
                some = [row for row in rows if (row["layer"], row["algorithm"]) == (layer, name)]
                found = [
                    _slope(_line(some, axis), axis, quantity)
                    for quantity in ("memory", "microseconds_per_step")
                    for axis in ("N", "T")
                ]
                known = "a {}, b {}, c {}".format(*published) if published and layer == "dense" else ""
                lines.append(f"| {layer} | {name} | {' | '.join(f'{slope:.1f}' for slope in found)} | {known} |")
        return "\n".join(lines) + (
            "\n\nSlopes between the last two points of each line on logarithmic axes. Memory: temporary arrays of the "
            "compiled gradient and what is carried from window to window, without inputs and parameters. Reversible "
            "BPTT is measured on leapfrog layers where the others have dense tanh ones; SnAp(2) on a ring of these."
        )


def _network(layer: str, algorithm: Algorithm, size: int, key: jax.Array) -> Network:
    reversible = layer == "dense" and isinstance(algorithm, ReversibleBPTT)
    cell = (cells.Leapfrog if reversible else CELLS[layer])(4, size, key=key)
    if layer == "dense" and isinstance(algorithm, SnAp) and algorithm.n > 1:  # among all units nothing is left out
        cell = cells.Sparse(cell, {"weight_hh": np.roll(np.eye(size), 1, axis=0)})
    return stack(cell, readout=eqx.nn.Linear(cell.output_size, 1, key=key))


def _line(rows: Sequence[Row], axis: str) -> list[Row]:
    """The rows along which N or T alone grows."""
    other = "T" if axis == "N" else "N"
    counts = {value: sum(row[other] == value for row in rows) for value in {row[other] for row in rows}}
    fixed = max(counts, key=lambda value: counts[value])
    return sorted((row for row in rows if row[other] == fixed), key=lambda row: row[axis])


def _slope(line: Sequence[Row], axis: str, quantity: str) -> float:
    """Between the last two points, on logarithmic axes."""
    a, b = line[-2:]
    return float(np.log(b[quantity] / a[quantity]) / np.log(b[axis] / a[axis]))


def _figure(rows: Sequence[Row]):
    figure, axes = panels(2, 2, 3.2)
    for line, (quantity, label) in enumerate((("memory", "memory, bytes"), ("microseconds_per_step", "us a step"))):
        for column, axis in enumerate(("N", "T")):
            plot = axes[line][column]
            for index, name in enumerate(ALGORITHMS):
                some = _line([row for row in rows if row["algorithm"] == name], axis)
                style = {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS)]}
                plot.plot(
                    [r[axis] for r in some], [r[quantity] for r in some], marker="o", markersize=3, **style, label=name
                )
            plot.set_xscale("log", base=2)
            plot.set_yscale("log")
            plot.set_xlabel("units N" if axis == "N" else "length T of the window")
            plot.set_ylabel(label)
            plot.tick_params(length=0)
    axes[0][1].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
