"""Forward propagation of errors: gradients from passes that all run forward in time."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from onward.algorithms.base import Algorithm, Carry, node_parameters, remembering_descendants
from onward.algorithms.sensitivity import chunk_length, sum_gradients
from onward.cells.base import Cell
from onward.jacobian import as_matrix, from_matrix, recurrent_jacobian, solve_transposed
from onward.network import INPUT, Network
from onward.sample import Sample
from onward.unroll import Rule, Window, in_time_and_batch

CHUNK = 64  # steps that errors are swept back over at a time
MOST_EDGES = 64  # errors are kept at so many edges at a time; a longer window is cut at two or more levels
EXACT, CUT = Rule(), Rule(time="none", depth="spatial")


class ForwardErrors(Algorithm):
    """Propagates errors forward in time: a warm-up finds the error at the start, from which it runs on with the states.

    BPTT's errors delta obey a recursion that can be inverted, so that they can be had in the order of time once one
    of them is known; it is linear, so that one forward pass finds that one. With e_t the spatial error at the state
    s_t and eps_t = delta_t - e_t the error that reaches it from later steps (so that eps_T = 0):

        delta_t   = J_t^T delta_{t+1} + e_t                        BPTT                               (1)
        delta_t+1 = J_t^{-T} eps_t,  eps_{t+1} = delta_{t+1} - e_{t+1}                                (2)
        eps_0     = sum_t P_t e_t,   P_t = J_0^T ... J_{t-1}^T     `warmup="accumulate"`              (3)
        eps_0     = -P_T eps'_T,     eps' by (2) from eps'_0 = 0   `warmup="shoot"`, as published     (4)
        gradient  = sum_t M_t^T delta_t                                                               (5)

    A stack of L layers takes L + 1 passes, the top layer's errors first; a graph the longest path plus one.

    (2) loses digits as fast as the network forgets. **Segments** (multiple shooting) keep P and eps over pieces of the
    window; a short sweep over the pieces' edges gives the exact eps at each, where (2) starts anew. With
    `segments="auto"` a piece is a chunk of at most 64 steps, and inside a chunk errors are swept back from its end:
    nothing is inverted, forgetting and singular Jacobians do no harm, and the gradient is exact to rounding. More than
    64 chunks are cut at two levels, more than 64 x 64 at three, so that at most 64 edges of each are kept at a time.

    **Shapes.** N units with K components: eps [N, K]; P [N, K, K] where units do not see each other, [N K, N K]
    elsewhere; at every edge both.
    **Exactness.** Exact on the window (like BPTT it sees nothing of earlier windows). In floating point (2) multiplies
    rounding by the growth of its inverse over a segment: T log10(1 / |lambda|) digits for a diagonal cell.
    **Cost.** Memory besides the inputs: O(1) for one segment, O(n) for n, O(log T) with "auto", which at each level
    of cutting also runs the passes of the layers above once more. Time, per pass, that of a forward pass and of P: O(N)
    a step for a diagonal cell, O(N^3) for others.
    **Arguments.**
    `warmup`: (3), which inverts nothing, or (4).
    `precision`: "float32" or "float64", of errors and Jacobians in (2) to (4); None is the network's.
    `inverse`: "exact", or "first-order": 2 I - J^T for the inverse, right where J is close to I (small time steps).
    `passes`: at least 1; layers that fewer passes do not reach get spatial errors, so that 1 is `SpatialBP`.
    `segments`: None for the whole window in one, a number of equal pieces (at most one a step), or "auto". With
    "auto", options that are about the inverse ("shoot", "first-order", a precision) mean one segment, since nothing
    else is inverted.
    Raises `ValueError` for values that make no sense, and for "float64" without JAX's 64-bit mode.
    **Departures.** The post's printed formulas have the wrong sign and transposes for the start, and start the second
    phase from 0; (4) is derived anew. Gradients are accumulated, where the authors' code keeps all of T.
    **Source.** Zucchet, Pourcel and Ernoult 2026, "Forward propagation of errors through time". Segments: Ascher and
    Petzold 1998 on multiple shooting.
    **Example.**

        >>> import onward as ow
        >>> ow.ForwardErrors(), ow.ForwardErrors(warmup="shoot", segments=None)  # the second is as published
        (ForwardErrors(), ForwardErrors(warmup='shoot', segments=None))
    """

    warmup: Literal["accumulate", "shoot"] = eqx.field(static=True, default="accumulate")
    precision: Literal["float32", "float64"] | None = eqx.field(static=True, default=None)
    inverse: Literal["exact", "first-order"] = eqx.field(static=True, default="exact")
    passes: int | None = eqx.field(static=True, default=None)
    segments: int | Literal["auto"] | None = eqx.field(static=True, default="auto")
    kind: ClassVar[Literal["offline", "online", "multi-pass"]] = "multi-pass"
    pass_count: ClassVar[str] = "L + 1"
    memory: ClassVar[str] = "O(1) + inputs"
    source: ClassVar[str] = "Zucchet, Pourcel and Ernoult 2026"
    summary: ClassVar[str] = "errors run forward in time from a start that a warm-up pass finds"

    def __check_init__(self):
        known = {
            "warmup": ("accumulate", "shoot"),
            "precision": (None, "float32", "float64"),
            "inverse": ("exact", "first-order"),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise ValueError(f"`{name}` must be one of {', '.join(map(repr, values))}, got {getattr(self, name)!r}")
        for name, words in (("passes", (None,)), ("segments", (None, "auto"))):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            if not whole and value not in words:
                raise ValueError(
                    f"`{name}` must be a positive integer or {' or '.join(map(repr, words))}, got {value!r}"
                )

    def init_memory(self, network: Network):
        return {}

    def check(self, network: Network) -> None:
        if self.precision == "float64" and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError(
                '`precision` is "float64", but JAX\'s 64-bit mode is off; call jax.config.update("jax_enable_x64", '
                "True) first, or leave `precision` out"
            )

    def exact_nodes(self, network: Network) -> frozenset[str]:
        levels, above = levels_of(network), remembering_descendants(network)
        reached = math.inf if self.passes is None else self.passes
        reached = 0 if self.inverse == "first-order" else reached
        return frozenset(name for name in network.nodes if all(levels[cell] < reached for cell in above[name]))

    def run_window(self, network, loss, carry, window):
        levels = levels_of(network)
        needed = max(levels.values(), default=0) + 1
        plan = _Plan(self, network, loss, window, levels, min(self.passes or needed, needed))
        inverts = self.warmup != "accumulate" or self.inverse != "exact" or self.precision is not None
        if self.segments == "auto" and not inverts:
            sizes, leaf = _auto_sizes(window.length), plan.swept_chunk
        else:
            pieces = min(self.segments, window.length) if isinstance(self.segments, int) else 1
            sizes, leaf = (-(-window.length // pieces),), plan.forward_segment
        nothing = {name: plan.identity(name, carry.states).constant for name in levels}
        edges = {name: Edge(eps, eps) for name, eps in nothing.items()}
        states, (gradients, value, output) = plan.span(
            sizes, leaf, carry.states, Stretch(0, window.length), edges, None
        )
        return Carry(states, {}), gradients, value, output


class Edge(NamedTuple):
    """Errors eps at the start and at the end of a piece of the window, in blocks [batch, blocks, size].

    A block is what errors stay inside from step to step: a unit where units do not see each other, or else the layer.
    """

    start: Array
    end: Array


class Stretch(NamedTuple):
    """Steps of the window: the first, which may be traced, and how many."""

    start: int | Array
    length: int


class Map(NamedTuple):
    """How a piece takes eps from its end to its start: constant + matrix eps.

    `constant` [batch, blocks, size], `matrix` [batch, blocks, size, size].
    """

    constant: Array
    matrix: Array

    def __call__(self, eps: Array) -> Array:
        return self.constant + times(self.matrix, eps)


def times(matrix: Array, eps: Array) -> Array:
    """[..., size, size] times [..., size]."""
    return jnp.einsum("...ij,...j->...i", matrix, eps)


def compose(first: Map, second: Map) -> Map:
    """The map of two pieces, one after the other."""
    return Map(first(second.constant), first.matrix @ second.matrix)


def levels_of(network: Network) -> dict[str, int]:
    """Cell that remembers -> the largest number of such cells on a path from it to the output, itself included."""
    heights: dict[str, int] = {}
    levels: dict[str, int] = {}
    for name, parents in reversed(network.edges):
        height, node = heights.get(name, 0), network.nodes[name]
        if isinstance(node, Cell) and node.recurrence != "none":
            height += 1
            levels[name] = height
        for parent in parents:
            if parent != INPUT:
                heights[parent] = max(heights.get(parent, 0), height)
    return levels


def _auto_sizes(length: int) -> tuple[int, ...]:
    sizes = (chunk_length(length, CHUNK),)
    while length > MOST_EDGES * sizes[0]:
        sizes = (MOST_EDGES * sizes[0], *sizes)
    return sizes


@dataclass(frozen=True)
class _Plan:
    """One run of the algorithm over one window. A goal is a level to warm up, or None for the gradient.

    What a goal yields: the `Map` of every cell of the level, by name; or (gradients by node, loss, output).
    """

    options: ForwardErrors
    network: Network
    loss: Callable
    window: Sample
    levels: Mapping[str, int]
    passes: int

    def below(self, goal: int | None) -> list[str]:
        """Cells whose errors are known when `goal` is pursued."""
        return [name for name, level in self.levels.items() if level < (self.passes if goal is None else goal)]

    def at(self, goal: int | None) -> list[str]:
        """Cells that `goal` warms up."""
        return [name for name, level in self.levels.items() if level == goal]

    def cut(self, stretch):
        """The inputs, targets and weights of a stretch; made for a chunk at a time, so that no more is in memory."""
        return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, *stretch, axis=1), self.window)

    def span(self, sizes, leaf, states, stretch, edges, goal) -> tuple[Any, Any]:
        """Pursue `goal` over a stretch of the window, in pieces of `sizes[0]` steps, and those in pieces of the next.

        `leaf` does so over a piece of the last size. Returns the states at the end, and what the goal yields.
        """
        if not sizes:
            return leaf(states, stretch, edges, goal)
        rest = sizes[1:]
        if stretch.length <= sizes[0] and leaf == self.swept_chunk:  # the errors at its end are all that this needs
            return self.span(rest, leaf, states, stretch, edges, goal)
        inner: dict[str, Edge] = {}
        for level in range(1, self.passes if goal is None else goal):
            warm_up = lambda s, piece, known, level=level: self.span(rest, leaf, s, piece, known, level)  # noqa: E731
            _, maps = _each_piece(warm_up, states, stretch, sizes[0], inner)
            inner |= {name: _edges(each, edges[name].end) for name, each in _stack(maps).items()}

        def pursue(carry, piece, known):
            states, total = carry
            states, more = self.span(rest, leaf, states, piece, known, goal)
            total, output = self.add(total, more, goal)
            return (states, total), output

        start = states, self.zero(states, goal)
        (states, total), outputs = _each_piece(pursue, start, stretch, sizes[0], inner)
        return states, total if goal is not None else (*total, _join(outputs))

    def zero(self, states, goal) -> Any:
        """What a goal yields over no time at all, without the output."""
        if goal is None:
            return jax.tree.map(jnp.zeros_like, node_parameters(self.network)), jnp.zeros((), self.window.weight.dtype)
        return {name: self.identity(name, states) for name in self.at(goal)}

    def add(self, total, more, goal) -> tuple[Any, Any]:
        """What a goal yields over two pieces one after the other, and the second one's output."""
        if goal is not None:
            return {name: compose(total[name], more[name]) for name in total}, ()
        gradients, value, output = more
        return (jax.tree.map(jnp.add, total[0], gradients), total[1] + value.astype(total[1].dtype)), output

    def swept_chunk(self, states, stretch, edges, goal):
        """Errors swept back from the chunk's end."""
        window = self.cut(stretch)
        exact = {*self.below(goal), *self.at(goal)}
        rules = {name: EXACT if name in exact else CUT for name in self.levels}
        linear = Window(self.network, rules, states, window.input)
        at_final = {name: self.tree(name, edges[name].end) for name in self.below(goal)}
        gradients, errors, value = sum_gradients(self.network, linear, self.loss, window, at_final)
        if goal is None:
            return linear.final, (gradients, value, linear.output)
        return linear.final, {
            name: Map(self.blocks(name, errors[name]), self.swept_matrix(linear, name)) for name in self.at(goal)
        }

    def swept_matrix(self, linear, name):
        """`Map.matrix` of a chunk, by sweeping unit errors back from the cell's state at its end."""
        node, shape = linear.nodes[name], self.identity(name, linear.final).constant.shape
        picks = jnp.eye(shape[2], dtype=jax.tree.leaves(linear.final[name])[0].dtype)
        picks = jnp.broadcast_to(picks[:, None, None], (shape[2], *shape))
        quiet = jax.tree.map(jnp.zeros_like, node.value)
        columns = jax.vmap(lambda pick: self.blocks(name, node.pull(quiet, self.tree(name, pick))[0]))(picks)
        return jnp.moveaxis(columns, 0, -1)

    def forward_segment(self, states, stretch, edges, goal):
        """Errors from the segment's start, forward with the states; a chunk of steps at a time."""
        shoot, warm = self.options.warmup == "shoot", self.at(goal)
        dense = any(not EXACT.stays_within(self.network.nodes[name]) for name in self.levels)
        size = chunk_length(stretch.length, 16 if dense else CHUNK)
        eps = {name: edges[name].start for name in self.below(goal)}
        eps |= {name: jnp.zeros_like(self.identity(name, states).constant) for name in warm}

        def advance(carry, piece, _):
            states, eps, total = carry
            piece = self.cut(piece)
            linear = Window(self.network, dict.fromkeys(self.levels, CUT), states, piece.input)
            after, more = dict(eps), {}

            def follow(name, arriving):
                errors, jacobians = self.spatial(linear, name, arriving), self.jacobians(linear, name)
                if name not in warm or shoot:
                    after[name], beyond = self.forward(eps[name], errors, jacobians)
                if name in warm:
                    more[name] = _accumulate(errors, jacobians)
                    return None
                return self.tree(name, beyond, 2)

            beyond = {name: functools.partial(follow, name) for name in eps}
            gradients, _, value = sum_gradients(self.network, linear, self.loss, piece, {}, beyond)
            for name in warm:
                if name not in more:  # since no error has reached it
                    follow(name, jax.tree.map(jnp.zeros_like, linear.nodes[name].value))
            total, output = self.add(total, (gradients, value, linear.output) if goal is None else more, goal)
            return (linear.final, after, total), output

        start = states, eps, self.zero(states, goal)
        (states, eps, total), outputs = _each_piece(advance, start, stretch, size, {})
        if goal is None:
            return states, (*total, _join(outputs))
        if shoot:
            total = {name: Map(-times(total[name].matrix, eps[name]), total[name].matrix) for name in warm}
        return states, total

    def spatial(self, linear, name, arriving):
        """e_t [time, batch, blocks, size] of a cell from the errors that arrive at what it emits."""
        emit = in_time_and_batch(self.network.nodes[name].emit)
        _, pull = jax.vjp(emit, linear.nodes[name].record.after)
        return self.blocks(name, pull(arriving)[0], 2).astype(self.dtype(linear.final[name]))

    def jacobians(self, linear, name):
        """J_{t-1} [time, batch, blocks, size, size]: derivative of the states of a cell by those before."""
        cell, record = self.network.nodes[name], linear.nodes[name].record
        dtype, within = self.dtype(linear.final[name]), EXACT.stays_within(cell)
        cast = lambda tree: jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, tree)  # noqa: E731
        cell, before, read = cast(cell), cast(record.before), cast(record.read)
        return in_time_and_batch(lambda s, x: recurrent_jacobian(cell, s, x, within))(before, read)

    def forward(self, eps, errors, jacobians):
        """Equation (2): eps after the last step, and after each [time, ...]."""

        def step(eps, inputs):
            error, jacobian = inputs
            if self.options.inverse == "exact":
                delta = solve_transposed(jacobian, eps)
            else:
                delta = 2 * eps - times(jnp.swapaxes(jacobian, -1, -2), eps)
            return delta - error, delta - error

        return lax.scan(step, eps, (errors, jacobians))

    def identity(self, name, states):
        """The map of no steps."""
        zeros = self.blocks(name, states[name]).astype(self.dtype(states[name])) * 0
        return Map(zeros, jnp.broadcast_to(jnp.eye(zeros.shape[2], dtype=zeros.dtype), (*zeros.shape, zeros.shape[2])))

    def dtype(self, state):
        """The precision of errors of a cell with this state."""
        return jnp.dtype(self.options.precision or jax.tree.leaves(state)[0].dtype)

    def blocks(self, name, state, axes=1):
        """A cell's state, or errors at it, after `axes` leading axes as [..., blocks, size]."""
        matrix = as_matrix(state, axes)
        return matrix if EXACT.stays_within(self.network.nodes[name]) else matrix.reshape((*matrix.shape[:axes], 1, -1))

    def tree(self, name, blocks, axes=1):
        """The inverse of `blocks`, in the precision of the network."""
        like = self.network.nodes[name].initial_state()
        matrix = blocks.reshape((*blocks.shape[:axes], *as_matrix(like).shape))
        convert = lambda matrix: from_matrix(matrix, like)  # noqa: E731
        for _ in range(axes):
            convert = jax.vmap(convert)
        return convert(matrix)


