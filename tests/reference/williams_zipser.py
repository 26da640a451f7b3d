"""Real-time recurrent learning of one tanh layer, index by index, as Williams and Zipser wrote it in 1989.

With z = (h, x, 1, 1) what a unit reads, w = (weight_hh, weight_ih, bias_ih, bias_hh) side by side, and a_k = w_k z:

    p^k_ij(t+1) = (1 - tanh(a_k)^2) (sum_l w_kl p^l_ij(t) + [i = k] z_j(t))      (their equation 12)
    dL/dw_ij    = sum_k e_k(t+1) p^k_ij(t+1)
"""

import numpy as np


def gradients(cell, readout, inputs, targets, weights, windows, decay=1.0, own_unit_only=False):
    """One (cell gradient, readout gradient) per window.

    `decay` multiplies what is remembered; `own_unit_only` keeps k = i alone, which is SnAp-1.
    """
    w = np.concatenate(
        [cell["weight_hh"], cell["weight_ih"], cell["bias_ih"][:, None], cell["bias_hh"][:, None]], axis=1
    )
    units, reads = w.shape
    h, p = np.zeros(units), np.zeros((units, units, reads))
    results, t = [], 0
    for length in windows:
        dw, dr, db = np.zeros_like(w), np.zeros_like(readout["weight"]), np.zeros_like(readout["bias"])
        for _ in range(length):
            z = np.concatenate([h, inputs[t], [1.0, 1.0]])
            h = np.tanh(w @ z)
            new = np.zeros_like(p)
            for k in range(units):
                for i in range(units):
                    if own_unit_only and i != k:
                        continue
                    for j in range(reads):
                        past = sum(w[k, m] * p[m, i, j] for m in range(units))
                        new[k, i, j] = (1 - h[k] ** 2) * (decay * past + (z[j] if i == k else 0.0))
            p = new
            error = 2 * weights[t] * (readout["weight"] @ h + readout["bias"] - targets[t])
            dr += np.outer(error, h)
            db += error
            dw += np.einsum("k,kij->ij", readout["weight"].T @ error, p)
            t += 1
        results.append(({**_split(dw, cell)}, {"weight": dr, "bias": db}))
    return results


def _split(dw, cell):
    units = len(dw)
    inputs = cell["weight_ih"].shape[1]
    return {
        "weight_hh": dw[:, :units],
        "weight_ih": dw[:, units : units + inputs],
        "bias_ih": dw[:, -2],
        "bias_hh": dw[:, -1],
    }
