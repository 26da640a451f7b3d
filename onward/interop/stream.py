"""A recurrent learner of dictionaries whose keys come and go, in arrays whose room doubles when it is full."""

import warnings
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from onward.interop.engine import FEATURES, LABELS, Engine, Settings, engine_of, freeze, power, seed_of
from onward.learner import LearnerState


class DictLearner:
    """Learns from one dictionary of numbers after another.

    Each new key gets the next column. Room for columns doubles when it is full, which compiles a learner of the new
    shape: as often as the number of keys doubles. A key that is not there, or whose value is None, NaN or infinite, is
    a missing value: the last one known, at first the mean. Keys beyond `max_features` are not read, with one warning.
    Labels of any hashable type likewise get numbers in the order in which they come; None and NaN are missing.

    It can be pickled and copied: NumPy arrays and dictionaries, without compiled programs.
    """

    def __init__(self, settings: Settings, *, seed: int | None, learning_rate: float, max_features: int):
        self.settings, self.seed, self.learning_rate = settings, seed, learning_rate
        self.max_features, self.full = max_features, False
        self.columns: dict[Hashable, int] = {}
        self.labels: dict[Hashable, int] = {}
        self._engine: Engine | None = None
        self._state: LearnerState | None = None
        self._frozen: tuple[np.ndarray, ...] | None = None

    def learn(self, x: Mapping, y: Any, weight: float | None = None) -> None:
        """One sample; `y` is a number, or a label where the settings say so; NaN or None: missing."""
        target = None if self.settings.labels else _number(y)
        self._discover(x)
        row = self._row(x)
        if self.settings.labels and y is not None and y == y:
            number = self.labels.setdefault(y, len(self.labels))
            target = np.array([[number, len(self.labels)]], np.int32)
        engine, state = self._with_room()
        self._state = engine.learner.learn(state, row, target, weight=weight)

    def predict(self, x: Mapping, state: LearnerState | None = None) -> np.ndarray | None:
        """The outputs for `x`, from `state` or else as things are; None where nothing was learnt yet."""
        engine, now = self._thawed()
        if engine is None or now is None:
            _check(x)
            return None
        return np.asarray(engine.learner.predict(now if state is None else state, self._row(x)))

    def advance(self, x: Mapping, state: LearnerState | None = None) -> LearnerState | None:
        """The state that has seen `x`, to predict from; the learner itself stays as it is."""
        engine, now = self._thawed()
        if engine is None or now is None:
            return None
        return engine.learner.look(now if state is None else state, self._row(x))

    def __getstate__(self) -> dict[str, Any]:
        frozen = self._frozen if self._state is None else freeze(self._state)
        return self.__dict__ | {"_engine": None, "_state": None, "_frozen": frozen}

    def _thawed(self):
        """Engine and state; None and None before the first sample."""
        if self._frozen is not None:
            self._engine = engine_of(self.settings)
            self._state, self._frozen = self._engine.thaw(self._frozen), None
        return self._engine, self._state

    def _with_room(self):
        """Engine and state with room for all columns and labels so far."""
        engine, state = self._thawed()
        features = power(len(self.columns), FEATURES)
        outputs = power(len(self.labels), LABELS) if self.settings.labels else self.settings.outputs
        fits = (features, outputs) == (self.settings.features, self.settings.outputs)
        if engine is not None and state is not None and fits:
            return engine, state
        self.seed = seed = seed_of(self.seed)
        self.settings = replace(self.settings, features=features, outputs=outputs)
        wider = engine_of(self.settings)
        if engine is None or state is None:
            self._state = wider.begin(seed, self.learning_rate)
        else:
            self._state = wider.take_over(engine, state, seed, self.learning_rate)
        self._engine = wider
        return self._engine, self._state

    def _discover(self, x):
        """Columns for keys that are new, in an order that does not depend on the dictionary's."""
        if _check(x).keys() <= self.columns.keys() or self.full:
            return
        new = sorted(x.keys() - self.columns.keys(), key=lambda key: (type(key).__name__, repr(key)))
        for key in new:
            if isinstance(x[key], str):
                raise _no_number(key, x[key])
            _numbers(np.empty(1), {key: x[key]}, {key: 0})
        for key in new:
            if len(self.columns) == self.max_features:
                self.full = True
                told = f"feature {key!r} is one more than `max_features` = {self.max_features}; it is not read, nor are"
                warnings.warn(f"{told} further ones", stacklevel=4)
                return
            self.columns[key] = len(self.columns)

    def _row(self, x):
        row = np.full(power(len(self.columns), FEATURES), np.nan, jnp.result_type(float))
        _numbers(row, _check(x), self.columns)
        return row


def _check(x):
    if not isinstance(x, Mapping):
        raise TypeError(f"`x` must be a dict of features, got {type(x).__name__}")
    return x


def _number(y):
    """A target as an array."""
    if y is None:
        return None
    try:
        return np.atleast_1d(np.asarray(y, np.result_type(float)))
    except (TypeError, ValueError):
        raise TypeError(f"`y` must be a number, None or NaN, got {y!r}") from None


def _numbers(row, x, columns):
    """Write the values of `x` into their columns."""
    for key, value in x.items():
        index = columns.get(key)
        if index is None:
            continue
        try:
            row[index] = value
        except (TypeError, ValueError):
            raise _no_number(key, value) from None


def _no_number(key, value):
    return TypeError(
        f"feature {key!r} must be a number, None or NaN, got {value!r}; turn it into numbers first, for example by "
        "`preprocessing.OneHotEncoder()` or a function in the pipeline"
    )
