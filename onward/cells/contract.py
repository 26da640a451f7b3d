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
    _check_shapes(cell, name, state, jax.eval_shape(cell.transition, state, emission, input), units(state))
    if not cell.unit_local:
        return
    count, arrays = units(state), eqx.filter(cell, eqx.is_inexact_array)
    digits = [(np.arange(count) >> bit) & 1 for bit in range((count - 1).bit_length())]
    masks = np.array([digit == side for digit in digits for side in (0, 1)], bool).reshape(-1, count)
    paths = jax.tree_util.tree_leaves_with_path((arrays, state))
    spoilt, reads_emission = (np.asarray(a) for a in _probe(cell, state, emission, input, masks))
    for (path, _), bad in zip(paths, spoilt, strict=True):
        if bad:
            kind = "parameter" if path[0].idx == 0 else "state"
            raise ValueError(
                f"node {name!r}: {kind} {_label(path[1:])}of "
                f"{type(cell).__name__} breaks the unit-local contract: changing its rows for some units changes "
                "the new state of others; make row i of it touch unit i only, expose such parameters through "
                "`effective()`, or set `unit_local = False` on the class"
            )
    if cell.recurrence == "diagonal" and reads_emission:
        raise ValueError(
            f"node {name!r}: {type(cell).__name__} declares `recurrence = 'diagonal'` but its transition reads "
            "`emission`; declare 'dense', or use the state"
        )


@eqx.filter_jit
def _probe(cell, state, emission, input, masks):
    """For each leaf, whether moving rows in some mask changes rows outside it; and whether the emission is read."""
    arrays, static = eqx.partition(cell, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten((arrays, state))
    base = jax.tree.leaves(cell.transition(state, emission, input))

    def differs(new, old, rows):
        same = (new == old) | ((new != new) & (old != old))
        return jnp.any(~same & rows.reshape(rows.shape + (1,) * (old.ndim - 1)))

    def spoils(chosen):
        index, rows = chosen
        moved = []
        for i, leaf in enumerate(leaves):
            shift = (0.1 + 0.4 * (jnp.arange(leaf.size) * 0.618 % 1)).reshape(leaf.shape).astype(leaf.dtype)
            here = (index == i) & rows.reshape(rows.shape + (1,) * (leaf.ndim - 1))
            moved.append(jnp.where(here, leaf + shift, leaf))
        arrays, state = jax.tree.unflatten(tree, moved)
        after = jax.tree.leaves(eqx.combine(arrays, static).transition(state, emission, input))
        return jnp.any(jnp.array([differs(new, old, ~rows) for new, old in zip(after, base, strict=True)]))

    pairs = jnp.repeat(jnp.arange(len(leaves)), len(masks)), jnp.tile(masks, (len(leaves), 1))
    spoilt = jax.lax.map(spoils, pairs).reshape(len(leaves), -1).any(axis=1)
    other = jax.tree.leaves(cell.transition(state, emission + 0.25, input))
    everywhere = jnp.ones(masks.shape[1], bool)
    reads = jnp.any(jnp.array([differs(new, old, everywhere) for new, old in zip(other, base, strict=True)]))
    return spoilt, reads


def _check_shapes(cell, name, state, new, count):
    for path, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(cell, eqx.is_inexact_array)):
        if not cell.unit_local:
            break
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


def _label(path):
    return f"`{jax.tree_util.keystr(path, simple=True, separator='.')}` " if path else ""


def _noise(rng, leaf):
    return jnp.asarray(rng.uniform(0.1, 0.9, jnp.shape(leaf)), jnp.result_type(leaf))
