"""Cells that can be run backwards: each half of a unit is updated from the other, so that every step can be undone."""

import abc
import math
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from onward.cells.base import FactoredCell, State, positive_sizes, uniform
from onward.cells.gated import gates


class _TwoHalves(FactoredCell):
    """What the reversible gated cells share: the second half of every unit reads the new first halves of all.

        first_t  = advance(first_{t-1},  V_1 x_t + U_1 h2_{t-1} + b_1)      (1)
        second_t = advance(second_{t-1}, V_2 x_t + U_2 h1_t     + b_2)      (2)

    (2) is undone first, from first_t, and then (1), from the second_{t-1} that this gives. A unit's first half reaches
    all second halves within the step, which the unit-local contract does not allow.
    """

    weight_ih: Float[Array, "units 2 gates input_size"]
    weight_hh: Float[Array, "units 2 gates units"]
    bias_ih: Float[Array, "units 2 gates"]
    bias_hh: Float[Array, "units 2 gates"]
    min_forget: float = eqx.field(static=True)
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    gate_count: ClassVar[int]
    recurrent: ClassVar[tuple[str, ...]] = ("weight_hh",)
    unit_local: ClassVar[bool] = False

    def __init__(self, input_size: int, hidden_size: int, *, min_forget: float = 0.9, key: Array):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, 2 * hidden_size
        self.min_forget = float(min_forget)
        keys, bound = jax.random.split(key, 4), 1 / math.sqrt(hidden_size)
        lead = hidden_size, 2, self.gate_count
        shapes = (*lead, input_size), (*lead, hidden_size), lead, lead
        arrays = [uniform(k, shape, bound) for k, shape in zip(keys, shapes, strict=True)]
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = arrays

    @abc.abstractmethod
    def broadcast(self, half: PyTree) -> Float[Array, " units"]:
        """h of one half: what the other half reads of it."""

    @abc.abstractmethod
    def advance(self, half: PyTree, recurrent: PyTree, drive: PyTree) -> PyTree:
        """One half after a step."""

    @abc.abstractmethod
    def retreat(self, half: PyTree, recurrent: PyTree, drive: PyTree) -> PyTree:
        """One half before the step that `advance` made of it."""

    @property
    def invertible(self):
        return True

    def emit(self, state):
        return jnp.concatenate([self.broadcast(half) for half in state])

    def project(self, input):
        count = self.bias_ih.shape[2]
        weight, bias = (jax.lax.collapse(leaf, 1, 3) for leaf in (self.weight_ih, self.bias_ih))
        parts = gates(weight, input, bias)
        return parts[:count], parts[count:]

    def recur(self, emission):
        return self._read(0, jnp.split(emission, 2)[1])

    def update(self, state: State, recurrent: PyTree, drive: PyTree) -> State:
        first = self.advance(state[0], recurrent, drive[0])
        return first, self.advance(state[1], self._read(1, self.broadcast(first)), drive[1])

    def revert(self, state: State, drive: PyTree) -> State:
        second = self.retreat(state[1], self._read(1, self.broadcast(state[0])), drive[1])
        return self.retreat(state[0], self._read(0, self.broadcast(second)), drive[0]), second

    def _read(self, half, other):
        return gates(self.weight_hh[:, half], other, self.bias_hh[:, half])


