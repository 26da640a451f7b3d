"""scikit-learn's own checks, and what they do not see: sequences, time, missing values."""

import builtins
import importlib
import pickle
import re
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

import onward as ow
from onward.interop import engine as engines

pytest.importorskip("sklearn", reason="scikit-learn is not installed; `pip install scikit-learn`")

from sklearn.base import clone
from sklearn.exceptions import SkipTestWarning
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from onward.interop.sklearn import RNNClassifier, RNNRegressor

QUICK = {"units": 8, "epochs": 4, "learning_rate": 0.02, "random_state": 0}
IN_ORDER = "rows are a sequence in time: what the network answers depends on the rows before"
EXPECTED = dict.fromkeys(("check_methods_sample_order_invariance", "check_methods_subset_invariance"), IN_ORDER)
ESTIMATORS = [RNNRegressor, RNNClassifier]


def sequence(length=200, features=3, seed=0):
    """Numbers, and as target the first of them two steps before."""
    X = np.random.default_rng(seed).normal(size=(length, features))
    return X, np.concatenate([np.zeros(2), X[:-2, 0]])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_sklearns_checks(estimator, unchecked):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        results = check_estimator(
            estimator(**QUICK | {"random_state": None}), expected_failed_checks=EXPECTED, on_skip=None, on_fail="raise"
        )
    statuses = {result["check_name"]: result["status"] for result in results}
    assert len(results) > 45
    assert {name for name, status in statuses.items() if status == "xfail"} == set(EXPECTED)
    # These need pandas, or a setting of SciPy.
    skipped = {"check_array_api_input", "check_sample_weights_pandas_series"}
    skipped |= {"check_regressor_data_not_an_array", "check_classifier_data_not_an_array"}
    assert {name for name, status in statuses.items() if status == "skipped"} <= skipped


@pytest.mark.parametrize("normalize", [True, False])
def test_predictions_are_the_networks(normalize):
    X, y = sequence(50)
    model = RNNRegressor(**QUICK, normalize=normalize).fit(X, y)
    engine = engines.engine_of(model.settings_)
    state = engine.thaw(model.state_)
    known, network = engine.learner.unpack(state), engine.learner.network_of(state)
    inputs = np.zeros((50, 16))
    inputs[:, :3] = X
    scale, mean = 1.0, 0.0
    if normalize:
        inputs[:, :3] = (X - X.mean(axis=0)) / X.std(axis=0)
        scale, mean = y.std(), y.mean()
        np.testing.assert_allclose(known.inputs.mean[0, :3], X.mean(axis=0), rtol=1e-10)
    expected = np.asarray(network.unroll(inputs))[:, 0] * scale + mean
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-8)
    assert np.std(expected) > 0.1


def test_fitting_is_learning_step_by_step():
    """Pieces of one length, filled up, are what the learner makes of the samples one by one."""
    X, y = sequence(70)
    X, y = X.reshape(2, 35, 3), y.reshape(2, 35)
    model = RNNRegressor(**QUICK | {"epochs": 2}).fit(X, y)
    engine = engines.engine_of(model.settings_)
    state = engine.begin(int(np.random.RandomState(0).randint(2**31 - 1)), 0.02)
    rows = np.full((70, 16), np.nan)
    rows[:, :3] = X.reshape(70, 3)
    for _ in range(2):
        for step, (row, target) in enumerate(zip(rows, y.ravel(), strict=True)):
            state = engine.learner.learn(state, row, np.array([target]), reset=step % 35 == 0)
    learnt, expected = (engine.learner.unpack(s).parameters for s in (engine.thaw(model.state_), state))
    for ours, theirs in zip(jax.tree.leaves(learnt), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-10)


def test_it_remembers():
    X, y = sequence(1100)
    model = RNNRegressor(units=16, learning_rate=0.01, epochs=8, random_state=0).fit(X[:800], y[:800])
    assert model.score(X[800:], y[800:]) > 0.8
    assert model.predict(X[800:]).shape == (300,)
    assert model.score(X[800:][::-1], y[800:][::-1]) < 0.2


def test_several_outputs_and_sequences_with_missing_values():
    X, y = sequence(240)
    X, both = X.reshape(6, 40, 3).copy(), np.stack([y, -2 * y], axis=-1).reshape(6, 40, 2)
    both[:, :2] = np.nan  # what they ask about is in another sequence
    X[1, 30:], both[1, 30:] = np.nan, np.nan
    model = RNNRegressor(**QUICK | {"epochs": 30, "units": 16, "learning_rate": 0.005}).fit(X, both)
    answers = model.predict(X)
    assert answers.shape == both.shape
    assert model.score(X, both) > 0.9
    np.testing.assert_allclose(model.predict(X[2]), answers[2], rtol=1e-10)
    held = X[3].copy()
    held[7:9, 1] = held[6, 1]
    missing = held.copy()
    missing[7:9, 1] = np.nan
    np.testing.assert_array_equal(model.predict(missing), model.predict(held))


def test_one_sequence_with_an_axis_of_its_own_is_served_like_several():
    X, y = sequence(20)
    labels = np.where(y > 0, "up", "down")
    for model, target in ((RNNRegressor(**QUICK), y), (RNNClassifier(**QUICK), labels)):
        single = model.fit(X, target).predict(X)
        several = model.fit(X[None], target[None]).predict(X[None])
        assert several.shape == (1, 20)
        np.testing.assert_array_equal(several[0], single)
        with pytest.raises(ValueError, match=r"`y` has shape \(20,\), and `X` \(1, 20\) sequences and steps"):
            model.fit(X[None], target)


