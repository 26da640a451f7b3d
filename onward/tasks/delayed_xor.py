"""The delayed XOR task."""

from typing import Any

import numpy as np

from onward.losses import cross_entropy
from onward.sample import Sample
from onward.tasks.base import Generated, accuracy_where_asked, at_least, new_sample


class DelayedXOR(Generated):
    """Say, after a delay, whether two bits shown at random times differ.

    The two bits are shown at two different random steps of the first `presentation`; `delay` silent steps follow, then
    one step that asks for their exclusive or. Neither bit alone says anything about the answer, so nothing below full
    memory of both beats chance: log(2) nats, accuracy 1/2.

    **Shapes.** Input `[presentation + delay + 1, 2]`: the bit as -1 or +1 while it is shown, else 0; and 1 at the step
    that asks. Target `[time]`, int32: 1 if the bits differ, else 0, at every step.
    **Units.** Weight 1 at the last step, 0 before; loss in nats.
    **Arguments.** `delay`: silent steps. `presentation`: steps among which the bits' times are drawn.
    `evaluation_size`: sequences in the validation set, and in the test set.
    """

    name = "delayed-xor"
    primary = "accuracy"
    higher_is_better = True
    input_size = 2
    output_size = 2
    loss = staticmethod(cross_entropy)

    def __init__(self, *, delay: int = 20, presentation: int = 10, evaluation_size: int = 1024):
        self._delay = at_least(0, "0 asks right after the presentation", delay=delay)
        self._presentation = at_least(2, "each bit needs a step of its own", presentation=presentation)
        self.evaluation_size = at_least(1, "give at least one sequence to evaluate on", evaluation_size=evaluation_size)
        self.options = {
            "delay": self._delay,
            "presentation": self._presentation,
            "evaluation_size": self.evaluation_size,
        }
        self.length = self._presentation + self._delay + 1

    def metrics(self, output: Any, target: Any, weight: Any) -> dict[str, float]:
        """Accuracy at the step that asks."""
        return accuracy_where_asked(output, target, weight)

    def draw(self, random: np.random.Generator, batch: int) -> Sample:
        rows = np.arange(batch)
        bits = random.integers(2, size=(batch, 2))
        first = random.integers(self._presentation, size=batch)
        # Any step but the first bit's: draw among one step fewer, and step over it.
        second = random.integers(self._presentation - 1, size=batch)
        second += second >= first
        shown = np.zeros((batch, self.length, 2), np.float32)
        shown[rows, first, 0] = 2 * bits[:, 0] - 1
        shown[rows, second, 0] = 2 * bits[:, 1] - 1
        shown[:, -1, 1] = 1
        answer = (bits[:, 0] ^ bits[:, 1]).astype(np.int32)
        weight = np.zeros((batch, self.length), np.float32)
        weight[:, -1] = 1
        return new_sample(shown, np.repeat(answer[:, None], self.length, axis=1), weight)
