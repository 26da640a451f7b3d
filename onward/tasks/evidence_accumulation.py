"""The evidence accumulation task."""

from typing import Any

import numpy as np

from onward.losses import cross_entropy
from onward.sample import Sample
from onward.tasks.base import Generated, at_least, between, new_sample
from onward.tasks.spikes import accuracy_of_decisions, poisson_spikes, spike_probability


class EvidenceAccumulation(Generated):
    """Say after a delay on which side there were more cues.

    A rodent runs along a corridor with `cues` cues at its left or right, and after a delay must turn to the side that
    had more of them. Each cue is `gap` silent steps and `cue_length` steps in which the population of its side fires;
    then come `delay` silent steps, and `recall` steps in which the recall population fires and the side is asked for.
    A fourth population fires all the time and means nothing. In each sequence one side, drawn at random, is the more
    likely for all cues; the answer is the side that had more.

    **Shapes.** T = cues * (gap + cue_length) + delay + recall, 2250 by default. Input `[T, 4 neurons]`, spikes: left,
    right, recall, noise, 40 neurons by default. Target `[T]`, int32: 0 left, 1 right, at every step.
    **Units.** A step is 1 ms; rates in Hz. Weight 1 / recall at each step of the recall; loss in nats. Accuracy is that
    of the mean output over the recall; answering at random gives 1/2.
    **Arguments.** `cues`: an odd number, so that there is no tie. `neurons`: in each population. `rate`: of cues and
    recall. `background`: of the noise. `bias`: chance of a cue to be at the more likely side. `evaluation_size`:
    sequences in the validation set, and in the test set. A short form:
    `evidence-accumulation:cues=3,cue_length=20,gap=10,delay=50,recall=20,rate=200`, 160 steps.
    **Source.** Morcos and Harvey 2016, https://doi.org/10.1038/nn.4403; with spikes as in Bellec et al. 2020,
    https://doi.org/10.1038/s41467-020-17236-y, and all defaults as in its code. Departure: fixed sets to evaluate on.
    """

    name = "evidence-accumulation"
    primary = "accuracy"
    higher_is_better = True
    one_by_one = True
    output_size = 2
    loss = staticmethod(cross_entropy)

    def __init__(
        self,
        *,
        cues: int = 7,
        cue_length: int = 100,
        gap: int = 50,
        delay: int = 1050,
        recall: int = 150,
        neurons: int = 10,
        rate: float = 40.0,
        background: float = 10.0,
        bias: float = 0.7,
        evaluation_size: int = 1024,
    ):
        self._cues = at_least(1, "show at least one cue", cues=cues)
        if self._cues % 2 == 0:
            raise ValueError(f"`cues` must be odd, got {cues}; an even number can end in a tie")
        self._cue_length = at_least(1, "a cue lasts at least one step", cue_length=cue_length)
        self._gap = at_least(0, "0 shows one cue right after another", gap=gap)
        self._delay = at_least(0, "0 asks right after the last cue", delay=delay)
        self._recall = at_least(1, "1 asks at the last step only", recall=recall)
        self._neurons = at_least(1, "a population has at least one neuron", neurons=neurons)
        self._probability = spike_probability(1, rate=rate)
        self._noise = spike_probability(0, background=background)
        self._bias = between(0.5, 1, "0.5 favours no side and 1 shows all cues at one", bias=bias)
        self.evaluation_size = at_least(1, "give at least one sequence to evaluate on", evaluation_size=evaluation_size)
        self.options = {
            "cues": self._cues,
            "cue_length": self._cue_length,
            "gap": self._gap,
            "delay": self._delay,
            "recall": self._recall,
            "neurons": self._neurons,
            "rate": float(rate),
            "background": float(background),
            "bias": self._bias,
            "evaluation_size": self.evaluation_size,
        }
        self.input_size = 4 * self._neurons
        self.length = self._cues * (self._gap + self._cue_length) + self._delay + self._recall

    def metrics(self, output: Any, target: Any, weight: Any) -> dict[str, float]:
        """Accuracy of the mean output over the recall."""
        return accuracy_of_decisions(output, target, weight, self._recall)

    def draw(self, random: np.random.Generator, batch: int) -> Sample:
        likely = random.integers(2, size=(batch, 1))
        sides = np.where(random.random((batch, self._cues)) < self._bias, likely, 1 - likely)
        starts = self._gap + np.arange(self._cues) * (self._gap + self._cue_length)
        shown = starts[:, None] + np.arange(self._cue_length)
        probability = np.zeros((batch, self.length, 4), np.float32)
        probability[:, shown, 0] = self._probability * (sides == 0)[:, :, None]
        probability[:, shown, 1] = self._probability * (sides == 1)[:, :, None]
        probability[:, -self._recall :, 2] = self._probability
        probability[:, :, 3] = self._noise
        answer = (2 * sides.sum(axis=1) > self._cues).astype(np.int32)
        weight = np.zeros((batch, self.length), np.float32)
        weight[:, -self._recall :] = 1 / self._recall
        spikes = poisson_spikes(random, probability, self._neurons)
        return new_sample(spikes, np.repeat(answer[:, None], self.length, axis=1), weight)
