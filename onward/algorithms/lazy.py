"""The influence brought up to date once in so many steps: the same numbers as step by step, from one product.

Between two updates the last steps are kept as a log. Step j enters it with, s being the states after it,

    J_j = d s_j / d s_{j-1},   B_j = d s_j / d (state of one cell after it),   m_j = d (that state) / d theta    (1)

so that d s_j / d theta = B_j m_j, where m_j has one row per unit, as a unit's parameters move that unit alone. With
S the influence before the log of k steps, and e errors at the states after it:

    gradient   = sum_j (B_j^T e_j) m_j + S^T e_0,   e_{j-1} = J_j^T e_j                                          (2)
    S_k        = J_k ... J_1 S + sum_j J_k ... J_{j+1} B_j m_j                                                   (3)

(2) costs a vector for each step of the log and one pass over S, (3) one product with S every k steps. All of (1) is
of the parameters of its own step, so that parameters may change at every one.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from onward.algorithms.base import Carry, node_parameters
from onward.algorithms.sensitivity import (
    Influence,
    add_carried,
    advance,
    apply,
    apply_batch,
    immediate,
    init_influence,
    of_sources,
    sweep_rows,
)
from onward.algorithms.windows import sum_gradients
from onward.cells.base import emission_has_parameters
from onward.jacobian import as_matrix
from onward.network import Network
from onward.sample import Sample
from onward.unroll import Rule, Window


class Step(NamedTuple):
    """What (1) says of one step: `transition` J and `spread` B by pairs of cells, `immediate` m by cell.

    **Shapes.** J and B: [units, components, units of the second, components of the second]; B of a cell with itself
    is the identity and left out. m: [components, *parameter].
    """

    transition: dict[str, dict[str, Array]]
    spread: dict[str, dict[str, Array]]
    immediate: dict[str, PyTree]


class Postponed(NamedTuple):
    """The influence before the steps of the log; that of sources which are not kept lazily is of now.

    The first `count` rows of `log` are `Step`s, flat since compilers then leave them where they are.
    """

    influence: Influence
    log: Float[Array, "*batch lazy size"]
    count: Int[Array, "*batch"]


def lazy_sources(network: Network, rule: Rule) -> frozenset[str]:
    """Cells whose parameters' influence is worth postponing: that on themselves is dense."""

    def worth(name):
        cell = network.nodes[name]
        sparse = cell.unit_local and not emission_has_parameters(cell)
        return rule.remembers(cell) and sparse and not rule.stays_within(cell)

    return frozenset(name for name in network.recurrent_names if worth(name))


def init_postponed(network: Network, rule: Rule, lazy: int) -> Postponed:
    """No influence yet, and an empty log for `lazy` steps."""
    influence = init_influence(network, rule)
    row, _ = ravel_pytree(_empty_step(network, rule, influence))
    return Postponed(influence, jnp.zeros((lazy, row.size), row.dtype), jnp.int32(0))


def run_step(
    network: Network, rule: Rule, loss: Callable, carry: Carry, window: Sample
) -> tuple[Carry, dict[str, PyTree], Array, PyTree]:
    """A window of one step, which enters the log."""
    influence, log, count = catch_up(network, rule, carry.memory, when_full=True)
    sources = lazy_sources(network, rule)
    kept, eager = (of_sources(influence, sources, of) for of in (True, False))
    linear = Window(network, rule, carry.states, window.input, window.reset)
    gradients, errors, value = sum_gradients(network, linear, loss, window, {})
    gradients = add_carried(network, rule, gradients, errors, eager)
    advanced = {cell: advance(network, rule, linear, eager, cell) for cell in eager}
    if kept:
        row = _flat(_enter(network, linear, kept))
        log = lax.dynamic_update_slice_in_dim(log, row[:, None], count[0], axis=1)
        errors = {cell: as_matrix(errors[cell], 1) for cell in kept}
        step = _reader(network, rule, influence, log)
        gradients = _add_postponed(gradients, errors, kept, step, count[0])
    influence = {cell: held | advanced.get(cell, {}) for cell, held in influence.items()}
    return Carry(linear.final, Postponed(influence, log, count + 1)), gradients, value, linear.output


def catch_up(network: Network, rule: Rule, memory: Postponed, *, when_full: bool = False) -> Postponed:
    """Equation (3) and an empty log; `when_full` leaves a log that has room as it is."""
    influence, log, count = memory
    kept = of_sources(influence, lazy_sources(network, rule), True)
    if not kept:
        return memory

    def update(_, state):
        kept, log, count = state
        step = _reader(network, rule, influence, log)
        renewed = {cell: _renewed(kept, step, count[0], log.shape[1], cell) for cell in kept}
        return renewed, jnp.zeros_like(log), jnp.zeros_like(count)

    # A loop of at most one turn: the branches of a conditional would copy the influence at every step.
    due = count[0] == log.shape[1] if when_full else count[0] > 0
    kept, log, count = lax.fori_loop(0, due.astype(int), update, (kept, log, count))
    return Postponed({cell: held | kept.get(cell, {}) for cell, held in influence.items()}, log, count)


