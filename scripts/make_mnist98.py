#!/usr/bin/env python3
"""Make the embedded MNIST98 set from the four canonical MNIST files.

    python scripts/make_mnist98.py [--folder FOLDER] [--output FILE]

The files are read from FOLDER (default: mnist/ under $ONWARD_DATA or ~/.cache/onward; fetched if absent) and their MD5
digests are checked. The result depends on nothing else but the xz library's version; with the one it was first
made with, its SHA-256 is the constant in onward/data/mnist98.py, and this script fails if it is not.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import embedded  # noqa: E402

from onward.data import load_mnist  # noqa: E402
from onward.data.mnist98 import FILE, SHA256, average, decode, encode  # noqa: E402


def main() -> int:
    """Write the file; the exit code is 1 if its digest is not the one that the loader expects."""
    parser = argparse.ArgumentParser(description="Make the embedded MNIST98 set from the canonical MNIST files.")
    parser.add_argument("--folder", type=Path, help="where the four IDX files are, plain or as .gz")
    parser.add_argument("--output", type=Path, default=ROOT / "onward" / "data" / FILE, help="the file to write")
    arguments = parser.parse_args()
    try:
        mnist = load_mnist(arguments.folder)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    images = average(np.concatenate([mnist.train_images, mnist.test_images]))
    labels = np.concatenate([mnist.train_labels, mnist.test_labels])
    data = encode(images, labels)
    for made, original in zip(decode(data), (images, labels), strict=True):
        np.testing.assert_array_equal(made, original)
    return embedded.write(arguments.output, data, SHA256, "onward/data/mnist98.py")


if __name__ == "__main__":
    sys.exit(main())
