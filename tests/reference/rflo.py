"""Murray 2019's rule for layers of leaky tanh units, in loops of plain NumPy; one sequence.

    u_i(t) = sum_j W_ij h_j(t-1) + sum_j U_ij x_j(t) + b_i
    h_i(t) = leak h_i(t-1) + (1 - leak) tanh(u_i(t)),      y(t) = R h(t) + r,   loss = weight |y - target|^2
    p_ij(t) = leak p_ij(t-1) + (1 - leak) tanh'(u_i(t)) h_j(t-1)      (and with x_j(t), or 1)
    dL/dW_ij = sum over t of [B e(t)]_i p_ij(t),   e = dL/dy

Murray's tau is 1 / (1 - leak). Of several layers each reads h of the one below, and has a B of its own.
"""

import numpy as np


def gradients(layers, leaks, readout, matrices, inputs, targets, weights, windows, mistake=None):
    """Per window: a dict for each layer, and the readout. `mistake`: "trace" forgets p, "one B" is of all layers."""
    hidden = [np.zeros(len(layer["bias"])) for layer in layers]
    traces = [{name: np.zeros_like(value) for name, value in layer.items()} for layer in layers]
    results, t = [], 0
    for length in windows:
        total = [{name: np.zeros_like(value) for name, value in layer.items()} for layer in (*layers, readout)]
        for _ in range(length):
            x = inputs[t]
            for n, (layer, leak) in enumerate(zip(layers, leaks, strict=True)):
                h = hidden[n].copy()
                for i in range(len(h)):
                    u = layer["weight_hh"][i] @ hidden[n] + layer["weight_ih"][i] @ x + layer["bias"][i]
                    h[i] = leak * hidden[n][i] + (1 - leak) * np.tanh(u)
                    slope = (1 - leak) * (1 - np.tanh(u) ** 2)
                    kept = 0.0 if mistake == "trace" else leak
                    for name, pre in {"weight_hh": hidden[n], "weight_ih": x, "bias": 1.0}.items():
                        traces[n][name][i] = kept * traces[n][name][i] + slope * pre
                hidden[n], x = h, h
            error = 2 * weights[t] * (readout["weight"] @ x + readout["bias"] - targets[t])
            for n, trace in enumerate(traces):
                signal = matrices[0 if mistake == "one B" else n] @ error
                for name in trace:
                    total[n][name] += (signal * trace[name].T).T
            total[-1]["weight"] += np.outer(error, x)
            total[-1]["bias"] += error
            t += 1
        results.append(total)
    return results
