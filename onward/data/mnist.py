"""MNIST and Fashion-MNIST as published: 28 x 28 grey levels, 60,000 images for training and 10,000 for testing."""

from functools import lru_cache
from pathlib import Path

from onward.data.files import folder_of, obtain
from onward.data.idx import read_idx
from onward.data.images import LabelledImages

# The four canonical files and the MD5 digests of their uncompressed content.
FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FASHION_FILES = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
FASHION_MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)


def load_mnist(folder: Path | str | None = None) -> LabelledImages:
    """MNIST, 784 pixels an image in raster order; read once in a process, then shared.

    **Arguments.** `folder`: where the four IDX files are, plain or as `.gz`; `None` means `mnist/` under `data_home()`.
    Files that are absent are fetched from public mirrors.
    **Returns.** `LabelledImages` with 60,000 and 10,000 images of 784 pixels, uint8.
    **Raises.** `ValueError` if a local file is corrupt; `FileNotFoundError` if one is absent and cannot be fetched: the
    sentence says what to put where.
    **Source.** LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition",
    https://doi.org/10.1109/5.726791
    """
    return _load(folder_of("mnist", folder), tuple(FILES.items()), MIRRORS)


def load_fashion_mnist(folder: Path | str | None = None) -> LabelledImages:
    """Fashion-MNIST, as `load_mnist` in everything else; `None` means `fashion-mnist/` under `data_home()`.

    **Source.** Xiao, Rasul and Vollgraf 2017, https://arxiv.org/abs/1708.07747 (MIT licence)
    """
    return _load(folder_of("fashion-mnist", folder), tuple(FASHION_FILES.items()), FASHION_MIRRORS)


@lru_cache(maxsize=2)
def _load(folder: Path, files: tuple[tuple[str, str], ...], mirrors: tuple[str, ...]) -> LabelledImages:
    arrays = [read_idx(obtain(folder, name, md5, mirrors), str(folder / name)) for name, md5 in files]
    train_images, train_labels, test_images, test_labels = arrays
    return LabelledImages(
        train_images.reshape(len(train_images), -1),
        train_labels,
        test_images.reshape(len(test_images), -1),
        test_labels,
    )
