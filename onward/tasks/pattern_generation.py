"""The pattern generation task."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from onward.losses import squared_error
from onward.sample import Sample
from onward.tasks.base import Generated, at_least, generator, new_sample
from onward.tasks.spikes import poisson_spikes, spike_probability

CYCLES = (1, 2, 3, 5)  # of each sinusoid in a sequence; Hz in a sequence of a second


class PatternGeneration(Generated):
    """Produce one fixed curve, a sum of four sinusoids, from input that only tells the time.

    For output k and time t = 0 ... T-1, with amplitudes a in [1/2, 2) and phases p drawn once for a task,

        target_k(t) = sum over c in (1, 2, 3, 5) of a_kc sin(2 pi c t / T + p_kc), scaled to a largest value of 1    (1)

    The input is a clock: `groups` populations that fire one after another, each for a part of the sequence. Sequences
    differ in the noise of its spikes alone; at `rate=1000` they are all the same.

    **Shapes.** T = `length` steps. Input `[T, groups * neurons]`, spikes. Target `[T, outputs]`.
    **Units.** A step is 1 ms; the rate in Hz. Weight 1/T at each step. "mean_squared_error" is a mean over outputs too;
    "normalised_mean_squared_error" is divided by the target's variance over time: 1 is answering with zero.
    **Arguments.** `length`; `outputs`: curves to produce at once, 1 or 3 in publications. `groups`, `neurons` (in each)
    and `rate` of the clock. `pattern`: seed of the curves, which are not those of the run. `evaluation_size`: sequences
    in the validation set, and in the test set.
    **Source.** Bellec et al. 2020, https://doi.org/10.1038/s41467-020-17236-y; curves as in its published code, which
    feeds frozen noise rather than a clock. Departure: curves are not shifted to start at 0, so that their mean is 0;
    frequencies are in cycles a sequence, which is Hz at the default length.
    """

    name = "pattern-generation"
    primary = "normalised_mean_squared_error"
    higher_is_better = False
    one_by_one = True
    loss = staticmethod(squared_error)

    def __init__(
        self,
        *,
        length: int = 1000,
        outputs: int = 1,
        groups: int = 5,
        neurons: int = 4,
        rate: float = 100.0,
        pattern: int = 0,
        evaluation_size: int = 64,
    ):
        self._groups = at_least(1, "the clock has at least one population", groups=groups)
        shortest = max(2 * max(CYCLES) + 1, self._groups)
        self.length = at_least(shortest, "the fastest sinusoid and the clock need that many", length=length)
        self.output_size = at_least(1, "produce at least one curve", outputs=outputs)
        self._neurons = at_least(1, "a population has at least one neuron", neurons=neurons)
        self._probability = spike_probability(1, rate=rate)
        self._pattern = at_least(0, "choose a seed of 0 or more", pattern=pattern)
        self.evaluation_size = at_least(1, "give at least one sequence to evaluate on", evaluation_size=evaluation_size)
        self.options = {
            "length": self.length,
            "outputs": self.output_size,
            "groups": self._groups,
            "neurons": self._neurons,
            "rate": float(rate),
            "pattern": self._pattern,
            "evaluation_size": self.evaluation_size,
        }
        self.input_size = self._groups * self._neurons
        self._target = self._curves(generator("target", self._pattern))
        active = np.arange(self.length) * self._groups // self.length
        self._clock = self._probability * np.eye(self._groups, dtype=np.float32)[active]

    def metrics(self, output: Any, target: Any, weight: Any) -> dict[str, float]:
        """Squared error, and the target's squared distance to its mean over time, over all steps and outputs."""
        target = np.asarray(target, np.float64)
        error = (np.asarray(output, np.float64) - target) ** 2
        spread = (target - target.mean(axis=-2, keepdims=True)) ** 2
        return {"squared_error": float(error.sum()), "spread": float(spread.sum()), "count": float(target.size)}

    def summarise(self, sums: Mapping[str, float]) -> dict[str, float]:
        return {
            "mean_squared_error": sums["squared_error"] / sums["count"],
            "normalised_mean_squared_error": sums["squared_error"] / sums["spread"],
        }

    def _curves(self, random: np.random.Generator) -> Float[np.ndarray, "time output"]:
        """(1)"""
        shape = (self.output_size, len(CYCLES))
        amplitude, phase = random.uniform(0.5, 2, shape), random.uniform(0, 2 * np.pi, shape)
        angle = 2 * np.pi * np.arange(self.length)[:, None, None] * np.array(CYCLES) / self.length
        curves = (amplitude * np.sin(angle + phase)).sum(axis=-1)
        return (curves / np.abs(curves).max(axis=0)).astype(np.float32)

    def draw(self, random: np.random.Generator, batch: int) -> Sample:
        spikes = poisson_spikes(random, np.repeat(self._clock[None], batch, axis=0), self._neurons)
        weight = np.full((batch, self.length), 1 / self.length, np.float32)
        return new_sample(spikes, np.repeat(self._target[None], batch, axis=0), weight)
