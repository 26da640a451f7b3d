"""River's forecasters on the same stream: what users of its models would run. River is an extra."""

import math
import pickle
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np


def linear(season: int) -> Any:
    """Linear regression of the standardised target on standardised inputs, by stochastic gradient descent.

    Without the bound on its gradient it diverges where an input that was constant for long jumps, as rain does.
    """
    from river import linear_model, optim, preprocessing

    regression = preprocessing.TargetStandardScaler(linear_model.LinearRegression(optim.SGD(0.01), clip_gradient=1.0))
    return preprocessing.StandardScaler() | regression


def tree(season: int) -> Any:
    """A Hoeffding adaptive tree of the standardised target on standardised inputs: its leaves have linear models."""
    from river import preprocessing, tree

    return preprocessing.StandardScaler() | preprocessing.TargetStandardScaler(
        tree.HoeffdingAdaptiveTreeRegressor(seed=0)
    )


def snarimax(season: int) -> Any:
    """An autoregressive model with a seasonal term, by the regression of `linear`."""
    from river import time_series

    return time_series.SNARIMAX(p=min(season, 24), d=0, q=0, m=season, sp=1, sd=0, sq=0, regressor=linear(season))


MODELS: dict[str, Callable[[int], Any]] = {
    "River, linear": linear,
    "River, Hoeffding tree": tree,
    "River, SNARIMAX": snarimax,
}


def follow(make: Callable[[int], Any], inputs: np.ndarray, horizon: int, season: int) -> tuple[np.ndarray, float, int]:
    """Forecasts for `horizon` steps later, microseconds a sample, and bytes of the pickled model.

    Missing features take their last known value, at first 0; a step whose target is missing is not learnt from.
    **Raises.** `ImportError` where River is not installed.
    """
    from river.time_series.base import Forecaster

    model = make(season)
    forecast = _forecast_series if isinstance(model, Forecaster) else _forecast_pairs
    began = time.perf_counter()
    made = forecast(model, inputs, horizon)
    return made, 1e6 * (time.perf_counter() - began) / len(inputs), len(pickle.dumps(model))


def _forecast_pairs(model, inputs, horizon):
    """A regressor of pairs (x_{t-h}, y_t)."""
    last, waiting = np.zeros(inputs.shape[1]), deque(maxlen=horizon + 1)
    made = np.full(len(inputs), math.nan)
    for step, row in enumerate(inputs):
        last = np.where(np.isfinite(row), row, last)
        waiting.append(dict(enumerate(last.tolist())))
        if len(waiting) > horizon and math.isfinite(row[0]):
            model.learn_one(waiting[0], float(row[0]))
        made[step] = model.predict_one(waiting[-1])
    return made


def _forecast_series(model, inputs, horizon):
    """A model of the series alone."""
    made = np.full(len(inputs), math.nan)
    last = 0.0
    for step, value in enumerate(inputs[:, 0].tolist()):
        last = value if math.isfinite(value) else last
        model.learn_one(last)
        made[step] = model.forecast(horizon=horizon)[-1]
    return made
