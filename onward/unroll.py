"""The window: every node over a stretch of time, and the sweep of errors back through it under a rule.

All algorithms differ in which paths their errors may take back through a window (a `Rule`) and in what they carry
across its edges. The rest is here, once: nodes are evaluated in topological order, each over the whole window
(memoryless ones for all steps side by side, cells with one scan), and the backward sweep visits them in reverse.
A cell's sweep yields the errors of its steps; its parameters' gradient is one contraction of those afterwards.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from onward.cells.base import Cell, FactoredCell, factor, restart, summed_leaves
from onward.jacobian import in_one_direction, own_recurrence, own_transition
from onward.network import INPUT, Network, gather


@dataclass(frozen=True)
class Rule:
    """Which paths an error may take backwards.

    `time`: from a cell's state to its previous one. "all": every path; "own": paths that stay inside a unit,
    its own emission included (SnAp-1); "within": state to state with the emission held fixed (e-prop); "none".
    `depth`: what a cell passes down to the nodes that it reads: "all", the errors swept through its own time; or
    "spatial", only the error that reached it at the same step.
    `decay` multiplies an error at each step back in time.
    `cross_terms`: from a component (leaf) of a cell's state back to others of the step before. "all"; "directional":
    to itself and to later ones; "reversed": to itself and to earlier ones.
    """

    time: Literal["all", "own", "within", "none"] = "all"
    depth: Literal["all", "spatial"] = "all"
    decay: float = 1.0
    cross_terms: Literal["all", "directional", "reversed"] = "all"

    def stays_within(self, cell: Cell) -> bool:
        """Whether this rule keeps errors inside the units of `cell`, so that its trace has one row per unit."""
        return cell.unit_local and (self.time in ("own", "within") or cell.recurrence == "diagonal")

    def remembers(self, cell: Cell) -> bool:
        """Whether this rule passes errors of `cell` from step to step at all."""
        return self.time != "none" and cell.recurrence != "none"


class Taps(NamedTuple):
    """Where a cell's parameters enter a step: handles for the errors that arrive there; leaves `[time, batch, ...]`.

    As a handle, a leaf of `recurrent` is None where its error is that of the same leaf of `drive` (`summed_leaves`).
    """

    drive: PyTree
    recurrent: PyTree
    state: PyTree
    read: PyTree
    emission: PyTree


class Record(NamedTuple):
    """What the contraction of a node's parameters needs: its inputs, and for a cell the states before and after."""

    read: PyTree
    before: PyTree
    after: PyTree


class Node(NamedTuple):
    """One node linearised over a window. `pull`: errors at its value (and final state) -> errors at its sources."""

    pull: Callable
    record: Record
    value: PyTree
    sizes: tuple[int, ...]


class Errors(NamedTuple):
    """Errors from one backward sweep, by node name."""

    states: dict[str, PyTree]  # at each cell's state before the window
    taps: dict[str, PyTree]  # at a cell's taps; at a memoryless node's value
    parameters: dict[str, PyTree]  # memoryless nodes' parameter gradients, summed over the batch


class Window:
    """A network linearised over one window of a batch of sequences; lives only while a function is traced.

    Inputs, and the output and its errors, are `[batch, time, ...]` as everywhere; inside, all is `[time, batch, ...]`,
    so that scans read and write what is contiguous. `resets`: booleans [batch, time] where episodes begin, or None.
    """

    def __init__(
        self,
        network: Network,
        rule: Rule | Mapping[str, Rule],
        states: dict[str, PyTree],
        inputs: PyTree,
        resets: Any = None,
    ):
        self.network = network
        resets = None if resets is None else swap(resets)
        self.nodes: dict[str, Node] = {}
        self.final: dict[str, PyTree] = {}
        rules = dict.fromkeys(network.nodes, rule) if isinstance(rule, Rule) else rule
        values = {INPUT: swap(inputs)}
        for name, parents in network.edges:
            read = gather(values, name, parents)
            sizes = tuple(values[parent].shape[-1] if len(parents) > 1 else 0 for parent in parents)
            constant = all(parent == INPUT for parent in parents)
            if isinstance(network.nodes[name], Cell):
                values[name], self.final[name], self.nodes[name] = _linearise_cell(
                    network.nodes[name], rules.get(name, Rule()), states[name], read, constant, sizes, resets
                )
            else:
                values[name], self.nodes[name] = _linearise_map(network.nodes[name], read, constant, sizes)
        self.output = swap(values[network.output])
        self.length = jax.tree.leaves(inputs)[0].shape[1]

    def sweep(
        self,
        at_output: PyTree | None,
        at_final: Mapping[str, PyTree],
        beyond: Mapping[str, Callable[[PyTree], PyTree | None]] | None = None,
        signals: Mapping[str, PyTree] | None = None,
        closed: Sequence[str] = (),
    ) -> Errors:
        """Take errors at the output and at final states back through the window.

        `beyond`, by cell: a function of the errors that arrive at what the cell emits, which returns the errors
        [time, batch, ...] that reach the state after each step from later ones, where its rule cuts these paths.
        `signals`, by node: errors [time, batch, ...] that arrive at its value besides. `closed`: nodes to which nothing
        is handed down. Nodes that no error reaches are not visited and have no entry in the result.
        """
        errors = Errors({}, {}, {})
        pending: dict[str, PyTree] = dict(signals or {})
        if at_output is not None:
            pending[self.network.output] = swap(at_output)
        for name, parents in reversed(self.network.edges):
            if name not in pending and name not in at_final:
                continue
            node = self.nodes[name]
            arriving = pending.get(name)
            if isinstance(self.network.nodes[name], Cell):
                arriving = jax.tree.map(jnp.zeros_like, node.value) if arriving is None else arriving
                last = at_final.get(name, jax.tree.map(jnp.zeros_like, self.final[name]))
                later = beyond[name](arriving) if beyond and name in beyond else None
                errors.states[name], errors.taps[name], passed = node.pull(arriving, last, later)
            else:
                errors.taps[name] = arriving
                errors.parameters[name], passed = node.pull(arriving)
            if passed is not None:
                for parent, error in zip(parents, _split(passed, node.sizes), strict=True):
                    if parent != INPUT and parent not in closed:
                        old = pending.get(parent)
                        pending[parent] = error if old is None else jax.tree.map(jnp.add, old, error)
        return errors


