"""Cells whose units do not see each other: for these real-time recurrent learning is exact and cheap."""

import math
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from onward.cells.base import Cell, FactoredCell, positive_sizes, uniform


class IndRNN(FactoredCell):
    """Independently recurrent network: each unit feeds back to itself alone.

        h_t     = activation(weight_ih x_t + bias + weight_hh h_{t-1}),  weight_hh elementwise      (1)
        h_{t-1} = (artanh(h_t) - weight_ih x_t - bias) / weight_hh,      for tanh                   (2)

    The inverse (2) loses digits where a unit saturates and where its weight is small.

    **Shapes.** N units, I inputs: `weight_ih` [N, I], `weight_hh` and `bias` [N]; state and emission h [N].
    **Arguments.** `activation`: "relu" (the paper's) or "tanh".
    **Source.** Li et al. 2018, eq. 2, arXiv:1803.04831.
    """

    weight_ih: Float[Array, "units input_size"]
    weight_hh: Float[Array, " units"]
    bias: Float[Array, " units"]
    activation: Literal["relu", "tanh"] = eqx.field(static=True)
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrence: ClassVar[Literal["dense", "diagonal", "none"]] = "diagonal"
    recurrent: ClassVar[tuple[str, ...]] = ("weight_hh",)

    def __init__(self, input_size: int, hidden_size: int, *, activation: Literal["relu", "tanh"] = "relu", key: Array):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        if activation not in ("relu", "tanh"):
            raise ValueError(f"`activation` must be 'relu' or 'tanh', got {activation!r}")
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.activation = activation
        keys = jax.random.split(key, 2)
        self.weight_ih = uniform(keys[0], (hidden_size, input_size), 1 / math.sqrt(input_size))
        self.weight_hh = uniform(keys[1], (hidden_size,), 1.0)
        self.bias = jnp.zeros(hidden_size)

    def initial_state(self):
        return jnp.zeros(self.hidden_size, self.weight_hh.dtype)

    def emit(self, state):
        return state

    def project(self, input):
        return self.weight_ih @ input + self.bias

    def recur(self, emission):
        return ()

    def update(self, state, recurrent, drive):
        activation = jax.nn.relu if self.activation == "relu" else jnp.tanh
        return activation(drive + self.weight_hh * state)

    @property
    def invertible(self):
        return self.activation == "tanh"

    def revert(self, state, drive):
        if not self.invertible:
            raise ValueError(f"an IndRNN has an inverse with activation='tanh' only, got {self.activation!r}")
        return (jnp.arctanh(state) - drive) / self.weight_hh


class _DiagonalLinear(FactoredCell):
    """The linear recurrent unit in unit-local parameters: complex lambda and gamma B as real and imaginary parts."""

    lambda_real: Float[Array, " units"]
    lambda_imag: Float[Array, " units"]
    b_real: Float[Array, "units input_size"]
    b_imag: Float[Array, "units input_size"]
    input_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrence: ClassVar[Literal["dense", "diagonal", "none"]] = "diagonal"

    def initial_state(self):
        zeros = jnp.zeros(self.lambda_real.shape[0], self.lambda_real.dtype)
        return zeros, zeros

    def emit(self, state):
        return jnp.concatenate(state)

    def project(self, input):
        return self.b_real @ input, self.b_imag @ input

    def recur(self, emission):
        return ()

    def update(self, state, recurrent, drive):
        real, imag = state
        return (
            self.lambda_real * real - self.lambda_imag * imag + drive[0],
            self.lambda_real * imag + self.lambda_imag * real + drive[1],
        )

    @property
    def invertible(self):
        return True

    def revert(self, state, drive):
        real, imag = state[0] - drive[0], state[1] - drive[1]
        squared = self.lambda_real**2 + self.lambda_imag**2
        return (
            (self.lambda_real * real + self.lambda_imag * imag) / squared,
            (self.lambda_real * imag - self.lambda_imag * real) / squared,
        )


