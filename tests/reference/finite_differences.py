"""BPTT's gradient from losses alone: move one parameter up and down, run the whole network, take the difference."""

import numpy as np

from tests.reference.steps import network_step


def window_loss(layers, parameters, readout, inputs, targets, weights, states):
    """Loss over one window from `states`, and the states after it."""
    total = 0.0
    for x, target, weight in zip(inputs, targets, weights, strict=True):
        states, emitted = network_step(layers, parameters, states, x)
        total += weight * np.sum((readout["weight"] @ emitted + readout["bias"] - target) ** 2)
    return total, states


def gradients(layers, readout, inputs, targets, weights, windows, truncated, step=1e-5):
    """Per window a list of parameter gradients by layer, the readout's last; central differences.

    `truncated`: whether the states at a window's start are constants (BPTT over each window) or depend on the
    parameters all the way back (what RTRL estimates).
    """
    parameters = [{name: array.copy() for name, array in layer.parameters.items()} for layer in layers]
    readout = {name: array.copy() for name, array in readout.items()}
    starts = [[np.zeros(layer.size) for layer in layers]]
    results, t = [], 0
    for length in windows:
        at, before = slice(t, t + length), starts[-1]

        def loss(at=at, before=before, t=t):
            states = before
            if not truncated and t:
                states = window_loss(layers, parameters, readout, inputs[:t], targets[:t], weights[:t], starts[0])[1]
            return window_loss(layers, parameters, readout, inputs[at], targets[at], weights[at], states)[0]

        results.append([_difference(tree, loss, step) for tree in [*parameters, readout]])
        starts.append(window_loss(layers, parameters, readout, inputs[at], targets[at], weights[at], before)[1])
        t += length
    return results


def _difference(tree, loss, step):
    """Moves each entry of `tree` in place, and puts it back."""
    result = {}
    for name, array in tree.items():
        result[name] = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            value = array[index]
            array[index] = value + step
            up = loss()
            array[index] = value - step
            down = loss()
            array[index] = value
            result[name][index] = (up - down) / (2 * step)
    return result
