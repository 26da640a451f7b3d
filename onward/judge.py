"""Forecasts of a stream beside the naive ones: each is kept until its time has come, then judged."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np

from onward.baselines import NAIVE, SEASONAL, Ahead, Scores, SeasonalNaive

ROLLING = 1000  # judged samples that rolling errors are of
_BLOCK = 256
_FAST, _SLOW = 100, 2000  # samples that the two running errors remember, whose ratio shows drift


class Due(NamedTuple):
    """The forecasts for a step whose value has just come, made `horizon` steps ago, and each minus it; NaN: none."""

    model: float
    error: float
    naive: float
    naive_error: float
    seasonal: float
    seasonal_error: float


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
        self._scores, self._waiting = Scores(names, ROLLING), []  # judged samples that are not in the scores yet
        self._pending: deque[tuple[float, float, float]] = deque()
        self._fast = self._slow = math.nan

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
        self, values: Sequence[float], made: Sequence[float], naive: Sequence[float], seasonal: Sequence[float]
    ) -> list[Due]:
        """What was due at each value; then the forecasts that were made there wait for their time."""
        due, pending, nothing = [], self._pending, (math.nan,) * 3
        for value, *new in zip(values, made, naive, seasonal, strict=True):
            old = pending.popleft() if len(pending) == self.horizon else nothing
            pending.append((new[0], new[1], new[2]))
            error = old[0] - value
            due.append(Due(old[0], error, old[1], old[1] - value, old[2], old[2] - value))
            if math.isfinite(error):
                self._watch(abs(error))
            if old is not nothing:
                self._waiting.append((value, *old))
                if len(self._waiting) == _BLOCK:
                    self._extend(self._scores)
                    self._waiting.clear()
        return due

    def scores(self) -> Scores:
        """Errors of "model", "naive" and, where there is a season, "seasonal-naive"."""
        scores = deepcopy(self._scores)
        if self._waiting:
            self._extend(scores)
        return scores

    def drift(self) -> float:
        """The model's error of late as a multiple of what it was before: about 100 and about 2,000 samples."""
        return self._fast / self._slow if self._slow > 0 else math.nan

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it knows, to be kept in a checkpoint, as floats."""
        kept = {
            "pending": np.array(self._pending, float).reshape(-1, 3),
            "waiting": np.array(self._waiting, float).reshape(-1, 4),
            "recent": np.array([self._fast, self._slow]),
        }
        for name, part in self._parts().items():
            kept |= {f"{name}-{key}": np.asarray(value, float) for key, value in part.arrays().items()}
        return kept

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave, exactly."""
        for name, part in self._parts().items():
            part.restore({key: arrays[f"{name}-{key}"] for key in part.arrays()})
        self._scores.failures = {name: int(count) for name, count in self._scores.failures.items()}
        self._pending = deque((a, b, c) for a, b, c in arrays["pending"].tolist())
        self._waiting = [tuple(row) for row in arrays["waiting"].tolist()]
        self._fast, self._slow = arrays["recent"].tolist()

    def _parts(self):
        parts = {"scores": self._scores, "naive": self._naive, "seasonal": self._seasonal}
        return {name: part for name, part in parts.items() if part is not None}

    def _extend(self, scores):
        rows = np.array(self._waiting)
        scores.extend(rows[:, 0], rows[:, 1 : 1 + len(scores.forecasters)])

    def _watch(self, error):
        if math.isnan(self._slow):
            self._fast = self._slow = error
        self._fast += (error - self._fast) / _FAST
        self._slow += (error - self._slow) / _SLOW