class RevGRU(_TwoHalves):
    """Reversible gated recurrent unit: two halves of a GRU, each with gates that read the other. Gates as in `GRU`.

    With m = `min_forget`, for each half from the h of the other (the second reads the first half's new h):

        r       = sigmoid(input part + recurrent part)                          (1)
        z       = m + (1 - m) sigmoid(input part + recurrent part)              (2)
        n       = tanh(V_n x + a_n + r (U_n h' + b_n))                          (3)
        h_t     = (1 - z) n + z h_{t-1}                                         (4)
        h_{t-1} = (h_t - (1 - z) n) / z                                         (5)

    **Forgetting.** (5) is exact in algebra, and multiplies rounding by 1 / z at each step: what (4) forgets is gone
    from a state of finite precision. By its own decay a half loses at most log10(1 / m) digits a step; what the halves
    read of each other adds to that.

    **Shapes.** N units, I inputs, G = 3: `weight_ih` [N, 2, 3, I], `weight_hh` [N, 2, 3, N], `bias_ih` and `bias_hh`
    [N, 2, 3]; state (h1, h2), each [N]; emission [2 N].
    **Arguments.** `min_forget`: m in (0, 1), the least value of z.
    **Departures.** The reset gate comes after the matrix product, as in `GRU`; no bits are stored, so that bounded
    forgetting costs digits where the paper's stays exact.
    **Source.** MacKay, Vicol, Ba and Grosse 2018, "Reversible recurrent neural networks", arXiv:1810.10999.
    """

    gate_count: ClassVar[int] = 3

    def __check_init__(self):
        if not 0 < self.min_forget < 1:
            raise ValueError(
                f"`min_forget` must be in (0, 1), got {self.min_forget}; at 1 the state would never change"
            )

    def initial_state(self):
        zeros = jnp.zeros(self.hidden_size, self.weight_hh.dtype)
        return zeros, zeros

    def broadcast(self, half):
        return half

    def advance(self, half, recurrent, drive):
        keep, new = self._keep_and_new(recurrent, drive)
        return (1 - keep) * new + keep * half

    def retreat(self, half, recurrent, drive):
        keep, new = self._keep_and_new(recurrent, drive)
        return (half - (1 - keep) * new) / keep

    def _keep_and_new(self, recurrent, drive):
        reset = jax.nn.sigmoid(recurrent[0] + drive[0])
        keep = self.min_forget + (1 - self.min_forget) * jax.nn.sigmoid(recurrent[1] + drive[1])
        return keep, jnp.tanh(drive[2] + reset * recurrent[2])


class RevLSTM(_TwoHalves):
    """Reversible long short-term memory: two halves, each with gates that read the other's h.

    Gates in the order input, forget, cell, output, and one more, p, that keeps h. With m = `min_forget`, for each half
    from the h of the other (the second reads the first half's new h):

        i, o    = sigmoid(...),  g = tanh(...)                                  (1)
        f, p    = m + (1 - m) sigmoid(...)                                      (2)
        c_t     = f c_{t-1} + i g                                               (3)
        h_t     = p h_{t-1} + o tanh(c_t)                                       (4)
        h_{t-1} = (h_t - o tanh(c_t)) / p                                       (5)
        c_{t-1} = (c_t - i g) / f                                               (6)

    **Forgetting.** (5) and (6) are exact in algebra, and multiply rounding by 1 / p and 1 / f at each step: what (3)
    and (4) forget is gone from a state of finite precision. By its own decay a half loses at most log10(1 / m) digits
    a step; what the halves read of each other adds to that. At m = 1 nothing decays, but h and c add up all they read.

    **Shapes.** N units, I inputs, G = 5: `weight_ih` [N, 2, 5, I], `weight_hh` [N, 2, 5, N], `bias_ih` and `bias_hh`
    [N, 2, 5]; state ((h1, c1), (h2, c2)), each [N]; emission [2 N].
    **Arguments.** `min_forget`: m in (0, 1], the least value of f and p.
    **Departures.** No bits are stored, so that bounded forgetting costs digits where the paper's stays exact.
    **Source.** MacKay, Vicol, Ba and Grosse 2018, "Reversible recurrent neural networks", arXiv:1810.10999.
    """

    gate_count: ClassVar[int] = 5

    def __check_init__(self):
        if not 0 < self.min_forget <= 1:
            raise ValueError(f"`min_forget` must be in (0, 1], got {self.min_forget}; at 0 a step cannot be undone")

    def initial_state(self):
        zeros = jnp.zeros(self.hidden_size, self.weight_hh.dtype)
        return (zeros, zeros), (zeros, zeros)

    def broadcast(self, half):
        return half[0]

    def advance(self, half, recurrent, drive):
        forget, keep, new, output = self._gates(recurrent, drive)
        c = forget * half[1] + new
        return keep * half[0] + output * jnp.tanh(c), c

    def retreat(self, half, recurrent, drive):
        forget, keep, new, output = self._gates(recurrent, drive)
        h, c = half
        return (h - output * jnp.tanh(c)) / keep, (c - new) / forget

    def _gates(self, recurrent, drive):
        input, forget, new, output, keep = (r + d for r, d in zip(recurrent, drive, strict=True))
        bounded = lambda gate: self.min_forget + (1 - self.min_forget) * jax.nn.sigmoid(gate)  # noqa: E731
        return bounded(forget), bounded(keep), jax.nn.sigmoid(input) * jnp.tanh(new), jax.nn.sigmoid(output)


