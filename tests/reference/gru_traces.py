"""SnAp-1 and e-prop of one GRU layer with every derivative worked out by hand.

Unit i at one step, h' = what the layer's units emitted before (and h'_i the unit's own old state):

    r = sigmoid(a_r), z = sigmoid(a_z), q = weight_hh[i, 2] . h' + bias_hh[i, 2], n = tanh(b_n + r q)
    h = (1 - z) n + z h'_i

    dh/da_z = (h'_i - n) z (1 - z)
    dh/db_n = (1 - z) (1 - n^2)
    dh/dq   = r dh/db_n
    dh/da_r = q r (1 - r) dh/db_n

A unit keeps one trace per parameter of its own, trace' = D trace + (immediate derivative), where

    e-prop, emission held fixed:      D = z
    SnAp-1, own emission included:    D = z + weight_hh[i, 0, i] dh/da_r + weight_hh[i, 1, i] dh/da_z
                                            + weight_hh[i, 2, i] dh/dq
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gradients(cell, readout, inputs, targets, weights, windows, rule, reset_coupling=True):
    """One (cell gradient, readout gradient) per window; `rule` is "eprop" or "snap".

    `reset_coupling=False` is a common mistake, here as a negative control: r is left out of dh/dq.
    """
    units, size = cell["weight_ih"].shape[0], cell["weight_ih"].shape[2]
    h = np.zeros(units)
    traces = {name: np.zeros_like(array) for name, array in cell.items()}
    results, t = [], 0
    for length in windows:
        total = {name: np.zeros_like(array) for name, array in cell.items()}
        dr, db = np.zeros_like(readout["weight"]), np.zeros_like(readout["bias"])
        for _ in range(length):
            old, x = h.copy(), inputs[t]
            for i in range(units):
                inner = [sum(cell["weight_ih"][i, g, j] * x[j] for j in range(size)) for g in range(3)]
                outer = [sum(cell["weight_hh"][i, g, j] * old[j] for j in range(units)) for g in range(3)]
                r = sigmoid(inner[0] + cell["bias_ih"][i, 0] + outer[0] + cell["bias_hh"][i, 0])
                z = sigmoid(inner[1] + cell["bias_ih"][i, 1] + outer[1] + cell["bias_hh"][i, 1])
                q = outer[2] + cell["bias_hh"][i, 2]
                n = np.tanh(inner[2] + cell["bias_ih"][i, 2] + r * q)
                h[i] = (1 - z) * n + z * old[i]

                by_n = (1 - z) * (1 - n**2)
                by_q = r * by_n if reset_coupling else by_n
                by_r, by_z = q * r * (1 - r) * by_n, (old[i] - n) * z * (1 - z)
                d = z
                if rule == "snap":
                    own = cell["weight_hh"][i, :, i]
                    d = z + own[0] * by_r + own[1] * by_z + own[2] * by_q
                for g, (inside, outside) in enumerate([(by_r, by_r), (by_z, by_z), (by_n, by_q)]):
                    traces["weight_ih"][i, g] = d * traces["weight_ih"][i, g] + inside * x
                    traces["bias_ih"][i, g] = d * traces["bias_ih"][i, g] + inside
                    traces["weight_hh"][i, g] = d * traces["weight_hh"][i, g] + outside * old
                    traces["bias_hh"][i, g] = d * traces["bias_hh"][i, g] + outside
            error = 2 * weights[t] * (readout["weight"] @ h + readout["bias"] - targets[t])
            at_unit = readout["weight"].T @ error
            for name, trace in traces.items():
                for i in range(units):
                    total[name][i] += at_unit[i] * trace[i]
            dr += np.outer(error, h)
            db += error
            t += 1
        results.append((total, {"weight": dr, "bias": db}))
    return results