class LRU(Cell):
    """Linear recurrent unit: a diagonal complex recurrence, stable by its parameterisation.

        lambda  = exp(-exp(nu) + i exp(theta))                      (1)
        h_t     = lambda h_{t-1} + exp(gamma_log) (B x_t)           (2)
        h_{t-1} = (h_t - exp(gamma_log) (B x_t)) / lambda           (3)

    The inverse (3) multiplies rounding by 1 / |lambda| at each step.

    The emission is the real and the imaginary part of h, which the layer itself does not read; the maps C and D that
    usually follow are memoryless modules of their own. nu, theta and gamma_log act through lambda and gamma B
    (`effective`), in which every parameter belongs to one unit.

    **Shapes.** N complex units, I inputs: `nu`, `theta`, `gamma_log` [N], `b_real`, `b_imag` [N, I]; state
    (real, imaginary), each [N]; emission [2 N].
    **Arguments.** `r_min`, `r_max`: the ring that |lambda| is drawn from, uniformly by area; `max_phase`: the largest
    phase in radians. gamma starts as sqrt(1 - |lambda|^2).
    **Departures.** The normalisation of B is 1/sqrt(2 I), as in the paper's code.
    **Source.** Orvieto et al. 2023, section 3, arXiv:2303.06349.
    """

    nu: Float[Array, " units"]
    theta: Float[Array, " units"]
    gamma_log: Float[Array, " units"]
    b_real: Float[Array, "units input_size"]
    b_imag: Float[Array, "units input_size"]
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrence: ClassVar[Literal["dense", "diagonal", "none"]] = "diagonal"
    recurrent: ClassVar[tuple[str, ...]] = ("nu", "theta", "gamma_log", "b_real", "b_imag")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 6.28,
        key: Array,
    ):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        if not 0 <= r_min <= r_max <= 1:
            raise ValueError(f"`r_min` and `r_max` must satisfy 0 <= r_min <= r_max <= 1, got {r_min} and {r_max}")
        if max_phase <= 0:
            raise ValueError(f"`max_phase` must be positive, got {max_phase}; 6.28 covers the circle")
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, 2 * hidden_size
        keys = jax.random.split(key, 4)
        # The draws keep away from 0 and 1, where log(-log |lambda|) and log(phase) are infinite.
        u1, u2 = (jax.random.uniform(k, (hidden_size,), minval=1e-4, maxval=1 - 1e-4) for k in keys[:2])
        squared = jnp.clip(u1 * (r_max**2 - r_min**2) + r_min**2, 1e-8, 1 - 1e-7)
        self.nu = jnp.log(-0.5 * jnp.log(squared))
        self.theta = jnp.log(max_phase * u2)
        self.gamma_log = 0.5 * jnp.log1p(-squared)
        scale = 1 / math.sqrt(2 * input_size)
        self.b_real, self.b_imag = (jax.random.normal(k, (hidden_size, input_size)) * scale for k in keys[2:])

    def effective(self) -> Cell:
        modulus, phase = jnp.exp(-jnp.exp(self.nu)), jnp.exp(self.theta)
        gamma = jnp.exp(self.gamma_log)[:, None]
        return _DiagonalLinear(
            lambda_real=modulus * jnp.cos(phase),
            lambda_imag=modulus * jnp.sin(phase),
            b_real=gamma * self.b_real,
            b_imag=gamma * self.b_imag,
            input_size=self.input_size,
            output_size=self.output_size,
        )

    def initial_state(self):
        zeros = jnp.zeros(self.hidden_size, self.nu.dtype)
        return zeros, zeros

    def emit(self, state):
        return jnp.concatenate(state)

    def transition(self, state, emission, input):
        return self.effective().transition(state, emission, input)

    @property
    def invertible(self):
        return True

    def inverse(self, state, input):
        return self.effective().inverse(state, input)
