"""Cells around one matrix of recurrent weights and a tanh: plain, leaky, antisymmetric."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from onward.cells.base import Cell, FactoredCell, PerUnit, constant, per_unit, positive_sizes, uniform


class RNN(FactoredCell):
    """The simple recurrent network of Elman, in PyTorch's parameters.

        h_t = tanh(weight_ih x_t + bias_ih + weight_hh h_{t-1} + bias_hh)      (1)

    **Shapes.** N units, I inputs: `weight_ih` [N, I], `weight_hh` [N, N], `bias_ih` and `bias_hh` [N]; state and
    emission h [N].
    **Arguments.** `input_size`, `hidden_size`: positive integers; `key`: a PRNG key for the uniform initial values in
    +-1/sqrt(N).
    **Source.** Elman 1990, doi:10.1207/s15516709cog1402_1; `torch.nn.RNN` for names and initial values.
    """

    weight_ih: Float[Array, "units input_size"]
    weight_hh: Float[Array, "units units"]
    bias_ih: Float[Array, " units"]
    bias_hh: Float[Array, " units"]
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrent: ClassVar[tuple[str, ...]] = ("weight_hh",)

    def __init__(self, input_size: int, hidden_size: int, *, key: Array):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        keys = jax.random.split(key, 4)
        bound = 1 / math.sqrt(hidden_size)
        self.weight_ih = uniform(keys[0], (hidden_size, input_size), bound)
        self.weight_hh = uniform(keys[1], (hidden_size, hidden_size), bound)
        self.bias_ih = uniform(keys[2], (hidden_size,), bound)
        self.bias_hh = uniform(keys[3], (hidden_size,), bound)

    def initial_state(self):
        return jnp.zeros(self.hidden_size, self.weight_hh.dtype)

    def emit(self, state):
        return state

    def project(self, input):
        return self.weight_ih @ input + self.bias_ih

    def recur(self, emission):
        return self.weight_hh @ emission + self.bias_hh

    def update(self, state, recurrent, drive):
        return jnp.tanh(recurrent + drive)


class LeakyRNN(FactoredCell):
    """A leaky integrator of tanh units, the network of RFLO and of rate models in neuroscience.

        h_t = leak h_{t-1} + (1 - leak) tanh(weight_hh h_{t-1} + weight_ih x_t + bias)      (1)

    **Shapes.** As `RNN`, with one `bias` [N].
    **Units.** `leak` in [0, 1), one number or one per unit: exp(-1/tau), or 1 - 1/tau, for a time constant of tau
    steps.
    **Source.** Murray 2019, eq. 1, doi:10.7554/eLife.43299.
    """

    weight_ih: Float[Array, "units input_size"]
    weight_hh: Float[Array, "units units"]
    bias: Float[Array, " units"]
    leak: float | tuple[float, ...] = eqx.field(static=True)
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrent: ClassVar[tuple[str, ...]] = ("weight_hh",)

    def __init__(self, input_size: int, hidden_size: int, *, leak: PerUnit = 0.9, key: Array):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        self.leak = per_unit("leak", leak, hidden_size)
        if not all(0 <= share < 1 for share in np.ravel(self.leak)):
            raise ValueError(f"`leak` must be in [0, 1), got {leak}; for a time constant of tau steps use exp(-1/tau)")
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        keys = jax.random.split(key, 2)
        self.weight_ih = uniform(keys[0], (hidden_size, input_size), 1 / math.sqrt(input_size))
        self.weight_hh = jax.random.normal(keys[1], (hidden_size, hidden_size)) * (1.2 / math.sqrt(hidden_size))
        self.bias = jnp.zeros(hidden_size)

    def initial_state(self):
        return jnp.zeros(self.hidden_size, self.weight_hh.dtype)

    def emit(self, state):
        return state

    def project(self, input):
        return self.weight_ih @ input + self.bias

    def recur(self, emission):
        return self.weight_hh @ emission

    def update(self, state, recurrent, drive):
        kept, new = (constant(share, state) for share in (self.leak, 1 - np.asarray(self.leak)))
        return kept * state + new * jnp.tanh(recurrent + drive)


class _EulerRNN(FactoredCell):
    """h + step tanh(matrix h + weight_ih x + bias): the antisymmetric network in unit-local parameters."""

    matrix: Float[Array, "units units"]
    weight_ih: Float[Array, "units input_size"]
    bias: Float[Array, " units"]
    step: float = eqx.field(static=True)
    input_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)

    def initial_state(self):
        return jnp.zeros(self.matrix.shape[0], self.matrix.dtype)

    def emit(self, state):
        return state

    def project(self, input):
        return self.weight_ih @ input + self.bias

    def recur(self, emission):
        return self.matrix @ emission

    def update(self, state, recurrent, drive):
        return state + self.step * jnp.tanh(recurrent + drive)


class AntisymmetricRNN(Cell):
    """A discretised stable ordinary differential equation that neither forgets nor explodes.

        h_t = h_{t-1} + step tanh((W - W^T - damping I) h_{t-1} + weight_ih x_t + bias)      (1)

    W is not unit-local (row i of W moves every unit), so the algorithms work in W - W^T - damping I (`effective`),
    and the gradient is pulled back to W.

    **Shapes.** As `RNN`: `weight_hh` is W [N, N]; one `bias` [N].
    **Units.** `step`: the Euler step, positive; `damping`: non-negative diffusion.
    **Source.** Chang, Chen, Haber and Chi 2019, eq. 3, https://openreview.net/forum?id=ryxepo0cFX.
    """

    weight_ih: Float[Array, "units input_size"]
    weight_hh: Float[Array, "units units"]
    bias: Float[Array, " units"]
    step: float = eqx.field(static=True)
    damping: float = eqx.field(static=True)
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrent: ClassVar[tuple[str, ...]] = ("weight_hh",)

    def __init__(self, input_size: int, hidden_size: int, *, step: float = 0.1, damping: float = 0.01, key: Array):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        if step <= 0 or damping < 0:
            raise ValueError(f"`step` must be positive and `damping` not negative, got {step} and {damping}")
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.step, self.damping = float(step), float(damping)
        keys = jax.random.split(key, 2)
        self.weight_ih = uniform(keys[0], (hidden_size, input_size), 1 / math.sqrt(input_size))
        self.weight_hh = jax.random.normal(keys[1], (hidden_size, hidden_size)) / math.sqrt(hidden_size)
        self.bias = jnp.zeros(hidden_size)

    def effective(self) -> Cell:
        identity = jnp.eye(self.hidden_size, dtype=self.weight_hh.dtype)
        matrix = self.weight_hh - self.weight_hh.T - self.damping * identity
        return _EulerRNN(
            matrix=matrix,
            weight_ih=self.weight_ih,
            bias=self.bias,
            step=self.step,
            input_size=self.input_size,
            output_size=self.output_size,
        )

    def initial_state(self):
        return jnp.zeros(self.hidden_size, self.weight_hh.dtype)

    def emit(self, state):
        return state

    def transition(self, state, emission, input):
        return self.effective().transition(state, emission, input)
