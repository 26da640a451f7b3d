"""Backpropagation through time that reconstructs the past instead of storing it."""

from collections.abc import Callable
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from onward.algorithms.base import Algorithm, Carry, node_parameters
from onward.algorithms.windows import chunk_length, in_a_row, mean_loss, window_gradients
from onward.cells.base import Cell, factor, factor_inverse
from onward.integers import is_integer
from onward.network import INPUT, Network, gather
from onward.unroll import Rule, in_time_and_batch, swap


class ReversibleBPTT(Algorithm):
    """Backpropagation through time in constant memory: states are run backwards through the inverse of each cell.

    A forward pass keeps no states but the last. Then, chunk by chunk from the window's end: the states of each cell are
    reconstructed, the lowest cell first, since those above read what it emits; and the chunk is run again from its
    reconstructed start, so that it is linearised on states that belong together, and errors are swept back over it.

        s_{t-1}  = inverse(s_t, x_t)                          (1)
        delta_t  = J_t^T delta_{t+1} + e_t                    (2)
        gradient = sum_t M_t^T delta_t                        (3)

    **Exactness.** Exact on the window, for cells that have an inverse. In floating point (1) multiplies rounding by the
    growth of the inverse: over T steps T log10(1 / |lambda|) digits are lost by a unit that keeps |lambda| of its state
    at a step. What a state of finite precision forgets cannot be had back (MacKay et al. store it in buffers of bits;
    this does not). The first chunk starts from the window's true start, and `checkpoints` = n cuts the loss to that of
    T / (n + 1) steps. Loss, outputs and the carry come from the forward pass, and lose nothing.
    **Cost.** Memory O(1) besides inputs and outputs: n + 1 states and one chunk. Time O(P) a step: two forward passes,
    one through the inverse and one backward.
    **Arguments.** `checkpoints`: a number of states stored on the way, evenly spaced, from which reconstruction starts
    anew; not negative. `chunk`: about how many steps are swept at once; positive. `ValueError` otherwise.
    **Raises.** `ValueError` for a network with a cell that has no inverse; see `Cell.invertible`.
    **Source.** MacKay, Vicol, Ba and Grosse 2018, "Reversible recurrent neural networks", arXiv:1810.10999.
    **Example.**

        >>> import jax, jax.numpy as jnp, onward as ow
        >>> net = ow.stack(ow.cells.RevGRU(1, 2, key=jax.random.key(0)))
        >>> sample = ow.Sample(jnp.ones((5, 1)), jnp.zeros((5, 4)), jnp.ones(5))
        >>> value, gradient = ow.value_and_grad(net, ow.losses.squared_error, sample, algorithm=ow.ReversibleBPTT())
    """

    checkpoints: int = eqx.field(static=True, default=0)
    chunk: int = eqx.field(static=True, default=64)
    kind: ClassVar[Literal["offline", "online", "multi-pass"]] = "offline"
    episodes: ClassVar[bool] = False
    memory: ClassVar[str] = "O(1) + inputs"
    source: ClassVar[str] = "MacKay, Vicol, Ba and Grosse 2018"
    summary: ClassVar[str] = (
        "exact on the window for cells with an inverse; reconstructs states instead of storing them"
    )

    def __check_init__(self):
        for name, least, kind in (("checkpoints", 0, "an integer of at least 0"), ("chunk", 1, "a positive integer")):
            value = getattr(self, name)
            if not is_integer(value, least):
                raise ValueError(f"`{name}` must be {kind}, got {value!r}")

    def init_memory(self, network: Network):
        return {}

    def check(self, network: Network) -> None:
        for name in _without_inverse(network):
            raise ValueError(
                f"ReversibleBPTT runs states backwards, but node {name!r} ({type(network.nodes[name]).__name__}) has "
                "no inverse; use BPTT(checkpoint='sqrt'), or a cell that has one: RevGRU, RevLSTM, Leapfrog, LRU or "
                "IndRNN(activation='tanh')"
            )

    def exact_nodes(self, network: Network) -> frozenset[str]:
        return frozenset() if _without_inverse(network) else frozenset(network.nodes)

    def run_window(self, network, loss, carry, window):
        if window.length <= self.chunk:
            gradients, _, states, value, output = window_gradients(network, Rule(), loss, carry.states, window, {})
            return Carry(states, {}), gradients, value, output
        size = chunk_length(window.length, self.chunk)
        count, rest = divmod(window.length, size)
        stored = min(self.checkpoints + 1, count)

        def place(index):
            """Where the state before this chunk is stored, and whether it is."""
            where = index * stored // count
            return where, where != (index - 1) * stored // count

        def forward(carry, _):
            index, states, kept, value = carry
            where, here = place(index)
            where = jnp.where(here, where, stored)
            kept = jax.tree.map(lambda all, leaf: all.at[where].set(leaf, mode="drop"), kept, states)
            piece = window.cut(index * size, size)
            states, outputs = _walk(network, _onward, states, piece.input)
            return (index + 1, states, kept, value + mean_loss(loss, outputs, piece).astype(value.dtype)), outputs

        def backward(step, carry):
            gradients, errors, states = carry
            index = count - 1 - step
            piece, (where, here) = window.cut(index * size, size), place(index)
            states, _ = _walk(network, _back, states, piece.input)
            states = jax.tree.map(lambda all, leaf: jnp.where(here, all[where], leaf), kept, states)
            more, errors, *_ = window_gradients(network, Rule(), loss, states, piece, errors)
            return jax.tree.map(jnp.add, gradients, more), errors, states

        kept = jax.tree.map(lambda leaf: jnp.zeros((stored, *leaf.shape), leaf.dtype), carry.states)
        start = 0, carry.states, kept, jnp.zeros((), window.weight.dtype)
        (_, last, kept, value), outputs = lax.scan(forward, start, length=count)
        outputs = in_a_row(outputs)
        gradients = jax.tree.map(jnp.zeros_like, node_parameters(network))
        final, errors = last, jax.tree.map(jnp.zeros_like, last)
        if rest:
            piece = window.cut(count * size, rest)
            gradients, errors, final, extra, tail = window_gradients(network, Rule(), loss, last, piece, {})
            value = value + extra.astype(value.dtype)
            outputs = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), outputs, tail)
        gradients, _, _ = lax.fori_loop(0, count, backward, (gradients, errors, last))
        return Carry(final, {}), gradients, value, outputs


