"""One forecast from several, against a loop in NumPy and against what each of them would have cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onward.baselines import forecasts
from onward.combination import combined, judged, kept, no_forecasts
from onward.records import RecordStream, StreamSettings
from tests.reference.combination import mixed


@pytest.mark.parametrize("horizon", [1, 5])
def test_weights_are_those_of_the_errors_that_were_judged(horizon):
    rng = np.random.default_rng(0)
    values = np.where(rng.random(300) < 0.1, np.nan, rng.normal(size=300))
    made = rng.normal(size=(300, 3)) * [0.1, 1, 2]
    made += np.append(values[horizon:], np.zeros(horizon)).clip(-1, 1)[:, None]
    made[:40, 2] = np.nan

    def step(known, at):
        known, due = judged(known, at[0])
        return kept(known, at[1]), (combined(known, at[1]), combined(known, at[1][:2]), known.latest, due)

    start = no_forecasts(3, horizon, jnp.float64)
    _, (found, two, latest, due) = jax.jit(lambda *at: jax.lax.scan(step, start, at))(values, made)
    np.testing.assert_allclose(found, mixed(values, made, horizon), rtol=1e-9)
    np.testing.assert_allclose(two, mixed(values, made[:, :2], horizon), rtol=1e-9)
    np.testing.assert_array_equal(due, np.concatenate([np.full((horizon, 3), np.nan), made[:-horizon]]))
    np.testing.assert_array_equal(latest, forecasts(values, 1))
    assert np.isfinite(found[100:]).sum() > 150


def test_one_that_never_errs_is_taken():
    known = no_forecasts(2, 1, jnp.float32)
    for value in (1.0, 2.0, 3.0):
        known, _ = judged(known, jnp.float32(value))
        made = jnp.asarray([value + 2, value + 1], jnp.float32)
        known = kept(known, made)
    assert combined(known, made) == 4.0


def test_a_stream_learns_what_repeating_misses():
    """A season with jumps, a level that drifts, and an input that says what comes next."""
    rng, season = np.random.default_rng(3), 6
    hints = rng.normal(size=1500)
    values = np.cumsum(rng.normal(size=1500)) * 0.1 + 5 * np.array([0, 1, 4, 2, 8, 1])[np.arange(1500) % season]
    values[2:] += hints[:-2]
    some = [{"y": y, "hint": hint} for y, hint in zip(values.tolist(), hints.tolist(), strict=True)]
    settings = StreamSettings("y", horizon=2, season=season, units=3, learning_rate=0.003)
    made = np.array([outcome.forecast for outcome in RecordStream(settings, some[0]).update_many(some)], float)
    seasonal = forecasts(values, 2, season)
    error = lambda made: np.abs(made[1000:-2] - values[1002:]).mean()  # noqa: E731
    assert error(made) < 0.8 * error(seasonal) < 0.8 * error(forecasts(values, 2))
