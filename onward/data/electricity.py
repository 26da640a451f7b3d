"""The hourly electricity of 321 clients in Portugal, embedded in the package: three years, their mean load.

The file is one xz stream: 26,304 totals over the clients, each an integer, little-endian in 32 bits; the lowest bytes
of all of them come first, then the next higher ones.
"""

import lzma
from importlib import resources

import numpy as np
from jaxtyping import Int

from onward.data import files

CLIENTS, HOURS = 321, 26_304
START = np.datetime64("2012-01-01T00", "h")
FILE = "electricity.xz"
SHA256 = "89c2c5ab4cc2154ec9b71aca3e0c7bbbf29cdb9733f5ec12d1658ae87b6e6289"  # of the embedded file


def load_totals() -> Int[np.ndarray, " hour"]:
    """The clients' total in each hour, as published.

    **Raises.** `ValueError` if the embedded file is not the one this version was made with.
    """
    return decode(verified((resources.files("onward.data") / FILE).read_bytes()))


def verified(data: bytes) -> bytes:
    """`data` itself if it is the embedded file's content; `ValueError` otherwise."""
    return files.verified(data, FILE, SHA256, "scripts/make_electricity.py")


def encode(totals: Int[np.ndarray, " hour"]) -> bytes:
    """Totals from 0 to 2^31 - 1 as the embedded file's content."""
    planes = totals.astype("<i4").view(np.uint8).reshape(-1, 4).T
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
    return lzma.compress(planes.tobytes(), lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=filters)


def decode(data: bytes) -> Int[np.ndarray, " hour"]:
    """What `encode` was given."""
    planes = np.frombuffer(lzma.decompress(data), np.uint8).reshape(4, -1)
    return np.ascontiguousarray(planes.T).view("<i4").ravel().astype(np.int32)
