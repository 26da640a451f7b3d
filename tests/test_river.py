"""River's own checks, and what they do not see: what comes and goes, copies, forecasts, nothing compiled anew."""

import builtins
import copy
import importlib
import math
import pickle
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import onward as ow
from onward.interop import engine as engines

REASON = "River or scikit-learn, which River's checks use, is not installed; `pip install river scikit-learn`"
river = pytest.importorskip("river", reason=REASON)
pytest.importorskip("sklearn", reason=REASON)

from river import checks, evaluate, linear_model, metrics, preprocessing  # noqa: E402

from onward.interop.river import OnlineRNNClassifier, OnlineRNNForecaster, OnlineRNNRegressor, forecaster  # noqa: E402

SMALL = {"units": 8}  # everywhere, so that all tests share what the checks compile
FAST = SMALL | {"learning_rate": 1e-2}
ESTIMATORS = [OnlineRNNRegressor, OnlineRNNClassifier, OnlineRNNForecaster]


def stream(length, names="abc", seed=0):
    """Dictionaries of numbers, and as target the first number two steps before."""
    values = np.random.default_rng(seed).normal(size=(length, len(names)))
    before = np.concatenate([np.zeros(2), values[:-2, 0]])
    return [(dict(zip(names, row.tolist(), strict=True)), float(y)) for row, y in zip(values, before, strict=True)]


def learnt(model, samples):
    for x, y in samples:
        model.learn_one(x, y)
    return model


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rivers_checks(estimator):
    model = estimator(**SMALL)
    assert not model._unit_test_skips()
    names = []
    for check in checks.yield_checks(model):
        check(model.clone())
        names.append(check.__name__)
    assert len(names) >= 15
    assert {"check_learn_one", "check_clone_is_idempotent", "check_get_params_matches_signature"} <= set(names)


@pytest.mark.parametrize("estimator", ESTIMATORS[:2])
def test_rivers_check_of_seeds(estimator):
    """River runs it where the seed is None, which draws one."""
    model = estimator(**FAST, seed=None)
    (check, *_) = (check for check in checks.yield_checks(model) if check.__name__ == "check_seeding_is_idempotent")
    check(model.clone())
    (x, y), *_ = samples = stream(3)
    a, b = (learnt(model.clone(), samples if estimator is OnlineRNNRegressor else [(x, y > 0)] * 3) for _ in range(2))
    assert a._stream.seed != b._stream.seed


def test_predictions_are_the_learners():
    samples = [(x, y if step % 5 else None) for step, (x, y) in enumerate(stream(30, "cab"))]
    for step, (x, _) in enumerate(samples):
        if step % 3 == 0:
            del x["b"]
        if step % 4 == 0:
            x["a"] = (None, math.nan, math.inf)[step % 3]
    model, predicted = OnlineRNNRegressor(**FAST), []
    for x, y in samples:
        predicted.append(model.predict_one(x))
        model.learn_one(x, y)
    engine = model._stream._engine
    rows = np.full((30, engine.settings.features), np.nan)
    # "a" and "c" come with the first sample, in the alphabet's order, "b" with the second.
    for row, (x, _) in zip(rows, samples, strict=True):
        row[:3] = [np.nan if x.get(name) is None else x[name] for name in "acb"]
    targets = np.array([[np.nan if y is None else y] for _, y in samples])
    state, outputs = engine.learner.run(engine.begin(0, 1e-2), ow.Sample(rows, targets, np.ones(30)))
    assert predicted[0] == 0
    np.testing.assert_allclose(predicted, outputs[:, 0], rtol=1e-8, atol=1e-10)
    assert np.std(predicted) > 1e-3
    for ours, theirs in zip(engines.freeze(model._stream._state), engines.freeze(state), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


def test_it_remembers_and_works_in_pipelines():
    samples = stream(1500, "ab")
    recurrent = preprocessing.StandardScaler() | OnlineRNNRegressor(**FAST)
    linear = preprocessing.StandardScaler() | linear_model.LinearRegression()
    errors = [evaluate.progressive_val_score(samples, model, metrics.MAE()).get() for model in (recurrent, linear)]
    assert errors[0] < 0.7 * errors[1]


def test_new_keys_seeds_and_rates_compile_nothing():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **told: compiled.append(told) if event.endswith("backend_compile_duration") else None
    )
    model = learnt(OnlineRNNRegressor(**FAST), [*stream(2), ({"a": 1.0}, None)])
    model.predict_one({})
    compiled.clear()
    for number in range(13):
        model.learn_one({f"more {number}": 1.0}, 0.5)
        model.predict_one({f"more {number}": 1.0})
    other = learnt(OnlineRNNRegressor(**FAST | {"learning_rate": 0.5}, seed=7), stream(2))
    copy.deepcopy(other).predict_one({"a": 1.0})
    assert len(model._stream.columns) == 16
    assert other._stream._engine is model._stream._engine
    assert not compiled
    a, b = (parameters_of(m) for m in (model, other))
    assert all(np.any(x != y) for x, y in zip(a, b, strict=True) if x.any())
    learnt(OnlineRNNRegressor(units=3), stream(2))
    assert compiled, "the listener hears of nothing"


