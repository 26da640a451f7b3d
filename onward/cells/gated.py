"""Gated cells, unit axis first: GRU and LSTM in PyTorch's (cuDNN's) parameters, and a diagonal LSTM."""

import math
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from onward.cells.base import FactoredCell, positive_sizes, uniform


def gates(weight, vector, bias):
    """One array `[units]` per gate: `weight` [units, gates, in] times `vector`, plus `bias` [units, gates].

    As a single product, gate after gate, so that its parts are contiguous; the biases are its last row, since XLA is
    slow at their gradient where it is a sum of its own.
    """
    matrix = jnp.concatenate([weight.T.reshape(weight.shape[2], -1), bias.T.reshape(1, -1)])
    with_one = jnp.concatenate([vector, jnp.ones(1, vector.dtype)])
    return tuple(lax.split(with_one @ matrix, [weight.shape[0]] * weight.shape[1]))


class _Gated(FactoredCell):
    """Parameters shared by the gated cells: G gates, each with input and recurrent weights and two biases."""

    weight_ih: eqx.AbstractVar[Float[Array, "units gates input_size"]]
    weight_hh: eqx.AbstractVar[Float[Array, "units gates units"]]
    bias_ih: eqx.AbstractVar[Float[Array, "units gates"]]
    bias_hh: eqx.AbstractVar[Float[Array, "units gates"]]

    def project(self, input):
        return gates(self.weight_ih, input, self.bias_ih)

    def recur(self, emission):
        return gates(self.weight_hh, emission, self.bias_hh)


def _initial(key, input_size, hidden_size, gates):
    keys = jax.random.split(key, 4)
    bound = 1 / math.sqrt(hidden_size)
    shapes = (hidden_size, gates, input_size), (hidden_size, gates, hidden_size), *[(hidden_size, gates)] * 2
    return [uniform(k, shape, bound) for k, shape in zip(keys, shapes, strict=True)]


class GRU(_Gated):
    """Gated recurrent unit, reset-after form, as in cuDNN and PyTorch. Gates in the order reset, update, new.

        r, z = sigmoid(input part + recurrent part)                                        (1)
        n    = tanh(W_in x + b_in + r (W_hn h_{t-1} + b_hn))                               (2)
        h_t  = (1 - z) n + z h_{t-1}                                                       (3)

    **Shapes.** N units, I inputs, G = 3: `weight_ih` [N, 3, I], `weight_hh` [N, 3, N], `bias_ih` and `bias_hh`
    [N, 3]; state and emission h [N].
    **Departures.** Cho et al. apply the reset gate to h before the product, which is not unit-local; the reset-after
    form is.
    **Source.** Cho et al. 2014, arXiv:1406.1078; `torch.nn.GRU` for the form, names and initial values.
    """

    weight_ih: Float[Array, "units 3 input_size"]
    weight_hh: Float[Array, "units 3 units"]
    bias_ih: Float[Array, "units 3"]
    bias_hh: Float[Array, "units 3"]
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrent: ClassVar[tuple[str, ...]] = ("weight_hh",)

    def __init__(self, input_size: int, hidden_size: int, *, key: Array):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = _initial(key, input_size, hidden_size, 3)

    def initial_state(self):
        return jnp.zeros(self.hidden_size, self.weight_hh.dtype)

    def emit(self, state):
        return state

    def update(self, state, recurrent, drive):
        reset = jax.nn.sigmoid(recurrent[0] + drive[0])
        keep = jax.nn.sigmoid(recurrent[1] + drive[1])
        new = jnp.tanh(drive[2] + reset * recurrent[2])
        return (1 - keep) * new + keep * state


