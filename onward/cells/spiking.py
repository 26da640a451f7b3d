"""Spiking units with surrogate derivatives: leaky integrate-and-fire, with a fixed and with an adaptive threshold."""

import math
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from onward.cells.base import FactoredCell, PerUnit, constant, per_unit, positive_sizes
from onward.cells.surrogates import spike, surrogate_of
from onward.integers import is_integer


class Membrane(NamedTuple):
    """State of spiking units, each leaf `[units]` and floating; None for what the cell does without.

    `clock`: steps that a unit still has to keep silent; no gradient passes through it.
    """

    voltage: Array
    adaptation: Array | None = None
    clock: Array | None = None


class _Spiking(FactoredCell):
    """What both cells share: their threshold and what moves it, if anything does, are left to them."""

    weight_ih: eqx.AbstractVar[Float[Array, "units input_size"]]
    weight_hh: eqx.AbstractVar[Float[Array, "units units"]]
    bias: eqx.AbstractVar[Float[Array, " units"]]
    tau_m: eqx.AbstractVar[float | tuple[float, ...]]
    threshold: eqx.AbstractVar[float]
    reset: eqx.AbstractVar[Literal["subtract", "zero"]]
    reset_gradient: eqx.AbstractVar[bool]
    refractory: eqx.AbstractVar[int]
    surrogate: eqx.AbstractVar[str | Callable[[Array], Array]]
    dampening: eqx.AbstractVar[float]
    width: eqx.AbstractVar[float]

    def __check_init__(self):
        for name in ("threshold", "dampening", "width"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"`{name}` must be positive and finite, got {getattr(self, name)}")
        if self.reset not in ("subtract", "zero"):
            raise ValueError(f"`reset` must be 'subtract' or 'zero', got {self.reset!r}")
        if not is_integer(self.refractory, 0):
            raise ValueError(f"`refractory` must be a number of steps, an integer from 0, got {self.refractory!r}")
        surrogate_of(self.surrogate)

    def _rest(self, adapts: bool) -> Membrane:
        zeros = jnp.zeros(self.weight_hh.shape[0], self.weight_hh.dtype)
        return Membrane(zeros, zeros if adapts else None, zeros if self.refractory else None)

    def _fire(self, state: Membrane, barrier: Array | float) -> Array:
        """Spikes of units whose threshold of the moment is `barrier`."""
        spikes = spike((state.voltage - barrier) / self.threshold, self.surrogate, self.dampening, self.width)
        return spikes if state.clock is None else jnp.where(state.clock > 0, 0, spikes)

    def _integrate(self, state: Membrane, spikes: Array, current: Array) -> Array:
        """The new voltage, after the reset that the units' own `spikes` bring."""
        fallen = spikes if self.reset_gradient else lax.stop_gradient(spikes)
        kept = constant(_decay(self.tau_m), current) * state.voltage
        kept = kept - self.threshold * fallen if self.reset == "subtract" else kept * (1 - fallen)
        return kept + current

    def _count(self, state: Membrane, spikes: Array) -> Array | None:
        """Steps of silence that are left."""
        if state.clock is None:
            return None
        return lax.stop_gradient(jnp.where(spikes > 0, self.refractory, jnp.maximum(state.clock - 1, 0)))

    def project(self, input):
        return self.weight_ih @ input + self.bias

    def recur(self, emission):
        return self.weight_hh @ emission


