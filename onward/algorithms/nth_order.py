"""Every step looks back a fixed number of steps."""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from onward.algorithms.base import Algorithm, Carry, remembering_descendants
from onward.algorithms.windows import chunk_length, in_chunks, mean_loss
from onward.integers import is_integer
from onward.network import Network
from onward.unroll import Rule, Window, swap


class History(eqx.Module):
    """The last n steps: the states before each, its input, and 1 where there was such a step (0 before the first)."""

    states: dict[str, PyTree]
    inputs: PyTree
    valid: jax.Array


class NthOrder(Algorithm):
    """Each step's loss is backpropagated through the last n transitions and no further.

        C^0_t = e_t,   C^j_t = J_t^T C^{j-1}_{t+1}                                    (1)
        gradient = sum_t M_t^T (C^0_t + ... + C^n_t)                                  (2)

    Unlike truncated BPTT, which looks back to the window's start, every step gets the same look-back, across window
    edges too: the last n inputs and states are carried.

    **Shapes.** History: n inputs and n states.
    **Exactness.** Truncated: exact where n is at least the number of steps seen. n = 0 is `SpatialBP`.
    **Cost.** Memory O(n): long windows are cut into chunks of max(n, 64) steps. Time O(n P) a step.
    **Arguments.** `n`: steps to look back, not negative. Raises `ValueError` otherwise.
    **Source.** "Exact iterative BPTT", section 1.1 (N-th ordered approximation); n = 0 is its 0th order.
    """

    n: int = eqx.field(static=True)
    kind: ClassVar[Literal["offline", "online", "multi-pass"]] = "offline"
    memory: ClassVar[str] = "O(n)"
    source: ClassVar[str] = "Exact iterative BPTT, section 1.1"
    summary: ClassVar[str] = "every step looks back n steps"

    def __check_init__(self):
        if not is_integer(self.n, 0):
            raise ValueError(f"`n` must be an integer that is not negative, got {self.n!r}; 0 ignores time")

    def init_memory(self, network: Network):
        if network.input_size is None and not network.reads_integers:
            raise ValueError(
                "NthOrder keeps past inputs, so it must know their size; build the network with `input_size=`"
            )
        states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.n, *leaf.shape)), network.initial_state())
        inputs = jnp.zeros(self.n, int) if network.reads_integers else jnp.zeros((self.n, network.input_size))
        return History(states, inputs, jnp.zeros(self.n))

    def exact_nodes(self, network: Network) -> frozenset[str]:
        above = remembering_descendants(network)
        return frozenset(name for name in network.nodes if not above[name])

    def run_window(self, network, loss, carry, window):
        length = chunk_length(window.length, max(self.n, 64))
        return in_chunks(lambda carry, chunk: self._chunk(network, loss, carry, chunk), carry, window, length)

    def _chunk(self, network, loss, carry, window):
        past: History = carry.memory
        linear = Window(network, Rule("none", "spatial"), carry.states, window.input, window.reset)
        before = {name: swap(linear.nodes[name].record.before) for name in network.recurrent_names}
        join = lambda old, new: jnp.concatenate([old.astype(new.dtype), new], axis=1)  # noqa: E731
        states = jax.tree.map(join, past.states, before)
        inputs = join(past.inputs, window.input)
        valid = join(past.valid, jnp.ones_like(window.weight))
        if window.reset is not None:  # no error goes to the last step of an episode from the next one
            begins = jnp.pad(window.reset, [(0, 0), (self.n, 0)])[:, 1:]
            valid = valid * jnp.pad(~begins, [(0, 0), (0, 1)], constant_values=True)

        value, pull = jax.vjp(lambda output: mean_loss(loss, output, window), linear.output)
        at_output = jax.tree.map(
            lambda e: jnp.pad(e, [(0, 0), (self.n, 0)] + [(0, 0)] * (e.ndim - 2)), pull(jnp.ones_like(value))[0]
        )
        at_state = _look_back(network, self.n, states, inputs, valid, at_output)
        parameters, static = eqx.partition(network, eqx.is_inexact_array)

        def steps(parameters):
            return jax.vmap(jax.vmap(eqx.combine(parameters, static).step))(states, inputs)

        gradients = jax.vjp(steps, parameters)[1]((at_state, at_output))[0].nodes
        newest = lambda old, new: new[:, new.shape[1] - self.n :].astype(old.dtype)  # noqa: E731
        history = jax.tree.map(newest, past, History(states, inputs, valid))
        return Carry(linear.final, history), gradients, value, linear.output


def _look_back(network, n, states, inputs, valid, at_output):
    """Sum over j = 1 ... n of C^j: the errors at the state after each step, from losses up to n steps later."""
    (after, _), pull = jax.vjp(lambda s: jax.vmap(jax.vmap(network.step))(s, inputs), states)
    none = jax.tree.map(jnp.zeros_like, after)
    quiet = jax.tree.map(jnp.zeros_like, at_output)

    def earlier(at_state, at_output):
        pulled = pull((at_state, at_output))[0]

        def shift(error):
            error = jnp.concatenate([error[:, 1:], jnp.zeros_like(error[:, :1])], axis=1)
            return error * valid.reshape(valid.shape + (1,) * (error.ndim - 2))

        return jax.tree.map(shift, pulled)

    def body(carry, _):
        summed, errors = carry
        errors = earlier(errors, quiet)
        return (jax.tree.map(jnp.add, summed, errors), errors), None

    if n == 0:
        return none
    first = earlier(none, at_output)
    (summed, _), _ = lax.scan(body, (first, first), length=n - 1)
    return summed
