"""scikit-learn's estimators for sequences: recurrent networks trained forward in time.

scikit-learn is imported here and nowhere else: `from onward.interop.sklearn import RNNRegressor`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from onward.algorithms import Algorithm
from onward.interop.engine import FEATURES, LABELS, Settings, engine_of, freeze, positive, power, whole
from onward.sample import Sample

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.utils import check_random_state, multiclass, validation
except ImportError as error:
    raise ImportError(
        "onward.interop.sklearn needs scikit-learn, which is not installed; run `pip install scikit-learn`"
    ) from error

checks: Any = validation  # scikit-learn has no types, and what is inferred of it is wrong
LONG, SHORT = 512, 32  # steps that are learnt from in one call, about, and for what remains of the sequences


class RNNRegressor(RegressorMixin, BaseEstimator):
    """A recurrent network that answers every step of a sequence with one or several numbers.

    The order of rows is time: unlike in most of scikit-learn, X [time, features] is *one sequence*, and shuffled rows
    are another one. Split with `TimeSeriesSplit`, or by sequences. Each sequence starts from the network's initial
    state, in `fit` and in `predict`, which learns nothing.

    **Shapes.** X [time, features] with y [time] or [time, outputs]; or X [sequences, time, features] with y [sequences]
    (a question about the whole sequence, asked at its last step), [sequences, time] or [sequences, time, outputs].
    Predictions have the shape of y. X may hold NaN: the last known value of the sequence is taken, at first the mean;
    where y is NaN nothing is learnt, which also serves to fill up shorter sequences.
    **Parameters.** `units`: of the recurrent layer. `cell`: a name as on the command line ("RTU", "LRU", "GRU"), or a
    class, called as `cell(inputs, units, key=key)`. `algorithm`: an `onward.Algorithm`, or its name ("rtrl", "snap1",
    "eprop"); None is RTRL on cells whose units do not see each other, where it is exact and cheap, else SnAp(1).
    `learning_rate`: of Adam, gradients cut to norm 1. `window`: steps from one update to the next. `epochs`: how often
    `fit` goes through the sequences; `partial_fit` does once, and goes on from what was learnt. `normalize`: features
    and targets are put into standard deviations from their running means. `random_state`: of the initial weights and of
    random algorithms.
    **Attributes.** `state_`: arrays of the learner; `settings_`: its shape; `n_features_in_`.
    **Raises.** `ValueError` or `TypeError` where parameters make no sense or shapes do not fit.
    **Example.** (not a doctest, since scikit-learn is an extra)

        model = RNNRegressor(units=16, epochs=5).fit(X[:800], y[:800])
        model.score(X[800:], y[800:])
    """

    settings_: Settings
    state_: tuple[np.ndarray, ...]

    def __init__(
        self,
        units: int = 32,
        cell: str | Callable[..., Any] = "RTU",
        algorithm: Algorithm | str | None = None,
        learning_rate: float = 3e-3,
        window: int = 1,
        epochs: int = 20,
        normalize: bool = True,
        random_state: Any = None,
    ):
        self.units, self.cell, self.algorithm, self.learning_rate = units, cell, algorithm, learning_rate
        self.window, self.epochs, self.normalize, self.random_state = window, epochs, normalize, random_state

    def fit(self, X: Any, y: Any) -> "RNNRegressor":
        """Learn from the beginning, `epochs` times through the sequences."""
        X, y = self._checked(X, y, first=True)
        return _learn(self, X, y, whole("epochs", self.epochs, 1))

    def partial_fit(self, X: Any, y: Any) -> "RNNRegressor":
        """Go on learning, once through the sequences."""
        X, y = self._checked(X, y, first=not hasattr(self, "state_"))
        return _learn(self, X, y, 1)

    def predict(self, X: Any) -> np.ndarray:
        """The answers to sequences, each from the initial state."""
        answers = _answers(self, X)
        return answers if self._wide else answers[..., 0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R^2 over all steps whose target is known, as `sklearn.metrics.r2_score`."""
        given, said = (np.asarray(value, float) for value in (y, self.predict(X)))
        if given.shape != said.shape:
            raise ValueError(f"`y` has shape {given.shape}, and predictions have {said.shape}; make them agree")
        width = given.shape[-1] if self._wide else 1
        given, said = given.reshape(-1, width), said.reshape(-1, width)
        known = np.isfinite(given).all(axis=1)
        weight = None if sample_weight is None else np.ravel(sample_weight)[known]
        return float(r2_score(given[known], said[known], sample_weight=weight))

    def _checked(self, X, y, first):
        several = len(_shape(X)) == 3
        X = _sequences(self, X, reset=first, y=None if y is None else "no_validation")
        y = checks.check_array(
            y, ensure_2d=False, allow_nd=True, ensure_all_finite="allow-nan", dtype=float, input_name="y"
        )
        if not np.isfinite(y).any():
            raise ValueError("`y` holds no number; give a target to at least one step")
        y, last, wide = _per_step(X, y, np.nan, several)
        width = y.shape[-1]
        if first:
            self._last, self._wide = last, wide
            _begin(self, X, outputs=width)
        elif (last, wide, width) != (self._last, self._wide, self.settings_.outputs):
            raise ValueError(f"`y` has another shape {y.shape} than in the first call; call `fit` to begin anew")
        return X, y

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return _sequence_tags(tags)