def _accumulate(errors, jacobians):
    """Equation (3) over a chunk: its `Map`, where errors are [time, batch, blocks, size]."""

    def step(total, inputs):
        error, jacobian = inputs
        matrix = total.matrix @ jnp.swapaxes(jacobian, -1, -2)
        return Map(total.constant + times(matrix, error), matrix), None

    eye = jnp.broadcast_to(jnp.eye(errors.shape[-1], dtype=errors.dtype), jacobians.shape[1:])
    return lax.scan(step, Map(jnp.zeros_like(errors[0]), eye), (errors, jacobians))[0]


def _edges(maps: Map, end: Array) -> Edge:
    """Errors at the edges of consecutive pieces [pieces, ...] from those at the end of the last."""

    def earlier(end, piece):
        start = piece(end)
        return start, Edge(start, end)

    return lax.scan(earlier, end, maps, reverse=True)[1]


def _each_piece(function, carry, stretch: Stretch, size: int, extras):
    """`function(carry, piece, extra) -> (carry, result)` over pieces of `size` steps, the last of what remains.

    `extras` have a leading axis of pieces. The results are a pair: those of full pieces, stacked, and that of the last
    where it is shorter; either may be None.
    """
    count, rest = divmod(stretch.length, size)

    def advance(state, extra):
        start, carry = state
        carry, result = function(carry, Stretch(start, size), extra)
        return (start + size, carry), result

    results = last = None
    if count:
        full = jax.tree.map(lambda leaf: leaf[:count], extras)
        (_, carry), results = lax.scan(advance, (stretch.start, carry), full, length=count)
    if rest:
        extra = jax.tree.map(lambda leaf: leaf[count], extras)
        carry, last = function(carry, Stretch(stretch.start + count * size, rest), extra)
    return carry, (results, last)


def _stack(results):
    """Results of all pieces, one after the other."""
    full, last = results
    last = jax.tree.map(lambda leaf: leaf[None], last)
    return last if full is None else full if last is None else jax.tree.map(_after, full, last)


def _join(results):
    """Outputs [batch, time, ...] of all pieces as one."""
    full, last = results
    full = jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1).reshape((a.shape[1], -1, *a.shape[3:])), full)
    return last if full is None else full if last is None else jax.tree.map(lambda a, b: _after(a, b, 1), full, last)


def _after(first, second, axis=0):
    return jnp.concatenate([first, second], axis=axis)
