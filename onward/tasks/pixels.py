"""MNIST and Fashion-MNIST pixel by pixel, in raster order or permuted, and CIFAR-10."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int

from onward.data import LabelledImages, load_cifar10, load_fashion_mnist, load_mnist
from onward.data.cifar10 import PIXELS as CIFAR_PIXELS
from onward.losses import cross_entropy
from onward.sample import Sample
from onward.tasks import labelled
from onward.tasks.base import Split, Task, accuracy_at_the_end, true_or_false

PIXELS = 784
PERMUTATION_SEED = 0


class PixelTask(Task):
    """Name what an image shows, read pixel by pixel: what the tasks of this module have in common.

    **Shapes.** T = 784 steps, or 1024 of CIFAR-10. Input `[T, 1]`, or `[T, 3]` in colour; target `[T]`, int32: the
    label, at every step.
    **Units.** Input in [0, 1]: grey level / 255. Weight 1 at the last step and 0 before, or 1/T at each step.
    **Arguments.** `every_step`: ask at each step (`True`) or at the last (`False`, the default). `validation`: images
    at the end of those for training that are held out (default 5,000). The test set is the published 10,000.
    **Raises.** `FileNotFoundError` or `ValueError` if the data set's files are neither there nor to be had: see
    `onward.data.load_mnist`, `load_fashion_mnist` and `load_cifar10`.
    """

    primary = "accuracy"
    higher_is_better = True
    input_size = 1
    output_size = 10
    length = PIXELS
    loss = staticmethod(cross_entropy)
    permuted: ClassVar[bool] = False

    def __init__(self, *, every_step: bool = False, validation: int = 5000):
        images = self.images()
        if self.permuted:
            order = pixel_order()
            # np.take keeps each image in one piece; indexing with [:, order] would not.
            train, test = (np.take(pixels, order, axis=1) for pixels in (images.train_images, images.test_images))
            images = replace(images, train_images=train, test_images=test)
        weight = (labelled.every_step if true_or_false(every_step=every_step) else labelled.last_step)(self.length)
        self._data = labelled.LabelledSequences(images, validation, weight)
        self.train_size = self._data.train_size
        self.options = {"every_step": every_step, "validation": self._data.validation}

    def images(self) -> LabelledImages:
        """The data set."""
        return load_mnist()

    def train_batch(self, seed: int, step: int, batch_size: int) -> Sample:
        return self._data.train_batch(seed, step, batch_size)

    def evaluation(self, split: Split, batch_size: int) -> Iterator[Sample]:
        return self._data.evaluation(split, batch_size)

    def metrics(self, output: Any, target: Any, weight: Any) -> dict[str, float]:
        """Accuracy of the last output."""
        return accuracy_at_the_end(output, target)


class SequentialMNIST(PixelTask):
    """Name a handwritten digit read pixel by pixel; see `PixelTask`.

    **Source.** Le, Jaitly and Hinton 2015, https://arxiv.org/abs/1504.00941
    """

    name = "smnist"


class PermutedMNIST(PixelTask):
    """Name a handwritten digit read pixel by pixel in one fixed random order; see `PixelTask`.

    The order is `pixel_order()`, the same for every image and every run.

    **Source.** Le, Jaitly and Hinton 2015, https://arxiv.org/abs/1504.00941. Departure: publications do not share a
    permutation; ours is drawn from seed `PERMUTATION_SEED`.
    """

    name = "psmnist"
    permuted = True


class SequentialFashionMNIST(PixelTask):
    """Name a piece of clothing read pixel by pixel; see `PixelTask`.

    **Source.** Data: Xiao, Rasul and Vollgraf 2017, https://arxiv.org/abs/1708.07747
    """

    name = "sfashion"

    def images(self) -> LabelledImages:
        return load_fashion_mnist()


class PermutedFashionMNIST(SequentialFashionMNIST):
    """Name a piece of clothing read pixel by pixel in the order of `PermutedMNIST`; see `PixelTask`.

    **Source.** Data: Xiao, Rasul and Vollgraf 2017, https://arxiv.org/abs/1708.07747
    """

    name = "psfashion"
    permuted = True


class SequentialCIFAR10(PixelTask):
    """Name what a colour photograph shows, read pixel by pixel, 1024 steps; see `PixelTask`.

    **Source.** Data: Krizhevsky 2009; as a sequence in Kag and Saligrama 2021 and others.
    """

    name = "scifar10"
    input_size = 3
    length = CIFAR_PIXELS

    def images(self) -> LabelledImages:
        return load_cifar10()


def pixel_order() -> Int[np.ndarray, "784"]:
    """Which pixel the permuted tasks read at each step.

    It sorts raw 64-bit draws of PCG64, which NumPy keeps the same between versions, as it does not promise of
    `Generator.permutation`.
    """
    return np.argsort(np.random.PCG64(PERMUTATION_SEED).random_raw(PIXELS), kind="stable")
