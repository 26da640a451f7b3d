"""Backpropagation through time, whole or truncated by the window."""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from onward.algorithms.base import Algorithm, Carry
from onward.algorithms.windows import in_a_row, window_gradients
from onward.integers import is_integer
from onward.network import Network
from onward.sample import Sample
from onward.unroll import Rule


class BPTT(Algorithm):
    """Backpropagation through time over the window: the reference that every other algorithm is measured by.

        delta_t  = J_t^T delta_{t+1} + e_t                    (1)
        gradient = sum_t M_t^T delta_t                        (2)

    A window of the whole sequence is BPTT; shorter windows are truncated BPTT (states are carried over, errors are
    not).

    **Exactness.** Exact on the window.
    **Cost.** Memory O(T), time O(P) a step; with checkpoints every c steps memory O(T / c + c), one more forward pass.
    **Arguments.** `checkpoint`: None stores every step; an integer stores every c-th state and recomputes the rest
    (c near sqrt(T) needs least memory); "sqrt" chooses that. Raises `ValueError` otherwise.
    **Source.** Werbos 1990, doi:10.1109/5.58337; checkpoints Chen et al. 2016, arXiv:1604.06174.
    **Example.**

        >>> import jax, jax.numpy as jnp, onward as ow
        >>> net = ow.stack(ow.cells.RNN(1, 2, key=jax.random.key(0)))
        >>> sample = ow.Sample(jnp.ones((5, 1)), jnp.zeros((5, 2)), jnp.ones(5))
        >>> value, gradient = ow.value_and_grad(net, ow.losses.squared_error, sample, algorithm=ow.BPTT())
    """

    checkpoint: int | Literal["sqrt"] | None = eqx.field(static=True, default=None)
    kind: ClassVar[Literal["offline", "online", "multi-pass"]] = "offline"
    memory: ClassVar[str] = "O(T), or O(sqrt T) with checkpoints"
    source: ClassVar[str] = "Werbos 1990"
    summary: ClassVar[str] = "exact on the window; stores it and replays it backwards"

    def __check_init__(self):
        if self.checkpoint not in (None, "sqrt") and not is_integer(self.checkpoint, 1):
            raise ValueError(f"`checkpoint` must be None, 'sqrt' or a positive integer, got {self.checkpoint!r}")

    def init_memory(self, network: Network):
        return {}

    def exact_nodes(self, network: Network) -> frozenset[str]:
        return frozenset(network.nodes)

    def run_window(self, network, loss, carry, window):
        total = window.length
        size = round(total**0.5) if self.checkpoint == "sqrt" else self.checkpoint
        if size is None or size >= total:
            gradients, _, states, value, output = window_gradients(network, Rule(), loss, carry.states, window, {})
            return Carry(states, {}), gradients, value, output
        return _checkpointed(network, loss, carry.states, window, size)


def _checkpointed(network: Network, loss, states, window: Sample, size: int):
    """Forward over segments keeping the state each starts from, then backward over them, relinearising each."""
    count, rest = divmod(window.length, size)

    def forward(states, start):
        piece = window.cut(start, size)

        def step(states, at):
            input, reset = at
            return network.step(network.begin(states, reset), input)[0], None

        walk = lambda states, steps: lax.scan(step, states, steps)[0]  # noqa: E731
        final = jax.vmap(walk)(states, (piece.input, piece.reset))
        return final, states

    starts = jnp.arange(count) * size
    last, kept = lax.scan(forward, states, starts)
    if rest:
        gradients, errors, final, value, tail = window_gradients(
            network, Rule(), loss, last, window.cut(count * size, rest), {}
        )
    else:
        shapes = jax.eval_shape(
            lambda s, w: window_gradients(network, Rule(), loss, s, w, {}),
            jax.tree.map(lambda k: k[0], kept),
            window.cut(0, size),
        )
        gradients, errors, _, value, tail = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        final = last

    def backward(carry, inputs):
        gradients, errors, value = carry
        start, states = inputs
        more, errors, _, extra, output = window_gradients(
            network, Rule(), loss, states, window.cut(start, size), errors
        )
        return (jax.tree.map(jnp.add, gradients, more), errors, value + extra), output

    (gradients, _, value), outputs = lax.scan(backward, (gradients, errors, value), (starts, kept), reverse=True)
    outputs = in_a_row(outputs)
    if rest:
        outputs = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), outputs, tail)
    return Carry(final, {}), gradients, value, outputs
