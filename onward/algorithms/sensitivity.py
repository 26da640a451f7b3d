"""The one implementation of every algorithm that carries influences forward: inside a window reverse, across forward.

For a rule (which paths errors take), with s the states, theta the parameters, A_t = d s_W / d s_t and M_t the
immediate derivative d s_t / d theta, both under the rule:

    gradient   = sum_t M_t^T delta_t + S_0^T delta_0,   delta swept back from the losses            (1)
    S_W        = A_0 S_0 + sum_t A_t M_t,               A swept back from the states at the end     (2)

With W = 1 this is the recursion S_t = J_{t-1} S_{t-1} + M_t of Williams and Zipser; with longer windows the same
numbers cost one matrix product instead of one per step (Schmidhuber 1992, doi:10.1162/neco.1992.4.2.243).

The influence is kept in blocks, S[m][g] of cell m by the parameters of node g, only where it can be non-zero. Where
the rule keeps errors inside units, the block of a cell by its own parameters has one row per unit, and is stored in
the shape of the parameters, once per state component: [components, *parameter]. All other blocks are dense:
[units * components, *parameter].
"""

import abc
import math
from collections.abc import Callable, Collection
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from onward.algorithms.base import Algorithm, Carry, node_parameters, parameter_names, remembering_descendants
from onward.algorithms.windows import chunk_length, in_chunks, sum_gradients
from onward.cells.base import emission_has_parameters
from onward.jacobian import as_matrix, components, from_matrix
from onward.network import Network
from onward.sample import Sample
from onward.unroll import Errors, Rule, Window, contract

Influence = dict[str, dict[str, PyTree]]


class ForwardSensitivity(Algorithm):
    """An online algorithm that is fully described by its `Rule`; the concrete ones state theirs and its source."""

    kind: ClassVar[Literal["offline", "online", "multi-pass"]] = "online"
    memory: ClassVar[str] = "O(1)"

    @property
    @abc.abstractmethod
    def rule(self) -> Rule:
        """Which paths errors may take."""

    def init_memory(self, network: Network) -> Influence:
        return init_influence(network, self.rule)

    def run_window(self, network, loss, carry, window):
        return run_window(network, self.rule, loss, carry, window)

    def exact_nodes(self, network: Network) -> frozenset[str]:
        return exact_nodes(network, self.rule)

    def check(self, network: Network) -> None:
        if self.rule.time in ("own", "within"):
            for name in network.recurrent_names:
                if not network.nodes[name].unit_local:
                    raise ValueError(
                        f"{type(self).__name__} follows errors inside units, but node {name!r} "
                        f"({type(network.nodes[name]).__name__}) declares `unit_local = False`; use RTRL or BPTT"
                    )


def blocks(network: Network, rule: Rule) -> dict[str, tuple[str, ...]]:
    """cell -> nodes whose parameters influence its state under `rule`: the blocks that are kept."""
    with_parameters = set(parameter_names(network))
    result = {}
    for cell in network.recurrent_names:
        if rule.remembers(network.nodes[cell]):
            sources = network.ancestors(cell) if rule.depth == "all" else {cell}
            result[cell] = tuple(name for name, _ in network.edges if name in sources & with_parameters)
    return result


def of_sources(influence: Influence, sources: Collection[str], of: bool) -> Influence:
    """The blocks that are of `sources`, or those that are not."""
    chosen = {cell: {s: b for s, b in held.items() if (s in sources) == of} for cell, held in influence.items()}
    return {cell: held for cell, held in chosen.items() if held}


def init_influence(network: Network, rule: Rule) -> Influence:
    """Zero influence of every parameter on every state, in the blocks that `rule` keeps."""
    parameters, states = node_parameters(network), network.initial_state()

    def zeros(cell, source):
        rows = components(states[cell])
        if not _compressed(network, rule, cell, source):
            rows = as_matrix(states[cell]).size
        return jax.tree.map(lambda leaf: jnp.zeros((rows, *leaf.shape), leaf.dtype), parameters[source])

    return {
        cell: {source: zeros(cell, source) for source in sources} for cell, sources in blocks(network, rule).items()
    }


def run_window(
    network: Network,
    rule: Rule,
    loss: Callable,
    carry: Carry,
    window: Sample,
    sweep: Callable[[Window, PyTree], Errors] | None = None,
) -> tuple[Carry, dict[str, PyTree], Array, PyTree]:
    """Equations (1) and (2) over a batch of sequences, cut into chunks so that memory is constant.

    `sweep(linear, at_output)`: how errors go back from the losses, where it is not as through every weight.
    Returns the carry, the gradient by node, the loss and the outputs `[batch, time, ...]`.
    """
    length = chunk_length(window.length, preferred_length(network, rule))
    return in_chunks(lambda carry, chunk: _chunk(network, rule, loss, carry, chunk, sweep), carry, window, length)


