"""What the algorithms do with a window: its gradient from errors swept back, and its cut into chunks."""

import jax
import jax.numpy as jnp

from onward.algorithms.base import node_parameters
from onward.unroll import Window, contract, step_losses


def chunk_length(total: int, wanted: int) -> int:
    """The largest divisor of `total` in (wanted / 2, wanted]; `wanted`, with a remainder, where there is none."""
    return next((size for size in range(min(wanted, total), wanted // 2, -1) if total % size == 0), min(wanted, total))


def window_gradients(network, rule, loss, states, window, at_final):
    """Gradient by node, errors at the states before the window, states after it, loss and outputs.

    `at_final`: errors that reach the states at the window's end from beyond it, by cell; may be empty.
    """
    linear = Window(network, rule, states, window.input)
    gradients, errors, value = sum_gradients(network, linear, loss, window, at_final)
    return gradients, errors, linear.final, value, linear.output


def sum_gradients(network, linear, loss, window, at_final, beyond=None):
    """Gradient by node, errors at the states before the window, and loss, of a window linearised as `linear`.

    `at_final` and `beyond` are as in `Window.sweep`.
    """

    def total(output):
        return jnp.mean(jnp.sum(step_losses(loss, output, window.target, window.weight), axis=1))

    value, pull = jax.vjp(total, linear.output)
    errors = linear.sweep(pull(jnp.ones_like(value))[0], at_final, beyond)
    gradients = jax.tree.map(jnp.zeros_like, node_parameters(network)) | errors.parameters
    for name in network.recurrent_names:
        if name in errors.taps:
            gradients[name] = contract(network.nodes[name], linear.nodes[name].record, errors.taps[name], axes=2)
    before = {name: jax.tree.map(jnp.zeros_like, linear.final[name]) for name in network.recurrent_names}
    return gradients, before | errors.states, value
