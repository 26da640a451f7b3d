"""The passes of `ForwardErrors` over a window: which cells' errors are known, and what each pass finds out."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from onward.algorithms.base import node_parameters
from onward.algorithms.error_pieces import Edge, Map, accumulate, compose, each_piece, edges_of, joined, stacked, times
from onward.algorithms.windows import chunk_length, sum_gradients
from onward.cells.base import Cell
from onward.jacobian import as_matrix, from_matrix, recurrent_jacobian, solve_transposed
from onward.network import INPUT, Network
from onward.sample import Sample
from onward.unroll import Rule, Window, in_time_and_batch

if TYPE_CHECKING:
    from onward.algorithms.forward_errors import ForwardErrors

CHUNK = 64  # steps that errors are swept back over at a time
EXACT, CUT = Rule(), Rule(time="none", depth="spatial")


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


@dataclass(frozen=True)
class Plan:
    """One run of the algorithm over one window. A goal is a level to warm up, or None for the gradient.

    What a goal yields: the `Map` of every cell of the level, by name; or (gradients by node, loss, output).
    """

    options: "ForwardErrors"
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
            _, maps = each_piece(warm_up, states, stretch, sizes[0], inner)
            inner |= {name: edges_of(each, edges[name].end) for name, each in stacked(maps).items()}

        def pursue(carry, piece, known):
            states, total = carry
            states, more = self.span(rest, leaf, states, piece, known, goal)
            total, output = self.add(total, more, goal)
            return (states, total), output

        start = states, self.zero(states, goal)
        (states, total), outputs = each_piece(pursue, start, stretch, sizes[0], inner)
        return states, total if goal is not None else (*total, joined(outputs))

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
        window = self.window.cut(*stretch)
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
        """Errors from the segment's start, forward with the states."""
        known = {name: edges[name].start for name in self.below(goal)}
        guess = {name: jnp.zeros_like(self.identity(name, states).constant) for name in self.at(goal)}
        final, end, total = self.follow(states, stretch, known | guess, goal)
        if goal is None or self.options.warmup == "accumulate":
            return final, total
        if self.options.warmup == "shoot":
            matrices = {name: total[name].matrix for name in guess}
        else:
            matrices = self.probe(states, stretch, known, {name: end[name] for name in guess}, goal)
        return final, {name: Map(-times(matrices[name], end[name]), matrices[name]) for name in guess}

    def probe(self, states, stretch, known, end, goal):
        """`Map.matrix` of the cells in `end`, from one more pass for each component of a block, and where it ends."""
        size = max(eps.shape[2] for eps in end.values())

        def shift(index):
            start = {name: jnp.zeros_like(eps).at[..., index].set(1, mode="drop") for name, eps in end.items()}
            moved = self.follow(states, stretch, known | start, goal)[1]
            return {name: moved[name] - end[name] for name in end}

        columns = lax.map(shift, jnp.arange(size))
        return {name: jnp.linalg.inv(jnp.moveaxis(columns[name][: end[name].shape[2]], 0, -1)) for name in end}

    def follow(self, states, stretch, eps, goal) -> tuple[Any, Any, Any]:
        """Run `eps` forward with the states, a chunk of steps at a time: states and eps at the end, and what is found.

        With `goal` None that is the gradients, the loss and the outputs; otherwise the maps by accumulation, if that
        or P is asked for.
        """
        warmup, warm = self.options.warmup, self.at(goal)
        dense = any(not EXACT.stays_within(self.network.nodes[name]) for name in self.levels)
        size = chunk_length(stretch.length, 16 if dense else CHUNK)

        def advance(carry, piece, _):
            states, eps, total = carry
            piece = self.window.cut(*piece)
            linear = Window(self.network, dict.fromkeys(self.levels, CUT), states, piece.input)
            after, more = dict(eps), {}

            def arrive(name, arriving):
                errors, jacobians = self.spatial(linear, name, arriving), self.jacobians(linear, name)
                if name not in warm or warmup != "accumulate":
                    after[name], beyond = self.forward(eps[name], errors, jacobians)
                if name in warm:
                    more[name] = total[name] if warmup == "probe" else accumulate(errors, jacobians)
                    return None
                return self.tree(name, beyond, 2)

            beyond = {name: functools.partial(arrive, name) for name in eps}
            gradients, _, value = sum_gradients(self.network, linear, self.loss, piece, {}, beyond)
            for name in warm:
                if name not in more:  # since no error has reached it
                    arrive(name, jax.tree.map(jnp.zeros_like, linear.nodes[name].value))
            total, output = self.add(total, (gradients, value, linear.output) if goal is None else more, goal)
            return (linear.final, after, total), output

        start = states, eps, self.zero(states, goal)
        (states, eps, total), outputs = each_piece(advance, start, stretch, size, {})
        return states, eps, (*total, joined(outputs)) if goal is None else total

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
