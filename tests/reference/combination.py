"""Forecasts that are combined by how well each did of late, written out."""

import numpy as np


def mixed(values, made, horizon):
    """What forecasts `made` [time, forecaster] for `horizon` steps later say together at every step."""
    squares, counts, found = np.zeros(made.shape[1]), np.zeros(made.shape[1]), []
    for t, now in enumerate(made):
        for i in range(len(now)):
            error = made[t - horizon, i] - values[t] if t >= horizon else np.nan
            if np.isfinite(error):
                squares[i], counts[i] = 0.998 * squares[i] + error**2, 0.998 * counts[i] + 1
        usable = [i for i in range(len(now)) if counts[i] and np.isfinite(now[i])]
        weights = [(counts[i] / squares[i]) ** 2 for i in usable]
        found.append(np.average([now[i] for i in usable], weights=weights) if usable else now[0])
    return np.array(found)