class LIF(_Spiking):
    """Leaky integrate-and-fire units: what they tell each other, and the next layer, is spikes alone.

        alpha = exp(-1 / tau_m)                                                                    (1)
        v_t   = alpha v_{t-1} + weight_hh z_{t-1} + weight_ih x_t + bias - threshold z_{t-1}       (2)
        z_t   = 1 if v_t > threshold and the unit is not refractory, otherwise 0                   (3)

    A unit takes the spike that resets it from its own state, not from what it hears of all. At a fixed emission (2) is
    then what a unit does by itself, so that `EProp` has Bellec's eligibility vectors, with psi_t = d z_t / d v_t:

        eps_t = alpha eps_{t-1} + z_{t-1} (or x_t, or 1),    eligibility trace: psi_t eps_t        (4)

    **Shapes.** N units, I inputs: `weight_ih` [N, I], `weight_hh` [N, N], `bias` [N]; state `Membrane`: voltage [N]
    and, where there is a refractory period, clock [N]; emission z [N].
    **Units.** `tau_m` in steps, one number or one per unit; `refractory` in steps of silence after a spike; `width` in
    thresholds.
    **Arguments.** `reset`: "subtract" as in (2), or "zero", where a spike takes all of alpha v. `reset_gradient`: let
    gradients through the spike in the reset; by default none pass, as in the source. `surrogate`: the derivative of
    (3), a name of `onward.cells.surrogates` or a function g(u) of an array; it is dampening g(u / width) / threshold
    with u = (v - threshold) / threshold, and 0 while the unit is refractory.
    **Activity.** Weights start so that inputs of variance 1 would move v by 3 thresholds (standard deviation) if no
    unit fired. Standard normal inputs make about 8 % of the units fire at a step, 2 % where tau_m = 100 and 25 % where
    it is 2.
    **Exactness.** The surrogate is part of the model: BPTT, RTRL and all others follow the same one. No finite
    difference can agree with it, since the loss of a spiking network is a staircase.
    **Raises.** `ValueError` for a size, constant or name that makes no sense.
    **Departures.** Weights to a unit itself are kept, and start like the others.
    **Source.** Bellec et al. 2020, doi:10.1038/s41467-020-17236-y.
    """

    weight_ih: Float[Array, "units input_size"]
    weight_hh: Float[Array, "units units"]
    bias: Float[Array, " units"]
    tau_m: float | tuple[float, ...] = eqx.field(static=True)
    threshold: float = eqx.field(static=True)
    reset: Literal["subtract", "zero"] = eqx.field(static=True)
    reset_gradient: bool = eqx.field(static=True)
    refractory: int = eqx.field(static=True)
    surrogate: str | Callable[[Array], Array] = eqx.field(static=True)
    dampening: float = eqx.field(static=True)
    width: float = eqx.field(static=True)
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrent: ClassVar[tuple[str, ...]] = ("weight_hh",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        tau_m: PerUnit = 20.0,
        threshold: float = 1.0,
        reset: Literal["subtract", "zero"] = "subtract",
        reset_gradient: bool = False,
        refractory: int = 0,
        surrogate: str | Callable[[Array], Array] = "triangle",
        dampening: float = 0.3,
        width: float = 1.0,
        key: Array,
    ):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.tau_m, self.threshold = _time("tau_m", tau_m, hidden_size), float(threshold)
        self.reset, self.reset_gradient, self.refractory = reset, reset_gradient, refractory
        self.surrogate, self.dampening, self.width = surrogate, float(dampening), float(width)
        self.weight_ih, self.weight_hh = _initial(key, input_size, hidden_size, self.tau_m, self.threshold)
        self.bias = jnp.zeros(hidden_size)

    def initial_state(self):
        return self._rest(adapts=False)

    def emit(self, state):
        return self._fire(state, self.threshold)

    def update(self, state, recurrent, drive):
        current, spikes = recurrent + drive, self.emit(state)
        return Membrane(self._integrate(state, spikes, current), None, self._count(state, spikes))


