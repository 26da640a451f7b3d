"""Pooling over time as a cell without parameters."""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from onward.cells.base import Cell, positive_sizes


class CumulativeMean(Cell):
    """The mean of all inputs so far, with a straight-through gradient.

        m_t = ((t - 1) m_{t-1} + x_t) / t,  treated by the gradient as d m_t / d x_t = I, d m_t / d m_{t-1} = 0      (1)

    It has an inverse: (1) solved for m_{t-1}, and zero before the first step.

    **Shapes.** N = `size` inputs and units: state (mean [N], count [N]); emission [N].
    **Exactness.** The straight-through gradient is part of the model: every algorithm sees the same one.
    **Source.** Zucchet, Pourcel and Ernoult 2026, "Forward propagation of errors through time" (their MNIST98 readout).
    """

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrence: ClassVar[Literal["dense", "diagonal", "none"]] = "none"

    def __init__(self, size: int):
        positive_sizes(size=size)
        self.input_size = self.hidden_size = self.output_size = size

    def initial_state(self):
        return jnp.zeros(self.hidden_size), jnp.zeros(self.hidden_size)

    def emit(self, state):
        return state[0]

    def transition(self, state, emission, input):
        mean, count = jax.lax.stop_gradient(state)
        count = count + 1
        pooled = mean + (jax.lax.stop_gradient(input) - mean) / count
        return pooled + (input - jax.lax.stop_gradient(input)), count

    @property
    def invertible(self):
        return True

    def inverse(self, state, input):
        mean, count = state
        before = count - 1
        return jnp.where(before > 0, (count * mean - input) / jnp.maximum(before, 1), 0), before
