"""Forecasting real series as they come, each model predicting before it learns: ours, River's, naive ones."""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from onward import losses
from onward.algorithms import BPTT, RTRL, Algorithm, EProp, SnAp
from onward.baselines import forecasts
from onward.combination import combined, judged, kept, no_forecasts
from onward.data import calendar, load_series
from onward.figures import COLOURS, DASHES, GREY
from onward.forecaster import StreamSettings, make_network
from onward.learner import Learner
from onward.records import RecordStream
from onward.reproduce import streams_river
from onward.reproduce.study import Row, Study, panels
from onward.sample import Sample


@dataclass(frozen=True)
class Method:
    """A layer of `cell`s whose gradient is `algorithm`'s, updated after every `window` samples.

    `alone`: it forecasts the value; else, as in `onward stream`, what the naive forecasts together miss.
    """

    cell: str
    algorithm: Algorithm
    window: int = 1
    alone: bool = False


LEARNERS = {
    "RTRL, RTU": Method("rtu", RTRL()),
    "RTRL, LRU": Method("lru", RTRL()),
    "e-prop, GRU": Method("gru", EProp()),
    "SnAp(1), GRU": Method("gru", SnAp(1)),
    "BPTT, GRU, 8 steps": Method("gru", BPTT(), 8),
    "BPTT, GRU, 32 steps": Method("gru", BPTT(), 32),
    "BPTT, GRU, 128 steps": Method("gru", BPTT(), 128),
    "RTRL, RTU alone": Method("rtu", RTRL(), alone=True),
}
NAIVE, SEASONAL, WHOLE = "naive", "seasonal naive", "onward stream"
TIME = "time of the row"
LOST = dict.fromkeys(("mae", "rmse", "late_mae", "microseconds", "kilobytes"), float("nan")) | {"curve": ""}


@dataclass(frozen=True)
class StreamsSettings:
    """Each series by its first `rows` steps, forecast one step and so many steps ahead."""

    series: tuple[tuple[str, int], ...] = (
        ("electricity", 24),
        ("traffic", 24),
        ("beijing-pm", 24),
        ("appliances", 144),
        ("household-power", 60),
    )
    rows: int = 20_000
    units: int = 32
    rate: float = 3e-4
    clip: float = 1.0
    chunk: int = 2048
    parts: int = 20
    methods: tuple[str, ...] = (NAIVE, SEASONAL, WHOLE, *LEARNERS, *streams_river.MODELS)


