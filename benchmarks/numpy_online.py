"""Online learning of a tanh layer or a GRU with a linear readout in plain NumPy, for `braintrace_speed.py`.

A step of either cell is described by what all the recursions need: with a_p = W_p s_p the p-th product of weights and
sources (input, state and a one, as far as the product has them) and f_p = d h_t / d a_p,

    M_t = f_p s_p,   J = own + sum_p f_p R_p,   R_p: the columns of W_p that the state goes through        (1)

where `own` is d h_t / d h_{t-1} outside the products: z in a GRU, 0 in a tanh layer. Arrays are [batch, units].
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Product(NamedTuple):
    """Slope f [batch, units], sources s [batch, sources] and recurrent weights R [units, units], if any."""

    slope: np.ndarray
    source: np.ndarray
    recurrent: np.ndarray | None


def rnn_step(weights, state, input):
    """h = tanh(W [x, h, 1])."""
    (weight,), inputs = weights, input.shape[1]
    source = np.concatenate([input, state, np.ones_like(state[:, :1])], axis=1)
    new = np.tanh(source @ weight.T)
    return new, 0 * state, [Product(1 - new**2, source, weight[:, inputs:-1])]


def gru_step(weights, state, input):
    """The reset-after GRU; weights of the gates r, z [x, h, 1], of the new value's [x, 1] and of its [h, 1]."""
    ones, inputs = np.ones_like(state[:, :1]), input.shape[1]
    source, driven, own = (np.concatenate(a, axis=1) for a in ([input, state, ones], [input, ones], [state, ones]))
    r, z = (1 / (1 + np.exp(-source @ weight.T)) for weight in weights[:2])
    recurrent = own @ weights[3].T
    new = np.tanh(driven @ weights[2].T + r * recurrent)
    slope = (1 - z) * (1 - new**2)
    products = [
        Product(slope * recurrent * r * (1 - r), source, weights[0][:, inputs:-1]),
        Product((state - new) * z * (1 - z), source, weights[1][:, inputs:-1]),
        Product(slope, driven, None),
        Product(slope * r, own, weights[3][:, :-1]),
    ]
    return (1 - z) * new + z * state, z, products


STEPS: dict[str, Callable] = {"rnn": rnn_step, "gru": gru_step}


class Diagonal:
    """Traces of one number a weight: S = D S + M, D = `own` (e-prop), and with it the diagonal of J (SnAp-1)."""

    def __init__(self, weights, batch, mixing):
        self.traces = [np.zeros((batch, *weight.shape), weight.dtype) for weight in weights]
        self.mixing = mixing

    def step(self, own, products, error):
        if self.mixing:
            own = own + sum(p.slope * np.diagonal(p.recurrent) for p in products if p.recurrent is not None)
        for trace, p in zip(self.traces, products, strict=True):
            trace *= own[:, :, None]
            trace += p.slope[:, :, None] * p.source[:, None]
        return [np.einsum("bn,bns->ns", error, trace) for trace in self.traces]


class UORO:
    """The influence of each sequence as one product a b^T, as in `onward.UORO`."""

    def __init__(self, weights, batch, rng):
        self.states = np.zeros((batch, len(weights[0])), weights[0].dtype)
        self.parameters = [np.zeros((batch, *weight.shape), weight.dtype) for weight in weights]
        self.rng = rng

    def step(self, own, products, error):
        moved = own * self.states + sum(
            p.slope * (self.states @ p.recurrent.T) for p in products if p.recurrent is not None
        )
        seen = np.sum(error * moved, axis=1)
        gradients = [
            np.tensordot(seen, b, axes=1) + (error * p.slope).T @ p.source
            for b, p in zip(self.parameters, products, strict=True)
        ]
        signs = self.rng.choice(np.array([-1, 1], error.dtype), size=moved.shape)
        pulled = [(signs * p.slope)[:, :, None] * p.source[:, None] for p in products]
        kept = _balance(self._norm(self.parameters), self._norm([moved]))
        new = _balance(self._norm(pulled), self._norm([signs]))
        self.states = kept[:, None] * moved + new[:, None] * signs
        for b, m in zip(self.parameters, pulled, strict=True):
            b /= kept[:, None, None]
            m /= new[:, None, None]
            b += m
        return gradients

    @staticmethod
    def _norm(arrays):
        return np.sqrt(sum(np.einsum("bi,bi->b", a, a) for a in (a.reshape(len(a), -1) for a in arrays)))


def _balance(numerator, denominator):
    fine = (numerator > 0) & (denominator > 0)
    return np.sqrt(np.where(fine, numerator, 1) / np.where(fine, denominator, 1))


def gradient(cell, weights, readout, inputs, targets, method):
    """Of the mean over the batch of the summed squared error, by the weights; arrays [time, batch, ...]."""
    state = np.zeros((inputs.shape[1], len(weights[0])), inputs.dtype)
    total, total_out = [np.zeros_like(weight) for weight in weights], np.zeros_like(readout)
    for input, target in zip(inputs, targets, strict=True):
        state, own, products = STEPS[cell](weights, state, input)
        error = 2 / len(input) * (state @ readout[:, :-1].T + readout[:, -1] - target)
        total_out[:, :-1] += error.T @ state
        total_out[:, -1] += error.sum(axis=0)
        for weight, part in zip(total, method.step(own, products, error @ readout[:, :-1]), strict=True):
            weight += part
    return total, total_out
