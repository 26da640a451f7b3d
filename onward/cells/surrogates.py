"""Spikes with a surrogate derivative: the step function forwards, a bump around the threshold for every gradient.

With the normalised distance to the threshold u = (v - A) / threshold, A being the threshold of the moment,

    z        = 1 if u > 0, otherwise 0                                                  (1)
    dz / du  = dampening g(u / width),      so dz / dv = dampening g(u / width) / threshold   (2)

where g is one of the following, all scaled to g(0) = 1 so that `dampening` means the same for each:

| name | g(u) | source |
|---|---|---|
| "triangle" | max(0, 1 - abs(u)) | Bellec et al. 2020, doi:10.1038/s41467-020-17236-y |
| "fast-sigmoid" | 1 / (1 + abs(u))^2 | Zenke and Ganguli 2018 (SuperSpike), doi:10.1162/neco_a_01086 |
| "sigmoid" | 4 s (1 - s), s = 1 / (1 + exp(-u)) | Zenke and Vogels 2021, doi:10.1162/neco_a_01367 |
| "arctan" | 1 / (1 + (pi u)^2) | Fang et al. 2021, arXiv:2007.05785 |
| "gaussian" | exp(-u^2 / 2) | Wu et al. 2018 (STBP, their h4), doi:10.3389/fnins.2018.00331 |
| "boxcar" | 1 if abs(u) < 1/2, otherwise 0 | Wu et al. 2018 (STBP, their h1) |

`width` stretches g: the half base of the triangle, the standard deviation of the Gaussian, the whole width of the
boxcar, 1 / beta of SuperSpike, all in thresholds.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

SURROGATES: dict[str, Callable[[Array], Array]] = {
    "triangle": lambda u: jnp.maximum(0, 1 - jnp.abs(u)),
    "fast-sigmoid": lambda u: 1 / (1 + jnp.abs(u)) ** 2,
    "sigmoid": lambda u: 4 * jax.nn.sigmoid(u) * jax.nn.sigmoid(-u),
    "arctan": lambda u: 1 / (1 + (math.pi * u) ** 2),
    "gaussian": lambda u: jnp.exp(-(u**2) / 2),
    "boxcar": lambda u: (jnp.abs(u) < 0.5).astype(u.dtype),
}


def surrogate_of(name: str | Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The g of (2) called `name`, or `name` itself if it is a function; else a `ValueError` that lists the names."""
    if callable(name):
        return name
    if name not in SURROGATES:
        known = ", ".join(map(repr, SURROGATES))
        raise ValueError(f"`surrogate` must be one of {known}, or a function of the distance, got {name!r}")
    return SURROGATES[name]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def spike(distance: Array, surrogate: str | Callable[[Array], Array], dampening: float, width: float) -> Array:
    """Equation (1) elementwise, with the derivative (2) by `distance`, which is u; forward and reverse mode."""
    del surrogate, dampening, width
    return (distance > 0).astype(distance.dtype)


@spike.defjvp
def _(surrogate, dampening, width, primals, tangents):
    (distance,), (moved,) = primals, tangents
    slope = dampening * surrogate_of(surrogate)(distance / width)
    return spike(distance, surrogate, dampening, width), slope.astype(distance.dtype) * moved
