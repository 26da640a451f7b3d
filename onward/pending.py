"""What a learner keeps of the last samples: those whose targets have not arrived, or whose window is not full."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from onward.sample import Sample


class Samples(NamedTuple):
    """Consecutive samples, leaves [batch, time, ...]. A missing part of a target is NaN, a missing label negative."""

    input: PyTree
    target: Array
    weight: Array
    reset: Array


class Target(NamedTuple):
    """What a step should say, and which parts of it are known."""

    value: Array
    known: Array


def nothing(like: Samples, length: int) -> Samples:
    """`length` steps before the first, of which nothing is ever learnt; `like` is one sample without a time axis."""
    repeat = lambda leaf: jnp.zeros((leaf.shape[0], length, *leaf.shape[1:]), leaf.dtype)  # noqa: E731
    return jax.tree.map(repeat, like)


def join(old: Samples, new: Samples) -> Samples:
    """The samples of `old` and then those of `new`."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), old, new)


def last(samples: Samples, count: int) -> Samples:
    """The last `count` of them."""
    return jax.tree.map(lambda leaf: leaf[:, leaf.shape[1] - count :], samples)


def window(samples: Samples, size: int, horizons: tuple[int, ...], episodes: bool, apart: bool) -> Sample:
    """The first `size` samples, each with the targets that arrived `horizons` steps later, side by side.

    A target that belongs to a later episode is not known. A step of whose target nothing is known has weight 0; so has,
    unless the parts of targets have losses of their own (`apart`), one of whose target not all is.
    """
    begun = jnp.cumsum(samples.reset, axis=1)
    values, known = [], []
    for ahead in horizons:
        value = lax.slice_in_dim(samples.target, ahead, ahead + size, axis=1)
        same = begun[:, ahead : ahead + size] == begun[:, :size]
        here = is_known(value)
        known.append(here & same.reshape(same.shape + (1,) * (here.ndim - 2)))
        values.append(value)
    value, seen = (parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1) for parts in (values, known))
    enough = (jnp.any if apart else jnp.all)(seen.reshape(*seen.shape[:2], -1), axis=-1)
    head = jax.tree.map(lambda leaf: leaf[:, :size], samples)
    target = Target(jnp.where(seen, value, jnp.zeros_like(value)), seen)
    return Sample(head.input, target, jnp.where(enough, head.weight, 0), head.reset if episodes else None)


def is_known(target: Array) -> Array:
    """Which numbers are finite, or which labels not negative."""
    return jnp.isfinite(target) if jnp.issubdtype(target.dtype, jnp.inexact) else target >= 0


def loss_of_known(loss):
    """`loss(output, target)` of the known parts of a `Target`: for the others, the output itself is the target.

    Where targets are not shaped as outputs this cannot be, and only those that are known whole have a weight.
    """

    def known(output, target: Target):
        if target.known.shape == jnp.shape(output):
            return loss(output, jnp.where(target.known, target.value, lax.stop_gradient(output)))
        return loss(output, target.value)

    return known
