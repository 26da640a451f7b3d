"""Influence kept on a sparsity pattern, for each unit on the states that its parameters reach.

With P_i the components that unit i reaches, and D, U the derivatives of a step's states by those before it and by one
another within the step:

    S_i      = D[P_i, P_i] S_i + U[P_i, i] M_i       (influence of unit i's parameters, [P_i, parameters])       (1)
    gradient = e[P_i] S_i                                                                                       (2)

e is the error at the states of a step, by paths that meet no other state. D and U are worked out by sweeps of errors
back through the step, one for a set of units that have no column of D and U in common (Curtis, Powell and Reid 1974).
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from onward.algorithms.base import Carry, node_parameters
from onward.algorithms.pattern import Pattern, pattern
from onward.algorithms.sensitivity import (
    Influence,
    add_carried,
    advance,
    immediate,
    init_influence,
    of_sources,
    sweep_rows,
)
from onward.algorithms.windows import mean_loss
from onward.cells.base import Cell
from onward.jacobian import as_matrix
from onward.network import INPUT, Network, gather
from onward.sample import Sample
from onward.unroll import Rule, Window, swap

RULE = Rule()


class Sparse(NamedTuple):
    """Influence of the parameters of a cell's units on what they reach [units, rows, parameters], and of all others."""

    kept: dict[str, Float[Array, "..."]]
    whole: Influence


def init_sparse(network: Network, n: int) -> Sparse:
    """No influence yet."""
    supports = pattern(network, n).supports
    kept = {}
    for name, support in supports.items():
        dtype = jax.tree.leaves(eqx.filter(network.nodes[name], eqx.is_inexact_array))[0].dtype
        kept[name] = jnp.zeros((*support.rows.shape, support.entries.shape[1]), dtype)
    return Sparse(kept, of_sources(init_influence(network, RULE), supports, False))


def run_step(
    network: Network, n: int, loss: Callable, carry: Carry, window: Sample
) -> tuple[Carry, dict[str, PyTree], Array, PyTree]:
    """Equations (1) and (2) for a window of one step."""
    structure = pattern(network, n)
    linear = Window(network, RULE, carry.states, window.input)
    kept, whole = carry.memory
    whole = {cell: advance(network, RULE, linear, whole, cell) for cell in whole}
    matrices = _derivatives(linear, structure)
    kept = {name: _advance(network, linear, structure, matrices, name, kept[name]) for name in kept}
    gradients, errors, value = _errors(network, loss, carry.states, linear.final, window, structure)
    gradients = add_carried(network, RULE, gradients, errors, whole)
    flat = jnp.concatenate([_flat(as_matrix(errors[cell], 1), 1) for cell in structure.rows], axis=1)
    for name, influence in kept.items():
        support = structure.supports[name]
        seen = jnp.where(support.live, flat[:, support.rows], 0)
        rows = jnp.einsum("buk,bukp->up", seen, influence)
        gradients[name] = jax.tree.map(jnp.add, gradients[name], _unpacked(rows, support, gradients[name]))
    return Carry(linear.final, Sparse(kept, whole)), gradients, value, linear.output


class _Derivatives(NamedTuple):
    """D and U with rows of units that have no column in common added up; `row_of`: where a component's row is."""

    step: Float[Array, "batch rows components"]
    within: Float[Array, "batch rows components"]
    row_of: np.ndarray

    def at(self, array: Array, rows: np.ndarray, columns: np.ndarray, present: np.ndarray) -> Array:
        """Entries of one of the matrices, 0 where they are not `present`."""
        index = self.row_of[rows] * array.shape[2] + columns
        return jnp.where(present, _flat(array, 1)[:, index], 0)


def _derivatives(linear: Window, structure: Pattern) -> _Derivatives:
    batch = jax.tree.leaves(linear.final)[0].shape[0]
    parts, row_of, start = [], np.zeros(len(structure.unit_of), int), 0
    for cell, rows in structure.rows.items():
        units = structure.units[cell]
        count = units.stop - units.start
        width = (rows.stop - rows.start) // count
        group = _groups(np.concatenate([structure.step[units], structure.within[units]], axis=1))
        picks = np.zeros((int(group.max()) + 1, width, count, width))
        picks[group[:, None], np.arange(width), np.arange(count)[:, None], np.arange(width)] = 1
        row_of[rows] = start + (group[:, None] * width + np.arange(width)).ravel()
        start += picks.shape[0] * width
        dtype = as_matrix(linear.final[cell]).dtype
        states, taps = sweep_rows(linear, cell, jnp.asarray(picks.reshape(-1, count, width), dtype))
        within = {name: as_matrix(jax.tree.map(lambda t: t[0], taps[name].state), 2) for name in states}
        parts.append([_side_by_side(blocks, structure, batch, len(picks) * width) for blocks in (states, within)])
    step, within = (jnp.concatenate(blocks, axis=1) for blocks in zip(*parts, strict=True))
    return _Derivatives(step, within, row_of)


