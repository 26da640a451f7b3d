"""The Japanese Vowels, embedded in the package: nine men say /ae/, 640 utterances of 7 to 29 frames.

The file is one xz stream: 640 lengths, 640 speakers (a byte each), then the coefficients times 10^6, which makes them
integers. These are little-endian in 32 bits, coefficient after coefficient, of each all frames of all utterances; the
lowest bytes of all of them come first, then the next higher ones, since only the high bytes can be compressed.
"""

import lzma
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from jaxtyping import Float, Int32, UInt8

from onward.data import files

SPEAKERS, COEFFICIENTS, LONGEST = 9, 12, 29
TRAIN, TEST = 270, 370
FILE = "japanese_vowels.xz"
SHA256 = "a704c16989e3961b7a244ba3dbbc65584a90fe03228f3022ac77b2e0d9ed2dcb"  # of the embedded file
MICRO = 1_000_000  # the published numbers have at most six decimals


@dataclass(frozen=True)
class Utterances:
    """Utterances padded with zeros to one length, and who speaks, split as published; every array is read-only.

    **Shapes.** `train_frames` `[270, 29, 12]`, `train_lengths` and `train_speakers` `[270]`; `test_...` likewise with
    370. Utterances are in the published order: by speaker.
    **Units.** LPC cepstrum coefficients as published; a frame every 6.4 ms. Lengths in frames. Speakers 0 to 8.
    """

    train_frames: Float[np.ndarray, "train time coefficient"]
    train_lengths: UInt8[np.ndarray, " train"]
    train_speakers: UInt8[np.ndarray, " train"]
    test_frames: Float[np.ndarray, "test time coefficient"]
    test_lengths: UInt8[np.ndarray, " test"]
    test_speakers: UInt8[np.ndarray, " test"]

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.flags.writeable = False


def load_japanese_vowels() -> Utterances:
    """The embedded Japanese Vowels; decoded once in a process, then shared.

    **Returns.** `Utterances`, float32: 30 of each of nine speakers for training, 24 to 88 of each for testing.
    **Raises.** `ValueError` if the embedded file is not the one this version was made with.
    **Source.** Kudo, Toyama and Shimbo 1999, https://doi.org/10.1016/S0167-8655(99)00077-X; data under CC BY 4.0 at
    https://doi.org/10.24432/C5NS47 (see JAPANESE-VOWELS-LICENSE.md beside the file).
    """
    return _load()


@lru_cache(maxsize=1)
def _load() -> Utterances:
    data = verified((resources.files("onward.data") / FILE).read_bytes())
    micro, lengths, speakers = decode(data)
    frames = np.zeros((len(lengths), LONGEST, COEFFICIENTS), np.float32)
    frames[np.arange(LONGEST) < lengths[:, None]] = micro / MICRO
    return Utterances(
        frames[:TRAIN], lengths[:TRAIN], speakers[:TRAIN], frames[TRAIN:], lengths[TRAIN:], speakers[TRAIN:]
    )


def verified(data: bytes) -> bytes:
    """`data` itself if it is the embedded file's content; `ValueError` otherwise."""
    return files.verified(data, FILE, SHA256, "scripts/make_japanese_vowels.py")


def encode(
    micro: Int32[np.ndarray, "frame 12"],
    lengths: UInt8[np.ndarray, " utterance"],
    speakers: UInt8[np.ndarray, " utterance"],
) -> bytes:
    """Coefficients times 10^6 of all utterances one after another, as the embedded file's content."""
    planes = np.ascontiguousarray(micro.T.astype("<i4")).view(np.uint8).reshape(-1, 4).T
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
    content = lengths.tobytes() + speakers.tobytes() + planes.tobytes()
    return lzma.compress(content, lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=filters)


def decode(
    data: bytes,
) -> tuple[Int32[np.ndarray, "frame 12"], UInt8[np.ndarray, " utterance"], UInt8[np.ndarray, " utterance"]]:
    """What `encode` was given; the number of utterances is that of the data set."""
    count = TRAIN + TEST
    content = np.frombuffer(lzma.decompress(data), np.uint8)
    planes = content[2 * count :].reshape(4, -1)
    micro = np.ascontiguousarray(planes.T).view("<i4").astype(np.int32).reshape(COEFFICIENTS, -1).T
    return micro, content[:count].copy(), content[count : 2 * count].copy()
