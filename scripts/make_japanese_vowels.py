#!/usr/bin/env python3
"""Make the embedded Japanese Vowels from the data set in the archives' .ts form.

    python scripts/make_japanese_vowels.py FOLDER [--output FILE]

FOLDER holds JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts, as the UEA archive of multivariate time series
publishes them (the package aeon has them too); their SHA-256 digests are checked. In a .ts file a line is an utterance:
twelve coefficients with colons between, of each its frames with commas between, then the speaker, 1 to 9.
"""

import argparse
import hashlib
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import embedded  # noqa: E402

from onward.data.japanese_vowels import FILE, MICRO, SHA256, decode, encode  # noqa: E402

SOURCES = {
    "JapaneseVowels_TRAIN.ts": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    "JapaneseVowels_TEST.ts": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
}


def read(text: str) -> list[tuple[np.ndarray, int]]:
    """Of each utterance its coefficients times 10^6 `[frame, 12]` and its speaker from 0."""
    found = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line[0] in "#@":
            continue
        *rows, speaker = line.split(":")
        scaled = [[Decimal(value) * MICRO for value in row.split(",")] for row in rows]
        if any(value != int(value) for row in scaled for value in row):
            raise ValueError("a number has more than six decimals; use the published files")
        found.append((np.array(scaled).astype(np.int32).T, int(speaker) - 1))
    return found


def main() -> int:
    """Write the file; the exit code is 1 if its digest is not the one that the loader expects."""
    parser = argparse.ArgumentParser(description="Make the embedded Japanese Vowels from the published .ts files.")
    parser.add_argument("folder", type=Path, help="where the two .ts files are")
    parser.add_argument("--output", type=Path, default=ROOT / "onward" / "data" / FILE, help="the file to write")
    arguments = parser.parse_args()
    utterances = []
    for name, sha256 in SOURCES.items():
        content = (arguments.folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            print(f"{arguments.folder / name} is not the published file: its SHA-256 digest differs", file=sys.stderr)
            return 1
        utterances += read(content.decode())
    micro = np.concatenate([frames for frames, _ in utterances])
    lengths = np.array([len(frames) for frames, _ in utterances], np.uint8)
    speakers = np.array([speaker for _, speaker in utterances], np.uint8)
    data = encode(micro, lengths, speakers)
    for made, original in zip(decode(data), (micro, lengths, speakers), strict=True):
        np.testing.assert_array_equal(made, original)
    return embedded.write(arguments.output, data, SHA256, "onward/data/japanese_vowels.py")


if __name__ == "__main__":
    sys.exit(main())
