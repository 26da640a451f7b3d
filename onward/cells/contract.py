"""The numerical check of the unit-local contract, run when a network is built."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from onward.cells.base import Cell, units


def check_unit_local(cell: Cell, name: str) -> None:
    """Raise a `ValueError` that names the parameter (or state leaf) which breaks the contract of `Cell`.

    One leaf at a time is moved in some of its rows, and the new state of the other units must not change by a single
    bit. The sets of rows are those whose number has a certain binary digit, so that every ordered pair of units is
    told apart by one of them. Nothing is checked inside a JAX transformation, where values are unknown.
    """
    cell = cell.effective()
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((cell, cell.initial_state()))):
        return
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda leaf: _noise(rng, leaf), cell.initial_state())
    emission, input = (_noise(rng, jnp.zeros(size)) for size in (cell.output_size, cell.input_size))
    _check_shapes(cell, name, state, emission, input)
    _check_initial_state(cell, name, state)
    if not cell.unit_local:
        return
    count = units(state)
    digits = [(np.arange(count) >> bit) & 1 for bit in range((count - 1).bit_length())]
    masks = [digit == side for digit in digits for side in (0, 1)]
    arrays, rest = eqx.partition(cell, eqx.is_inexact_array)
    paths = jax.tree_util.tree_leaves_with_path((arrays, state))
    leaves, tree = [leaf for _, leaf in paths], jax.tree.structure((arrays, state))

    def after(leaves, emission):
        arrays, state = jax.tree.unflatten(tree, leaves)
        return [np.asarray(new) for new in jax.tree.leaves(_advance(eqx.combine(arrays, rest), state, emission, input))]

    def reads_emission():
        return _differs(after(leaves, jnp.asarray(np.asarray(emission) + 0.25)), unmoved, np.ones(count, bool))

    unmoved = after(leaves, emission)
    for i, (path, leaf) in enumerate(paths):
        moved = ((rows, after([*leaves[:i], _moved(leaf, rows), *leaves[i + 1 :]], emission)) for rows in masks)
        if any(_differs(new, unmoved, ~rows) for rows, new in moved):
            kind = "parameter" if path[0].idx == 0 else "state"
            raise ValueError(
                f"node {name!r}: {kind} {_label(path[1:])}of "
                f"{type(cell).__name__} breaks the unit-local contract: changing its rows for some units changes "
                "the new state of others; make row i of it touch unit i only, expose such parameters through "
                "`effective()`, or set `unit_local = False` on the class"
            )
    if cell.recurrence == "diagonal" and reads_emission():
        raise ValueError(
            f"node {name!r}: {type(cell).__name__} declares `recurrence = 'diagonal'` but its transition reads "
            "`emission`; declare 'dense', or use the state"
        )


@eqx.filter_jit
def _advance(cell, state, emission, input):
    """The new state: one small program for all that is tried, since the same program rounds the same way."""
    return cell.transition(state, emission, input)


def _moved(leaf, rows):
    """The leaf with other numbers in these rows."""
    values = np.asarray(leaf)
    shift = (0.1 + 0.4 * (np.arange(values.size) * 0.618 % 1)).reshape(values.shape).astype(values.dtype)
    return jnp.asarray(np.where(rows.reshape(rows.shape + (1,) * (values.ndim - 1)), values + shift, values))


def _differs(new, old, rows):
    """Whether leaves differ by a single bit in these rows."""
    pairs = [(a[rows], b[rows]) for a, b in zip(new, old, strict=True)]
    return any(not np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def _check_shapes(cell, name, state, emission, input):
    count = units(state)
    for path, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(cell, eqx.is_inexact_array)):
        if not cell.unit_local:
            break
        if leaf.ndim == 0 or leaf.shape[0] != count:
            raise ValueError(
                f"node {name!r}: parameter `{jax.tree_util.keystr(path, simple=True, separator='.')}` of "
                f"{type(cell).__name__} has shape {leaf.shape}, but the unit-local contract wants the unit axis "
                f"({count} units) first; transpose it, expose it through `effective()`, or set `unit_local = False`"
            )
    new = eqx.filter_eval_shape(_advance, cell, state, emission, input)  # which keeps the trace for the call
    before, after = (jax.tree.map(jnp.shape, tree) for tree in (state, new))
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


def _check_initial_state(cell, name, like):
    arrays, rest = eqx.partition(cell, eqx.is_inexact_array)
    _, pull = jax.vjp(lambda arrays: eqx.combine(arrays, rest).initial_state(), arrays)
    for path, leaf in jax.tree_util.tree_leaves_with_path(pull(like)[0]):
        if np.any(np.asarray(leaf)):
            raise ValueError(
                f"node {name!r}: the initial state of {type(cell).__name__} depends on its parameter {_label(path)}"
                "which no algorithm would learn; hold it as a constant, or put `jax.lax.stop_gradient` around it"
            )


def _label(path):
    return f"`{jax.tree_util.keystr(path, simple=True, separator='.')}` " if path else ""


def _noise(rng, leaf):
    return jnp.asarray(rng.uniform(0.1, 0.9, jnp.shape(leaf)), jnp.result_type(leaf))