class RNNClassifier(ClassifierMixin, BaseEstimator):
    """A recurrent network that answers every step of a sequence, or each sequence, with a label.

    **Shapes.** X [time, features] with y [time]; or X [sequences, time, features] with y [sequences] (one label for the
    whole sequence, asked for at its last step) or [sequences, time]. Probabilities have a further axis of classes.
    **Attributes.** `classes_`, in sorted order; and as `RNNRegressor`, like all else.
    """

    settings_: Settings
    state_: tuple[np.ndarray, ...]

    def __init__(
        self,
        units: int = 32,
        cell: str | Callable[..., Any] = "RTU",
        algorithm: Algorithm | str | None = None,
        learning_rate: float = 3e-3,
        window: int = 1,
        epochs: int = 20,
        normalize: bool = True,
        random_state: Any = None,
    ):
        self.units, self.cell, self.algorithm, self.learning_rate = units, cell, algorithm, learning_rate
        self.window, self.epochs, self.normalize, self.random_state = window, epochs, normalize, random_state

    def fit(self, X: Any, y: Any) -> "RNNClassifier":
        """Learn from the beginning, `epochs` times through the sequences."""
        X, y = self._checked(X, y, None, first=True)
        return _learn(self, X, y, whole("epochs", self.epochs, 1))

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "RNNClassifier":
        """Go on learning, once through the sequences; `classes`: all there will be, needed where `y` lacks some."""
        X, y = self._checked(X, y, classes, first=not hasattr(self, "state_"))
        return _learn(self, X, y, 1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities of `classes_`, along the last axis."""
        logits = _answers(self, X)[..., : len(self.classes_)].astype(float)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return shares / shares.sum(axis=-1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable labels."""
        checks.check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=-1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of right labels."""
        return float(accuracy_score(np.ravel(y), np.ravel(self.predict(X)), sample_weight=sample_weight))

    def _checked(self, X, y, classes, first):
        several = len(_shape(X)) == 3
        X = _sequences(self, X, reset=first, y=None if y is None else "no_validation")
        wide = several and _shape(y) == X.shape[:2]
        y = np.asarray(y) if wide else checks.column_or_1d(y, warn=True)
        checks.check_array(y, ensure_2d=False, dtype=None, input_name="y")
        multiclass.check_classification_targets(np.ravel(y))
        if first:
            self.classes_ = np.unique(y if classes is None else classes)
        numbers = np.searchsorted(self.classes_, y)
        unknown = self.classes_[np.minimum(numbers, len(self.classes_) - 1)] != y
        if np.any(unknown):
            told = f"`y` has the label {y[unknown].tolist()[0]!r}, which is not one of `classes_`"
            raise ValueError(f"{told}; name all in the first call, partial_fit(X, y, classes=...)")
        numbers, last, _ = _per_step(X, numbers.astype(np.int32), -1, several)
        if first:
            self._last = last
            _begin(self, X, outputs=power(len(self.classes_), LABELS), labels=True)
        elif last != self._last:
            raise ValueError("`y` has one label for each sequence in some calls and for each step in others; use `fit`")
        counts = np.where(numbers < 0, -1, np.int32(len(self.classes_)))
        return X, np.stack([numbers, counts], axis=-1)  # [sequences, time, 1, 2]

    def __sklearn_tags__(self):
        return _sequence_tags(super().__sklearn_tags__())


def _sequence_tags(tags):
    tags.input_tags.three_d_array = True
    tags.input_tags.allow_nan = True
    return tags


def _begin(model, X, **shape):
    settings = Settings(
        units=whole("units", model.units, 1),
        cell=model.cell,
        algorithm=model.algorithm,
        window=whole("window", model.window, 1),
        normalize=bool(model.normalize),
        features=power(X.shape[-1], FEATURES),
        **shape,
    )
    seed = check_random_state(model.random_state).randint(2**31 - 1)
    state = engine_of(settings).begin(int(seed), positive("learning_rate", model.learning_rate))
    model.settings_, model.state_ = settings, freeze(state)


def _learn(model, X, y, epochs):
    """Go `epochs` times through X [sequences, time, features] and y [sequences, time, ...], each sequence anew."""
    engine = engine_of(model.settings_)
    state = engine.at_rate(engine.thaw(model.state_), positive("learning_rate", model.learning_rate))
    sequences, time, _ = X.shape
    # In pieces of two lengths, which are compiled once: steps at the end that nothing is known of are not learnt from.
    long, short = (-(-size // engine.settings.window) * engine.settings.window for size in (LONG, SHORT))
    total = sequences * time
    room = -total % short
    first = np.pad(np.tile(np.arange(time) == 0, sequences), (0, room))
    rows = np.pad(_widened(X, engine).reshape(total, -1), ((0, room), (0, 0)), constant_values=np.nan)
    y = y.reshape(total, *y.shape[2:])
    missing = -1 if engine.settings.labels else np.nan
    target = np.pad(y, ((0, room), *((0, 0) for _ in y.shape[1:])), constant_values=missing)
    weight = np.ones(long, engine.dtype)
    whole_long = (total + room) // long * long
    starts = [(start, long) for start in range(0, whole_long, long)]
    starts += [(start, short) for start in range(whole_long, total + room, short)]
    for _ in range(epochs):
        for start, size in starts:
            here = slice(start, start + size)
            state, _ = engine.learner.run(state, Sample(rows[here], target[here], weight[:size], first[here]))
    model.state_ = freeze(state)
    return model


def _answers(model, X):
    """Outputs for X: of each step of one sequence [time, outputs], or of several, or of the last step of each."""
    checks.check_is_fitted(model)
    single = len(_shape(X)) != 3
    X = _sequences(model, X, reset=False)
    engine = engine_of(model.settings_)
    answers = engine.unroll(engine.thaw(model.state_), _widened(X, engine))
    if model._last:
        return answers[:, -1]
    return answers[0] if single else answers


def _widened(X, engine):
    """X with columns of which nothing is known, as many as the learner has room for."""
    room = engine.settings.features - X.shape[-1]
    return np.pad(X.astype(engine.dtype), ((0, 0), (0, 0), (0, room)), constant_values=np.nan)


def _sequences(model, X, *, reset, **told):
    """X [sequences, time, features], once scikit-learn has looked at it; a `y` of None is one that is missing."""
    shape = _shape(X)
    several = len(shape) == 3
    if several and 0 in shape:
        raise ValueError(f"`X` has shape {shape}, which holds nothing; give at least one step of one sequence")
    rows = np.reshape(X, (-1, shape[-1])) if several else X
    rows = np.asarray(checks.validate_data(model, rows, reset=reset, ensure_all_finite="allow-nan", **told))
    return rows.reshape(shape) if several else rows[None]


def _shape(X):
    """The shape of an array or of nested lists; () for a table or whatever else scikit-learn may know."""
    if not isinstance(X, (list, tuple, np.ndarray)):
        return ()
    try:
        return np.shape(X)
    except ValueError:
        raise ValueError("`X` is ragged; fill shorter sequences up with rows of NaN, and `y` with NaN") from None


def _per_step(X, y, missing, several):
    """y [sequences, time, outputs]; whether it is about whole sequences; and whether it has an axis of outputs."""
    sequences, time, _ = X.shape
    if several and y.shape == (sequences,):
        steps = np.full((sequences, time, 1), missing, y.dtype)
        steps[:, -1, 0] = y
        return steps, True, False
    steps = y if several else y[None]
    if steps.shape[:2] != (sequences, time) or steps.ndim > 3:
        raise ValueError(f"`y` has shape {y.shape}, and `X` {X.shape[:2]} sequences and steps; make them agree")
    return steps.reshape(sequences, time, -1), False, steps.ndim == 3
