"""What tasks with spiking input share: Poisson spikes, sequences drawn one by one, decisions over many steps."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from onward.sample import Sample
from onward.tasks.base import Split, at_least, between, check_split, correct_predictions, generator, new_sample

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


def one_by_one(
    draw: Callable[[np.random.Generator, int], Sample], split: Split, size: int, batch_size: int
) -> Iterator[Sample]:
    """The `size` sequences of a split in batches, each drawn from numbers of its own.

    So they are the same whatever the batch size, and no more than a batch of them is in memory.
    """
    check_split(split)
    batch_size = at_least(1, "put at least one sequence in a batch", batch_size=batch_size)
    return _one_by_one(draw, split, size, batch_size)


def _one_by_one(draw, split, size, batch_size):
    for start in range(0, size, batch_size):
        drawn = [draw(generator(split, 0, index), 1) for index in range(start, min(start + batch_size, size))]
        parts = zip(*((one.input, one.target, one.weight) for one in drawn), strict=True)
        yield new_sample(*map(np.concatenate, parts))


def accuracy_of_decisions(output: Any, target: Any, weight: Any, steps: int) -> dict[str, float]:
    """Sums for the accuracy of decisions that are asked for during `steps` steps each, by the mean of their outputs."""
    asked = np.asarray(weight) > 0
    answers = np.asarray(output, np.float64)[asked].reshape(-1, steps, np.shape(output)[-1])
    correct = correct_predictions(answers.mean(axis=1), np.asarray(target)[asked].reshape(-1, steps)[:, 0])
    return {"correct": float(correct.sum()), "count": float(correct.size)}
