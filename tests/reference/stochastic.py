"""UORO, KF-RTRL and SnAp-1 for one leaky tanh layer with a linear readout, in loops of plain NumPy, one sequence.

    h_t = leak h_{t-1} + (1 - leak) tanh(U x_t + W h_{t-1} + b),   y_t = R h_t + r,   loss = weight |y - target|^2

The random signs are given: nu [time, units] for UORO, c [time, 2] for KF-RTRL. Each returns the gradients of the
layer's [U W b] after every step, [time, units, inputs + units + 1].
"""

import numpy as np


def forward(layer, leak, readout, sample):
    """For every step: v = (x, h, 1), J = d h_t / d h_{t-1}, D = d h_t / d (W v), and the error at h_t."""
    recurrent, (matrix, bias) = layer, readout
    units = len(recurrent)
    hidden, steps = np.zeros(units), []
    for x, target, weight in zip(*sample, strict=True):
        v = np.concatenate([x, hidden, [1.0]])
        squashed = np.tanh(recurrent @ v)
        slope = np.diag((1 - leak) * (1 - squashed**2))
        jacobian = leak * np.eye(units) + slope @ recurrent[:, len(x) : len(x) + units]
        hidden = leak * hidden + (1 - leak) * squashed
        error = weight * 2 * (matrix @ hidden + bias - target) @ matrix
        steps.append((v, jacobian, slope, error))
    return steps


def ratio(a, b):
    """The square root of a ratio of norms, 1 where there is none."""
    a, b = np.linalg.norm(a), np.linalg.norm(b)
    return np.sqrt(a / b) if a > 0 and b > 0 else 1.0


def uoro(layer, leak, readout, sample, signs):
    gradients = []
    states, parameters = np.zeros(len(layer)), np.zeros_like(layer)
    for (v, jacobian, slope, error), nu in zip(forward(layer, leak, readout, sample), signs, strict=True):
        moved, pulled = jacobian @ states, np.outer(nu @ slope, v)
        gradients.append((error @ moved) * parameters + np.outer(error @ slope, v))
        old, new = ratio(parameters, moved), ratio(pulled, nu)
        states, parameters = old * moved + new * nu, parameters / old + pulled / new
    return np.stack(gradients)


def snap(layer, leak, readout, sample, mistake=None):
    """No chance in it: the influence of a unit's parameters on that unit, through the diagonal of J.

    `mistake`, for a negative control: "emission" leaves out what a unit hears of its own emission.
    """
    gradients, traces = [], np.zeros_like(layer)
    for v, jacobian, slope, error in forward(layer, leak, readout, sample):
        for unit in range(len(layer)):
            kept = leak if mistake == "emission" else jacobian[unit, unit]
            traces[unit] = kept * traces[unit] + slope[unit, unit] * v
        gradients.append(error[:, None] * traces)
    return np.stack(gradients)


def kf_rtrl(layer, leak, readout, sample, signs):
    gradients = []
    left, right = np.zeros((len(layer), len(layer))), np.zeros(layer.shape[1])
    for (v, jacobian, slope, error), (c1, c2) in zip(forward(layer, leak, readout, sample), signs, strict=True):
        moved = jacobian @ left
        gradients.append(np.outer(error @ moved, right) + np.outer(error @ slope, v))
        p1, p2 = ratio(moved, right), ratio(slope, v)
        left, right = c1 / p1 * moved + c2 / p2 * slope, c1 * p1 * right + c2 * p2 * v
    return np.stack(gradients)
