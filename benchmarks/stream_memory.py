"""Memory and speed of `onward stream` over millions of rows: generated rows go through the real command's pipe.

    python -m benchmarks.stream_memory --rows 10000000

Prints, at equal steps, the seconds since the first row was taken, rows per second, the resident memory and the CPU
seconds of the process. What is fed and not yet learnt is at most some blocks of rows. Needs Linux (/proc).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BLOCK = 10_000  # rows that are made once and fed again and again


def rows(count: int, seed: int = 0) -> bytes:
    """A daily and a weekly wave with noise, and two features, in CSV."""
    rng = np.random.default_rng(seed)
    hours = np.arange(count)
    load = 20 + 5 * np.sin(2 * np.pi * hours / 24) + 2 * np.sin(2 * np.pi * hours / 168) + rng.normal(size=count)
    wind, sun = rng.normal(size=(2, count))
    return "".join(f"{a:.3f},{b:.3f},{c:.3f}\n" for a, b, c in zip(load, wind, sun, strict=True)).encode()


def resident(pid: int) -> float:
    """Resident memory in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def seconds(pid: int) -> float:
    """CPU seconds so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows to feed")
    parser.add_argument("--reports", type=int, default=20, help="lines to print")
    parser.add_argument("options", nargs="*", default=[], help="options for onward stream, after --")
    asked = parser.parse_args()
    block, fed, due = rows(BLOCK), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        words = ["stream", "--target", "load", "--horizon", "24", "--season", "24", "--quiet"]
        words += ["--checkpoint", f"{folder}/load.safetensors", *(asked.options or ["--units", "8"])]
        command = [sys.executable, "-m", "onward", *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert process.stdin is not None
        process.stdin.write(b"load,wind,sun\n" + block)
        process.stdin.write(block * 10)  # more than waits in front of the learner: it is warm when this is taken
        fed, start = 11 * BLOCK, time.monotonic()
        before, cpu = (start, fed), seconds(process.pid)
        print(f"{'seconds':>8} {'rows':>12} {'rows/s':>8} {'RSS MB':>8} {'CPU us/row':>11}", flush=True)
        while fed < asked.rows:
            process.stdin.write(block)
            fed += BLOCK
            due += BLOCK
            if due >= asked.rows / asked.reports:
                now, spent = time.monotonic(), seconds(process.pid)
                rate = (fed - before[1]) / (now - before[0])
                each = (spent - cpu) / (fed - before[1]) * 1e6
                print(
                    f"{now - start:8.0f} {fed:12,} {rate:8,.0f} {resident(process.pid):8.1f} {each:11.1f}", flush=True
                )
                before, cpu, due = (now, fed), spent, 0
        process.stdin.close()
        process.wait()
    print(f"exit code {process.returncode}")


if __name__ == "__main__":
    main()
