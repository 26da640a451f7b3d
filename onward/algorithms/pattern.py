"""Which states a unit's parameters reach in n steps: the sparsity pattern of `SnAp`, from the network's structure.

A unit reads emissions: those of its own layer from the step before (C), and within a step those of the cells below it,
through memoryless nodes (B). What a unit reaches within a step is U = (1 - B)^-1, the Jacobian of the network's step
has the pattern D = U (1 + C), and influence reaches in n steps

    (1 + D + ... + D^{n-1}) U      (Menick et al. 2021, section 3)                      (1)

B and C are found by differentiating at random numbers, many times over, lest a function that is flat somewhere hides a
path; a parameter's entries are absent where `Sparse` says so.
"""

import functools
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from onward.algorithms.base import parameter_names, remembering_descendants
from onward.cells.base import Cell, emission_has_parameters
from onward.cells.sparse import Sparse
from onward.jacobian import as_matrix
from onward.network import INPUT, Network, gather

DRAWS = 32


@dataclass(frozen=True)
class Support:
    """Where the influence of a cell's parameters is kept, for each of its units; padded to one size by False.

    `rows`: components of states, numbered over all cells; `entries`: numbers of a unit's row of parameters, all arrays
    one after another. `closed`: no step leads out of the rows.
    """

    rows: Int[np.ndarray, "units kept"]
    live: Bool[np.ndarray, "units kept"]
    entries: Int[np.ndarray, "units parameters"]
    used: Bool[np.ndarray, "units parameters"]
    closed: bool


@dataclass(frozen=True)
class Pattern:
    """The structure of one step, and the supports of those cells whose parameters do not reach everything above.

    `units` and `rows`: where a cell's are among the units, and components of states, of all cells with a memory.
    `within` and `step`: which unit (row) is reached from which (column) within a step, and from the step before.
    """

    units: dict[str, slice]
    rows: dict[str, slice]
    unit_of: Int[np.ndarray, " components"]
    within: Bool[np.ndarray, "units units"]
    step: Bool[np.ndarray, "units units"]
    supports: dict[str, Support]


def pattern(network: Network, n: int) -> Pattern:
    """The pattern of n steps of an effective network; worked out once for each structure, also under trace."""
    leaves, tree = jax.tree.flatten(network)
    described = tuple(
        _Shape(leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array | np.ndarray) else leaf for leaf in leaves
    )
    return _pattern(tree, described, n)


@dataclass(frozen=True)
class _Shape:
    shape: tuple[int, ...]
    dtype: Any


@functools.lru_cache(maxsize=32)
def _pattern(tree, described, n):
    rng = np.random.default_rng(0)
    with jax.ensure_compile_time_eval():
        leaves = [_draw(rng, leaf) if isinstance(leaf, _Shape) else leaf for leaf in described]
        network = _connected(jax.tree.unflatten(tree, leaves))
        names = [name for name in network.recurrent_names if network.nodes[name].recurrence != "none"]
        if not names:
            nothing = np.zeros((0, 0), bool)
            return Pattern({}, {}, np.zeros(0, int), nothing, nothing, {})
        matrices = {name: as_matrix(network.nodes[name].initial_state()) for name in names}
        counts, parts = ([matrices[name].shape[axis] for name in names] for axis in (0, 1))
        units = dict(zip(names, _slices(counts), strict=True))
        rows = dict(zip(names, _slices([c * p for c, p in zip(counts, parts, strict=True)]), strict=True))
        unit_of = np.repeat(np.arange(sum(counts)), np.repeat(parts, counts))
        own, below = _reads(network, names, units, rng)
    within = _closure(below, len(names))
    step = _reach(within, np.eye(len(own), dtype=bool) | own)
    result = Pattern(units, rows, unit_of, within, step, {})
    above = remembering_descendants(network)
    for name in parameter_names(network):
        node = network.nodes[name]
        if name in units and node.unit_local and not emission_has_parameters(node):
            support = _support(network, result, name, n)
            everything = sum(rows[cell].stop - rows[cell].start for cell in above[name]), _present(node).shape[1]
            if (support.live.sum(axis=1).min(), support.used.sum(axis=1).min()) != everything:
                result.supports[name] = support
    return result


def _support(network, pattern, name, n):
    reached = pattern.within[:, pattern.units[name]]
    for _ in range(n - 1):
        further = reached | _reach(pattern.step, reached)
        if (further == reached).all():
            break
        reached = further
    closed = not (_reach(pattern.step, reached) & ~reached).any()
    rows, live = _padded(reached[pattern.unit_of].T)
    entries, used = _padded(_present(network.nodes[name]))
    return Support(rows, live, entries, used, closed)