def preferred_length(network: Network, rule: Rule) -> int:
    """A good number of steps to sweep at once: long enough for large matrix products, short enough for the cache."""
    states = network.initial_state()
    rows = [
        as_matrix(states[cell]).size
        for cell, sources in blocks(network, rule).items()
        if any(not _compressed(network, rule, cell, source) for source in sources)
    ]
    return min(128, max(64, *rows)) if rows else 64


def _compressed(network, rule, cell, source):
    return cell == source and rule.stays_within(network.nodes[cell])


def _chunk(network, rule, loss, carry, window, sweep):
    linear = Window(network, rule, carry.states, window.input, window.reset)
    gradients, errors, value = sum_gradients(network, linear, loss, window, {}, sweep=sweep)
    influence = carry.memory
    gradients = add_carried(network, rule, gradients, errors, influence)
    memory = {cell: advance(network, rule, linear, influence, cell) for cell in influence}
    return Carry(linear.final, memory), gradients, value, linear.output


def add_carried(network: Network, rule: Rule, gradients: dict, errors: dict, influence: Influence) -> dict:
    """`gradients` with S_0^T delta_0 of equation (1) added; `errors`: delta_0 by cell."""
    gradients = dict(gradients)
    for cell, sources in influence.items():
        for source in sources:
            packed = _compressed(network, rule, cell, source)
            part = apply_batch(as_matrix(errors[cell], 1), influence[cell][source], packed)
            gradients[source] = jax.tree.map(jnp.add, gradients[source], part)
    return gradients


def advance(network: Network, rule: Rule, linear: Window, influence: Influence, cell: str) -> dict[str, PyTree]:
    """Equation (2) for the blocks of one cell."""
    own = _compressed(network, rule, cell, cell) and cell in influence[cell]
    dense = tuple(source for source in influence[cell] if not (own and source == cell))
    like = _one_state(linear, cell)
    shape, dtype = as_matrix(like).shape, as_matrix(like).dtype
    result = {}
    if own:
        # One sweep per state component: units do not mix, so all of them can be asked at once.
        picks = jnp.eye(shape[1], dtype=dtype)[:, None, :].repeat(shape[0], axis=1)
        result |= _block_rows(network, rule, linear, influence, cell, (cell,), picks)
    if dense:
        result |= _block_rows(network, rule, linear, influence, cell, dense)
        if _sparse_immediate(network, linear, cell) and cell in dense:
            result[cell] = _add_immediate(network, linear, cell, result[cell])
    return {source: result[source] for source in influence[cell]}


def sweep_rows(linear: Window, cell: str, picks: Array | None = None) -> tuple[dict[str, Array], dict[str, PyTree]]:
    """Errors swept back from the final state of `cell` for each of `picks` [rows, units, components].

    Returns them at the states before the window [batch, rows, units, components] and at the taps [time, batch, rows,
    ...], by node. Without `picks` the rows are all components of all units.
    """
    like = _one_state(linear, cell)
    batch = jax.tree.leaves(linear.final[cell])[0].shape[0]
    if picks is None:
        shape = as_matrix(like).shape
        picks = jnp.eye(shape[0] * shape[1], dtype=as_matrix(like).dtype).reshape(-1, *shape)

    def sweep(pick):
        seed = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape)), from_matrix(pick, like))
        errors = linear.sweep(None, {cell: seed})
        return {name: as_matrix(state, 1) for name, state in errors.states.items()}, errors.taps

    return jax.vmap(sweep, out_axes=(1, 2))(picks)


def immediate(network: Network, linear: Window, cell: str) -> PyTree:
    """d s_t / d theta of a window of one step by a cell's own parameters, row i moving unit i: [batch, components, ...]

    in the shape of the parameters, as compressed blocks are. Without those of the emission that the step reads.
    """
    count, parts = as_matrix(_one_state(linear, cell)).shape
    picks = jnp.broadcast_to(
        jnp.eye(parts, dtype=as_matrix(_one_state(linear, cell)).dtype)[:, None], (parts, count, parts)
    )
    taps = sweep_rows(linear, cell, picks)[1][cell]
    taps = taps._replace(read=jax.tree.map(jnp.zeros_like, taps.read))
    return _contract_rows(network.nodes[cell], linear.nodes[cell].record, taps)