class Leapfrog(FactoredCell):
    """Undamped oscillators driven by the input: momentum and position updated in turn, as in Hamiltonian mechanics.

        s       = step sigmoid(rate)                                                                (1)
        p_t     = p_{t-1} - s (tanh(weight_hh y_{t-1} + weight_ih x_t + bias) + stiffness y_{t-1})  (2)
        y_t     = y_{t-1} + s p_t                                                                   (3)
        y_{t-1} = y_t - s p_t                                                                       (4)
        p_{t-1} = p_t + s (tanh(weight_hh y_{t-1} + weight_ih x_t + bias) + stiffness y_{t-1})      (5)

    weight_hh and rate elementwise: units do not see each other, and the force on each derives from a potential of its
    own position, so that a step is symplectic. It neither forgets nor explodes, and (4), (5) lose no digits to
    forgetting. Momenta live half a step before positions, which makes (2), (3) the leapfrog scheme (symplectic Euler).

    **Shapes.** N units, I inputs: `weight_ih` [N, I], `weight_hh`, `bias` and `rate` [N]; state (y, p), each [N];
    emission y [N].
    **Arguments.** `step`: positive, the longest time step of a unit; `stiffness`: not negative, the force that pulls
    all units back. Oscillations are stable while s^2 (weight_hh + stiffness) < 4.
    **Source.** Rusch and Mishra 2021, "UnICORNN", arXiv:2103.05487, whose z, c and alpha are p, rate and stiffness.
    """

    weight_ih: Float[Array, "units input_size"]
    weight_hh: Float[Array, " units"]
    bias: Float[Array, " units"]
    rate: Float[Array, " units"]
    step: float = eqx.field(static=True)
    stiffness: float = eqx.field(static=True)
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrence: ClassVar[Literal["dense", "diagonal", "none"]] = "diagonal"
    recurrent: ClassVar[tuple[str, ...]] = ("weight_hh", "rate")

    def __init__(self, input_size: int, hidden_size: int, *, step: float = 0.2, stiffness: float = 1.0, key: Array):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        if step <= 0 or stiffness < 0:
            raise ValueError(f"`step` must be positive and `stiffness` not negative, got {step} and {stiffness}")
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.step, self.stiffness = float(step), float(stiffness)
        keys = jax.random.split(key, 3)
        self.weight_ih = uniform(keys[0], (hidden_size, input_size), 1 / math.sqrt(input_size))
        self.weight_hh = jnp.abs(uniform(keys[1], (hidden_size,), 1.0))
        self.bias = jnp.zeros(hidden_size)
        self.rate = uniform(keys[2], (hidden_size,), 0.1)

    def initial_state(self):
        zeros = jnp.zeros(self.hidden_size, self.weight_hh.dtype)
        return zeros, zeros

    def emit(self, state):
        return state[0]

    def project(self, input):
        return self.weight_ih @ input + self.bias

    def recur(self, emission):
        return ()

    def update(self, state, recurrent, drive):
        position, momentum = state
        momentum = momentum - self._kick(position, drive)
        return position + self._scale() * momentum, momentum

    @property
    def invertible(self):
        return True

    def revert(self, state, drive):
        position, momentum = state
        position = position - self._scale() * momentum
        return position, momentum + self._kick(position, drive)

    def _scale(self):
        return self.step * jax.nn.sigmoid(self.rate)

    def _kick(self, position, drive):
        force = jnp.tanh(self.weight_hh * position + drive) + self.stiffness * position
        return self._scale() * force
