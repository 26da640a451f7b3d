"""Every online rule on a stack of any layers, from dense Jacobians and masks.

All derivatives are complex steps of `steps.py`, exact to rounding. Two formulations:

`whole_network` treats the network as one big recurrent system s' = F(s, x, theta) and knows nothing of layers:

    S_t = M_t + decay J_{t-1} S_{t-1}                              RTRL
    S_t = sum over j = 0 ... n of J_{t-1} ... J_{t-j} M_{t-j}      a look-back of n steps
    S_t = P o (M_t + J_{t-1} S_{t-1})                              SnAp-n, P the pattern of (1 + J + ... + J^{n-1}) M

`by_layer` is the family of rules that cut paths. For layer l's parameters and each layer m at or above l,

    S^m_t = D^m_{t-1} S^m_{t-1} + X^m_t S^{m-1}_t          (m = l: the immediate derivative instead of the last term)

with X^m the derivative of layer m's new state by its input, from emissions below, and D^m the part of layer m's
Jacobian that the rule keeps:  "full" all of it; "snap" the entries that stay inside a unit, its own emission included;
"eprop" the derivative by the old state at a fixed emission. `depth="spatial"` has S^l alone, and takes the error of
layer l at the same step; `depth="traces"` has all S^m and takes the error of the top layer.
"""

import numpy as np

from tests.reference.steps import derivative, network_step, pack, unit_of_entry, unpack


def whole_network(layers, readout, inputs, targets, weights, windows, decay=1.0, look_back=None, reach=None):
    """Per window a list of parameter gradients by layer, the readout's last.

    `reach`: n of SnAp-n. A weight of 0 is one that is absent, and has no gradient then.
    """
    sizes = np.cumsum([layer.size for layer in layers])[:-1]
    lengths = np.cumsum([len(pack(layer.parameters)) for layer in layers])[:-1]

    def step(state, theta, x):
        parts = [unpack(part, layer.parameters) for part, layer in zip(np.split(theta, lengths), layers, strict=True)]
        return np.concatenate(network_step(layers, parts, np.split(state, sizes), x)[0])

    theta = np.concatenate([pack(layer.parameters) for layer in layers])
    s = np.zeros(sum(layer.size for layer in layers))
    pattern = True if reach is None else _pattern(step, len(s), theta, inputs[0], reach)
    influence, past, results, t = np.zeros((len(s), len(theta))), [], [], 0
    for length in windows:
        total, at_readout = np.zeros(len(theta)), _zeros(readout)
        for _ in range(length):
            j = derivative(lambda state, x=inputs[t]: step(state, theta, x), s)
            m = derivative(lambda theta, state=s, x=inputs[t]: step(state, theta, x), theta)
            s = step(s, theta, inputs[t])
            if look_back is None:
                influence = np.where(pattern, m + decay * j @ influence, 0)
            else:
                past = [m, *[j @ old for old in past]][: look_back + 1]
                influence = sum(past)
            top = len(s) - layers[-1].size
            emitted = s[top:][layers[-1].emits]
            error = _readout_error(readout, emitted, targets[t], weights[t], at_readout)
            at_state = np.zeros(len(s))
            at_state[top:][layers[-1].emits] = error
            total += at_state @ influence
            t += 1
        parts = [unpack(p, layer.parameters) for p, layer in zip(np.split(total, lengths), layers, strict=True)]
        results.append([*parts, at_readout])
    return results


def _pattern(step, size, theta, x, reach):
    """What is reached in so many steps, found at a state of no special values."""
    s = np.random.default_rng(3).normal(size=size)
    j = np.abs(derivative(lambda state: step(state, theta, x), s))
    pattern = (derivative(lambda theta: step(s, theta, x), theta) != 0) & (theta != 0)
    for _ in range(reach - 1):
        pattern = pattern | (j @ pattern > 0)
    return pattern


def by_layer(layers, readout, inputs, targets, weights, windows, rule, depth="spatial"):
    """Per window a list of parameter gradients by layer, the readout's last."""
    count = len(layers)
    states = [np.zeros(layer.size) for layer in layers]
    influence = {
        (m, k): np.zeros((layers[m].size, len(pack(layers[k].parameters))))
        for k in range(count)
        for m in range(k, count)
    }
    results, t = [], 0
    for length in windows:
        totals = [np.zeros(len(pack(layer.parameters))) for layer in layers]
        at_readout = _zeros(readout)
        for _ in range(length):
            local = _linearise(layers, states, inputs[t], rule)
            states = [step.new for step in local]
            for k in range(count):
                for m in range(k, count):
                    fresh = local[m].immediate if m == k else local[m].by_input @ _emitted(layers, influence, m - 1, k)
                    influence[m, k] = local[m].kept @ influence[m, k] + fresh
            error = np.zeros(layers[-1].size)
            emitted = states[-1][layers[-1].emits]
            error[layers[-1].emits] = _readout_error(readout, emitted, targets[t], weights[t], at_readout)
            for k in reversed(range(count)):
                if depth == "spatial":
                    totals[k] += error @ influence[k, k]
                    if k > 0:
                        below = np.zeros(layers[k - 1].size)
                        below[layers[k - 1].emits] = error @ local[k].by_input
                        error = below
                else:
                    totals[k] += error @ influence[count - 1, k]
            t += 1
        parts = [unpack(total, layer.parameters) for total, layer in zip(totals, layers, strict=True)]
        results.append([*parts, at_readout])
    return results


class _Step:
    """One layer at one step: its new state and the derivatives of it that the rule keeps."""

    def __init__(self, layer, state, x, rule):
        p, theta, read = layer.parameters, pack(layer.parameters), state[layer.emits]
        self.new = layer.step(p, state, read, x)
        self.by_input = derivative(lambda x: layer.step(p, state, read, x), x)
        self.immediate = derivative(lambda v: layer.step(unpack(v, p), state, read, x), theta)
        at_fixed_emission = derivative(lambda s: layer.step(p, s, read, x), state)
        full = derivative(lambda s: layer.step(p, s, s[layer.emits], x), state)
        unit = np.arange(layer.size) % layer.units
        same = unit[:, None] == unit[None, :]
        # What the unit-local contract promises is checked here, not assumed.
        assert not np.any(at_fixed_emission[~same])
        assert not np.any(self.immediate[unit[:, None] != unit_of_entry(p)[None, :]])
        self.kept = {"full": full, "snap": np.where(same, full, 0), "eprop": at_fixed_emission}[rule]


def _linearise(layers, states, x, rule):
    steps = []
    for layer, state in zip(layers, states, strict=True):
        steps.append(_Step(layer, state, x, rule))
        x = steps[-1].new[layer.emits]
    return steps


def _emitted(layers, influence, m, k):
    return influence[m, k][layers[m].emits]


def _readout_error(readout, emitted, target, weight, at_readout):
    """Error at the top layer's emission; adds the readout's own gradient to `at_readout`."""
    error = 2 * weight * (readout["weight"] @ emitted + readout["bias"] - target)
    at_readout["weight"] += np.outer(error, emitted)
    at_readout["bias"] += error
    return readout["weight"].T @ error


def _zeros(parameters):
    return {name: np.zeros_like(array) for name, array in parameters.items()}