def parameters_of(model):
    known = model._stream._engine.learner.unpack(model._stream._state)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(known.parameters)]


@pytest.mark.parametrize("estimator", [OnlineRNNRegressor, OnlineRNNClassifier])
def test_growth_changes_no_prediction(estimator):
    as_target = (lambda y: y) if estimator is OnlineRNNRegressor else (lambda y: "up" if y > 0 else "down")
    model = learnt(estimator(**FAST), [(x, as_target(y)) for x, y in stream(40)])
    stream_of, row = model._stream, {"a": 0.3, "b": -1.0, "c": 0.5}
    before = stream_of.predict(row)
    assert np.any(before[:2] != 0)
    many = {f"z{number}": 1.0 for number in range(14)}
    stream_of._discover(many)
    if estimator is OnlineRNNClassifier:
        stream_of.labels.update({number: number + 2 for number in range(7)})
    old = stream_of._engine.learner.unpack(stream_of._state)
    engine, state = stream_of._with_room()
    new = engine.learner.unpack(state)
    assert (engine.settings.features, engine.settings.outputs) == (32, 16 if len(before) == 8 else 1)
    after = stream_of.predict(row)
    np.testing.assert_allclose(after[: len(before)], before, rtol=1e-12)
    assert not after[len(before) :].any()
    assert int(new.samples) == int(old.samples) == 40
    for name in ("parameters", "optimizer"):
        sizes = [
            sum(float(np.sum(np.square(leaf))) for leaf in jax.tree.leaves(getattr(part, name))) for part in (old, new)
        ]
        assert sizes[1] >= sizes[0] * (1 - 1e-12) > 0
    stream_of.learn(row | many, as_target(1.0))  # it still learns, the new columns too
    assert np.any(stream_of.predict(row | many) != after)


@pytest.mark.parametrize("copied", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy])
def test_copies_go_on_with_the_same_bits(copied):
    samples = stream(40)
    for model in (OnlineRNNRegressor(**FAST), preprocessing.StandardScaler() | OnlineRNNRegressor(**FAST)):
        learnt(model, samples[:20])
        other, saved = copied(model), pickle.dumps(model)
        assert b"jax" not in saved
        for x, y in samples[20:]:
            assert other.predict_one(x) == model.predict_one(x)
            model.learn_one(x, y)
            other.learn_one(x, y)
        left = pickle.loads(saved)
        learnt(left, samples[20:])
        assert left.predict_one(samples[0][0]) == model.predict_one(samples[0][0]) != 0


def test_a_clone_has_learnt_nothing():
    model = learnt(OnlineRNNClassifier(**FAST, algorithm=ow.RTRL(decay=0.9)), [({"a": 1.0}, "yes")])
    clone = model.clone()
    assert clone.predict_proba_one({"a": 1.0}) == {}
    assert clone.algorithm == model.algorithm
    assert model.predict_proba_one({"a": 1.0}) == {"yes": 1.0}


