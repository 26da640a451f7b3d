"""The adding task."""

from typing import Any

import numpy as np

from onward.losses import squared_error
from onward.sample import Sample
from onward.tasks.base import Generated, at_least, new_sample


class Adding(Generated):
    """Add the two numbers that were marked, one in each half of the sequence.

    At each step a number drawn uniformly from [0, 1) and a marker; the marker is 1 at one random step of the first
    floor(length / 2) and at one of the rest, 0 elsewhere. The sum of the two marked numbers is asked for at the last
    step. Always answering 1 gives a mean squared error of 1/6.

    **Shapes.** Input `[length, 2]`: number, marker. Target `[length, 1]`: the sum, at every step, so that a rule which
    wants a target earlier (FPTT's windows) finds it there.
    **Units.** Weight 1 at the last step, 0 before.
    **Arguments.** `length`: steps. `evaluation_size`: sequences in the validation set, and in the test set.
    **Source.** Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; markers and lengths as in
    Kag and Saligrama 2021, https://proceedings.mlr.press/v139/kag21a.html. Departure: fixed sets to evaluate on.
    """

    name = "adding"
    primary = "mean_squared_error"
    higher_is_better = False
    input_size = 2
    output_size = 1
    loss = staticmethod(squared_error)

    def __init__(self, *, length: int = 200, evaluation_size: int = 1024):
        self.length = at_least(2, "each half needs a step to mark", length=length)
        self.evaluation_size = at_least(1, "give at least one sequence to evaluate on", evaluation_size=evaluation_size)
        self.options = {"length": self.length, "evaluation_size": self.evaluation_size}

    def metrics(self, output: Any, target: Any, weight: Any) -> dict[str, float]:
        """Squared error over all steps that have a loss."""
        asked = np.asarray(weight) > 0
        error = np.sum((np.asarray(output, np.float64) - np.asarray(target)) ** 2, axis=-1)
        return {"squared_error": float(error[asked].sum()), "count": float(asked.sum())}

    def draw(self, random: np.random.Generator, batch: int) -> Sample:
        rows, half = np.arange(batch), self.length // 2
        numbers = random.random((batch, self.length), np.float32)
        first = random.integers(0, half, batch)
        second = random.integers(half, self.length, batch)
        markers = np.zeros_like(numbers)
        markers[rows, first] = 1
        markers[rows, second] = 1
        total = numbers[rows, first] + numbers[rows, second]
        target = np.repeat(total[:, None, None], self.length, axis=1)
        weight = np.zeros_like(numbers)
        weight[:, -1] = 1
        return new_sample(np.stack([numbers, markers], axis=-1), target, weight)
