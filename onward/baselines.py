"""The forecasts that a model of a stream has to beat, and the errors by which it is compared with them.

The forecast for step t + h is made at step t, when the values up to that of t are known; h is the horizon. With
horizon 0 it is of the value of t itself and made before that is seen: the values up to t - 1 are known. Steps are equal
in time, so that a season is a number of them. A missing value is NaN (an infinite one counts as missing too).

Everything is there for a whole array at once, and one step after another in constant time and memory.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from operator import add, mul
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from onward.tasks.base import at_least

Number = float | int | np.number
NAIVE, SEASONAL = "naive", "seasonal-naive"


def forecasts(
    values: Num[np.ndarray, "time *series"], horizon: int, season: int = 1
) -> Float[np.ndarray, "time *series"]:
    """The (seasonal) naive forecast at every step.

    It is the value one season before the step that is forecast, or, if the horizon is longer than a season, as few
    seasons before as are known. With season 1 that is the last value: the naive forecast. For a missing value the last
    known one that is a whole number of seasons older takes its place, or the last known of all if there is none.

    **Returns.** At t the forecast for t + `horizon`; NaN as long as nothing is known.
    **Source.** Hyndman and Athanasopoulos 2021, "Forecasting: principles and practice", section 5.2.
    """
    at_least(0, "give a number of steps", horizon=horizon)
    at_least(1, "give a number of steps, or 1 for none", season=season)
    if horizon == 0:
        made = forecasts(values, 1, season)
        return np.concatenate([np.full_like(made[:1], np.nan), made[:-1]])
    values = np.where(np.isfinite(values), values, np.nan)
    lag = -horizon % season
    made = np.full_like(values, np.nan)
    made[lag:] = _last_known(values, season)[: max(len(values) - lag, 0)]
    return np.where(np.isnan(made), _last_known(values, 1), made)


def rolling_mean(values: Num[np.ndarray, "time *series"], window: int) -> Float[np.ndarray, "time *series"]:
    """At every step the mean of the last `window` known values, fewer at the start; NaN as long as none is known.

    Sums are never taken back, so that a huge value leaves no trace once it is out of the window.
    """
    at_least(1, "give a number of steps", window=window)
    flat = np.asarray(values, float).reshape(len(values), math.prod(values.shape[1:]))
    out = np.full_like(flat, np.nan)
    for column, result in zip(flat.T, out.T, strict=True):
        known = np.isfinite(column)
        blocks = np.pad(column[known], (0, -known.sum() % window)).reshape(-1, window)
        rest = _sums_from(blocks, axis=1)[:, 1:]  # of what comes after each place in its block
        sums = np.cumsum(blocks, axis=1)
        sums[1:] += rest[:-1]
        means = sums.ravel()[: known.sum()] / np.minimum(np.arange(1, known.sum() + 1), window)
        count = np.cumsum(known)
        result[count > 0] = means[count[count > 0] - 1]
    return out.reshape(values.shape)


def compare(
    values: Num[np.ndarray, " time"],
    made: Mapping[str, Num[np.ndarray, " time"]],
    horizon: int,
    season: int,
    window: int = 1000,
) -> "Scores":
    """The scores of several models' forecasts beside "naive" and "seasonal-naive", over one whole stream.

    **Arguments.** `made`: of each model the forecasts, of which that at t is for t + `horizon`. `season`: as for
    `forecasts`. `window`: as for `Scores`.
    """
    for name, column in made.items():
        if column.shape != values.shape:
            raise ValueError(f"`made` has {column.shape} forecasts of {name!r} for {values.shape} values; give as many")
    both = dict(made) | {NAIVE: forecasts(values, horizon), SEASONAL: forecasts(values, horizon, season)}
    scores = Scores(tuple(both), window)
    scores.extend(values[horizon:], np.stack(list(both.values()), 1)[: max(len(values) - horizon, 0)])
    return scores


class SeasonalNaive:
    """`forecasts` one value after another: `update` with each, `forecast` any number of steps ahead.

    **Arguments.** `season`: in steps; 1 makes it the naive forecast.
    """

    def __init__(self, season: int = 1):
        at_least(1, "give a number of steps, or 1 for none", season=season)
        self.season = season
        self._known = [math.nan] * season  # the last known at each phase of the season
        self._latest, self._phase = math.nan, 0  # the last known of all; the phase of the next value

    def update(self, value: Number) -> None:
        """Take the value of the next step, NaN if it is missing."""
        if math.isfinite(value):
            self._known[self._phase] = self._latest = float(value)
        self._phase = (self._phase + 1) % self.season

    def forecast(self, horizon: int = 1) -> float:
        """The value `horizon` steps (at least 1) after that of the last update; NaN if nothing is known."""
        at_least(1, "give a number of steps after the last update", horizon=horizon)
        value = self._known[(self._phase + horizon - 1) % self.season]
        return self._latest if math.isnan(value) else value

    def ahead(self, horizon: int = 1) -> "Ahead":
        """What `forecast(horizon)` will depend on after one more value."""
        place = (self._phase + horizon) % self.season
        return Ahead(self._known[place], self._latest, place == self._phase)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it knows, to be kept in a checkpoint."""
        return {"known": np.array(self._known), "latest": np.array(self._latest), "phase": np.array(self._phase)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave, exactly; `ValueError` if that was of another season."""
        _same_shapes(self.arrays(), arrays)
        self._known = arrays["known"].tolist()
        self._latest, self._phase = float(arrays["latest"]), int(arrays["phase"])


class Ahead(NamedTuple):
    """What a seasonal-naive forecast after the next value depends on, whatever is done to its model meanwhile.

    `known`: the last known value at the phase that is forecast. `latest`: the last known of all. `own`: the next value
    is of that phase itself.
    """

    known: float
    latest: float
    own: bool

    def after(self, value: Number) -> float:
        """The forecast when the next value is `value`; NaN if nothing is known."""
        if not math.isfinite(value):
            return self.latest if math.isnan(self.known) else self.known
        return float(value) if self.own or math.isnan(self.known) else self.known


class Scores:
    """Mean errors of several forecasters over the same samples: since the start, and over the last `window` of them.

    A sample counts if its target and all forecasts of it are known (finite), so that the errors can be compared. What a
    forecaster did not know though the target is known is in `failures`: a model that has come to NaN is seen there.

    **Arguments.** `forecasters`: their names. `window`: samples that rolling errors are of.
    `count`: samples so far. `failures`: of each forecaster.
    """

    def __init__(self, forecasters: Sequence[str], window: int = 1000):
        at_least(1, "give a number of samples", window=window)
        if not forecasters or len(set(forecasters)) < len(forecasters):
            raise ValueError(f"`forecasters` must be different names, at least one, got {forecasters!r}")
        self.forecasters, self.window = tuple(forecasters), window
        self.count = 0
        self.failures = dict.fromkeys(self.forecasters, 0)
        # A row has of each forecaster the absolute error, then of each the squared one. The window is the end of one
        # block of rows and the start of the next: two sums, and none is ever taken back.
        width = 2 * len(self.forecasters)
        self._past, self._started = np.zeros(width), [0.0] * width  # sums of full blocks; of the one that has begun
        self._rows: list[list[float]] = []  # of the block that has begun
        self._ending = np.zeros((window + 1, width))  # of the last full block, sums from each place on

    def update(self, target: Number, forecasts: Sequence[Number]) -> None:
        """Take one sample: its target and each forecaster's forecast of it, NaN where there is none."""
        if len(forecasts) != len(self.forecasters):
            raise ValueError(f"`forecasts` must be {len(self.forecasters)}, one of each forecaster, got {forecasts!r}")
        if not math.isfinite(target):
            return
        errors = [float(forecast) - float(target) for forecast in forecasts]
        if not all(map(math.isfinite, errors)):
            for name, error in zip(self.forecasters, errors, strict=True):
                self.failures[name] += not math.isfinite(error)
            return
        row = [*map(abs, errors), *map(mul, errors, errors)]
        self.count += 1
        self._started = list(map(add, self._started, row))
        self._rows.append(row)
        if len(self._rows) == self.window:
            self._turn(np.array(self._rows))

    def extend(self, targets: Num[np.ndarray, " time"], forecasts: Num[np.ndarray, "time forecaster"]) -> None:
        """Take many samples at once."""
        with np.errstate(invalid="ignore", over="ignore"):
            errors = np.asarray(forecasts, float) - np.asarray(targets, float)[:, None]
        known = np.isfinite(targets)
        failed = ~np.isfinite(errors) & known[:, None]
        for name, count in zip(self.forecasters, failed.sum(0), strict=True):
            self.failures[name] += int(count)
        errors = errors[known & ~failed.any(1)]
        with np.errstate(over="ignore"):
            rows = np.concatenate([abs(errors), errors * errors], 1)
        self.count += len(rows)
        while len(rows):
            some, rows = np.split(rows, [self.window - len(self._rows)])
            self._started = (self._started + some.sum(0)).tolist()
            if len(some) < self.window:
                self._rows += some.tolist()
                some = np.array(self._rows)
            if len(some) == self.window:
                self._turn(some)

    def mae(self, rolling: bool = False) -> dict[str, float]:
        """Mean absolute error of each forecaster; NaN if there was no sample."""
        return dict(zip(self.forecasters, self._means(rolling)[: len(self.forecasters)], strict=True))

    def rmse(self, rolling: bool = False) -> dict[str, float]:
        """Root of the mean squared error of each forecaster; NaN if there was no sample."""
        squares = self._means(rolling)[len(self.forecasters) :]
        return {name: math.sqrt(square) for name, square in zip(self.forecasters, squares, strict=True)}

    def ratio(self, reference: str = SEASONAL, rolling: bool = False) -> dict[str, float]:
        """Mean absolute error of each forecaster as a multiple of that of `reference`; below 1 is better.

        Not to be confused with MASE, whose scale is the naive forecast's error one step ahead, on a training set: here
        all errors are of the same samples. NaN if there was no sample, or none in which `reference` erred.
        """
        if reference not in self.forecasters:
            raise ValueError(f"`reference` must be one of {', '.join(self.forecasters)}, got {reference!r}")
        errors = self.mae(rolling)
        scale = errors[reference] or math.nan
        return {name: error / scale for name, error in errors.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it knows, to be kept in a checkpoint."""
        block = np.zeros((self.window, len(self._started)))
        block[: len(self._rows)] = np.reshape(self._rows, (-1, len(self._started)))
        return {
            "count": np.array(self.count),
            "failures": np.array(list(self.failures.values())),
            "past": self._past.copy(),
            "started": np.array(self._started),
            "block": block,
            "ending": self._ending.copy(),
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave, exactly; `ValueError` if that had another window or number of forecasters."""
        _same_shapes(self.arrays(), arrays)
        self.count = int(arrays["count"])
        self.failures = dict(zip(self.forecasters, arrays["failures"].tolist(), strict=True))
        self._past, self._started = np.array(arrays["past"]), arrays["started"].tolist()
        self._rows = arrays["block"][: self.count % self.window].tolist()
        self._ending = np.array(arrays["ending"])

    def _turn(self, block: np.ndarray) -> None:
        """Start a new block: of the full one, what remains from each of its places on is summed."""
        self._past = self._past + self._started
        self._ending, self._started, self._rows = _sums_from(block, 0), [0.0] * len(self._started), []

    def _means(self, rolling: bool) -> list[float]:
        before = self._ending[len(self._rows)] if rolling else self._past
        count = min(self.count, self.window) if rolling else self.count
        return ((before + self._started) / count).tolist() if count else [math.nan] * len(self._started)


class Prequential:
    """A model in a stream beside the naive and the seasonal naive forecast; each is judged when its time has come.

    Call `step` once for every step; `scores` has the errors of "model", "naive" and "seasonal-naive".

    **Arguments.** `horizon`: steps ahead of the forecasts. `season`: in steps. `window`: as for `Scores`.
    """

    def __init__(self, horizon: int, season: int, window: int = 1000):
        at_least(0, "give a number of steps", horizon=horizon)
        self.horizon = horizon
        self.scores = Scores(("model", NAIVE, SEASONAL), window)
        self._naive, self._seasonal = SeasonalNaive(), SeasonalNaive(season)
        self._pending: deque[tuple[float, float, float]] = deque()

    def step(self, target: Number, forecast: Number) -> None:
        """Judge what was forecast for this step, then take the forecast that is made at it.

        **Arguments.** `target`: the value of this step, NaN if missing. `forecast`: the model's for `horizon` steps
        later, made when it knew `target`; or with horizon 0 of `target` itself, made before.
        """
        if self.horizon == 0:
            self._pending.append((float(forecast), self._naive.forecast(), self._seasonal.forecast()))
        if len(self._pending) >= max(self.horizon, 1):
            self.scores.update(target, self._pending.popleft())
        self._naive.update(target)
        self._seasonal.update(target)
        if self.horizon > 0:
            ahead = self._naive.forecast(self.horizon), self._seasonal.forecast(self.horizon)
            self._pending.append((float(forecast), *ahead))

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it knows, to be kept in a checkpoint."""
        kept = {"horizon": np.array(self.horizon), "pending": np.array(self._pending, float).reshape(-1, 3)}
        for name, part in self._parts().items():
            kept |= {f"{name}.{key}": value for key, value in part.arrays().items()}
        return kept

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave, exactly; `ValueError` if that had another horizon, season or window."""
        if int(arrays["horizon"]) != self.horizon:
            raise ValueError(
                f"`arrays` is of horizon {arrays['horizon']}, this of {self.horizon}; use the same settings"
            )
        for name, part in self._parts().items():
            part.restore({key: arrays[f"{name}.{key}"] for key in part.arrays()})
        self._pending = deque((model, naive, seasonal) for model, naive, seasonal in arrays["pending"].tolist())

    def _parts(self) -> dict[str, SeasonalNaive | Scores]:
        return {"scores": self.scores, "naive": self._naive, "seasonal": self._seasonal}


def _last_known(values: Float[np.ndarray, "time *series"], season: int) -> Float[np.ndarray, "time *series"]:
    """At every step the last known of the values that are 0, 1, 2, ... seasons older; NaN if none is known."""
    rows = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    rows = np.where(np.isnan(values), -1, rows)
    padding = [(0, -len(values) % season)] + [(0, 0)] * (values.ndim - 1)
    rows = np.pad(rows, padding, constant_values=-1).reshape(-1, season, *values.shape[1:])
    rows = np.maximum.accumulate(rows, 0).reshape(-1, *values.shape[1:])[: len(values)]
    return np.where(rows < 0, np.nan, np.take_along_axis(values, np.maximum(rows, 0), 0))


def _sums_from(values: np.ndarray, axis: int) -> np.ndarray:
    """Along `axis` the sum of each value and all after it, then 0."""
    sums = np.flip(np.cumsum(np.flip(values, axis), axis), axis)
    return np.concatenate([sums, np.zeros_like(np.take(sums, [0], axis))], axis)


def _same_shapes(own: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in own.items():
        if name not in arrays or arrays[name].shape != array.shape:
            found = arrays[name].shape if name in arrays else "nothing"
            raise ValueError(f"`arrays` must have {name!r} of shape {array.shape}, got {found}; use the same settings")