def _add_postponed(gradients, errors, kept, step, count):
    """Equation (2)."""

    def back(turn, state):
        gradients, errors = state
        now = step(count - 1 - turn)
        errors, reached = jax.vmap(_back)(errors, now)
        more = {source: apply_batch(reached[source], rows, True) for source, rows in now.immediate.items()}
        return gradients | {s: jax.tree.map(jnp.add, gradients[s], more[s]) for s in more}, errors

    gradients, errors = lax.fori_loop(0, count, back, (gradients, errors))
    for cell, held in kept.items():
        for source, block in held.items():
            more = apply_batch(errors[cell], block, False)
            gradients = gradients | {source: jax.tree.map(jnp.add, gradients[source], more)}
    return gradients


def _renewed(kept, step, count, size, cell):
    """Equation (3) for the blocks of one cell, which all errors are traced back from."""
    now = step(0)
    shapes = {below: matrix.shape[-2:] for below, matrix in now.transition[cell].items()}
    batch, *shape = now.transition[cell][cell].shape[:3]
    rows, dtype = math.prod(shape), now.transition[cell][cell].dtype
    errors = {below: jnp.zeros((batch, rows, *shapes[below]), dtype) for below in shapes}
    errors[cell] += jnp.eye(rows, dtype=dtype).reshape(rows, *shape)
    reached = {source: jnp.zeros((batch, size, rows, *shapes[source]), dtype) for source in kept[cell]}

    def back(turn, state):
        errors, reached = state
        place = count - 1 - turn
        errors, now = jax.vmap(jax.vmap(_back, in_axes=(0, None)))(errors, step(place))
        put = lambda whole, part: lax.dynamic_update_index_in_dim(whole, part, place, 1)  # noqa: E731
        return errors, {source: put(reached[source], now[source]) for source in reached}

    errors, reached = lax.fori_loop(0, count, back, (errors, reached))
    every = jax.vmap(step, out_axes=1)(jnp.arange(size)).immediate

    def block(source):
        own = jax.tree.map(lambda m: jnp.einsum("bjruc,bjcu...->bru...", reached[source], m), every[source])
        for below in shapes:
            if source in kept[below]:
                more = jax.vmap(lambda e, s: apply(e, s, False))(errors[below], kept[below][source])
                own = jax.tree.map(jnp.add, own, more)
        return own

    return {source: block(source) for source in kept[cell]}


def _back(errors, step):
    """Errors `[units, components]` at the states after a step: at those before it, and at what parameters move."""
    through = lambda error, matrix: jnp.tensordot(error, matrix, axes=2)  # noqa: E731
    before = {cell: jnp.zeros_like(error) for cell, error in errors.items()}
    reached = {source: errors[source] for source in step.immediate if source in errors}
    for cell, error in errors.items():
        for below, matrix in step.transition[cell].items():
            before[below] += through(error, matrix)
        for source, matrix in step.spread[cell].items():
            reached[source] += through(error, matrix)
    return before, reached


def _enter(network, linear, kept):
    """The `Step` of a window of one step, with a batch axis."""
    transition, spread = {}, {}
    for cell in kept:
        states, taps = sweep_rows(linear, cell)
        after = {source: as_matrix(taps[source].state, 3)[0] for source in kept[cell] if source != cell}
        shape = as_matrix(linear.final[cell], 1).shape
        apart = lambda rows, shape=shape: rows.reshape(*shape, *rows.shape[2:])  # noqa: E731
        transition[cell] = {below: apart(states[below]) for below in kept if below in states}
        spread[cell] = {source: apart(matrix) for source, matrix in after.items()}
    sources = {source for held in kept.values() for source in held}
    return Step(transition, spread, {source: immediate(network, linear, source) for source in sources})


def _empty_step(network, rule, influence):
    """Zeros like the `Step` of one sequence."""
    kept = of_sources(influence, lazy_sources(network, rule), True)
    states = {cell: as_matrix(network.initial_state()[cell]) for cell in kept}
    pair = lambda cell, other: jnp.zeros((*states[cell].shape, *states[other].shape), states[cell].dtype)  # noqa: E731
    transition = {c: {below: pair(c, below) for below in kept if below in network.ancestors(c)} for c in kept}
    spread = {cell: {source: pair(cell, source) for source in kept[cell] if source != cell} for cell in kept}
    parameters = node_parameters(network)
    rows = lambda cell: lambda leaf: jnp.zeros((states[cell].shape[1], *leaf.shape), leaf.dtype)  # noqa: E731
    sources = {source for held in kept.values() for source in held}
    return Step(transition, spread, {source: jax.tree.map(rows(source), parameters[source]) for source in sources})


def _reader(network, rule, influence, log):
    """place -> the `Step` there, with a batch axis."""
    unravel = ravel_pytree(_empty_step(network, rule, influence))[1]
    return lambda place: jax.vmap(unravel)(lax.dynamic_index_in_dim(log, place, axis=1, keepdims=False))


def _flat(step):
    return jax.vmap(lambda step: ravel_pytree(step)[0])(step)
