"""Derivatives inside a unit, from the unit-local contract alone; and states seen as matrices of components."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from onward.cells.base import Cell, FactoredCell, State, units


def own_recurrence(cell: FactoredCell) -> PyTree:
    """Derivative of each unit's recurrent drive by that unit's own emission; leaves `[units, ...]`.

    `recur` is affine in the emission, so the derivative does not depend on the step and is worked out once.
    """
    if cell.recurrence != "dense":
        return jax.tree.map(jnp.zeros_like, cell.recur(cell.emit(cell.initial_state())))
    _require_one_emission(cell)
    emission = jnp.zeros(cell.output_size, _dtype(cell))

    def slope(row: FactoredCell, direction: Array) -> PyTree:
        return jax.jvp(row.recur, (emission,), (direction,))[1]

    return _by_rows(slope, cell, jnp.eye(cell.output_size, dtype=emission.dtype))


def own_transition(cell: Cell, state: State, input: Array) -> PyTree:
    """Derivative of each unit's new state by its own emission at this step; leaves shaped like the state."""
    _require_one_emission(cell)
    emission = jax.lax.stop_gradient(cell.emit(state))

    def slope(row: Cell, direction: Array, state: State) -> PyTree:
        state = jax.tree.map(lambda leaf: leaf[None], state)
        return jax.jvp(lambda e: row.transition(state, e, input), (emission,), (direction,))[1]

    slopes = _by_rows(slope, cell, jnp.eye(cell.output_size, dtype=emission.dtype), state)
    return jax.lax.stop_gradient(slopes)


def in_one_direction(step: Callable[[State], State], state: State, *, earlier: bool) -> State:
    """`step(state)`, each leaf with derivatives by the same and by later (or earlier) leaves of `state` alone."""
    leaves, tree = jax.tree.flatten(state)

    def component(k):
        seen = [leaf if (i <= k if earlier else i >= k) else lax.stop_gradient(leaf) for i, leaf in enumerate(leaves)]
        return jax.tree.leaves(step(jax.tree.unflatten(tree, seen)))[k]

    return jax.tree.unflatten(tree, [component(k) for k in range(len(leaves))])


def recurrent_jacobian(cell: Cell, state: State, input: Array, within: bool) -> Array:
    """Derivative of the next state by this one, [blocks, size, size], row by row of the next.

    `within`: a block for each unit, of its components, for a cell whose units do not see each other; otherwise one
    block of everything.
    """
    matrix = as_matrix(state)

    def advance(matrix):
        before = from_matrix(matrix, state)
        return as_matrix(cell.transition(before, cell.emit(before), input))

    picks = jnp.eye(matrix.shape[1] if within else matrix.size, dtype=matrix.dtype)
    tangents = jnp.broadcast_to(picks[:, None], (*picks.shape[:1], *matrix.shape)) if within else picks
    columns = jax.vmap(lambda t: jax.jvp(advance, (matrix,), (t.reshape(matrix.shape),))[1])(tangents)
    return jnp.moveaxis(columns, 0, -1) if within else columns.reshape(matrix.size, matrix.size).T[None]


def solve_transposed(matrix: Array, vector: Array) -> Array:
    """x with matrix^T x = vector, for [..., size, size] and [..., size]; infinite or NaN where there is none."""
    size = vector.shape[-1]
    if size == 1:
        return vector / matrix[..., 0]
    if size == 2:
        a, b, c, d = (matrix[..., i, j] for i in range(2) for j in range(2))
        x, y = vector[..., 0], vector[..., 1]
        return jnp.stack([d * x - c * y, a * y - b * x], axis=-1) / (a * d - b * c)[..., None]
    return jnp.linalg.solve(jnp.swapaxes(matrix, -1, -2), vector[..., None])[..., 0]


def as_matrix(state: State, axes: int = 0) -> Array:
    """The state's leaves as one array `[..., units, components]`, after `axes` leading axes."""
    leaves = jax.tree.leaves(state)
    lead = leaves[0].shape[: axes + 1]
    return jnp.concatenate([leaf.reshape((*lead, -1)) for leaf in leaves], axis=-1)


def from_matrix(matrix: Array, like: State) -> State:
    """The inverse of `as_matrix` for one state `[units, components]`."""
    leaves, tree = jax.tree.flatten(like)
    count = units(like)
    parts, start = [], 0
    for leaf in leaves:
        width = leaf.size // count
        parts.append(matrix[:, start : start + width].reshape(leaf.shape).astype(leaf.dtype))
        start += width
    return jax.tree.unflatten(tree, parts)


def components(state: State) -> int:
    """Number of real components in the state of one unit."""
    return sum(leaf.size for leaf in jax.tree.leaves(state)) // units(state)


def _by_rows(function, cell, *per_unit):
    """Evaluate `function(row, ...)` for every unit, `row` being the cell reduced to that unit's parameters."""
    arrays, static = eqx.partition(cell, eqx.is_array)
    rows = jax.tree.map(lambda leaf: leaf[:, None], arrays)
    stacked = jax.vmap(lambda row, *rest: function(eqx.combine(row, static), *rest))(rows, *per_unit)
    return jax.tree.map(lambda leaf: leaf[:, 0], stacked)


def _require_one_emission(cell):
    count = units(cell.initial_state())
    if cell.output_size != count:
        raise ValueError(
            f"{type(cell).__name__} has {count} units and {cell.output_size} emissions; rules that follow a unit's own "
            "emission need one emission per unit; use RTRL, or EProp, which holds emissions fixed"
        )


def _dtype(cell):
    return jax.tree.leaves(eqx.filter(cell, eqx.is_inexact_array))[0].dtype