class LSTM(_Gated):
    """Long short-term memory, as in cuDNN and PyTorch. Gates in the order input, forget, cell, output.

        i, f, o = sigmoid(...),  g = tanh(...)                       (1)
        c_t = f c_{t-1} + i g                                        (2)
        h_t = o tanh(c_t)                                            (3)

    **Shapes.** N units, I inputs, G = 4: `weight_ih` [N, 4, I], `weight_hh` [N, 4, N], `bias_ih` and `bias_hh`
    [N, 4]; state (h, c), each [N]; emission h [N].
    **Source.** Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735; `torch.nn.LSTM` for names and
    initial values.
    """

    weight_ih: Float[Array, "units 4 input_size"]
    weight_hh: Float[Array, "units 4 units"]
    bias_ih: Float[Array, "units 4"]
    bias_hh: Float[Array, "units 4"]
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrent: ClassVar[tuple[str, ...]] = ("weight_hh",)

    def __init__(self, input_size: int, hidden_size: int, *, key: Array):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = _initial(key, input_size, hidden_size, 4)

    def initial_state(self):
        zeros = jnp.zeros(self.hidden_size, self.weight_hh.dtype)
        return zeros, zeros

    def emit(self, state):
        return state[0]

    def update(self, state, recurrent, drive):
        input, forget, new, output = (r + d for r, d in zip(recurrent, drive, strict=True))
        c = jax.nn.sigmoid(forget) * state[1] + jax.nn.sigmoid(input) * jnp.tanh(new)
        return jax.nn.sigmoid(output) * jnp.tanh(c), c


class ElementwiseLSTM(FactoredCell):
    """The eLSTM: gates that read nothing but their own unit's cell, so that real-time recurrent learning is cheap.

        f   = sigmoid(weight_ih[:, 0] x_t + weight_hh[:, 0] c_{t-1} + bias[:, 0])      (1)
        z   = tanh(weight_ih[:, 1] x_t + weight_hh[:, 1] c_{t-1} + bias[:, 1])         (2)
        c_t = f c_{t-1} + (1 - f) z,     all elementwise but weight_ih x               (3)

    The output gate of the paper, h = sigmoid(O x_t + W c_t) c_t, has no memory and is a module of its own,
    `onward.modules.OutputGate`, as it is in the authors' program for real-time recurrent learning.

    **Shapes.** N units, I inputs: `weight_ih` [N, 2, I], `weight_hh` and `bias` [N, 2]; state and emission c [N].
    **Arguments.** `forget_bias`: the initial bias of f, above 0 for a longer memory. Input weights start with variance
    1 / I, recurrent ones with the paper's standard deviation of 0.1.
    **Raises.** `ValueError` if a size is not a positive integer.
    **Source.** Irie, Gopalakrishnan and Schmidhuber 2024, section 3, arXiv:2305.19044.
    """

    weight_ih: Float[Array, "units 2 input_size"]
    weight_hh: Float[Array, "units 2"]
    bias: Float[Array, "units 2"]
    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrence: ClassVar[Literal["dense", "diagonal", "none"]] = "diagonal"
    recurrent: ClassVar[tuple[str, ...]] = ("weight_hh",)

    def __init__(self, input_size: int, hidden_size: int, *, forget_bias: float = 0.0, key: Array):
        positive_sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        keys = jax.random.split(key, 2)
        self.weight_ih = jax.random.normal(keys[0], (hidden_size, 2, input_size)) / math.sqrt(input_size)
        self.weight_hh = 0.1 * jax.random.normal(keys[1], (hidden_size, 2))
        self.bias = jnp.zeros((hidden_size, 2)).at[:, 0].set(forget_bias)

    def initial_state(self):
        return jnp.zeros(self.hidden_size, self.weight_hh.dtype)

    def emit(self, state):
        return state

    def project(self, input):
        return gates(self.weight_ih, input, self.bias)

    def recur(self, emission):
        return ()

    def update(self, state, recurrent, drive):
        forget = jax.nn.sigmoid(drive[0] + self.weight_hh[:, 0] * state)
        new = jnp.tanh(drive[1] + self.weight_hh[:, 1] * state)
        return forget * state + (1 - forget) * new