def _side_by_side(blocks, structure, batch, count):
    """[batch, rows, components of all cells] of blocks by cell, zero where there is none."""
    dtype = next(iter(blocks.values())).dtype
    columns = [
        _flat(blocks[cell], 2) if cell in blocks else jnp.zeros((batch, count, rows.stop - rows.start), dtype)
        for cell, rows in structure.rows.items()
    ]
    return jnp.concatenate(columns, axis=2)


def _groups(patterns: np.ndarray) -> np.ndarray:
    """A number for each row, such that rows with one number have no column in common."""
    taken, group = np.zeros((0, patterns.shape[1]), bool), np.zeros(len(patterns), int)
    for row, columns in enumerate(patterns):
        free = ~(taken & columns).any(axis=1)
        group[row] = int(np.argmax(free)) if free.any() else len(taken)
        if group[row] == len(taken):
            taken = np.concatenate([taken, columns[None]])
        else:
            taken[group[row]] |= columns
    return group


def _advance(network, linear, structure, matrices, name, influence):
    """Equation (1) for the units of one cell."""
    support, unit_of = structure.supports[name], structure.unit_of
    rows, live = support.rows, support.live
    after, before = rows[:, :, None], rows[:, None, :]
    present = structure.step[unit_of[after], unit_of[before]] & live[:, :, None] & live[:, None, :]
    moved = matrices.at(matrices.step, after, before, present) @ influence
    span = structure.rows[name]
    own = np.arange(span.start, span.stop).reshape(len(rows), 1, -1)
    present = structure.within[unit_of[after], unit_of[own]] & live[:, :, None]
    return moved + matrices.at(matrices.within, after, own, present) @ _packed(
        immediate(network, linear, name), support
    )


def _packed(immediate, support):
    """[batch, components, units, ...] by parameter as [batch, units, components, entries]."""
    rows = jnp.concatenate([_flat(leaf, 3) for leaf in jax.tree.leaves(immediate)], axis=3)
    rows = jnp.take_along_axis(jnp.swapaxes(rows, 1, 2), jnp.asarray(support.entries)[None, :, None], axis=3)
    return jnp.where(support.used[:, None], rows, 0)


def _unpacked(rows, support, like):
    """The tree of parameters of entries by unit; 0 where there are none."""
    leaves, tree = jax.tree.flatten(like)
    sizes = [leaf.size // len(leaf) for leaf in leaves]
    whole = jnp.zeros((len(rows), sum(sizes)), rows.dtype)
    whole = whole.at[np.arange(len(rows))[:, None], support.entries].add(jnp.where(support.used, rows, 0))
    parts = jnp.split(whole, np.cumsum(sizes)[:-1], axis=1)
    return jax.tree.unflatten(tree, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])


def _errors(network, loss, before, after, window, structure):
    """Gradient and errors at the states of a step along paths that meet no other state; and the loss."""
    inputs = jax.tree.map(lambda leaf: leaf[0], swap(window.input))
    parameters, rest = eqx.partition(network.nodes, eqx.is_inexact_array)

    def total(parameters, states):
        nodes, values = eqx.combine(parameters, rest), {INPUT: inputs}
        for name, parents in network.edges:
            node, read = nodes[name], gather(values, name, parents)
            if not isinstance(node, Cell):
                values[name] = jax.vmap(node)(read)
                continue
            if name not in structure.rows:  # a cell without a memory of its own passes its errors on
                read_own = jax.vmap(node.emit)(before[name])
                states = states | {name: jax.vmap(node.transition)(before[name], read_own, read)}
            values[name] = jax.vmap(node.emit)(states[name])
        output = jax.tree.map(lambda leaf: leaf[:, None], values[network.output])
        return mean_loss(loss, output, window)

    states = {name: after[name] for name in structure.rows}
    value, (gradients, errors) = jax.value_and_grad(total, argnums=(0, 1))(parameters, states)
    return {name: gradients[name] for name in node_parameters(network)}, errors, value


def _flat(array, axes):
    return array.reshape(*array.shape[:axes], -1)
