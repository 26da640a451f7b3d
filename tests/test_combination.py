"""One forecast from several, against a loop in NumPy and against what each of them would have cost."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onward.baselines import forecasts
from onward.combination import combined, judged, no_forecasts
from onward.records import RecordStream, StreamSettings

SEASON = 6


def mixed(values, made, horizon):
    """Of forecasts `made` [time, forecaster] for `horizon` steps later what they say together, written out."""
    squares, counts, found = np.zeros(made.shape[1]), np.zeros(made.shape[1]), []
    for t, now in enumerate(made):
        for i in range(len(now)):
            error = made[t - horizon, i] - values[t] if t >= horizon else np.nan
            if np.isfinite(error):
                squares[i], counts[i] = 0.998 * squares[i] + error**2, 0.998 * counts[i] + 1
        usable = [i for i in range(len(now)) if counts[i] and np.isfinite(now[i])]
        weights = [(counts[i] / squares[i]) ** 2 for i in usable]
        found.append(np.average([now[i] for i in usable], weights=weights) if usable else now[0])
    return np.array(found)


@pytest.mark.parametrize("horizon", [1, 5])
def test_weights_are_those_of_the_errors_that_were_judged(horizon):
    rng = np.random.default_rng(0)
    values = np.where(rng.random(300) < 0.1, np.nan, rng.normal(size=300))
    made = rng.normal(size=(300, 3)) * [0.1, 1, 2]
    made += np.append(values[horizon:], np.zeros(horizon)).clip(-1, 1)[:, None]
    made[:40, 2] = np.nan

    def step(known, at):
        known = judged(known, at[0])
        known, forecast = combined(known, at[1])
        return known, (forecast, known.latest)

    start = no_forecasts(3, horizon, jnp.float64)
    _, (found, latest) = jax.jit(lambda *at: jax.lax.scan(step, start, at))(values, made)
    np.testing.assert_allclose(found, mixed(values, made, horizon), rtol=1e-9)
    np.testing.assert_array_equal(latest, forecasts(values, 1))
    assert np.isfinite(found[100:]).sum() > 150


def test_one_that_never_errs_is_taken():
    known = no_forecasts(2, 1, jnp.float32)
    for value in (1.0, 2.0, 3.0):
        known = judged(known, jnp.float32(value))
        known, forecast = combined(known, jnp.asarray([value + 2, value + 1], jnp.float32))
    assert forecast == 4.0


def records(count):
    """A season with jumps, and a level that drifts: neither naive forecast is good everywhere."""
    rng = np.random.default_rng(3)
    values = np.cumsum(rng.normal(size=count)) * 0.3 + 5 * np.array([0, 1, 4, 2, 8, 1])[np.arange(count) % SEASON]
    return values, [{"y": value} for value in values]


def test_a_stream_combines_its_network_with_the_naive_forecasts():
    values, some = records(200)
    settings = StreamSettings("y", horizon=2, season=SEASON, units=3)
    alone, together = (
        np.array([outcome.forecast for outcome in RecordStream(plan, some[0]).update_many(some)], float)
        for plan in (dataclasses.replace(settings, combine=False), settings)
    )
    naive, seasonal = forecasts(values, 2), forecasts(values, 2, SEASON)
    np.testing.assert_allclose(together, mixed(values, np.stack([alone, naive, seasonal], 1), 2), rtol=1e-4)
    error = lambda made: np.abs(made[20:-2] - values[22:]).mean()  # noqa: E731
    assert error(together) < 1.02 * error(seasonal)
    assert error(together) < 0.9 * error(alone)
