"""Naive forecasts against their definition, written out; errors against NumPy's, and a window's against its samples."""

import math

import numpy as np
import pytest

from onward.baselines import NAIVE, SEASONAL, Prequential, Scores, SeasonalNaive, compare, forecasts, rolling_mean

NAN = np.nan


def stream(length=90, missing=0.3, seed=0):
    random = np.random.default_rng(seed)
    values = np.sin(np.arange(length)) + random.normal(size=length)
    values[random.random(length) < missing] = NAN
    return values


def by_definition(values, horizon, season):
    """At t: the value of t + horizon less as few seasons as are known, older by seasons if missing, else the last."""
    out = []
    for t in range(len(values)):
        last = t if horizon else t - 1
        place = t + horizon - season
        while place > last:
            place -= season
        same = [values[i] for i in range(place, -1, -season) if np.isfinite(values[i])]
        known = [value for value in values[: last + 1] if np.isfinite(value)]
        out.append(same[0] if same else known[-1] if known else NAN)
    return np.array(out)


# Forecasts


def test_naive_and_seasonal_naive_by_hand():
    values = np.array([1.0, 2, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(forecasts(values, 2), values)
    np.testing.assert_array_equal(forecasts(values, 0), [NAN, 1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(forecasts(values, 1, 3), [1, 2, 1, 2, 3, 4, 5])  # naive until a season is known
    np.testing.assert_array_equal(forecasts(values, 3, 3), values)
    np.testing.assert_array_equal(forecasts(values, 4, 3), forecasts(values, 1, 3))
    values[[2, 5]] = NAN, np.inf
    np.testing.assert_array_equal(forecasts(values, 1), [1, 2, 2, 4, 5, 5, 7])
    np.testing.assert_array_equal(forecasts(values, 1, 3), [1, 2, 1, 2, 5, 4, 5])


@pytest.mark.parametrize("season", [1, 2, 7, 24, 200])
@pytest.mark.parametrize("horizon", [0, 1, 2, 7, 24, 25, 60])
def test_all_at_once_and_one_by_one_agree_with_the_definition(horizon, season):
    values = stream()
    values[:4] = NAN
    values[[20, 44]] = np.inf, -np.inf
    want = by_definition(values, horizon, season)
    np.testing.assert_array_equal(forecasts(values, horizon, season), want)
    one, made = SeasonalNaive(season), []
    for value in values:
        if horizon == 0:
            made.append(one.forecast())
        one.update(value)
        if horizon > 0:
            made.append(one.forecast(horizon))
    np.testing.assert_array_equal(made, want)


def test_several_series_at_once():
    values = np.stack([stream(seed=seed) for seed in range(6)], 1).reshape(90, 2, 3)
    for horizon, season in ((0, 1), (3, 7), (30, 7)):
        have = forecasts(values, horizon, season)
        for i, j in np.ndindex(2, 3):
            np.testing.assert_array_equal(have[:, i, j], forecasts(values[:, i, j], horizon, season))
    assert forecasts(np.zeros(0), 2, 3).shape == (0,)
    assert forecasts(np.arange(3), 0).tolist()[1:] == [0.0, 1.0]  # whole numbers are numbers


# Errors


@pytest.mark.parametrize("window", [1, 2, 7, 40, 500])
def test_rolling_mean_is_that_of_the_last_known(window):
    values = np.stack([stream(), stream(missing=0), np.full(90, NAN)], 1)
    have = rolling_mean(values, window)
    for column in range(3):
        for t in range(90):
            known = values[: t + 1, column][np.isfinite(values[: t + 1, column])][-window:]
            np.testing.assert_allclose(have[t, column], known.mean() if known.size else NAN, rtol=1e-13)
    assert rolling_mean(np.zeros(0), 3).shape == (0,)


def samples(length=230, seed=1):
    """Targets and the forecasts of three, with gaps in each."""
    random = np.random.default_rng(seed)
    targets, made = random.normal(size=length), random.normal(size=(length, 3))
    targets[random.random(length) < 0.1] = NAN
    made[random.random((length, 3)) < 0.05] = NAN
    made[50, 0], made[60, 1], targets[70] = np.inf, -np.inf, np.inf
    return targets, made


@pytest.mark.parametrize("window", [1, 3, 50, 1000])
def test_scores_are_of_the_samples_that_all_know(window):
    targets, made = samples()
    scores, names = Scores(("a", "b", "c"), window), ("a", "b", "c")
    errors = np.zeros((0, 3))
    for t, (target, row) in enumerate(zip(targets, made, strict=True)):
        scores.update(target, row.tolist())
        if np.isfinite(target) and np.isfinite(row).all():
            errors = np.concatenate([errors, [row - target]])
        if t % 10 == 9:
            for rolling, some in ((False, errors), (True, errors[-window:])):
                mae = np.mean(abs(some), 0)
                np.testing.assert_allclose([scores.mae(rolling)[name] for name in names], mae, rtol=1e-13)
                rmse = np.sqrt(np.mean(some**2, 0))
                np.testing.assert_allclose([scores.rmse(rolling)[name] for name in names], rmse, rtol=1e-13)
                ratio = [scores.ratio("b", rolling)[name] for name in names]
                np.testing.assert_allclose(ratio, mae / mae[1], rtol=1e-13)
    assert scores.count == len(errors)
    assert 0 < len(errors) < 230
    failures = (~np.isfinite(made))[np.isfinite(targets)].sum(0)
    assert scores.failures == dict(zip(names, failures, strict=True))


@pytest.mark.parametrize("window", [1, 3, 50, 1000])
def test_many_samples_at_once_are_as_one_by_one(window):
    targets, made = samples()
    one, many = Scores(("a", "b", "c"), window), Scores(("a", "b", "c"), window)
    start = 0
    for size in (0, 1, 2, 60, 7, 160):
        stop = start + size
        many.extend(targets[start:stop], made[start:stop])
        for target, row in zip(targets[start:stop], made[start:stop], strict=True):
            one.update(target, row.tolist())
        start = stop
        for rolling in (False, True):
            for name in ("mae", "rmse"):
                have, want = (list(getattr(scores, name)(rolling).values()) for scores in (many, one))
                np.testing.assert_allclose(have, want, rtol=1e-12, err_msg=f"{name} {rolling}")
        assert (many.count, many.failures) == (one.count, one.failures)
    assert start == 230


def test_a_huge_error_leaves_no_trace_in_the_window():
    scores = Scores(("a",), 5)
    for error in [1.0, 2.0, 1e300, *[0.5] * 5]:
        scores.update(0.0, [error])
    assert scores.mae(rolling=True) == {"a": 0.5}
    assert scores.rmse(rolling=True) == {"a": 0.5}
    assert scores.mae()["a"] > 1e299
    many = Scores(("a",), 5)
    many.extend(np.zeros(8), np.array([[1.0], [2.0], [1e300], *[[0.5]] * 5]))
    assert many.rmse(rolling=True) == {"a": 0.5}
    have = rolling_mean(np.array([1.0, 2.0, 1e300, *[0.5] * 5]), 5)
    assert have[-1] == 0.5


def test_before_the_first_sample_and_without_errors():
    scores = Scores(("a", "b"))
    assert all(math.isnan(value) for rolling in (0, 1) for value in scores.mae(bool(rolling)).values())
    assert math.isnan(scores.rmse()["a"])
    assert math.isnan(scores.ratio("b")["a"])
    scores.update(1, [2, 1])
    assert scores.mae() == {"a": 1.0, "b": 0.0}
    assert math.isnan(scores.ratio("b")["a"])
    assert scores.ratio("a") == {"a": 1.0, "b": 0.0}


# Both together


@pytest.mark.parametrize("horizon", [0, 1, 5, 30])
def test_a_stream_is_scored_when_the_time_has_come(horizon):
    values, model = stream(200), np.random.default_rng(3).normal(size=200)
    model[17] = NAN
    live = Prequential(horizon, 7, window=20)
    for value, forecast in zip(values, model, strict=True):
        live.step(value, forecast)
    naive, seasonal = by_definition(values, horizon, 1), by_definition(values, horizon, 7)
    judged = values[horizon:]
    errors = np.abs(np.stack([model, naive, seasonal], 1)[: 200 - horizon] - judged[:, None])
    scored = errors[np.isfinite(errors).all(1)]
    assert live.scores.forecasters == ("model", NAIVE, SEASONAL)
    assert live.scores.count == len(scored)
    np.testing.assert_allclose(list(live.scores.mae().values()), scored.mean(0), rtol=1e-12)
    np.testing.assert_allclose(list(live.scores.mae(rolling=True).values()), scored[-20:].mean(0), rtol=1e-12)
    assert live.scores.failures["model"] == np.isfinite(values[17 + horizon])

    whole = compare(values, {"model": model, "other": model + 1}, horizon, 7, window=20)
    assert whole.forecasters == ("model", "other", NAIVE, SEASONAL)
    for name, error in live.scores.mae().items():
        assert whole.mae()[name] == pytest.approx(error, rel=1e-12)
        assert whole.mae(rolling=True)[name] == pytest.approx(live.scores.mae(rolling=True)[name], rel=1e-12)
    assert whole.failures["model"] == live.scores.failures["model"]


@pytest.mark.parametrize("horizon", [0, 5])
@pytest.mark.parametrize("stop", [0, 3, 61, 140])
def test_what_is_restored_goes_on_exactly(horizon, stop):
    values, model = stream(200), np.random.default_rng(3).normal(size=200)
    live, again = Prequential(horizon, 7, window=20), Prequential(horizon, 7, window=20)
    for value, forecast in zip(values[:stop], model[:stop], strict=True):
        live.step(value, forecast)
    kept = live.arrays()
    assert all(array.dtype.kind in "if" for array in kept.values())
    again.restore(kept)
    for part in (live, again):  # `live` first: what was kept must not change with it
        for value, forecast in zip(values[stop:], model[stop:], strict=True):
            part.step(value, forecast)
    assert live.arrays().keys() == again.arrays().keys()
    for name, array in live.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name], err_msg=name)
    assert live.scores.mae(rolling=True) == again.scores.mae(rolling=True)
    assert live.scores.failures == again.scores.failures


@pytest.mark.parametrize("settings", [(4, 7, 20), (5, 6, 20), (5, 7, 21)])
def test_other_settings_cannot_be_restored(settings):
    with pytest.raises(ValueError, match=r"`arrays` (is of horizon|must have).*; use the same settings"):
        Prequential(*settings).restore(Prequential(5, 7, 20).arrays())


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments():
    for call, sentence in {
        lambda: forecasts(np.zeros(3), -1): "`horizon` must be at least 0, got -1; give a number of steps",
        lambda: forecasts(np.zeros(3), 1, 0): "`season` must be at least 1, got 0; give a number of steps, or 1",
        lambda: rolling_mean(np.zeros(3), 0): "`window` must be at least 1, got 0",
        lambda: SeasonalNaive(2.5): "`season` must be an integer, got 2.5",
        lambda: SeasonalNaive().forecast(0): "`horizon` must be at least 1, got 0; give a number of steps after",
        lambda: Prequential(-1, 7): "`horizon` must be at least 0, got -1",
        lambda: Scores(("a",), 0): "`window` must be at least 1, got 0",
        lambda: Scores(()): r"`forecasters` must be different names, at least one, got \(\)",
        lambda: Scores(("a", "a")): "`forecasters` must be different names",
        lambda: Scores(("a", "b")).update(1.0, [1.0]): r"`forecasts` must be 2, one of each forecaster, got \[1.0\]",
        lambda: Scores(("a", "b")).ratio("c"): "`reference` must be one of a, b, got 'c'",
        lambda: compare(np.zeros(3), {"m": np.zeros(2)}, 1, 2): r"`made` has \(2,\) forecasts of 'm' for \(3,\) values",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            call()
