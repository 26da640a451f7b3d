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

    def after(chosen):
        """The new state where leaf number `index` is moved in `rows`, and the emission by `nudge`."""
        index, rows, nudge = chosen
        moved = []
        for i, leaf in enumerate(leaves):
            shift = (0.1 + 0.4 * (jnp.arange(leaf.size) * 0.618 % 1)).reshape(leaf.shape).astype(leaf.dtype)
            here = (index == i) & rows.reshape(rows.shape + (1,) * (leaf.ndim - 1))
            moved.append(jnp.where(here, leaf + shift, leaf))
        arrays, state = jax.tree.unflatten(tree, moved)
        new = eqx.combine(arrays, static).transition(state, emission + nudge.astype(emission.dtype), input)
        return jax.tree.leaves(new)

    # All in one loop, the unmoved case too: the same program rounds the same way.
    count, tries = len(leaves), len(masks)
    index = jnp.concatenate([jnp.array([-1, -1]), jnp.repeat(jnp.arange(count), tries)])
    rows = jnp.concatenate([jnp.zeros((2, masks.shape[1]), bool), jnp.tile(masks, (count, 1))])
    nudge = jnp.zeros(len(index)).at[1].set(0.25)
    results = jax.lax.map(after, (index, rows, nudge))

    def differs(new):
        outside = ~rows.reshape(rows.shape + (1,) * (new.ndim - 2))
        same = (new == new[0]) | ((new != new) & (new[0] != new[0]))
        return jnp.any(~same & outside, axis=tuple(range(1, new.ndim)))

    changed = jnp.any(jnp.array([differs(new) for new in results]), axis=0)
    return changed[2:].reshape(count, tries).any(axis=1), changed[1]


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
    new = jax.eval_shape(cell.transition, state, emission, input)
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


def _label(path):
    return f"`{jax.tree_util.keystr(path, simple=True, separator='.')}` " if path else ""


def _noise(rng, leaf):
    return jnp.asarray(rng.uniform(0.1, 0.9, jnp.shape(leaf)), jnp.result_type(leaf))
