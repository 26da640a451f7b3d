"""Pieces of a window, and how errors pass from the end of one to its start."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from onward.algorithms.windows import in_a_row


class Edge(NamedTuple):
    """Errors eps at the start and at the end of a piece of the window, in blocks [batch, blocks, size].

    A block is what errors stay inside from step to step: a unit where units do not see each other, or else the layer.
    """

    start: Array
    end: Array


class Stretch(NamedTuple):
    """Steps of the window: the first, which may be traced, and how many."""

    start: int | Array
    length: int


class Map(NamedTuple):
    """How a piece takes eps from its end to its start: constant + matrix eps.

    `constant` [batch, blocks, size], `matrix` [batch, blocks, size, size].
    """

    constant: Array
    matrix: Array

    def __call__(self, eps: Array) -> Array:
        return self.constant + times(self.matrix, eps)


def times(matrix: Array, eps: Array) -> Array:
    """[..., size, size] times [..., size]."""
    return jnp.einsum("...ij,...j->...i", matrix, eps)


def compose(first: Map, second: Map) -> Map:
    """The map of two pieces, one after the other."""
    return Map(first(second.constant), first.matrix @ second.matrix)


def accumulate(errors, jacobians):
    """Equation (3) over a chunk: its `Map`, where errors are [time, batch, blocks, size]."""

    def step(total, inputs):
        error, jacobian = inputs
        matrix = total.matrix @ jnp.swapaxes(jacobian, -1, -2)
        return Map(total.constant + times(matrix, error), matrix), None

    eye = jnp.broadcast_to(jnp.eye(errors.shape[-1], dtype=errors.dtype), jacobians.shape[1:])
    return lax.scan(step, Map(jnp.zeros_like(errors[0]), eye), (errors, jacobians))[0]


def edges_of(maps: Map, end: Array) -> Edge:
    """Errors at the edges of consecutive pieces [pieces, ...] from those at the end of the last."""

    def earlier(end, piece):
        start = piece(end)
        return start, Edge(start, end)

    return lax.scan(earlier, end, maps, reverse=True)[1]


def each_piece(function, carry, stretch: Stretch, size: int, extras):
    """`function(carry, piece, extra) -> (carry, result)` over pieces of `size` steps, the last of what remains.

    `extras` have a leading axis of pieces. The results are a pair: those of full pieces, stacked, and that of the last
    where it is shorter; either may be None.
    """
    count, rest = divmod(stretch.length, size)

    def advance(state, extra):
        start, carry = state
        carry, result = function(carry, Stretch(start, size), extra)
        return (start + size, carry), result

    results = last = None
    if count:
        full = jax.tree.map(lambda leaf: leaf[:count], extras)
        (_, carry), results = lax.scan(advance, (stretch.start, carry), full, length=count)
    if rest:
        extra = jax.tree.map(lambda leaf: leaf[count], extras)
        carry, last = function(carry, Stretch(stretch.start + count * size, rest), extra)
    return carry, (results, last)


def stacked(results):
    """Results of all pieces, one after the other."""
    full, last = results
    last = jax.tree.map(lambda leaf: leaf[None], last)
    return last if full is None else full if last is None else jax.tree.map(_after, full, last)


def joined(results):
    """Outputs [batch, time, ...] of all pieces as one."""
    full, last = results
    full = in_a_row(full)
    return last if full is None else full if last is None else jax.tree.map(lambda a, b: _after(a, b, 1), full, last)


def _after(first, second, axis=0):
    return jnp.concatenate([first, second], axis=axis)
