"""River's estimators: recurrent networks that learn from every sample, by real-time recurrent learning or its kin.

River is imported here and nowhere else: `from onward.interop.river import OnlineRNNRegressor`.
"""

import collections
import math
from collections.abc import Callable, Hashable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from onward.algorithms import Algorithm
from onward.interop.engine import Settings, make_cell, positive, whole
from onward.interop.stream import DictLearner

try:
    from river import base
    from river.time_series.base import Forecaster
except ImportError as error:
    raise ImportError("onward.interop.river needs River, which is not installed; run `pip install river`") from error


class OnlineRNNRegressor(base.Regressor):
    """A recurrent network that predicts a number from a stream of feature dictionaries.

    Its state knows the samples so far, in their order: `predict_one(x)` answers to x as the sample that comes next, and
    changes nothing; `learn_one(x, y)` takes the step. It learns after every sample in constant memory.

    **Features** may come and go. Each new one gets a column, and room for columns doubles when it is full (16, 32 ...):
    only then is something compiled. One that is not there is missing: its last known value is taken, at first its mean.
    So are None, NaN and infinity. A target of None or NaN has no loss, but the step is taken.
    **Copies.** `pickle` and `copy.deepcopy` take state and parameters along, and go on with the same bits; `clone`
    gives a new model that has learnt nothing.
    **Compilation.** At a model's first sample, and shared by all models of the same shape; seeds and learning rates are
    not part of it.
    **Parameters.** `units`: of the recurrent layer. `cell`: a name as on the command line ("RTU", "LRU", "GRU",
    "leaky-rnn:leak=0.8"), or a class, called as `cell(inputs, units, key=key)`. `algorithm`: an `onward.Algorithm`, or
    its name ("rtrl", "snap1", "eprop"); None is RTRL on cells whose units do not see each other, where it is exact and
    cheap, else SnAp(1). `learning_rate`: of Adam, gradients cut to norm 1. `window`: samples from one update to the
    next. `normalize`: features and target are put into standard deviations from their running means; predictions come
    back in the target's units. `seed`: of the initial weights and of random algorithms; None draws one.
    `max_features`: further ones are not read, with a warning.
    **Raises.** `ValueError` or `TypeError` where a parameter makes no sense or a feature is no number.
    **Example.** (not a doctest, since River is an extra)

        model = preprocessing.StandardScaler() | OnlineRNNRegressor(units=16)
        evaluate.progressive_val_score(datasets.TrumpApproval(), model, metrics.MAE())
    """

    def __init__(
        self,
        units: int = 32,
        cell: str | Callable[..., Any] = "RTU",
        algorithm: Algorithm | str | None = None,
        learning_rate: float = 3e-3,
        window: int = 1,
        normalize: bool = True,
        seed: int | None = 0,
        max_features: int = 1024,
    ):
        self.units, self.cell, self.algorithm, self.learning_rate = units, cell, algorithm, learning_rate
        self.window, self.normalize, self.seed, self.max_features = window, normalize, seed, max_features
        self._stream = _stream(self, labels=False)

    def learn_one(self, x: dict, y: Any, w: float | None = None) -> None:
        """Take the step to `x` and learn that the answer should have been `y`; `w` multiplies the loss."""
        self._stream.learn(x, y, w)

    def predict_one(self, x: dict) -> float:
        """What `y` will be if `x` is next; 0.0 before anything was learnt."""
        outputs = self._stream.predict(x)
        return 0.0 if outputs is None else float(outputs[0])

    @property
    def _raw_memory_usage(self) -> int:
        return _memory(self)


class OnlineRNNClassifier(base.Classifier):
    """A recurrent network that predicts a label from a stream of feature dictionaries.

    Labels are of any hashable type and need not be known before: each gets a logit when it is first seen, and room for
    logits doubles when it is full (8, 16, ...). Labels that were not seen have no probability. A label of None or
    NaN is missing: the step is taken, and nothing learnt.

    All else, and the **parameters**, are as of `OnlineRNNRegressor`.
    """

    def __init__(
        self,
        units: int = 32,
        cell: str | Callable[..., Any] = "RTU",
        algorithm: Algorithm | str | None = None,
        learning_rate: float = 3e-3,
        window: int = 1,
        normalize: bool = True,
        seed: int | None = 0,
        max_features: int = 1024,
    ):
        self.units, self.cell, self.algorithm, self.learning_rate = units, cell, algorithm, learning_rate
        self.window, self.normalize, self.seed, self.max_features = window, normalize, seed, max_features
        self._stream = _stream(self, labels=True)

    def learn_one(self, x: dict, y: Hashable, w: float | None = None) -> None:
        """Take the step to `x` and learn that its label is `y`; `w` multiplies the loss."""
        self._stream.learn(x, y, w)

    def predict_proba_one(self, x: dict) -> dict[Any, float]:
        """The probability of each label seen so far, if `x` is next; empty before any was."""
        outputs = self._stream.predict(x)
        labels = self._stream.labels
        if outputs is None or not labels:
            return {}
        logits = outputs[: len(labels)].astype(np.float64)
        shares = np.exp(logits - logits.max())
        return dict(zip(labels, (shares / shares.sum()).tolist(), strict=True))

    def predict_one(self, x: dict) -> Any:
        """The most probable label; None before any was seen."""
        shares = self.predict_proba_one(x)
        return max(shares, key=lambda label: shares[label]) if shares else None

    @property
    def _multiclass(self) -> bool:
        return True

    @property
    def _raw_memory_usage(self) -> int:
        return _memory(self)


