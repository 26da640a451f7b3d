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
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, 2 * hidden_size
        keys = jax.random.split(key, 4)
        squared, self.theta = _ring(keys[:2], hidden_size, r_min, r_max, max_phase)
        self.nu = jnp.log(-0.5 * jnp.log(squared))
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


class RTU(FactoredCell):
    """Recurrent trace units: pairs of real numbers that turn and shrink, made for real-time recurrent learning.

        r = exp(-exp(nu)),  phi = exp(theta),  gamma = sqrt(1 - r^2)                                (1)
        a_t = r cos(phi) c1_{t-1} - r sin(phi) c2_{t-1} + gamma weight_ih[:, 0] x_t                 (2)
        b_t = r cos(phi) c2_{t-1} + r sin(phi) c1_{t-1} + gamma weight_ih[:, 1] x_t                 (3)
        linear:     c1_t, c2_t = a_t, b_t,         emission  f(c1_t), f(c2_t)                       (4)
        nonlinear:  c1_t, c2_t = f(a_t), f(b_t),   emission  c1_t, c2_t                             (5)

    An `LRU` whose gamma is bound to r, with a nonlinear function f of each number, outside the recurrence or inside.

    **Shapes.** N units, I inputs: `nu`, `theta` [N], `weight_ih` [N, 2, I]; state (c1, c2), each [N]; emission [2 N].
    **Arguments.** `form`: "linear" (4) or "nonlinear" (5); `activation`: f, "relu", "tanh" or "identity". `r_min`,
    `r_max`, `max_phase`: the ring of initial eigenvalues, as for `LRU`. Input weights start with variance 1 / I.
    **Raises.** `ValueError` for a size, ring or name that makes no sense.
    **Source.** Elelimy, White, Bowling and White 2024, arXiv:2409.01449.
    """

    nu: Float[Array, " units"]
    theta: Float[Array, " units"]
    weight_ih: Float[Array, "units 2 input_size"]
    form: Literal["linear", "nonlinear"] = eqx.field(static=True)
    activation: Literal["relu", "tanh", "identity"] = eqx.field(static=True)
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrence: ClassVar[Literal["dense", "diagonal", "none"]] = "diagonal"
    recurrent: ClassVar[tuple[str, ...]] = ("nu", "theta")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        form: Literal["linear", "nonlinear"] = "linear",
        activation: Literal["relu", "tanh", "identity"] = "relu",
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 6.28,
        key: Array,
    ):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        if form not in ("linear", "nonlinear"):
            raise ValueError(f"`form` must be 'linear' or 'nonlinear', got {form!r}")
        if activation not in ("relu", "tanh", "identity"):
            raise ValueError(f"`activation` must be 'relu', 'tanh' or 'identity', got {activation!r}")
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, 2 * hidden_size
        self.form, self.activation = form, activation
        keys = jax.random.split(key, 3)
        squared, self.theta = _ring(keys[:2], hidden_size, r_min, r_max, max_phase)
        self.nu = jnp.log(-0.5 * jnp.log(squared))
        self.weight_ih = jax.random.normal(keys[2], (hidden_size, 2, input_size)) / math.sqrt(input_size)

    def initial_state(self):
        zeros = jnp.zeros(self.hidden_size, self.nu.dtype)
        return zeros, zeros

    def emit(self, state):
        pair = jnp.concatenate(state)
        return self._activate(pair) if self.form == "linear" else pair

    def project(self, input):
        gamma = jnp.sqrt(-jnp.expm1(-2 * jnp.exp(self.nu)))
        return gamma * (self.weight_ih[:, 0] @ input), gamma * (self.weight_ih[:, 1] @ input)

    def recur(self, emission):
        return ()

    def update(self, state, recurrent, drive):
        first, second = state
        modulus, phase = jnp.exp(-jnp.exp(self.nu)), jnp.exp(self.theta)
        real, imag = modulus * jnp.cos(phase), modulus * jnp.sin(phase)
        pair = real * first - imag * second + drive[0], real * second + imag * first + drive[1]
        return pair if self.form == "linear" else (self._activate(pair[0]), self._activate(pair[1]))

    def _activate(self, value):
        return {"relu": jax.nn.relu, "tanh": jnp.tanh, "identity": lambda value: value}[self.activation](value)


def _ring(keys, count, r_min, r_max, max_phase):
    """Squared moduli, drawn uniformly by area of the ring, and logarithms of phases, drawn uniformly."""
    if not 0 <= r_min <= r_max <= 1:
        raise ValueError(f"`r_min` and `r_max` must satisfy 0 <= r_min <= r_max <= 1, got {r_min} and {r_max}")
    if max_phase <= 0:
        raise ValueError(f"`max_phase` must be positive, got {max_phase}; 6.28 covers the circle")
    # The draws keep away from 0 and 1, where log(-log |lambda|) and log(phase) are infinite.
    u1, u2 = (jax.random.uniform(k, (count,), minval=1e-4, maxval=1 - 1e-4) for k in keys)
    squared = jnp.clip(u1 * (r_max**2 - r_min**2) + r_min**2, 1e-8, 1 - 1e-7)
    return squared, jnp.log(max_phase * u2)
