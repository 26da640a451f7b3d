"""Exact online learning of one linear recurrent unit layer, in NumPy's complex numbers.

    h_t = lambda h_{t-1} + gamma B x_t,  lambda = exp(-exp(nu) + i exp(theta)),  gamma = exp(gamma_log)

h depends analytically on lambda, gamma and B, so each has one complex trace per entry:

    by lambda:  A_t = lambda A_{t-1} + h_{t-1}
    by B:       F_t = lambda F_{t-1} + gamma x_t
    by gamma:   G_t = lambda G_{t-1} + B x_t

With g = dL/d(real h) + i dL/d(imag h) a change dh of h changes the real loss by real(conj(g) dh), and

    d lambda / d nu = -exp(nu) lambda,   d lambda / d theta = i exp(theta) lambda,   d gamma / d gamma_log = gamma,
    d B / d b_real = 1,                  d B / d b_imag = i.
"""

import numpy as np


def gradients(cell, readout, inputs, targets, weights, windows, inner_exponential=True):
    """One (cell gradient, readout gradient) per window; the readout reads (real h, imag h).

    `inner_exponential=False` forgets exp(nu) in d lambda / d nu: a published mistake, kept as a negative control.
    """
    units = len(cell["nu"])
    b = cell["b_real"] + 1j * cell["b_imag"]
    lam = np.exp(-np.exp(cell["nu"]) + 1j * np.exp(cell["theta"]))
    gamma = np.exp(cell["gamma_log"])
    h, by_lambda, by_gamma = (np.zeros(units, complex) for _ in range(3))
    by_b = np.zeros(b.shape, complex)
    results, t = [], 0
    for length in windows:
        total = {name: np.zeros_like(array) for name, array in cell.items()}
        dr, db = np.zeros_like(readout["weight"]), np.zeros_like(readout["bias"])
        for _ in range(length):
            x = inputs[t]
            by_lambda = lam * by_lambda + h
            by_gamma = lam * by_gamma + b @ x
            by_b = lam[:, None] * by_b + np.outer(gamma, x)
            h = lam * h + gamma * (b @ x)
            read = np.concatenate([h.real, h.imag])
            error = 2 * weights[t] * (readout["weight"] @ read + readout["bias"] - targets[t])
            at_read = readout["weight"].T @ error
            g = np.conj(at_read[:units] + 1j * at_read[units:])
            slope = -np.exp(cell["nu"]) * lam if inner_exponential else -lam
            total["nu"] += np.real(g * by_lambda * slope)
            total["theta"] += np.real(g * by_lambda * 1j * np.exp(cell["theta"]) * lam)
            total["gamma_log"] += np.real(g * by_gamma * gamma)
            total["b_real"] += np.real(g[:, None] * by_b)
            total["b_imag"] += np.real(g[:, None] * by_b * 1j)
            dr += np.outer(error, read)
            db += error
            t += 1
        results.append((total, {"weight": dr, "bias": db}))
    return results
