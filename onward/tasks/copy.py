"""The copy task."""

from typing import Any

import numpy as np

from onward.losses import cross_entropy
from onward.sample import Sample
from onward.tasks.base import Generated, accuracy_where_asked, at_least, new_sample


class Copy(Generated):
    """Repeat a string of random symbols after a delay.

    A sequence is `length` symbols, `delay` blanks, a cue, and `length - 1` more blanks; from the cue on, the symbols
    are asked for in the order in which they came. Symbol k is shown at step k and asked for at step
    length + delay + k. A network without memory stays at log(symbols) nats.

    **Shapes.** Input `[2 length + delay, symbols + 2]`, one-hot: the symbols, then blank, then cue. Target `[time]`,
    int32: the symbol to recall, 0 where none is asked for.
    **Units.** Weight 1 / length at each recall, so that the loss is the mean over recalls, in nats.
    **Arguments.** `length`: symbols to repeat. `symbols`: size of the alphabet. `delay`: blanks in between.
    `evaluation_size`: sequences in the validation set, and in the test set.
    **Source.** Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735, in the form of Arjovsky,
    Shah and Bengio 2016, https://arxiv.org/abs/1511.06464. Departure: the cue is the first step of the recall, not the
    last of the delay.
    """

    name = "copy"
    primary = "accuracy"
    higher_is_better = True
    loss = staticmethod(cross_entropy)

    def __init__(self, *, length: int = 10, symbols: int = 8, delay: int = 20, evaluation_size: int = 1024):
        self._symbols = at_least(2, "one symbol leaves nothing to remember", symbols=symbols)
        self._string = at_least(1, "give at least one symbol to repeat", length=length)
        self._delay = at_least(0, "0 asks for the symbols at once", delay=delay)
        self.evaluation_size = at_least(1, "give at least one sequence to evaluate on", evaluation_size=evaluation_size)
        self.options = {
            "length": self._string,
            "symbols": self._symbols,
            "delay": self._delay,
            "evaluation_size": self.evaluation_size,
        }
        self.input_size = self._symbols + 2
        self.output_size = self._symbols
        self.length = 2 * self._string + self._delay

    def metrics(self, output: Any, target: Any, weight: Any) -> dict[str, float]:
        """Accuracy over all recalled symbols."""
        return accuracy_where_asked(output, target, weight)

    def draw(self, random: np.random.Generator, batch: int) -> Sample:
        blank, cue = self._symbols, self._symbols + 1
        recall = self.length - self._string
        string = random.integers(self._symbols, size=(batch, self._string))
        shown = np.full((batch, self.length), blank)
        shown[:, : self._string] = string
        shown[:, recall] = cue
        target = np.zeros((batch, self.length), np.int32)
        target[:, recall:] = string
        weight = np.zeros((batch, self.length), np.float32)
        weight[:, recall:] = 1 / self._string
        return new_sample(np.eye(self.input_size, dtype=np.float32)[shown], target, weight)