@eqx.filter_jit  # traced once for a node and sizes, however many blocks of an influence are made of it
def contract(node: Any, record: Record, errors: PyTree, axes: int = 1) -> PyTree:
    """Gradient of a node's parameters: the sum over `axes` leading axes of errors times immediate derivatives.

    One for the steps of one sequence; two for those of a batch, where no gradient per sequence is ever made.
    """
    parameters, rest = eqx.partition(node, eqx.is_inexact_array)
    each = {1: jax.vmap, 2: in_time_and_batch}[axes]

    def sources(parameters):
        restored = eqx.combine(parameters, rest)
        if not isinstance(node, Cell):
            return each(restored)(record.read)
        project, recur, update = factor(restored)
        fixed_project, fixed_recur, _ = factor(node)
        read = each(node.emit)(record.before)
        return Taps(
            drive=each(project)(record.read),
            recurrent=each(recur)(read),
            state=each(update)(record.before, each(fixed_recur)(read), each(fixed_project)(record.read)),
            read=each(restored.emit)(record.before),
            emission=each(restored.emit)(record.after),
        )

    _, pull = jax.vjp(sources, parameters)
    return pull(errors)[0]


def step_losses(loss: Callable, outputs: PyTree, targets: PyTree, weights: PyTree) -> jax.Array:
    """Weighted losses `[batch, time]`."""
    losses = merged(loss)(outputs, targets)
    if losses.shape != weights.shape:
        raise ValueError(
            f"`loss` must return a scalar for one step, but returned shape {losses.shape[2:]}; reduce it, e.g. with sum"
        )
    # A step without a loss contributes exactly nothing, whatever its output.
    return jnp.where(weights == 0, 0, weights * losses)


def _linearise_map(module, read, constant, sizes):
    parameters, rest = eqx.partition(module, eqx.is_inexact_array)

    def evaluate(parameters, read):
        return swap(merged(eqx.combine(parameters, rest))(swap(read)))

    record = Record(read, None, None)
    if constant:
        value, pull = jax.vjp(lambda p: evaluate(p, read), parameters)
        return value, Node(lambda error: (pull(error)[0], None), record, value, sizes)
    value, pull = jax.vjp(evaluate, parameters, read)
    return value, Node(pull, record, value, sizes)


def _linearise_cell(cell, rule, state, read, constant, sizes, resets):
    shapes = jax.eval_shape(lambda s, x: _tap_shapes(cell, s, x), state, read)
    taps = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    summed = summed_leaves(cell)
    if summed is not None:
        kept = jax.tree.map(lambda same, tap: None if same else tap, summed, taps.recurrent)
        taps = taps._replace(recurrent=kept)
    evaluate = lambda state, taps, read: _unroll_cell(cell, rule, summed, state, taps, read, resets)  # noqa: E731
    if constant:
        (value, final, _), pull, record = jax.vjp(lambda s, t: evaluate(s, t, read), state, taps, has_aux=True)
    else:
        (value, final, _), pull, record = jax.vjp(evaluate, state, taps, read, has_aux=True)
    before, after = record

    def pull_back(at_value, at_final, at_states=None):
        at_states = jax.tree.map(jnp.zeros_like, after) if at_states is None else at_states
        at_state, at_taps, *at_read = pull((at_value, at_final, at_states))
        if summed is not None:
            filled = jax.tree.map(lambda same, r, d: d if same else r, summed, at_taps.recurrent, at_taps.drive)
            at_taps = at_taps._replace(recurrent=filled)
        return at_state, at_taps, at_read[0] if at_read else None

    return value, final, Node(pull_back, Record(read, before, after), value, sizes)


def _tap_shapes(cell, state, reads):
    project, recur, _ = factor(cell)
    drive = in_time_and_batch(project)(reads)
    emission = jax.vmap(cell.emit)(state)
    one = jax.vmap(recur)(emission), state, emission, emission
    return Taps(drive, *(jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (reads.shape[0], *leaf.shape)), one)))


