"""CIFAR-10 as published: 32 x 32 colour images, 50,000 for training and 10,000 for testing, in both formats."""

import io
import pickle
import tarfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from onward.data.files import digest, folder_of
from onward.data.images import LabelledImages

PIXELS, CHANNELS = 1024, 3
TRAIN_BATCHES, TEST_BATCH = tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch"
# MD5 digests of the published archives, and of what the "python" one holds.
ARCHIVES = {
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
}
PICKLES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
# What a batch needs of pickle: an array, its type, and bytes that Python 2 wrote. Nothing else is looked up or called.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def load_cifar10(folder: Path | str | None = None) -> LabelledImages:
    """CIFAR-10, 1024 pixels of 3 colours an image in raster order; read once in a process, then shared.

    **Arguments.** `folder`: holds `cifar-10-binary.tar.gz`, `cifar-10-python.tar.gz`, or the latter unpacked
    (`cifar-10-batches-py/`); `None` means `cifar-10/` under `data_home()`.
    **Returns.** `LabelledImages` with images `[50000, 1024, 3]` and `[10000, 1024, 3]`, uint8.
    **Raises.** `FileNotFoundError` if none of the three is there: the sentence says what to put where. `ValueError` if
    one is corrupt.
    **Source.** Krizhevsky 2009, "Learning multiple layers of features from tiny images",
    https://www.cs.toronto.edu/~kriz/cifar.html
    """
    return _load(folder_of("cifar-10", folder))


@lru_cache(maxsize=1)
def _load(folder: Path) -> LabelledImages:
    batches = _batches(folder)
    train = [batches[name] for name in TRAIN_BATCHES]
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return LabelledImages(images, labels, *batches[TEST_BATCH])


def _batches(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    names = (*TRAIN_BATCHES, TEST_BATCH)
    for archive, md5 in ARCHIVES.items():
        path = folder / archive
        if path.exists():
            content = _checked(path, md5)
            kind, end, read = (
                ("cifar-10-batches-bin", ".bin", read_binary)
                if "binary" in archive
                else ("cifar-10-batches-py", "", read_pickle)
            )
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                members = {name: tar.extractfile(f"{kind}/{name}{end}") for name in names}
                return {name: read(file.read(), f"{path}: {name}") for name, file in members.items() if file}
    unpacked = folder / "cifar-10-batches-py"
    if all((unpacked / name).exists() for name in names):
        return {name: read_pickle(_checked(unpacked / name, PICKLES[name]), str(unpacked / name)) for name in names}
    raise FileNotFoundError(
        f"CIFAR-10 is not in {folder}: put the published cifar-10-binary.tar.gz or cifar-10-python.tar.gz there (from "
        "https://www.cs.toronto.edu/~kriz/cifar.html), or set ONWARD_DATA to a folder in which it is cifar-10/"
    )


def _checked(path: Path, md5: str) -> bytes:
    content = path.read_bytes()
    if digest(content) != md5:
        raise ValueError(
            f"{path} is corrupt or another file: its MD5 digest is {digest(content)} where {md5} is published; "
            "delete it, or put the published file there"
        )
    return content


def read_binary(
    data: bytes, name: str = "CIFAR-10 data"
) -> tuple[UInt8[np.ndarray, "image 1024 3"], UInt8[np.ndarray, " image"]]:
    """Images and labels of one file of the binary version: records of a label and 3 planes of 1024 bytes.

    **Raises.** `ValueError` if the length is no multiple of a record's, or a label is above 9.
    """
    size = 1 + CHANNELS * PIXELS
    if not data or len(data) % size:
        raise ValueError(f"{name}: {len(data)} bytes are no multiple of {size}; fetch the file again")
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    return _checked_batch(records[:, 1:], records[:, 0], name)


def read_pickle(
    data: bytes, name: str = "CIFAR-10 data"
) -> tuple[UInt8[np.ndarray, "image 1024 3"], UInt8[np.ndarray, " image"]]:
    """Images and labels of one file of the Python version, a pickled dict; nothing that it names is run but NumPy's.

    **Raises.** `ValueError` if it is no such dict, or asks for anything else than arrays.
    """
    try:
        batch = _Arrays(io.BytesIO(data), encoding="bytes").load()
        images, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(f"{name}: not a batch of CIFAR-10 ({error}); fetch the file again") from error
    return _checked_batch(images, labels, name)


class _Arrays(pickle.Unpickler):
    """An unpickler of dicts, lists, numbers, bytes and NumPy arrays."""

    def find_class(self, module: str, name: str):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def _checked_batch(planes, labels, name):
    fits = planes.ndim == 2 and planes.shape == (len(labels), CHANNELS * PIXELS) and planes.dtype == np.uint8
    if not fits or labels.ndim != 1 or labels.min(initial=0) < 0 or labels.max(initial=0) > 9:
        raise ValueError(
            f"{name}: images of shape {planes.shape} with labels up to {labels.max(initial=0)} are no batch"
        )
    images = planes.reshape(len(labels), CHANNELS, PIXELS).transpose(0, 2, 1)
    return np.ascontiguousarray(images), labels.astype(np.uint8)
