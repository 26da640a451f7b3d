"""Running statistics of a stream: what is typical of each of its numbers, in constant memory."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

LARGEST = 1e18


class Statistics(NamedTuple):
    """Of each number of a stream: how often it was seen (at most `memory` times), its mean and its variance."""

    count: Float[Array, "*shape"]
    mean: Float[Array, "*shape"]
    variance: Float[Array, "*shape"]


def no_statistics(like: Float[Array, "*shape"]) -> Statistics:
    """Before anything was seen: mean 0, and differences are not scaled."""
    return Statistics(*(jnp.zeros_like(like) for _ in range(3)))


def observe(statistics: Statistics, value: Float[Array, "*shape"], memory: float) -> Statistics:
    """With n = min(times seen, `memory`) and d = value - mean:

        mean     <- mean + d / n                                             (1)
        variance <- (1 - 1 / n) (variance + d^2 / n)                         (2)

    which are the mean and variance of all values until `memory` of them were seen (Welford 1962), and then forget at
    the rate 1 / `memory`. What is not finite is not seen; d is cut at 1e18, whose square single precision still holds.
    """
    seen = jnp.isfinite(value)
    count = jnp.minimum(statistics.count + seen, memory)
    rate = jnp.where(seen, 1 / jnp.maximum(count, 1), 0)
    difference = jnp.where(seen, jnp.clip(value - statistics.mean, -LARGEST, LARGEST), 0)
    mean = statistics.mean + rate * difference
    return Statistics(count, mean, (1 - rate) * (statistics.variance + rate * difference**2))


def normalise(statistics: Statistics, value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`value` in standard deviations from the mean; what never varied is not scaled."""
    return (value - statistics.mean) / _scale(statistics)


def denormalise(statistics: Statistics, value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The inverse of `normalise`."""
    return value * _scale(statistics) + statistics.mean


def _scale(statistics):
    spread = jnp.sqrt(statistics.variance)
    least = 1e-6 * jnp.abs(statistics.mean)  # below it, differences are rounding
    return jnp.where(spread > least, spread, 1)
