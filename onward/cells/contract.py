"""The numerical check of the unit-local contract, run when a network is built."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from onward.cells.base import Cell, units


def check_unit_local(cell: Cell, name: str) -> None:
    """Raise a `ValueError` that names the parameter (or state leaf) which breaks the contract of `Cell`.

    Every parameter and state leaf is moved in half of its rows, one leaf at a time; the new state of the other
    units must not change by a single bit. Nothing is checked inside a JAX transformation, where values are unknown.
    """
    cell = cell.effective()
    leaves = jax.tree.leaves((cell, cell.initial_state()))
    if not cell.unit_local or any(isinstance(leaf, Tracer) for leaf in leaves):
        return
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda leaf: _noise(rng, leaf), cell.initial_state())
    count = units(state)
    moved = np.arange(count) % 2 == 0
    emission, input = _noise(rng, jnp.zeros(cell.output_size)), _noise(rng, jnp.zeros(cell.input_size))
    transition = eqx.filter_jit(lambda c, s, e, x: c.transition(s, e, x))
    base = transition(cell, state, emission, input)
    _check_shapes(cell, name, state, base, count)

    def check(path, leaf, replaced_cell, replaced_state, what):
        after = transition(replaced_cell, replaced_state, emission, input)
        for old, new in zip(jax.tree.leaves(base), jax.tree.leaves(after), strict=True):
            if not np.array_equal(np.asarray(old)[~moved], np.asarray(new)[~moved], equal_nan=True):
                raise ValueError(
                    f"node {name!r}: {what} `{jax.tree_util.keystr(path, simple=True, separator='.')}` of "
                    f"{type(cell).__name__} breaks the unit-local contract: changing its rows for some units changes "
                    "the new state of others; make row i of it touch unit i only, expose such parameters through "
                    "`effective()`, or set `unit_local = False` on the class"
                )

    arrays, static = eqx.partition(cell, eqx.is_inexact_array)
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        changed = jax.tree_util.tree_map_with_path(lambda p, x, at=path: _move(rng, x, moved) if p == at else x, arrays)
        check(path, leaf, eqx.combine(changed, static), state, "parameter")
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        changed = jax.tree_util.tree_map_with_path(lambda p, x, at=path: _move(rng, x, moved) if p == at else x, state)
        check(path, leaf, cell, changed, "state leaf")
    if cell.recurrence == "diagonal":
        other = transition(cell, state, _noise(rng, emission), input)
        if any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(base), jax.tree.leaves(other), strict=True)):
            raise ValueError(
                f"node {name!r}: {type(cell).__name__} declares `recurrence = 'diagonal'` but its transition reads "
                "`emission`; declare 'dense', or use the state"
            )


def _check_shapes(cell, name, state, new, count):
    for path, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(cell, eqx.is_inexact_array)):
        if leaf.ndim == 0 or leaf.shape[0] != count:
            raise ValueError(
                f"node {name!r}: parameter `{jax.tree_util.keystr(path, simple=True, separator='.')}` of "
                f"{type(cell).__name__} has shape {leaf.shape}, but the unit-local contract wants the unit axis "
                f"({count} units) first; transpose it, expose it through `effective()`, or set `unit_local = False`"
            )
    before, after = jax.tree.map(jnp.shape, state), jax.tree.map(jnp.shape, new)
    if before != after:
        raise ValueError(
            f"node {name!r}: {type(cell).__name__}.transition returns a state of shapes {after} where "
            f"initial_state has {before}; return the same tree of shapes"
        )
    emitted = jax.eval_shape(cell.emit, state).shape
    if emitted != (cell.output_size,):
        raise ValueError(
            f"node {name!r}: {type(cell).__name__}.emit returns shape {emitted} but output_size is "
            f"{cell.output_size}; make them agree"
        )


def _noise(rng, leaf):
    return jnp.asarray(rng.uniform(0.1, 0.9, jnp.shape(leaf)), jnp.asarray(leaf).dtype)


def _move(rng, leaf, rows):
    mask = rows.reshape(rows.shape + (1,) * (leaf.ndim - 1))
    return jnp.where(mask, leaf + jnp.asarray(rng.uniform(0.1, 0.5, leaf.shape), leaf.dtype), leaf)
