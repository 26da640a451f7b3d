"""The store-recall task."""

from typing import Any

import numpy as np

from onward.losses import cross_entropy
from onward.sample import Sample
from onward.tasks.base import Generated, at_least, new_sample
from onward.tasks.spikes import accuracy_of_decisions, poisson_spikes, spike_probability


class StoreRecall(Generated):
    """Keep the bit that is shown with a store command until a recall command asks for it.

    Symbols follow each other, each of `symbol` steps. All but the recalls show a random bit, one population for 0 and
    one for 1; with some of them the store population fires: that bit is to be kept. After `min_delay` to `max_delay`
    symbols more, whose bits are to be ignored, the recall population fires alone and the bit is asked for.
    A sequence has `pairs` stretches of max_delay + 2 symbols, each with one store and one recall at a random place.

    **Shapes.** T = pairs * (max_delay + 2) * symbol, 2400 by default. Input `[T, 4 neurons]`, spikes: 0, 1, store,
    recall, 100 neurons by default. Target `[T]`, int32: the bit that its stretch asks for, at every step.
    **Units.** A step is 1 ms; rates in Hz. Weight 1 / (pairs * symbol) at each step of a recall; loss in nats. Accuracy
    is that of the mean outputs over recalls; answering at random gives 1/2.
    **Arguments.** `symbol`: steps. `min_delay`, `max_delay`: symbols between store and recall. `pairs`: of store and
    recall in a sequence. `neurons`: in each population. `rate`: of those that fire. `evaluation_size`: sequences in the
    validation set, and in the test set. A short form: `store-recall:symbol=20,max_delay=2,pairs=1,rate=200`, 80 steps.
    **Source.** Bellec, Salaj, Subramoney, Legenstein and Maass 2018, https://arxiv.org/abs/1803.09574; symbols of
    200 ms and rates as in their code. Departure: they draw a command at each symbol with a fixed chance, so that the
    delay has no bound, where ours is uniform; fixed sets to evaluate on.
    """

    name = "store-recall"
    primary = "accuracy"
    higher_is_better = True
    one_by_one = True
    output_size = 2
    loss = staticmethod(cross_entropy)

    def __init__(
        self,
        *,
        symbol: int = 200,
        min_delay: int = 0,
        max_delay: int = 4,
        pairs: int = 2,
        neurons: int = 25,
        rate: float = 50.0,
        evaluation_size: int = 1024,
    ):
        self._symbol = at_least(1, "a symbol lasts at least one step", symbol=symbol)
        self._min_delay = at_least(0, "0 may ask right after the store", min_delay=min_delay)
        self._max_delay = at_least(self._min_delay, "it is no less than `min_delay`", max_delay=max_delay)
        self._pairs = at_least(1, "ask at least once", pairs=pairs)
        self._neurons = at_least(1, "a population has at least one neuron", neurons=neurons)
        self._probability = spike_probability(1, rate=rate)
        self.evaluation_size = at_least(1, "give at least one sequence to evaluate on", evaluation_size=evaluation_size)
        self.options = {
            "symbol": self._symbol,
            "min_delay": self._min_delay,
            "max_delay": self._max_delay,
            "pairs": self._pairs,
            "neurons": self._neurons,
            "rate": float(rate),
            "evaluation_size": self.evaluation_size,
        }
        self.input_size = 4 * self._neurons
        self.length = self._pairs * (self._max_delay + 2) * self._symbol

    def metrics(self, output: Any, target: Any, weight: Any) -> dict[str, float]:
        """Accuracy of the mean output over each recall."""
        return accuracy_of_decisions(output, target, weight, self._symbol)

    def draw(self, random: np.random.Generator, batch: int) -> Sample:
        stretch = self._max_delay + 2
        bits = random.integers(2, size=(batch, self._pairs, stretch))
        delay = random.integers(self._min_delay, self._max_delay + 1, size=(batch, self._pairs, 1))
        store = random.integers(0, self._max_delay - delay + 1)
        recalls = np.arange(stretch) == store + delay + 1
        fires = np.stack(
            [~recalls & (bits == 0), ~recalls & (bits == 1), np.arange(stretch) == store, recalls], axis=-1
        )
        kept = np.take_along_axis(bits, store, axis=-1).astype(np.int32)
        probability = np.float32(self._probability) * fires.reshape(batch, -1, 4).repeat(self._symbol, axis=1)
        weight = recalls.reshape(batch, -1).repeat(self._symbol, axis=1) / np.float32(self._pairs * self._symbol)
        target = kept.reshape(batch, -1).repeat(stretch * self._symbol, axis=1)
        return new_sample(poisson_spikes(random, probability, self._neurons), target, weight.astype(np.float32))