def test_labels_of_any_kind_come_as_they_like():
    labels = ["up", ("a", 1), 3, True, frozenset({2}), 2.5, "late", "later", "last", None]
    rng, model, right = np.random.default_rng(0), OnlineRNNClassifier(**SMALL, learning_rate=3e-2), []
    assert model.predict_one({"x0": 1.0}) is None
    for step in range(900):
        number = int(rng.integers(min(2 + step // 40, len(labels))))
        x = {f"x{k}": float(k == number) + 0.1 * rng.normal() for k in range(len(labels))}
        right.append(model.predict_one(x) == labels[number] or labels[number] is None)
        model.learn_one(x, labels[number])
    shares = model.predict_proba_one(x)
    assert set(shares) == set(labels) - {None}
    assert math.isclose(sum(shares.values()), 1.0)
    assert model._stream.settings.outputs == 16
    assert np.mean(right[-200:]) > 0.9


def test_labels_that_are_not_there_are_missing_and_bad_samples_leave_none():
    model = learnt(OnlineRNNClassifier(**SMALL), [({"a": 1.0}, "yes"), ({"a": -1.0}, "no")])
    for _ in range(5):
        model.learn_one({"a": 0.0}, float("nan"))
        model.learn_one({"a": 0.0}, None)
    with pytest.raises(TypeError, match="feature 'a' must be a number"):
        model.learn_one({"a": "x"}, "cat")
    assert set(model.predict_proba_one({"a": 1.0})) == {"yes", "no"}


def test_a_weight_multiplies_the_loss():
    samples = stream(12)
    models = [OnlineRNNRegressor(**FAST) for _ in range(3)]
    for x, y in samples:
        for model, weight in zip(models, (None, 1.0, 0.0), strict=True):
            model.learn_one(x, y, w=weight)
    a, b, c = (parameters_of(model) for model in models)
    first = parameters_of(learnt(OnlineRNNRegressor(**FAST), [(samples[0][0], None)]))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert all(np.array_equal(x, y) for x, y in zip(c, first, strict=True))
    assert any(np.any(x != y) for x, y in zip(a, c, strict=True))


def test_memory_is_counted_and_does_not_grow():
    model = learnt(OnlineRNNRegressor(**FAST), stream(5))
    before = model._raw_memory_usage
    arrays = sum(array.nbytes for array in engines.freeze(model._stream._state))
    assert arrays < before < arrays + 50_000
    assert learnt(model, stream(50))._raw_memory_usage == before


def test_features_beyond_the_limit_are_not_read():
    model = OnlineRNNRegressor(**FAST, max_features=2)
    with pytest.warns(UserWarning, match="'c' is one more than `max_features` = 2"):
        model.learn_one({"a": 1.0, "b": 2.0, "c": 3.0}, 1.0)
    learnt(model, stream(5))
    assert model.predict_one({"a": 1.0, "c": 1e3}) == model.predict_one({"a": 1.0})


def test_forecasts_go_on_with_a_trend_at_every_horizon():
    for horizon, season in ((1, 1), (3, 2), (3, 4)):
        model = OnlineRNNForecaster(**SMALL, horizon=horizon, season=season)
        assert model.forecast(2) == [0.0, 0.0]
        for step in range(12):
            model.learn_one(float(step))
        np.testing.assert_allclose(model.forecast(7), np.arange(12, 19), rtol=1e-12)


def test_a_forecast_beyond_the_horizon_learns_nothing(monkeypatch):
    """It comes from the network of the first steps, and goes on by what that one forecasts."""
    rng = np.random.default_rng(0)
    model = OnlineRNNForecaster(**SMALL, horizon=3)
    for y in rng.normal(size=20):
        model.learn_one(y)
    look, engine = [], model._stream._engine
    learner = engine.learner
    monkeypatch.setattr(learner, "learn", None)
    real = learner.look
    monkeypatch.setattr(learner, "look", lambda *given: look.append(real(*given)) or look[-1])
    model.forecast(6)
    now = parameters_of(model)
    assert len(look) == 3
    for state in look:
        known = learner.unpack(state)
        assert all(np.array_equal(a, b) for a, b in zip(now, jax.tree.leaves(known.parameters), strict=True))


def test_a_forecaster_starts_as_seasonal_naive_and_gets_better():
    rng = np.random.default_rng(0)
    level = 5 + np.array([3.0, -1.0, 0.5, -2.5])
    values = [float(level[step % 4] + 0.5 * rng.normal()) for step in range(700)]
    model = OnlineRNNForecaster(**SMALL, horizon=3, season=4)
    for y in values[:4]:
        model.learn_one(y)
    assert model.forecast(6) == values[:4] + values[:2]
    ours, naive = [], []
    for now in range(4, 690):
        if now > 300 and now % 5 == 0:
            ahead = values[now : now + 6]
            ours.append(np.abs(np.subtract(model.forecast(6), ahead)))
            naive.append(np.abs(np.subtract([values[now - 4 + k % 4] for k in range(6)], ahead)))
        model.learn_one(values[now])
    assert np.mean(ours) < 0.95 * np.mean(naive)
    assert forecaster is OnlineRNNForecaster


def test_a_forecaster_reads_features_of_the_step_it_forecasts():
    rng = np.random.default_rng(0)
    samples = [({"x": float(x)}, float(x)) for x in rng.normal(size=600)]
    model, errors = OnlineRNNForecaster(**SMALL, learning_rate=5e-3), {"known": [], "unknown": []}
    for step, (x, y) in enumerate(samples):
        if step > 400:
            errors["known"].append(abs(model.forecast(1, [x])[0] - y))
            errors["unknown"].append(abs(model.forecast(1)[0] - y))
        model.learn_one(y, x)
    assert np.mean(errors["known"]) < 0.3 * np.mean(errors["unknown"])


def test_rivers_evaluation_of_forecasts():
    samples = [({"t": float(step)}, math.sin(step)) for step in range(40)]
    model = preprocessing.StandardScaler() | OnlineRNNForecaster(**SMALL, horizon=3)
    metric = evaluate.evaluate(samples, model, metrics.MAE(), horizon=3)
    assert len(metric.get()) == 3
    other = pickle.loads(pickle.dumps(model))
    assert other.forecast(4, [{"t": 1.0}] * 4) == model.forecast(4, [{"t": 1.0}] * 4)


def test_a_missing_value_is_that_of_the_season_before():
    model = OnlineRNNForecaster(**SMALL, season=2)
    for y in (1.0, 5.0, None, math.nan, 1.0):
        model.learn_one(y)
    assert list(model._past) == [1.0, 5.0, 1.0]
    assert model.forecast(2) == [5.0, 1.0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: OnlineRNNRegressor(units=0), ValueError, "`units` must be an integer of 1 or more, got 0"),
        (lambda: OnlineRNNRegressor(learning_rate=-1.0), ValueError, "`learning_rate` must be a finite number above 0"),
        (lambda: OnlineRNNRegressor(seed=-1), ValueError, "`seed` must be an integer of 0 or more, got -1"),
        (lambda: OnlineRNNRegressor(cell="gruu"), ValueError, "`cell`: unknown cell 'gruu'; did you mean gru"),
        (lambda: OnlineRNNForecaster(season=0), ValueError, "`season` must be an integer of 1 or more"),
        (lambda: OnlineRNNForecaster().forecast(2, [{}]), ValueError, "`xs` must hold features for each of 2 steps"),
        (lambda: OnlineRNNForecaster().forecast(0), ValueError, "`horizon` must be an integer of 1 or more, got 0"),
        (lambda: OnlineRNNRegressor(**FAST).learn_one({"a": "x"}, 1.0), TypeError, "feature 'a' must be a number"),
        (
            lambda: OnlineRNNRegressor(**FAST).learn_one({"a": 1.0}, "x"),
            TypeError,
            "`y` must be a number, None or NaN",
        ),
        (lambda: OnlineRNNRegressor(algorithm="snap1@3").learn_one({}, 1.0), ValueError, "give it as `window` instead"),
        (
            lambda: OnlineRNNRegressor(algorithm="rtrrl").learn_one({}, 1.0),
            ValueError,
            "`algorithm`: unknown algorithm",
        ),
    ],
)
def test_bad_arguments(make, error, message, unchecked):
    with pytest.raises(error, match=message):
        make()


def test_without_river(monkeypatch):
    real = builtins.__import__

    def fake(name, *args, **kwargs):
        if name.split(".")[0] == "river":
            raise ImportError("No module named 'river'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "onward.interop.river")
    monkeypatch.setattr(builtins, "__import__", fake)
    with pytest.raises(ImportError, match=r"needs River, which is not installed; run `pip install river`"):
        importlib.import_module("onward.interop.river")


def test_algorithms_and_cells_by_name_and_by_class():
    choices = [{"cell": "GRU", "algorithm": "eprop"}, {"cell": ow.cells.LRU, "algorithm": ow.SnAp(1), "window": 3}]
    for choice in choices:
        model = learnt(OnlineRNNRegressor(**FAST, **choice), stream(8))
        assert math.isfinite(model.predict_one({"a": 1.0}))
        assert model.clone()._stream.settings == OnlineRNNRegressor(**FAST, **choice)._stream.settings
    default = OnlineRNNRegressor(**FAST, cell="GRU")
    assert learnt(default, stream(2))._stream._engine.learner.algorithm == ow.SnAp(1)


def test_the_documentation_runs(capsys):
    text = (Path(__file__).parent.parent / "docs" / "river-and-scikit-learn.md").read_text()
    blocks = [code for code in re.findall(r"```python\n(.*?)```", text, re.S) if "interop.river" in code]
    for code in blocks:
        exec(compile(code, "river-and-scikit-learn.md", "exec"), {})
    score, before, after, errors, forecast = capsys.readouterr().out.splitlines()
    assert len(blocks) == 3
    assert float(score.removeprefix("MAE: ")) < 1.5
    assert (before, after) == ("None", "opening open")
    assert len(eval(errors)) == 6
    assert all(math.isfinite(value) for value in eval(forecast))
