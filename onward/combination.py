"""One forecast from several: each counts by how well it did of late."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

DECAY = 0.998  # of what was judged: about the last 500 count
LARGEST = 1e18  # whose square single precision still holds


class Combination(NamedTuple):
    """What is known of several forecasters.

    `errors`, `counts`: sums of squared errors and how many there were, both forgetting by `DECAY` a sample. `made`: the
    forecasts whose time has not come, of which those at `place` are due next. `latest`: the last known value.
    """

    errors: Float[Array, " forecaster"]
    counts: Float[Array, " forecaster"]
    made: Float[Array, "horizon forecaster"]
    place: Int[Array, ""]
    latest: Float[Array, ""]


def no_forecasts(forecasters: int, horizon: int, dtype: DTypeLike) -> Combination:
    """Before the first sample."""
    nothing = jnp.zeros(forecasters, dtype)
    made = jnp.full((horizon, forecasters), jnp.nan, dtype)
    return Combination(nothing, nothing, made, jnp.int32(0), jnp.asarray(jnp.nan, dtype))


def judged(known: Combination, value: Float[Array, ""]) -> tuple[Combination, Float[Array, " forecaster"]]:
    """After the value of a step has come, NaN where it is missing; and what had been forecast for that step."""
    due = known.made[known.place]
    errors = jnp.clip(due - value, -LARGEST, LARGEST)
    seen = jnp.isfinite(errors)
    known = known._replace(
        errors=jnp.where(seen, DECAY * known.errors + errors**2, known.errors),
        counts=jnp.where(seen, DECAY * known.counts + 1, known.counts),
        latest=jnp.where(jnp.isfinite(value), value, known.latest),
    )
    return known, due


def combined(known: Combination, forecasts: Float[Array, " some"]) -> Float[Array, ""]:
    """What the first forecasters say together, from their forecasts f_i of the same step.

        f = sum of w_i f_i / sum of w_i,   w_i = 1 / e_i^2                     (1)

    with e_i the mean squared error of late (Bates and Granger 1969 have 1 / e_i, for errors that are not correlated;
    squared, since these are). A forecast that is not known does not count; before any was judged the first stands
    alone.
    """
    some = slice(forecasts.shape[0])
    means = known.errors[some] / jnp.maximum(known.counts[some], 1)
    usable = jnp.isfinite(forecasts) & (known.counts[some] > 0)
    best = jnp.min(jnp.where(usable, means, jnp.inf))
    weights = jnp.where(usable, jnp.where(means > best, (best / means) ** 2, 1), 0)
    total = jnp.sum(weights)
    mixed = jnp.sum(weights * jnp.where(usable, forecasts, 0)) / jnp.maximum(total, 1)
    return jnp.where(total > 0, mixed, forecasts[0])


def kept(known: Combination, forecasts: Float[Array, " forecaster"]) -> Combination:
    """With the forecasts of all for `horizon` steps later, which then wait to be judged."""
    made = known.made.at[known.place].set(forecasts)
    return known._replace(made=made, place=(known.place + 1) % len(known.made))
