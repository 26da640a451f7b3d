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


def judged(known: Combination, value: Float[Array, ""]) -> Combination:
    """After the value that was forecast has come; NaN where it is missing."""
    errors = jnp.clip(known.made[known.place] - value, -LARGEST, LARGEST)
    seen = jnp.isfinite(errors)
    return known._replace(
        errors=jnp.where(seen, DECAY * known.errors + errors**2, known.errors),
        counts=jnp.where(seen, DECAY * known.counts + 1, known.counts),
        latest=jnp.where(jnp.isfinite(value), value, known.latest),
    )


def combined(known: Combination, forecasts: Float[Array, " forecaster"]) -> tuple[Combination, Float[Array, ""]]:
    """What is forecast, from the forecasts f_i for `horizon` steps later, which then wait to be judged.

        f = sum of w_i f_i / sum of w_i,   w_i = 1 / e_i^2                     (1)

    with e_i the mean squared error of late (the weights of Bates and Granger 1969 for errors that are not correlated,
    squared, since errors here are). A forecast that is not known does not count; before any was judged the first one
    stands alone.
    """
    means = known.errors / jnp.maximum(known.counts, 1)
    usable = jnp.isfinite(forecasts) & (known.counts > 0)
    best = jnp.min(jnp.where(usable, means, jnp.inf))
    weights = jnp.where(usable, jnp.where(means > best, (best / means) ** 2, 1), 0)
    total = jnp.sum(weights)
    mixed = jnp.sum(weights * jnp.where(usable, forecasts, 0)) / jnp.maximum(total, 1)
    made = known.made.at[known.place].set(forecasts)
    place = (known.place + 1) % len(known.made)
    return known._replace(made=made, place=place), jnp.where(total > 0, mixed, forecasts[0])