class Streams(Study):
    """Which algorithm, and is any better than to repeat yesterday?"""

    name = "streams"
    summary = (
        "Real series forecast as they come: error, time and memory of algorithms, River's models, naive forecasts."
    )
    full = StreamsSettings()
    quick = StreamsSettings(
        (("electricity", 24),),
        400,
        4,
        chunk=128,
        parts=4,
        methods=(NAIVE, SEASONAL, WHOLE, "RTRL, RTU", "BPTT, GRU, 8 steps"),
    )

    def points(self, settings: StreamsSettings, seed: int) -> Sequence[Row]:
        found = []
        for name, furthest in settings.series:
            for ahead in (1, furthest):
                known = {"series": name, "horizon": ahead, "seed": seed}
                found += [known | {"method": method} for method in settings.methods]
        return found

    def measure(self, settings: StreamsSettings, point: Row, earlier: Sequence[Row]) -> Row:
        series, horizon, method = _series(point["series"]), point["horizon"], point["method"]
        inputs = features(series, horizon)[: settings.rows]
        targets = inputs[:, 0]
        if method == NAIVE:
            made, spent, size = forecasts(targets, horizon), float("nan"), 0
        elif method == SEASONAL:
            made, spent, size = forecasts(targets, horizon, series.season), float("nan"), 8 * series.season
        elif method == WHOLE:
            made, spent, size = _stream(settings, series, horizon, point["seed"])
        elif method in LEARNERS:
            made, spent, size = _learn(LEARNERS[method], settings, inputs, horizon, series.season, point["seed"])
        else:
            model = streams_river.MODELS[method]
            try:
                made, spent, size = streams_river.follow(model, inputs, horizon, series.season)
            except ImportError:
                return LOST
        return {**_judged(made, targets, horizon, settings.parts), "microseconds": spent, "kilobytes": size / 1024}

    def draw(self, rows: Sequence[Row]) -> dict[str, Any]:
        places = list(dict.fromkeys((row["series"], row["horizon"]) for row in rows))
        figure, axes = panels(-(-len(places) // 2), 2, 3.0)
        for number, place in enumerate(places):
            axis = axes[number // 2][number % 2]
            some = {row["method"]: row for row in rows if (row["series"], row["horizon"]) == place}
            base = _curve(some[SEASONAL])
            for index, (method, row) in enumerate(some.items()):
                if method == SEASONAL or not row["curve"]:
                    continue
                style = {
                    "color": COLOURS[index % len(COLOURS)],
                    "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
                }
                axis.plot(
                    np.arange(1, len(base) + 1) / len(base), _curve(row) / base, **style, label=method, linewidth=1
                )
            axis.axhline(1.0, color=GREY, linewidth=0.8)
            axis.set_title(f"{place[0]}, {place[1]} ahead", fontsize=9)
            axis.set_ylim(0, 2)
            axis.set_xlabel("share of the stream")
            axis.set_ylabel("error / seasonal naive")
            axis.tick_params(length=0)
        for axis in axes.flat[len(places) :]:
            axis.set_visible(False)
        figure.legend(
            *axes[0][0].get_legend_handles_labels(), fontsize=7, frameon=False, ncols=4, loc="outside lower center"
        )
        return {"streams": figure}

    def describe(self, rows: Sequence[Row]) -> str:
        lines = [
            "| series | ahead | method | MAE | to seasonal naive | to naive | in the last half | us a sample | kB |"
        ]
        lines.append("|" + "---|" * 9)
        for row in rows:
            same = [other for other in rows if (other["series"], other["horizon"]) == (row["series"], row["horizon"])]
            base = {other["method"]: other for other in same}
            ratios = (row["mae"] / base[SEASONAL]["mae"], row["mae"] / base[NAIVE]["mae"])
            late = row["late_mae"] / base[SEASONAL]["late_mae"]
            shown = " | ".join(f"{ratio:.3f}" for ratio in (*ratios, late))
            cost = f"{row['microseconds']:.1f} | {row['kilobytes']:.1f}".replace("nan", "")
            lines.append(
                f"| {row['series']} | {row['horizon']} | {row['method']} | {row['mae']:.4g} | {shown} | {cost} |"
            )
        return "\n".join(lines) + (
            "\n\nMean absolute errors of forecasts that were made before anything later was seen, from the first on. "
            "To seasonal naive: as a multiple of that of repeating the value of a season before; in the last half too. "
            "Time of forecasting and learning, without compiling; memory of what is carried on (River's: pickled)."
        )


@functools.lru_cache(maxsize=1)
def _series(name: str) -> Any:
    """Once for all of its rows: the longest takes half a minute to read."""
    return load_series(name)


def features(series: Any, horizon: int) -> np.ndarray:
    """What a forecaster reads at a step: the target, other columns, the seasonal naive forecast, the calendar."""
    target = series.values[:, :1]
    seasonal = forecasts(target[:, 0].astype(float), horizon, series.season)[:, None]
    return np.concatenate([target, series.values[:, 1:], seasonal, calendar(series.times)], axis=1).astype(np.float32)


def _learn(method: Method, settings: StreamsSettings, inputs: np.ndarray, horizon: int, season: int, seed: int):
    """Forecasts, microseconds a sample and bytes of the learner's state."""
    values, targets = inputs[:, 0], inputs[:, :1]
    naive = [forecasts(values.astype(float), horizon), forecasts(values.astype(float), horizon, season)]
    base = together(values, np.stack(naive, axis=1), horizon)
    if not method.alone:
        targets = (values - np.append(np.full(horizon, np.nan, np.float32), base)[: len(values)])[:, None]
        inputs = np.append(inputs, targets, axis=1)
    optimizer = optax.flatten(optax.chain(optax.clip_by_global_norm(settings.clip), optax.adam(settings.rate)))
    network = make_network(method.cell, inputs.shape[1], settings.units, seed, start=float(method.alone))
    learner = Learner(
        network,
        losses.squared_error,
        method.algorithm,
        optimizer,
        method.window,
        horizon=horizon,
        normalize=True,
        seed=seed,
    )
    state, outputs = learner.init(), []
    sizes = [min(settings.chunk, len(inputs) - start) for start in range(0, len(inputs), settings.chunk)]
    for size in set(sizes):  # compiled before the clock starts
        learner.run(state, Sample(inputs[:size], targets[:size], np.ones(size, np.float32)))
    began = time.perf_counter()
    for start, size in zip(range(0, len(inputs), settings.chunk), sizes, strict=True):
        piece = Sample(inputs[start : start + size], targets[start : start + size], np.ones(size, np.float32))
        state, output = learner.run(state, piece)
        outputs.append(output)
    made = np.concatenate(jax.device_get(outputs))[:, 0]
    spent = 1e6 * (time.perf_counter() - began) / len(inputs)
    if not method.alone:
        made = together(values, np.stack([*naive, base + made], axis=1), horizon)
    return made, spent, sum(leaf.nbytes for leaf in state.arrays)


def together(values: np.ndarray, made: np.ndarray, horizon: int) -> np.ndarray:
    """What forecasts `made` [time, forecaster] say together at every step, as `onward.combination` has it."""

    def step(known, at):
        known, _ = judged(known, at[0])
        return kept(known, at[1]), combined(known, at[1])

    start = no_forecasts(made.shape[1], horizon, jnp.float32)
    scan = jax.jit(lambda *at: jax.lax.scan(step, start, at)[1])
    return np.asarray(scan(values.astype(np.float32), made.astype(np.float32)))


def _stream(settings: StreamsSettings, series: Any, horizon: int, seed: int):
    """The same of the forecaster that `onward stream` runs with its defaults, records and all: RTRL on RTUs."""
    others = tuple(name for name in series.columns if name != series.target)
    plan = StreamSettings(
        series.target,
        others,
        horizon=horizon,
        season=series.season,
        time=TIME,
        units=settings.units,
        learning_rate=settings.rate,
        seed=seed,
    )
    times = series.times[: settings.rows].astype(str).tolist()
    rows = zip(times, series.values.tolist(), strict=False)
    records = [{TIME: at} | dict(zip(series.columns, row, strict=True)) for at, row in rows]
    stream = RecordStream(plan, records[0])
    began = time.perf_counter()
    outcomes = stream.update_many(records)
    spent = 1e6 * (time.perf_counter() - began) / len(records)
    made = np.array([outcome.forecast for outcome in outcomes], float)
    return made, spent, sum(leaf.nbytes for leaf in jax.tree.leaves(stream.known))


def _judged(made: np.ndarray, targets: np.ndarray, horizon: int, parts: int) -> Row:
    """Errors of forecasts `made` at t for t + horizon, where the target is known."""
    errors = made[:-horizon].astype(float) - targets[horizon:]
    known = np.isfinite(targets[horizon:])
    errors = np.where(known & np.isfinite(errors), errors, np.nan)
    if np.any(known & ~np.isfinite(made[:-horizon]) & (np.arange(len(errors)) > len(errors) // 2)):
        return LOST
    pieces = np.array_split(np.abs(errors), parts)
    return {
        "mae": float(np.nanmean(np.abs(errors))),
        "rmse": float(np.sqrt(np.nanmean(errors**2))),
        "late_mae": float(np.nanmean(np.abs(errors[len(errors) // 2 :]))),
        "curve": " ".join(f"{np.nanmean(piece):.4g}" if np.isfinite(piece).any() else "nan" for piece in pieces),
    }


def _curve(row: Row) -> np.ndarray:
    return np.array([float(value) for value in str(row["curve"]).split()])
