"""MNIST98, embedded in the package: every 8 consecutive pixels of MNIST averaged, 98 values an image.

The file is one xz stream of labels and columns (column i: value i of every image). Before compression each column is
sorted by what a reader who has already decoded the labels and the columns before it can predict of it, which costs
nothing to undo and brings 7.0 MB down to 2.6 instead of 3.0:

    context_i = (label, ceil(x_{i-1} / 64), x_{i-3} + x_{i-4} + floor(x_{i-7} / 2))      (1)
    stored_i[k] = x_i[order_i[k]],   order_i = stable argsort of context_i               (2)

A row of an image is 28 pixels, 3.5 values: values i-3 and i-4 lie above value i by one row, value i-7 by two.
"""

import lzma
from functools import lru_cache
from importlib import resources

import numpy as np
from jaxtyping import UInt8, UInt16

from onward.data import files
from onward.data.images import LabelledImages

STEPS = 98
TRAIN, TEST = 60_000, 10_000
FILE = "mnist98.xz"
SHA256 = "6319683439cef05188a487b236c4a9509f55ae2f8195e6d835a5ac194d63fc3d"  # of the embedded file
_CLASSES, _LEFT, _ABOVE = 10, 5, 638  # sizes of the three parts of (1); their product fits in 16 bits


def load_mnist98() -> LabelledImages:
    """The embedded MNIST98; decoded once in a process, then shared.

    **Returns.** `LabelledImages` with 60,000 and 10,000 images of 98 values, uint8: means of 8 consecutive pixels in
    raster order, rounded to the nearest integer (halves to even).
    **Raises.** `ValueError` if the embedded file is not the one this version was made with.
    **Source.** MNIST by Y. LeCun, C. Cortes and C. J. C. Burges, CC BY-SA 3.0 (see MNIST98-LICENSE.md beside the file);
    the averaging is that of the forward-propagation-of-errors post.
    """
    return _load()


@lru_cache(maxsize=1)
def _load() -> LabelledImages:
    images, labels = decode(verified((resources.files("onward.data") / FILE).read_bytes()))
    return LabelledImages(images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:])


def verified(data: bytes) -> bytes:
    """`data` itself if it is the embedded file's content; `ValueError` otherwise."""
    return files.verified(data, FILE, SHA256, "scripts/make_mnist98.py")


def average(pixels: UInt8[np.ndarray, "image 784"]) -> UInt8[np.ndarray, "image 98"]:
    """Means of 8 consecutive pixels in raster order, rounded to the nearest integer (halves to even)."""
    groups = pixels.reshape(len(pixels), STEPS, -1)
    return np.rint(groups.sum(axis=-1, dtype=np.uint32) / groups.shape[-1]).astype(np.uint8)


def encode(images: UInt8[np.ndarray, "image 98"], labels: UInt8[np.ndarray, " image"]) -> bytes:
    """Images and labels as the embedded file's content; `decode` undoes it."""
    columns = np.ascontiguousarray(images.T)
    stored = [labels, *(columns[i][_order(columns, labels, i)] for i in range(STEPS))]
    # Neighbouring bytes are neither text nor aligned records: no context bits for literals or positions.
    filters = [
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 23, "lc": 0, "lp": 0, "pb": 0}
    ]
    return lzma.compress(b"".join(a.tobytes() for a in stored), lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=filters)


def decode(data: bytes) -> tuple[UInt8[np.ndarray, "image 98"], UInt8[np.ndarray, " image"]]:
    """Images and labels from what `encode` made, in their original order."""
    labels, *stored = np.frombuffer(lzma.decompress(data), np.uint8).reshape(STEPS + 1, -1)
    columns = np.zeros((STEPS, len(labels)), np.uint8)
    for i, column in enumerate(stored):
        columns[i, _order(columns, labels, i)] = column
    return np.ascontiguousarray(columns.T), labels.copy()


def _order(columns: UInt8[np.ndarray, "98 image"], labels: UInt8[np.ndarray, " image"], i: int) -> np.ndarray:
    """(2): the order in which column i is stored; reads columns before i only."""

    def before(n: int) -> UInt16[np.ndarray, " image"]:
        return columns[i - n].astype(np.uint16) if i >= n else np.zeros(len(labels), np.uint16)

    left, above = (before(1) + 63) // 64, before(3) + before(4) + before(7) // 2
    context = (labels.astype(np.uint16) * _LEFT + left) * _ABOVE + above
    return np.argsort(context, kind="stable")
