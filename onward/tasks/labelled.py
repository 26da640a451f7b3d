"""Sequences with one label each: what the image tasks are made of."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt8

from onward.data import LabelledImages
from onward.sample import Sample
from onward.tasks.base import Split, at_least, batch_arguments, check_split, generator, new_sample


class LabelledSequences:
    """Images read pixel by pixel: a training set, shuffled anew in each epoch, a validation set and a test set.

    The last `validation` training images are held out. The training batches of a run are consecutive stretches of the
    endless string of its epochs' permutations, all of the same size: a batch may straddle two epochs, and each epoch
    holds each example exactly once.

    **Arguments.** `images`: pixels already in the order of reading. `weight`: `[time]`, float32, of each step's loss.
    """

    def __init__(self, images: LabelledImages, validation: int, weight: Float[np.ndarray, " time"]):
        total = len(images.train_images)
        self.validation = at_least(0, "0 trains on all of them", validation=validation)
        self.train_size = total - self.validation
        if self.train_size < 1:
            raise ValueError(f"`validation` must be at most {total - 1}, got {validation}; leave an image to train on")
        self._images, self._weight = images, weight

    def train_batch(self, seed: int, step: int, batch_size: int) -> Sample:
        """As `Task.train_batch`."""
        seed, step, batch_size = batch_arguments(seed, step, batch_size)
        index = stretch(self.train_size, seed, step, batch_size)
        return self._sample(self._images.train_images[index], self._images.train_labels[index])

    def evaluation(self, split: Split, batch_size: int) -> Iterator[Sample]:
        """As `Task.evaluation`."""
        check_split(split)
        batch_size = at_least(1, "put at least one sequence in a batch", batch_size=batch_size)
        if split == "validation" and self.validation == 0:
            raise ValueError("`split`='validation' is empty, since the task has `validation`=0; make it with some")
        return self._evaluation(split, batch_size)

    def _evaluation(self, split: Split, batch_size: int) -> Iterator[Sample]:
        if split == "test":
            images, labels = self._images.test_images, self._images.test_labels
        else:
            images, labels = self._images.train_images[self.train_size :], self._images.train_labels[self.train_size :]
        for start in range(0, len(images), batch_size):
            yield self._sample(images[start : start + batch_size], labels[start : start + batch_size])

    def _sample(self, images: UInt8[np.ndarray, "batch time *colours"], labels: UInt8[np.ndarray, " batch"]) -> Sample:
        batch, time = images.shape[:2]
        return new_sample(
            images.reshape(batch, time, -1).astype(np.float32) / np.float32(255),
            np.repeat(labels.astype(np.int32)[:, None], time, axis=1),
            np.repeat(self._weight[None], batch, axis=0),
        )


def stretch(size: int, seed: int, step: int, batch_size: int) -> Int[np.ndarray, " batch"]:
    """Entries [step * batch_size, (step + 1) * batch_size) of the string of all epochs' permutations of `size`."""
    parts, start, end = [], step * batch_size, (step + 1) * batch_size
    while start < end:
        epoch, offset = divmod(start, size)
        parts.append(permutation(size, seed, epoch)[offset : offset + end - start])
        start += len(parts[-1])
    return np.concatenate(parts)


@lru_cache(maxsize=4)
def permutation(size: int, seed: int, epoch: int) -> Int[np.ndarray, " example"]:
    """The order of the training examples in an epoch; a function of its arguments, cached since all batches need it."""
    order = generator("epoch", seed, epoch).permutation(size)
    order.flags.writeable = False
    return order


def every_step(length: int) -> Float[np.ndarray, " time"]:
    """Weights that make the loss the mean over all steps."""
    return np.full(length, 1 / length, np.float32)


def last_step(length: int) -> Float[np.ndarray, " time"]:
    """Weights that ask at the last step only."""
    return (np.arange(length) == length - 1).astype(np.float32)
