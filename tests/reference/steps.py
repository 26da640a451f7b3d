"""One step of each cell, unit by unit, in plain NumPy.

Nothing here takes an absolute value or a real part, so every function may be fed complex numbers: with x + i h for a
tiny h, the imaginary part of f over h is f's derivative by x to the last digit (Squire and Trapp 1998), since nothing
is subtracted.
"""

from typing import NamedTuple

import numpy as np

TINY = 1e-30


class Layer(NamedTuple):
    """`kind` names a function of this file; a state is one vector, component by component: [components * units]."""

    kind: str
    parameters: dict[str, np.ndarray]

    @property
    def units(self):
        return len(next(iter(self.parameters.values())))

    @property
    def size(self):
        return self.units * {"lstm": 2, "lru": 2}.get(self.kind, 1)

    @property
    def emits(self):
        """Which entries of the state are the emission."""
        return slice(0, self.units) if self.kind == "lstm" else slice(0, self.size)

    def step(self, parameters, state, emission, x):
        return STEPS[self.kind](parameters, state, emission, x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(p, state, emission, x):
    """A memoryless map, as a layer that remembers nothing."""
    return np.array([p["weight"][i] @ x + p["bias"][i] for i in range(len(p["weight"]))])


def rnn(p, state, emission, x):
    """Elman 1990."""
    return np.array(
        [
            np.tanh(p["weight_ih"][i] @ x + p["bias_ih"][i] + p["weight_hh"][i] @ emission + p["bias_hh"][i])
            for i in range(len(p["weight_ih"]))
        ]
    )


def gru(p, state, emission, x):
    """Cho et al. 2014 with the reset gate after the matrix product."""
    new = []
    for i in range(len(p["weight_ih"])):
        inner = p["weight_ih"][i] @ x + p["bias_ih"][i]
        outer = p["weight_hh"][i] @ emission + p["bias_hh"][i]
        reset, update = sigmoid(inner[0] + outer[0]), sigmoid(inner[1] + outer[1])
        candidate = np.tanh(inner[2] + reset * outer[2])
        new.append((1 - update) * candidate + update * state[i])
    return np.array(new)


def lstm(p, state, emission, x):
    """Hochreiter and Schmidhuber 1997 with forget gates; state (h, c)."""
    units = len(p["weight_ih"])
    h, c = [], []
    for i in range(units):
        a = p["weight_ih"][i] @ x + p["bias_ih"][i] + p["weight_hh"][i] @ emission + p["bias_hh"][i]
        c.append(sigmoid(a[1]) * state[units + i] + sigmoid(a[0]) * np.tanh(a[2]))
        h.append(sigmoid(a[3]) * np.tanh(c[-1]))
    return np.array(h + c)


def lru(p, state, emission, x):
    """Orvieto et al. 2023, in real numbers; state (real parts, imaginary parts)."""
    units = len(p["nu"])
    real, imag = [], []
    for i in range(units):
        size, phase, gamma = np.exp(-np.exp(p["nu"][i])), np.exp(p["theta"][i]), np.exp(p["gamma_log"][i])
        u, v = state[i], state[units + i]
        real.append(size * (np.cos(phase) * u - np.sin(phase) * v) + gamma * (p["b_real"][i] @ x))
        imag.append(size * (np.cos(phase) * v + np.sin(phase) * u) + gamma * (p["b_imag"][i] @ x))
    return np.array(real + imag)


STEPS = {"linear": linear, "rnn": rnn, "gru": gru, "lstm": lstm, "lru": lru}


def network_step(layers, parameters, states, x):
    """New states of all layers, one above the other, within one time step; the last one's emission is the output."""
    new = []
    for layer, p, state in zip(layers, parameters, states, strict=True):
        new.append(layer.step(p, state, state[layer.emits], x))
        x = new[-1][layer.emits]
    return new, x


def derivative(function, point):
    """Matrix of derivatives of a vector function at a real vector, by the complex step."""
    point = np.asarray(point, float)
    columns = []
    for j in range(len(point)):
        moved = point.astype(complex)
        moved[j] += 1j * TINY
        columns.append(np.imag(function(moved)) / TINY)
    return np.stack(columns, axis=1)


def pack(parameters):
    """One vector from a dict of arrays."""
    return np.concatenate([array.ravel() for array in parameters.values()])


def unpack(vector, like):
    """The inverse of `pack`."""
    result, start = {}, 0
    for name, array in like.items():
        result[name] = vector[start : start + array.size].reshape(array.shape)
        start += array.size
    return result


def unit_of_entry(parameters):
    """For each entry of `pack(parameters)` the unit that it belongs to: its index along the first axis."""
    return np.concatenate([np.repeat(np.arange(len(a)), a.size // len(a)) for a in parameters.values()])