class ALIF(_Spiking):
    """Integrate-and-fire units whose threshold rises with each spike of their own and takes its time to fall.

        A_t = threshold + beta a_t,      z_t = 1 if v_t > A_t and not refractory, otherwise 0      (1)
        a_t = rho a_{t-1} + z_{t-1},     rho = exp(-1 / tau_a)                                     (2)

    v_t is that of `LIF`, its (2). The adaptation remembers for about tau_a steps that a unit has fired. `EProp` has
    Bellec's eligibility vectors of two components, with psi_t = d z_t / d v_t:

        eps^v_t = alpha eps^v_{t-1} + z_{t-1} (or x_t, or 1)                                       (3)
        eps^a_t = psi_{t-1} eps^v_{t-1} + (rho - psi_{t-1} beta) eps^a_{t-1}                       (4)
        eligibility trace: psi_t (eps^v_t - beta eps^a_t)                                          (5)

    **Shapes.** As `LIF`, whose state is joined by adaptation [N].
    **Units.** `tau_m` and `tau_a` in steps; `beta` in units of voltage for each spike. One number or one per unit: with
    `beta` 0 for some, these are plain LIF units.
    **Arguments.** As `LIF`, where u = (v - A) / threshold.
    **Activity.** As `LIF`; standard normal inputs make about 10 % of the units fire at each of the first 50 steps, and
    5 % once the thresholds have risen.
    **Raises.** `ValueError` for a size, constant or name that makes no sense.
    **Source.** Bellec et al. 2020, doi:10.1038/s41467-020-17236-y.
    """

    weight_ih: Float[Array, "units input_size"]
    weight_hh: Float[Array, "units units"]
    bias: Float[Array, " units"]
    tau_m: float | tuple[float, ...] = eqx.field(static=True)
    tau_a: float | tuple[float, ...] = eqx.field(static=True)
    beta: float | tuple[float, ...] = eqx.field(static=True)
    threshold: float = eqx.field(static=True)
    reset: Literal["subtract", "zero"] = eqx.field(static=True)
    reset_gradient: bool = eqx.field(static=True)
    refractory: int = eqx.field(static=True)
    surrogate: str | Callable[[Array], Array] = eqx.field(static=True)
    dampening: float = eqx.field(static=True)
    width: float = eqx.field(static=True)
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrent: ClassVar[tuple[str, ...]] = ("weight_hh",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        tau_m: PerUnit = 20.0,
        tau_a: PerUnit = 200.0,
        beta: PerUnit = 0.1,
        threshold: float = 1.0,
        reset: Literal["subtract", "zero"] = "subtract",
        reset_gradient: bool = False,
        refractory: int = 0,
        surrogate: str | Callable[[Array], Array] = "triangle",
        dampening: float = 0.3,
        width: float = 1.0,
        key: Array,
    ):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.tau_m, self.tau_a = _time("tau_m", tau_m, hidden_size), _time("tau_a", tau_a, hidden_size)
        self.beta, self.threshold = per_unit("beta", beta, hidden_size), float(threshold)
        if not all(0 <= rise < math.inf for rise in np.ravel(self.beta)):
            raise ValueError(f"`beta` must be finite and not negative, got {beta}; 0 leaves the threshold fixed")
        self.reset, self.reset_gradient, self.refractory = reset, reset_gradient, refractory
        self.surrogate, self.dampening, self.width = surrogate, float(dampening), float(width)
        self.weight_ih, self.weight_hh = _initial(key, input_size, hidden_size, self.tau_m, self.threshold)
        self.bias = jnp.zeros(hidden_size)

    def initial_state(self):
        return self._rest(adapts=True)

    def emit(self, state):
        return self._fire(state, self.threshold + constant(self.beta, state.voltage) * state.adaptation)

    def update(self, state, recurrent, drive):
        current, spikes = recurrent + drive, self.emit(state)
        adaptation = constant(_decay(self.tau_a), current) * state.adaptation + spikes
        return Membrane(self._integrate(state, spikes, current), adaptation, self._count(state, spikes))


def _decay(tau):
    """What is left after a step of something that takes `tau` steps to decay."""
    return np.exp(-1 / np.asarray(tau))


def _time(name, value, units):
    value = per_unit(name, value, units)
    if not all(0 < steps < math.inf for steps in np.ravel(value)):
        raise ValueError(f"`{name}` must be a positive, finite number of steps, got {value}")
    return value


def _initial(key, input_size, hidden_size, tau_m, threshold):
    """Input and recurrent weights that make units fire: three thresholds against one, lest they keep each other going.

    Of v's variance under white noise, 1 / (1 - alpha^2) is the units' own memory.
    """
    keys = jax.random.split(key, 2)
    scale = constant(threshold * np.sqrt(1 - _decay(tau_m) ** 2), jnp.zeros(()))
    scale = jnp.broadcast_to(scale, (hidden_size,))[:, None]
    weight_ih = 3 * scale * jax.random.normal(keys[0], (hidden_size, input_size)) / math.sqrt(input_size)
    return weight_ih, scale * jax.random.normal(keys[1], (hidden_size, hidden_size)) / math.sqrt(hidden_size)
