"""The note "Exact iterative BPTT", equations 3 to 5, loop by loop, for one layer and a linear readout.

R^1 ... R^K are the components of the layer's state; all derivatives are complex steps of `steps.py`. At step N

    delta^k_N = dR^k_N / dP_N + decay sum_l (dR^k_N / dR^l_{N-1}) delta^l_{N-1}     l over those that `kept(k, l)`  (4)
    dC / dP   = sum_k (dC / dR^k_N) delta^k_N                                                                        (5)
    P_{N+1}   = P_N - rate dC / dP                                                                                   (3)

and all derivatives are taken at the parameters P_N of their own step.
"""

import numpy as np

from tests.reference.steps import derivative, pack, unpack


def learn(layer, readout, inputs, targets, weights, rate=0.0, decay=1.0, kept=lambda k, other: True):
    """(Gradient of the layer, gradient of the readout) at each step, and the parameters after the last one."""
    units, loops = layer.units, layer.size // layer.units
    p, readout = dict(layer.parameters), dict(readout)
    r = [np.zeros(units) for _ in range(loops)]
    delta = [np.zeros((units, len(pack(p)))) for _ in range(loops)]
    gradients = []
    for x, target, weight in zip(inputs, targets, weights, strict=True):

        def loop(k, p, r, x=x):
            state = np.concatenate(r)
            return np.split(layer.step(p, state, state[layer.emits], x), loops)[k]

        def block(k, other, p, r):
            return derivative(lambda one: loop(k, p, [*r[:other], one, *r[other + 1 :]]), r[other])

        new = []
        for k in range(loops):
            total = derivative(lambda theta, k=k, p=p, r=r: loop(k, unpack(theta, p), r), pack(p))
            for other in range(loops):
                if kept(k, other):
                    total = total + decay * block(k, other, p, r) @ delta[other]
            new.append(total)
        delta, r = new, [loop(k, p, r) for k in range(loops)]
        emitted = np.concatenate(r)[layer.emits]
        error = 2 * weight * (readout["weight"] @ emitted + readout["bias"] - target)
        at_state = np.zeros(layer.size)
        at_state[layer.emits] = readout["weight"].T @ error
        at_layer = sum(e @ d for e, d in zip(np.split(at_state, loops), delta, strict=True))
        gradients.append((unpack(at_layer, p), {"weight": np.outer(error, emitted), "bias": error}))
        p, readout = (
            {name: values[name] - rate * gradient[name] for name in values}
            for values, gradient in zip((p, readout), gradients[-1], strict=True)
        )
    return gradients, (p, readout)