def _one_state(linear, cell):
    return jax.tree.map(lambda leaf: leaf[0], linear.final[cell])


def _block_rows(network, rule, linear, influence, cell, sources, picks=None):
    """Sweep `picks` back from the final state of `cell`, all its components without them; new blocks for `sources`."""
    own = sources == (cell,) and _compressed(network, rule, cell, cell)
    states, taps = sweep_rows(linear, cell, picks)
    result = {}
    for source in sources:
        node, record = network.nodes[source], linear.nodes[source].record
        errors, parts = taps[source], []
        added_later = source == cell and not own and _sparse_immediate(network, linear, cell)
        if added_later:  # except for what comes through parameters of the emission, which is not confined to its unit
            errors = jax.tree.map(jnp.zeros_like, errors)._replace(read=errors.read)
        if not added_later or emission_has_parameters(node):
            parts.append(_contract_rows(node, record, errors))
        for below, error in states.items():
            if source in influence.get(below, {}):
                packed = _compressed(network, rule, below, source)
                carried = lambda e, s, packed=packed: apply(e, s, packed)  # noqa: E731
                parts.append(jax.vmap(carried)(error, influence[below][source]))
        result[source] = jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *parts)
    return result


def _sparse_immediate(network, linear, cell):
    """Whether d s_t / d theta of one step, in which row i of a parameter moves unit i alone, is all that is added."""
    return network.nodes[cell].unit_local and linear.length == 1


def _add_immediate(network, linear, cell, block):
    """Add the immediate derivative of one step to a dense block of a cell by its own parameters."""
    own = immediate(network, linear, cell)

    def add(leaf, own):
        batch, parts, count = own.shape[:3]
        each = jnp.arange(count)
        spread = leaf.reshape(batch, count, parts, *leaf.shape[2:])
        return spread.at[:, each, :, each].add(jnp.moveaxis(own, 2, 0)).reshape(leaf.shape)

    return jax.tree.map(add, block, own)


def _contract_rows(node, record, taps):
    """A gradient for every sequence and every row of `taps` [time, batch, rows, ...]: `[batch, rows, *parameter]`."""
    rows = lambda record, taps: jax.vmap(lambda row: contract(node, record, row), in_axes=1)(taps)  # noqa: E731
    return jax.vmap(rows, in_axes=1)(record, taps)


def apply(errors: Array, block: PyTree, packed: bool) -> PyTree:
    """Errors `[rows, units, components]` times an influence block: `[rows, *parameter]`."""
    if packed:
        return jax.tree.map(lambda leaf: jnp.einsum("ruk,ku...->ru...", errors, leaf), block)
    flat = errors.reshape(errors.shape[0], -1)
    return jax.tree.map(lambda leaf: jnp.tensordot(flat, leaf, axes=1), block)


def apply_batch(errors: Array, block: PyTree, packed: bool) -> PyTree:
    """Errors `[batch, units, components]` times a batch of blocks, summed over the batch: `[*parameter]`."""
    if packed:
        return jax.tree.map(lambda leaf: jnp.einsum("buk,bku...->u...", errors, leaf), block)
    # In pieces: one vector times a matrix is worked out number by number by jaxlib 0.10.1, ten times slower.
    pieces = math.gcd(errors.size, 4)
    parts = errors.reshape(pieces, -1)
    together = lambda leaf: jnp.einsum("pr,pr...->p...", parts, leaf.reshape(*parts.shape, *leaf.shape[2:])).sum(0)  # noqa: E731
    return jax.tree.map(together, block)


def exact_nodes(network: Network, rule: Rule) -> frozenset[str]:
    """Nodes whose gradient under `rule` is BPTT's: every remembering cell that depends on them is treated exactly."""
    above = remembering_descendants(network)

    def exact(node):
        cells = above[node]
        if not cells:
            return True
        if rule.decay != 1.0 or (rule.depth == "spatial" and cells != {node}):
            return False
        if rule.cross_terms != "all" and any(_loops(network.nodes[cell]) > 1 for cell in cells):
            return False
        whole = {"all": ("dense", "diagonal"), "none": ()}.get(rule.time, ("diagonal",))
        return all(network.nodes[cell].recurrence in whole for cell in cells)

    return frozenset(name for name in network.nodes if exact(name))


def _loops(cell):
    """Recurrent loops in the sense of `Rule.cross_terms`: leaves of the state."""
    return len(jax.tree.leaves(cell.initial_state()))
