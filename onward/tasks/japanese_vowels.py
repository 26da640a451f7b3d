"""The Japanese Vowels task."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from onward.data.japanese_vowels import COEFFICIENTS, LONGEST, SPEAKERS, load_japanese_vowels
from onward.losses import cross_entropy
from onward.sample import Sample
from onward.tasks.base import (
    Split,
    Task,
    at_least,
    batch_arguments,
    check_split,
    correct_predictions,
    new_sample,
    true_or_false,
)
from onward.tasks.labelled import stretch


class JapaneseVowels(Task):
    """Name which of nine men says /ae/, from 7 to 29 frames of 12 coefficients.

    Utterances differ in length. Those that are shorter than 29 frames are followed by zeros, which no loss asks about:
    accuracy is that of the output at an utterance's own last frame. The data are embedded in the package.

    **Shapes.** Input `[29, 12]`, target `[29]`, int32: the speaker, at every step.
    **Units.** LPC cepstrum coefficients as published. Weight 1 at an utterance's last frame, or 1 / n at each of its n
    frames; 0 elsewhere. Loss in nats.
    **Arguments.** `every_step`: ask at each frame (`True`) or at the last (`False`, the default). `validation`: how
    many of each speaker's 30 utterances for training are held out, the last ones (default 5). The test set is the
    published 370 utterances.
    **Source.** Kudo, Toyama and Shimbo 1999, https://doi.org/10.1016/S0167-8655(99)00077-X
    """

    name = "japanese-vowels"
    primary = "accuracy"
    higher_is_better = True
    input_size = COEFFICIENTS
    output_size = SPEAKERS
    length = LONGEST
    loss = staticmethod(cross_entropy)

    def __init__(self, *, every_step: bool = False, validation: int = 5):
        data = load_japanese_vowels()
        each = len(data.train_speakers) // SPEAKERS
        self._validation = at_least(0, "0 trains on all of them", validation=validation)
        if self._validation >= each:
            raise ValueError(f"`validation` must be at most {each - 1}, got {validation}; leave some to train on")
        held_out = np.arange(len(data.train_speakers)) % each >= each - self._validation
        train = (data.train_frames, data.train_lengths, data.train_speakers)
        self._train = tuple(array[~held_out] for array in train)
        self._evaluation = {
            "validation": tuple(array[held_out] for array in train),
            "test": (data.test_frames, data.test_lengths, data.test_speakers),
        }
        self._every_step = true_or_false(every_step=every_step)
        self.train_size = len(self._train[0])
        self.options = {"every_step": self._every_step, "validation": self._validation}

    def train_batch(self, seed: int, step: int, batch_size: int) -> Sample:
        seed, step, batch_size = batch_arguments(seed, step, batch_size)
        index = stretch(len(self._train[0]), seed, step, batch_size)
        return self._sample(*(array[index] for array in self._train))

    def evaluation(self, split: Split, batch_size: int) -> Iterator[Sample]:
        check_split(split)
        batch_size = at_least(1, "put at least one sequence in a batch", batch_size=batch_size)
        if split == "validation" and self._validation == 0:
            raise ValueError("`split`='validation' is empty, since the task has `validation`=0; make it with some")
        chosen = self._evaluation[split]
        starts = range(0, len(chosen[0]), batch_size)
        return (self._sample(*(array[start : start + batch_size] for array in chosen)) for start in starts)

    def metrics(self, output: Any, target: Any, weight: Any) -> dict[str, float]:
        """Accuracy of the output at the last frame of each utterance, the last that has a loss."""
        time = np.arange(np.shape(weight)[-1])
        last = np.where(np.asarray(weight) > 0, time, -1).max(axis=-1, keepdims=True) == time
        correct = correct_predictions(output, target)[last]
        return {"correct": float(correct.sum()), "count": float(correct.size)}

    def _sample(
        self,
        frames: Float[np.ndarray, "batch time coefficient"],
        lengths: UInt8[np.ndarray, " batch"],
        speakers: UInt8[np.ndarray, " batch"],
    ) -> Sample:
        time, lengths = np.arange(LONGEST), lengths.astype(np.int32)[:, None]
        weight = (time < lengths) / lengths if self._every_step else time == lengths - 1
        target = np.repeat(speakers.astype(np.int32)[:, None], LONGEST, axis=1)
        return new_sample(frames, target, weight.astype(np.float32))
