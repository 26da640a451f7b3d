"""Forecasts of a stream beside the naive ones: each is kept until its time has come, then judged."""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
from jaxtyping import Float

from onward.baselines import NAIVE, SEASONAL, Ahead, Scores, SeasonalNaive

ROLLING = 1000  # judged samples that rolling errors are of
_BLOCK = 256
_FAST, _SLOW = 100, 2000  # samples that the two running errors remember, whose ratio shows drift


class Judge:
    """Naive forecasts, and the errors of all. `forecasts`, then `judge`, for the same samples.

    **Arguments.** `horizon`: steps ahead, at least 1. `season`: in steps, or None for no seasonal forecast.
    What it knows does not depend on how many samples came together.
    """

    def __init__(self, horizon: int, season: int | None):
        self.horizon, self.season = horizon, season
        self._naive = SeasonalNaive()
        self._seasonal = None if season is None else SeasonalNaive(season)
        names = ("model", NAIVE) if season is None else ("model", NAIVE, SEASONAL)
        self._scores = Scores(names, ROLLING)
        self._waiting = np.zeros((0, 4))  # judged samples that are not in the scores yet: values, and forecasts of them
        self._pending = np.zeros((0, 3))  # forecasts whose time has not come
        self._fast = self._slow = math.nan
        self._watched = 0

    def forecasts(self, values: Sequence[float]) -> tuple[list[float], list[float]]:
        """After each value, the naive and the seasonal-naive forecast for `horizon` steps later; NaN: none."""
        made = []
        for model in (self._naive, self._seasonal):
            if model is None:
                made.append([math.nan] * len(values))
                continue
            ahead = []
            for value in values:
                model.update(value)
                ahead.append(model.forecast(self.horizon))
            made.append(ahead)
        return made[0], made[1]

    def seasonal_ahead(self) -> Ahead:
        """What the seasonal-naive forecast after one more value depends on; there must be a season."""
        assert self._seasonal is not None
        return self._seasonal.ahead(self.horizon)

    def judge(
        self, values: Float[np.ndarray, " time"], made: Float[np.ndarray, "time 3"]
    ) -> Float[np.ndarray, "time 3"]:
        """What was due at each value, NaN where nothing was; then the forecasts made there wait for their time.

        The three are the model's forecast, the naive and the seasonal naive one.
        """
        first = max(self.horizon - len(self._pending), 0)  # before it nothing is due
        both = np.concatenate([np.full((min(first, len(values)), 3), np.nan), self._pending, made])
        due, self._pending = both[: len(values)], both[len(values) :][-self.horizon :]
        if first < len(values):
            known = np.concatenate([values[first:, None], due[first:]], 1)
            for error in np.abs(known[:, 1] - known[:, 0]).tolist():
                self._watch(error)
            waiting = np.concatenate([self._waiting, known])
            whole = len(waiting) - len(waiting) % _BLOCK  # always the same blocks, so that sums are the same to the bit
            for start in range(0, whole, _BLOCK):
                self._extend(self._scores, waiting[start : start + _BLOCK])
            self._waiting = waiting[whole:]
        return due

    def scores(self) -> Scores:
        """Errors of "model", "naive" and, where there is a season, "seasonal-naive"."""
        scores = deepcopy(self._scores)
        self._extend(scores, self._waiting)
        return scores

    def drift(self) -> float:
        """The model's error of late as a multiple of what it was before: about 100 and about 2,000 samples."""
        return self._fast / self._slow if self._slow > 0 else math.nan

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it knows, to be kept in a checkpoint, as floats."""
        kept = {
            "pending": self._pending,
            "waiting": self._waiting,
            "recent": np.array([self._fast, self._slow, self._watched]),
        }
        for name, part in self._parts().items():
            kept |= {f"{name}-{key}": np.asarray(value, float) for key, value in part.arrays().items()}
        return kept

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave, exactly."""
        for name, part in self._parts().items():
            part.restore({key: arrays[f"{name}-{key}"] for key in part.arrays()})
        self._scores.failures = {name: int(count) for name, count in self._scores.failures.items()}
        self._pending, self._waiting = np.array(arrays["pending"]), np.array(arrays["waiting"])
        self._fast, self._slow, self._watched = arrays["recent"].tolist()

    def _parts(self):
        parts = {"scores": self._scores, "naive": self._naive, "seasonal": self._seasonal}
        return {name: part for name, part in parts.items() if part is not None}

    def _extend(self, scores, rows):
        scores.extend(rows[:, 0], rows[:, 1 : 1 + len(scores.forecasters)])

    def _watch(self, error):
        if math.isnan(error):
            return
        if not self._watched:
            self._fast = self._slow = error
        self._watched += 1
        self._fast += (error - self._fast) / min(self._watched, _FAST)
        self._slow += (error - self._slow) / min(self._watched, _SLOW)
