"""What an image loader returns."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True)
class LabelledImages:
    """Images and their classes, split as published; every array is read-only, since loaders share what they cache.

    **Shapes.** `train_images` `[train, pixels]` or `[train, pixels, colours]`, `train_labels` `[train]`, `test_images`
    `[test, ...]` likewise, `test_labels` `[test]`.
    **Units.** Grey levels 0 (background) to 255, or red, green and blue; labels 0 to 9.
    """

    train_images: UInt8[np.ndarray, "train pixels *colours"]
    train_labels: UInt8[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test pixels *colours"]
    test_labels: UInt8[np.ndarray, " test"]

    def __post_init__(self) -> None:
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            array.flags.writeable = False
