"""What tasks with spiking input share: Poisson spikes, decisions over many steps."""

from typing import Any

import numpy as np
from jaxtyping import Float

from onward.tasks.base import between, correct_predictions

STEPS_PER_SECOND = 1000  # a step is a millisecond, in which a neuron spikes at most once


def spike_probability(minimum: float, **rate: Any) -> float:
    """The chance of a spike in a step at the rate passed by name, which is in Hz."""
    return between(minimum, STEPS_PER_SECOND, "a step is 1 ms and has one spike at most", **rate) / STEPS_PER_SECOND


def poisson_spikes(
    random: np.random.Generator, probability: Float[np.ndarray, "batch time group"], neurons: int
) -> Float[np.ndarray, "batch time neuron"]:
    """Independent spikes, 0 or 1, of `neurons` neurons in each group, one group's after another's."""
    expected = np.repeat(probability.astype(np.float32), neurons, axis=-1)
    return (random.random(expected.shape, np.float32) < expected).astype(np.float32)


def accuracy_of_decisions(output: Any, target: Any, weight: Any, steps: int) -> dict[str, float]:
    """Sums for the accuracy of decisions that are asked for during `steps` steps each, by the mean of their outputs."""
    asked = np.asarray(weight) > 0
    answers = np.asarray(output, np.float64)[asked].reshape(-1, steps, np.shape(output)[-1])
    correct = correct_predictions(answers.mean(axis=1), np.asarray(target)[asked].reshape(-1, steps)[:, 0])
    return {"correct": float(correct.sum()), "count": float(correct.size)}
