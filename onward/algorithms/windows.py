"""What the algorithms do with a window: its gradient from errors swept back, and its cut into chunks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, PyTree

from onward.algorithms.base import Algorithm, Carry, Random, node_parameters
from onward.network import Network
from onward.sample import Sample
from onward.unroll import Window, contract, step_losses


def chunk_length(total: int, wanted: int) -> int:
    """The largest divisor of `total` in (wanted / 2, wanted]; `wanted`, with a remainder, where there is none."""
    return next((size for size in range(min(wanted, total), wanted // 2, -1) if total % size == 0), min(wanted, total))


def in_chunks(
    run: Callable[[Any, Sample], tuple[Any, PyTree, Array, PyTree]], carry: Any, window: Sample, length: int
) -> tuple[Any, PyTree, Array, PyTree]:
    """`run(carry, chunk)` -> carry, gradients, loss and outputs `[batch, time, ...]`, over one chunk after another.

    Chunks have `length` steps, but for a shorter last one. Gradients and losses are added up.
    """
    total = window.length
    count, rest = divmod(total, length)
    if count <= 1 and rest == 0:
        return run(carry, window)

    run = jax.jit(run)  # so that finding the shapes and the loop share one trace

    def advance(state, start, size):
        carry, gradients, value, outputs = state
        carry, more, extra, output = run(carry, window.cut(start, size))
        write = lambda whole, part: lax.dynamic_update_slice_in_dim(whole, part, start, axis=1)  # noqa: E731
        return carry, jax.tree.map(jnp.add, gradients, more), value + extra, jax.tree.map(write, outputs, output)

    shapes = jax.eval_shape(lambda c, w: run(c, w)[1:], carry, window.cut(0, length))
    gradients, value = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[:2])
    outputs = jax.tree.map(lambda s: jnp.zeros((s.shape[0], total, *s.shape[2:]), s.dtype), shapes[2])
    state = carry, gradients, value, outputs
    state = lax.fori_loop(0, count, lambda i, s: advance(s, i * length, length), state)
    return advance(state, count * length, rest) if rest else state


def in_steps(
    algorithm: Algorithm, network: Network, run: Callable[[Carry, Sample], Any], carry: Carry, window: Sample
) -> tuple[Carry, PyTree, Array, PyTree]:
    """`in_chunks` of one step each, before which states and memory start anew where an episode begins."""

    def step(carry, piece):
        if piece.reset is not None:
            carry = restarted(algorithm, network, carry, piece.reset[:, 0])
        return run(carry, piece)

    return in_chunks(step, carry, window, 1)


def restarted(algorithm: Algorithm, network: Network, carry: Carry, reset: Bool[Array, " batch"]) -> Carry:
    """The carry of `init` for the sequences that `reset` marks, but for the key; `network` in effective parameters."""

    def begin(old, reset):
        choose = lambda new, leaf: jnp.where(reset, new, leaf)  # noqa: E731
        return jax.tree.map(choose, algorithm.init_memory(network), old)

    states = jax.vmap(network.begin)(carry.states, reset)
    memory = carry.memory
    if isinstance(memory, Random):
        return Carry(states, memory._replace(memory=jax.vmap(begin)(memory.memory, reset)))
    return Carry(states, jax.vmap(begin)(memory, reset))


def mean_loss(loss: Callable, output: PyTree, window: Sample) -> Array:
    """The mean over a batch of the sum over its steps of weight times loss."""
    return jnp.mean(jnp.sum(step_losses(loss, output, window.target, window.weight), axis=1))


def in_a_row(outputs: PyTree) -> PyTree:
    """Outputs of pieces [piece, batch, time, ...] one after the other: [batch, time, ...]."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1).reshape((a.shape[1], -1, *a.shape[3:])), outputs)


def window_gradients(network, rule, loss, states, window, at_final):
    """Gradient by node, errors at the states before the window, states after it, loss and outputs.

    `at_final`: errors that reach the states at the window's end from beyond it, by cell; may be empty.
    """
    linear = Window(network, rule, states, window.input, window.reset)
    gradients, errors, value = sum_gradients(network, linear, loss, window, at_final)
    return gradients, errors, linear.final, value, linear.output


def sum_gradients(network, linear, loss, window, at_final, beyond=None, sweep=None):
    """Gradient by node, errors at the states before the window, and loss, of a window linearised as `linear`.

    `at_final` and `beyond` are as in `Window.sweep`; or else `sweep(linear, at_output)` takes its place.
    """

    value, pull = jax.vjp(lambda output: mean_loss(loss, output, window), linear.output)
    at_output = pull(jnp.ones_like(value))[0]
    errors = sweep(linear, at_output) if sweep else linear.sweep(at_output, at_final, beyond)
    gradients = jax.tree.map(jnp.zeros_like, node_parameters(network)) | errors.parameters
    for name in network.recurrent_names:
        if name in errors.taps:
            gradients[name] = contract(network.nodes[name], linear.nodes[name].record, errors.taps[name], axes=2)
    before = {name: jax.tree.map(jnp.zeros_like, linear.final[name]) for name in network.recurrent_names}
    return gradients, before | errors.states, value