def _without_inverse(network: Network) -> list[str]:
    return [name for name in network.recurrent_names if not network.nodes[name].effective().invertible]


def _walk(
    network: Network, run: Callable, states: dict[str, PyTree], inputs: PyTree
) -> tuple[dict[str, PyTree], PyTree]:
    """Each cell's state at the other side of a chunk, and the outputs; `inputs` and outputs are [batch, time, ...]."""
    values, beyond = {INPUT: swap(inputs)}, {}
    for name, parents in network.edges:
        node, read = network.nodes[name], gather(values, name, parents)
        if isinstance(node, Cell):
            beyond[name], after = run(node, states[name], read)
            values[name] = in_time_and_batch(node.emit)(after)
        else:
            values[name] = in_time_and_batch(node)(read)
    return beyond, swap(values[network.output])


def _onward(cell, state, read):
    """The state after a chunk, and those after each of its steps."""
    project, recur, update = factor(cell)

    def step(state, drive):
        after = update(state, recur(cell.emit(state)), drive)
        return after, after

    return lax.scan(jax.vmap(step), state, in_time_and_batch(project)(read))


def _back(cell, state, read):
    """The state before a chunk, and those after each of its steps, from the state after it."""
    project, revert = factor_inverse(cell)

    def step(state, drive):
        return revert(state, drive), state

    before, after = lax.scan(jax.vmap(step), state, in_time_and_batch(project)(read), reverse=True)
    if cell.recurrence == "none":  # what it kept for its emission alone, as dropout does, its inverse cannot know
        after = _onward(cell, before, read)[1]
    return before, after