def test_the_features_of_a_sequence_are_not_those_of_another():
    X, y = sequence(60)
    X, y = X.reshape(2, 30, 3).copy(), y.reshape(2, 30)
    X[1, :4, 1] = np.nan
    filled = X.copy()
    filled[1, :4, 1] = X[0, :, 1].mean()  # what the learner has seen so far
    options = QUICK | {"epochs": 1, "normalize": False}
    models = [RNNRegressor(**options).fit(given, y) for given in (X, np.nan_to_num(X), filled)]
    learnt = [np.concatenate([np.ravel(a) for a in model.state_]) for model in models]
    np.testing.assert_array_equal(learnt[0], learnt[1])  # where nothing is normalised, 0 stands for what is not known
    assert np.abs(learnt[0] - learnt[2]).max() > 1e-6


def test_one_label_for_each_sequence():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 6, 2))
    y = np.where(X[:, 0, 1] > 0, "up", "down")
    model = RNNClassifier(units=16, learning_rate=0.01, epochs=10, random_state=0).fit(X[:200], y[:200])
    assert model.score(X[200:], y[200:]) > 0.85
    assert model.classes_.tolist() == ["down", "up"]
    assert model.predict_proba(X[:5]).shape == (5, 2)
    labels = np.where(X[..., 0] > 0, 1, 7)
    steps = RNNClassifier(**QUICK).fit(X, labels)
    assert steps.predict(X).shape == (300, 6)
    assert steps.score(X, labels) > 0.9


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_partial_fit_goes_on(estimator):
    X, y = sequence(60)
    y = y if estimator is RNNRegressor else (y > 0).astype(int)
    whole = estimator(**QUICK | {"epochs": 3}).fit(X, y)
    parts = estimator(**QUICK)
    for _ in range(3):
        parts.partial_fit(X, y)
        parts = pickle.loads(pickle.dumps(parts))
    np.testing.assert_array_equal(parts.predict(X), whole.predict(X))
    assert np.std(whole.predict(X)) > 0
    for part, other in zip(parts.state_, whole.state_, strict=True):
        np.testing.assert_array_equal(part, other)


def test_a_search_over_rates_shares_a_program():
    X, _ = sequence(90)
    y = X[:, 0]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), RNNRegressor(**QUICK)),
        {"rnnregressor__learning_rate": [1e-9, 0.02], "rnnregressor__epochs": [8]},
        cv=TimeSeriesSplit(2),
    ).fit(X, y)
    assert search.best_params_["rnnregressor__learning_rate"] == 0.02
    before = engines._engine_of.cache_info().currsize
    clone(search.best_estimator_).set_params(rnnregressor__learning_rate=0.5).fit(X, y)
    assert engines._engine_of.cache_info().currsize == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X, y: RNNRegressor(epochs=0).fit(X, y), "`epochs` must be an integer of 1 or more, got 0"),
        (lambda X, y: RNNRegressor(units=2.5).fit(X, y), "`units` must be an integer of 1 or more, got 2.5"),
        (lambda X, y: RNNRegressor().fit(X, y[:-1]), r"`y` has shape \(9,\), and `X` \(1, 10\) sequences and steps"),
        (lambda X, y: RNNRegressor().fit(X, np.full(10, np.nan)), "`y` holds no number"),
        (lambda X, y: RNNRegressor().fit([X, X[:5]], y), "`X` is ragged; fill shorter sequences up"),
        (lambda X, y: RNNRegressor().fit(X[:, None][:0], y), r"`X` has shape \(0, 1, 3\), which holds nothing"),
        (lambda X, y: RNNClassifier(**QUICK).fit(X, y > 0).partial_fit(X, y > 9), None),
        (
            lambda X, y: RNNClassifier(**QUICK).partial_fit(X, np.arange(10) % 2).partial_fit(X, np.arange(10)),
            "`y` has the label 2, which is not one of `classes_`; name all in the first call",
        ),
        (lambda X, y: RNNRegressor(**QUICK).fit(X, y).partial_fit(X, y[:, None]), "call `fit` to begin anew"),
    ],
)
def test_bad_arguments(make, message, unchecked):
    X, y = sequence(10)
    if message is None:
        make(X, y)
        return
    with pytest.raises(ValueError, match=message):
        make(X, y)


def test_algorithms_and_cells():
    X, y = sequence(40)
    for choice in ({"cell": "GRU", "algorithm": ow.EProp()}, {"cell": ow.cells.LRU, "algorithm": "bptt", "window": 5}):
        model = clone(RNNRegressor(**QUICK, **choice)).fit(X, y)
        assert np.std(model.predict(X)) > 0
        assert model.settings_.window == choice.get("window", 1)


def test_without_sklearn(monkeypatch):
    real = builtins.__import__

    def fake(name, *args, **kwargs):
        if name.split(".")[0] == "sklearn":
            raise ImportError("No module named 'sklearn'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "onward.interop.sklearn")
    monkeypatch.setattr(builtins, "__import__", fake)
    with pytest.raises(
        ImportError, match=r"needs scikit-learn, which is not installed; run `pip install scikit-learn`"
    ):
        importlib.import_module("onward.interop.sklearn")


def test_the_documentation_runs(capsys):
    text = (Path(__file__).parent.parent / "docs" / "river-and-scikit-learn.md").read_text()
    blocks = [code for code in re.findall(r"```python\n(.*?)```", text, re.S) if "interop.river" not in code]
    names = {}
    for code in blocks:
        exec(compile(code, "river-and-scikit-learn.md", "exec"), names)
    score, answers = capsys.readouterr().out.splitlines()
    assert len(blocks) == 2
    assert float(score) > 0.7
    labels, _, right = re.fullmatch(r"\[(.*)\] (\(3, 2\)) (.*)", answers).groups()
    assert set(labels.split()) <= {"'up'", "'down'"}
    assert float(right) > 0.7
