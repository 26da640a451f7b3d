"""E-prop of one layer of spiking units, written unit by unit from the formulas of Bellec et al. 2020.

For unit j, with z what all units fired at the last step and pre = z_i, x_i or 1 what a parameter of j multiplies:

    v_j   = alpha v_j + W_hh[j] z + W_ih[j] x + b_j - threshold z_j,      a_j = rho a_j + z_j
    A_j   = threshold + beta a_j,      z_j = H(v_j - A_j), or 0 for `refractory` steps after a spike
    psi_j = dampening / threshold max(0, 1 - |v_j - A_j| / threshold), or 0 in the same steps

    eps_a = psi_j eps_v + (rho - psi_j beta) eps_a         (psi_j and eps_v of the last step)
    eps_v = alpha eps_v + pre
    e     = psi_j (eps_v - beta eps_a)
    dE/dW = sum over steps of L_j e,   L_j = sum over outputs k of readout[k, j] error_k

A unit that is set to zero by its spike loses alpha v_j where z_j = 1, and alpha eps_v with it. LIF units have beta = 0.
Silence is told by the step of the last spike, not by a counter as in the library.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Constants:
    """Of a layer; `tau_m`, `tau_a` and `beta` one per unit."""

    tau_m: np.ndarray
    tau_a: np.ndarray
    beta: np.ndarray
    threshold: float
    refractory: int
    dampening: float
    reset: str


class Layer:
    """A layer that runs: voltages `v`, adaptations `a`, spikes `z`, and the slopes `psi` of the last step."""

    def __init__(self, cell, constants):
        self.cell, self.constants = cell, constants
        units = len(cell["bias"])
        self.v, self.a, self.z, self.psi = (np.zeros(units) for _ in range(4))
        self.last_spike = np.full(units, -np.inf)
        self.time = 0

    def step(self, x, psi_in_silence=False):
        c, cell, old = self.constants, self.cell, self.z.copy()
        for j in range(len(old)):
            left = np.exp(-1 / c.tau_m[j]) * self.v[j]
            left = left * (1 - old[j]) if c.reset == "zero" else left - c.threshold * old[j]
            self.v[j] = left + cell["weight_hh"][j] @ old + cell["weight_ih"][j] @ x + cell["bias"][j]
            self.a[j] = np.exp(-1 / c.tau_a[j]) * self.a[j] + old[j]
            above = self.v[j] - (c.threshold + c.beta[j] * self.a[j])
            silent = self.time - self.last_spike[j] <= c.refractory
            self.z[j] = 1.0 if above > 0 and not silent else 0.0
            self.psi[j] = c.dampening / c.threshold * max(0.0, 1 - abs(above) / c.threshold)
            if silent and not psi_in_silence:
                self.psi[j] = 0.0
            if self.z[j]:
                self.last_spike[j] = self.time
        self.time += 1


def gradients(cell, readout, inputs, targets, weights, windows, constants, mistake=None):
    """Per window (cell gradient, readout gradient); and all spikes [time, units].

    `mistake`, for negative controls: "beta" leaves the threshold out of e, "psi" the last psi_j out of eps_a, "alpha"
    makes eps_v forget, "silence" lets psi_j live on in refractory units.
    """
    c, layer = constants, Layer(cell, constants)
    alpha, rho = np.exp(-1 / c.tau_m), np.exp(-1 / c.tau_a)
    eps_v, eps_a = ({name: np.zeros_like(array) for name, array in cell.items()} for _ in range(2))
    results, spikes, t = [], [], 0
    for length in windows:
        total = {name: np.zeros_like(array) for name, array in cell.items()}
        dr, db = np.zeros_like(readout["weight"]), np.zeros_like(readout["bias"])
        for _ in range(length):
            x, z, psi = inputs[t], layer.z.copy(), layer.psi.copy()
            layer.step(x, psi_in_silence=mistake == "silence")
            error = 2 * weights[t] * (readout["weight"] @ layer.z + readout["bias"] - targets[t])
            at_unit = readout["weight"].T @ error
            for name, pre in {"weight_ih": x, "weight_hh": z, "bias": 1.0}.items():
                for j in range(len(z)):
                    kept = alpha[j] * (1 - z[j] if c.reset == "zero" else 1.0)
                    fed_back = 0.0 if mistake == "psi" else psi[j] * c.beta[j]
                    eps_a[name][j] = psi[j] * eps_v[name][j] + (rho[j] - fed_back) * eps_a[name][j]
                    eps_v[name][j] = (0.0 if mistake == "alpha" else kept) * eps_v[name][j] + pre
                    beta = 0.0 if mistake == "beta" else c.beta[j]
                    total[name][j] += at_unit[j] * layer.psi[j] * (eps_v[name][j] - beta * eps_a[name][j])
            dr += np.outer(error, layer.z)
            db += error
            spikes.append(layer.z.copy())
            t += 1
        results.append((total, {"weight": dr, "bias": db}))
    return results, np.stack(spikes)