def _connected(network):
    """The network with the masks of its sparse cells as they are, since under trace their values are unknown."""
    sparse = {name: node for name, node in network.nodes.items() if isinstance(node, Sparse)}
    masks = {name: {packed.parameter: packed.mask() for packed in node.connections} for name, node in sparse.items()}
    nodes = network.nodes | {name: Sparse(node.cell, masks[name]) for name, node in sparse.items()}
    return eqx.tree_at(lambda net: net.nodes, network, nodes)


def _present(node):
    """Which numbers of each unit's row of parameters there are."""
    masks = node.present() if isinstance(node, Sparse) else {}
    cell = node.cell if isinstance(node, Sparse) else node

    def present(path, leaf):
        return masks.get(getattr(path[-1], "name", ""), np.ones(leaf.shape, bool)).reshape(len(leaf), -1)

    found = jax.tree.leaves(jax.tree_util.tree_map_with_path(present, eqx.filter(cell, eqx.is_inexact_array)))
    return np.concatenate(found, axis=1)


def _reads(network, names, units, rng):
    """Which unit (row) reads which (column): of its own layer at the step before, and of cells below."""
    total = sum(part.stop - part.start for part in units.values())
    own, below = np.zeros((2, total, total), bool)
    find = eqx.filter_jit(_derivatives)
    for _ in range(DRAWS):
        states = jax.tree.map(lambda leaf: _draw(rng, leaf), network.initial_state())
        input = _random_input(network, rng)
        by_own, by_below, emitted = find(network, names, states, input)
        for name in names:
            own[units[name], units[name]] |= _reach(by_own[name], emitted[name])
            for lower, derivative in by_below[name].items():
                below[units[name], units[lower]] |= _reach(derivative, emitted[lower])
    for name in names:  # units that touch each other in other ways than by emissions
        if not network.nodes[name].unit_local:
            own[units[name], units[name]] = True
    return own, below


def _derivatives(network, names, states, input):
    """Whether new states depend on their own old emissions and on new ones below, and emissions on states."""

    def advance(old, new):
        values, after = {INPUT: input}, {}
        for name, parents in network.edges:
            node, read = network.nodes[name], gather(values, name, parents)
            if not isinstance(node, Cell):
                values[name] = node(read)
            elif name in names:
                after[name] = as_matrix(node.transition(states[name], old[name], read))
                values[name] = new[name]
            else:
                values[name] = node.emit(node.transition(states[name], node.emit(states[name]), read))
        return after

    emissions = {name: network.nodes[name].emit(states[name]) for name in names}
    found = jax.jacrev(advance, argnums=(0, 1))(emissions, emissions)
    of_unit = lambda d: jnp.any(d != 0, axis=1)  # noqa: E731
    emitted = {}
    for name in names:
        slopes = jax.jacrev(lambda s, n=name: network.nodes[n].emit(s))(states[name])
        leaves = [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(slopes)]
        emitted[name] = jnp.any(jnp.concatenate(leaves, axis=2) != 0, axis=2)
    return (
        {name: of_unit(found[name][0][name]) for name in names},
        {name: {lower: of_unit(found[name][1][lower]) for lower in names if lower != name} for name in names},
        emitted,
    )


def _random_input(network, rng):
    if network.reads_integers:
        return jnp.zeros((), int)
    return jnp.asarray(rng.normal(size=network.input_size or 1))


def _draw(rng, leaf):
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)
    return jnp.ones(leaf.shape, leaf.dtype)


def _slices(sizes):
    ends = np.cumsum(sizes)
    return [slice(int(end - size), int(end)) for size, end in zip(sizes, ends, strict=True)]


def _reach(first, second):
    """The product of two patterns."""
    return np.asarray(first, np.float32) @ np.asarray(second, np.float32) > 0


def _closure(below, depth):
    reached = np.eye(len(below), dtype=bool)
    for _ in range(depth):
        reached |= _reach(below, reached)
    return reached


def _padded(mask):
    """Numbers of the columns that are True in each row, padded to as many as the fullest row has, and which are so."""
    order = np.argsort(~mask, axis=1, kind="stable")[:, : max(1, int(mask.sum(axis=1).max()))]
    return order.astype(np.int32), np.take_along_axis(mask, order, axis=1)