class OnlineRNNForecaster(Forecaster):
    """A recurrent network that forecasts a time series, and starts as the seasonal naive forecast.

    With m = `season` and H = `horizon`, the network reads at step t what is known before y_t, and its H outputs are
    forecasts of the differences to the season before, all H of which are learnt:

        reads      y_{t-1},  y_{t-m} ... y_{t-m+min(m, H)-1},  y_{t-1} - y_{t-1-m},  x_t             (1)
        forecasts  d_t ... d_{t+H-1},   d_t = y_t - y_{t-m}                                          (2)

    `forecast(n)` adds these to the values a season before. With n > H the network goes on by its own forecasts, step by
    step, and learns nothing from them. Of the features `xs` of future steps it reads those of the first step, and with
    n > H also the later ones.
    Until there are m values the last one is the forecast, 0.0 before there is any. A value that is missing (None, NaN)
    is taken to be that of the season before.

    **Parameters.** `horizon`: how far ahead it learns to look; the sample of step t is learnt from at t + H - 1.
    `season`: steps of a season, 24 for hours with a daily rhythm; 1: start as the naive forecast. The others, and all
    else, are as of `OnlineRNNRegressor`.
    **Example.** (not a doctest, since River is an extra)

        model = OnlineRNNForecaster(horizon=12, season=12)
        evaluate.evaluate(((None, y) for _, y in datasets.AirlinePassengers()), model, metrics.MAE(), horizon=12)
    """

    def __init__(
        self,
        units: int = 32,
        cell: str | Callable[..., Any] = "RTU",
        algorithm: Algorithm | str | None = None,
        learning_rate: float = 3e-3,
        window: int = 1,
        horizon: int = 1,
        season: int = 1,
        normalize: bool = True,
        seed: int | None = 0,
        max_features: int = 1024,
    ):
        self.units, self.cell, self.algorithm, self.learning_rate = units, cell, algorithm, learning_rate
        self.window, self.horizon, self.season = window, whole("horizon", horizon, 1), whole("season", season, 1)
        self.normalize, self.seed, self.max_features = normalize, seed, max_features
        self._lags = (1, *range(max(self.season - self.horizon + 1, 2), self.season + 1))
        room = len(self._lags) + 1
        self._stream = _stream(self, labels=False, horizons=tuple(range(self.horizon)), room=room)
        self._past: collections.deque[float] = collections.deque(maxlen=self.season + 1)

    def learn_one(self, y: float | None, x: dict | None = None) -> None:
        """The next value of the series, and features of the same step."""
        y = math.nan if y is None else float(y)
        base = self._base(self._past)
        self._stream.learn(self._read(self._past, x), y - base if len(self._past) >= self.season else None)
        self._past.append(y if math.isfinite(y) else base)

    def forecast(self, horizon: int, xs: Sequence[dict | None] | None = None) -> list[float]:
        """The next `horizon` values; `xs`: features of these steps, where there are any."""
        steps = whole("horizon", horizon, 1)
        xs = [None] * steps if xs is None else list(xs)
        if len(xs) != steps:
            raise ValueError(f"`xs` must hold features for each of {steps} steps (`horizon`), got {len(xs)}; or none")
        values, now, state = list(self._past), len(self._past), None
        corrections = self._stream.predict(self._read(values, xs[0]))
        for step in range(steps):
            ahead = step - self.horizon + 1  # so many steps on its way by its own forecasts
            if ahead > 0 and corrections is not None:
                state = self._stream.advance(self._read(values[: now + ahead - 1], xs[ahead - 1]), state)
                corrections = self._stream.predict(self._read(values[: now + ahead], xs[ahead]), state)
            correction = 0.0 if corrections is None else float(corrections[min(step, self.horizon - 1)])
            values.append(self._base(values) + correction)
        return values[now:]

    def _base(self, values: Sequence[float]) -> float:
        """The value a season before the one that follows `values`."""
        if not values:
            return 0.0
        return values[-self.season] if len(values) >= self.season else values[-1]

    def _read(self, values: Sequence[float], x: dict | None) -> dict:
        """(1): what the network reads before the value that follows `values`."""
        past = {lag: values[-lag] if lag <= len(values) else math.nan for lag in self._lags}
        change = values[-1] - values[-1 - self.season] if len(values) > self.season else math.nan
        return {(_PAST, key): value for key, value in (past | {"change": change}).items()} | (x or {})

    @property
    def _raw_memory_usage(self) -> int:
        return _memory(self)


forecaster = OnlineRNNForecaster
_PAST = "past of the series"  # keeps these columns apart from those of features


def _stream(model: Any, *, labels: bool, horizons: tuple[int, ...] = (0,), room: int = 0) -> DictLearner:
    """What learns, from the parameters of a model once they have been looked at; `room`: for features of its own."""
    make_cell(model.cell)  # says so if there is none
    settings = Settings(
        units=whole("units", model.units, 1),
        cell=model.cell,
        algorithm=model.algorithm,
        window=whole("window", model.window, 1),
        normalize=bool(model.normalize),
        labels=labels,
        horizons=horizons,
    )
    return DictLearner(
        settings,
        seed=None if model.seed is None else whole("seed", model.seed, 0),
        learning_rate=positive("learning_rate", model.learning_rate),
        max_features=whole("max_features", model.max_features, 1) + room,
    )


def _memory(model: Any) -> int:
    """River's count of bytes, of what would be pickled: compiled programs are shared by all models."""
    parts = model.__dict__ | {"_stream": model._stream.__getstate__()}
    return base.Base._raw_memory_usage.fget(SimpleNamespace(**parts))  # type: ignore[attr-defined]