def _unroll_cell(cell, rule, summed, state, taps, reads, resets):
    """One cell over a batch of sequences: emissions, final state and states; and the states before and after steps."""
    project, recur, update = factor(cell)
    # What happens within units is cheap to do again, and much to keep.
    sweep = jax.checkpoint(lambda *of_step: update(*of_step), prevent_cse=False)
    each = in_time_and_batch
    spatial = rule.depth == "spatial" or not rule.remembers(cell)
    drives = each(project)(reads)
    own = own_recurrence(cell) if rule.time == "own" and isinstance(cell, FactoredCell) else None

    def advance(kept, drive, tap):
        emission = cell.emit(kept)
        if rule.time == "all" or cell.recurrence == "diagonal":
            emission = _attach(emission, tap.read)
            recurrent = recur(emission)
        else:
            recurrent = lax.stop_gradient(recur(emission))
            if own is not None:
                recurrent = jax.tree.map(lambda r, o: r + _by_unit(o, emission), recurrent, own)
        new = sweep(kept, *_tapped(summed, recurrent, drive, tap.recurrent))
        if rule.time == "own" and own is None and cell.recurrence == "dense":
            slopes = own_transition(cell, kept, drive)
            new = jax.tree.map(lambda n, o: n + _by_unit(o, emission), new, slopes)
        return new, recurrent

    def step(arriving, inputs):
        drive, tap, reset = inputs
        if inline:
            drive = _attach(project(drive), tap.drive)
        state = restart(cell, arriving, reset)
        kept = _fade(state, rule.decay) if rule.remembers(cell) else lax.stop_gradient(state)
        new, recurrent = advance(kept, drive, tap)
        if rule.cross_terms != "all":
            earlier = rule.cross_terms == "reversed"
            new = in_one_direction(lambda seen: advance(seen, drive, tap)[0], kept, earlier=earlier)
        return _attach(new, tap.state), (arriving, recurrent if spatial else None)

    # Of few inputs the drive is cheaper to work out in each step than to write down and read.
    inline = not spatial and 16 * reads[0, 0].size <= sum(leaf[0, 0].size for leaf in jax.tree.leaves(drives))
    swept = reads if inline else _attach(lax.stop_gradient(drives) if spatial else drives, taps.drive)
    final, (arriving, recurrents) = lax.scan(jax.vmap(step), state, (swept, taps, resets))
    after = jax.tree.map(lambda a, f: jnp.concatenate([a[1:], f[None]]), arriving, final)
    before = each(lambda state, reset: restart(cell, state, reset))(arriving, resets)
    states = after
    if spatial:
        fixed = lax.stop_gradient((before, recurrents))
        states = _attach(after, each(update)(*fixed, drives))
    emissions = _attach(each(cell.emit)(states), taps.emission)
    return (emissions, final, states), lax.stop_gradient((before, after))


def in_time_and_batch(function: Callable) -> Callable:
    """A function of one step of one sequence as one of all [time, batch, ...]."""
    return jax.vmap(jax.vmap(function))


def merged(function: Callable) -> Callable:
    """A function of one step of one sequence as one of all [batch, time, ...], both axes made one."""

    def of_all(*arguments):
        sizes = jax.tree.leaves(arguments)[0].shape[:2]
        flat = jax.tree.map(lambda leaf: leaf.reshape(math.prod(sizes), *leaf.shape[2:]), arguments)
        return jax.tree.map(lambda leaf: leaf.reshape(*sizes, *leaf.shape[1:]), jax.vmap(function)(*flat))

    return of_all


def swap(tree):
    """[batch, time, ...] to [time, batch, ...], or back."""
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), tree)


def _fade(state, decay):
    """The same value; the gradient is multiplied by `decay`."""
    if decay == 1.0:
        return state
    return jax.tree.map(lambda leaf: lax.stop_gradient(leaf) + decay * (leaf - lax.stop_gradient(leaf)), state)


def _by_unit(slope, emission):
    """Zero, with derivative `slope` [units, ...] by each unit's own emission."""
    zero = emission - lax.stop_gradient(emission)
    return slope * zero.reshape(zero.shape + (1,) * (slope.ndim - 1))


def _tapped(summed, recurrent, drive, handles):
    """The two drives with handles at the recurrent one, except where it absorbs the other, which has its own."""
    if summed is None:
        return _attach(recurrent, handles), drive
    add = lambda same, r, d, handle: r + d if same else _attach(r, handle)  # noqa: E731
    rest = lambda same, d: jnp.zeros_like(d) if same else d  # noqa: E731
    return jax.tree.map(add, summed, recurrent, drive, handles), jax.tree.map(rest, summed, drive)


@jax.custom_vjp
def _attach(value, handle):
    """`value`; an error that arrives here goes to `handle` too, whose own value is never read."""
    return value


_attach.defvjp(lambda value, handle: (value, None), lambda _, error: (error, error))


def _split(error, sizes: Iterable[int]):
    sizes = tuple(sizes)
    if len(sizes) == 1:
        return (error,)
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    return jnp.split(error, ends, axis=-1)
