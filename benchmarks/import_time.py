"""Seconds that `import onward` takes beyond `import jax`, each in a fresh interpreter.

python benchmarks/import_time.py
"""

import statistics
import subprocess
import sys
import time

from common import report


def seconds(statement: str) -> float:
    """Median of seven fresh interpreters."""
    times = []
    for _ in range(7):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    jax, onward = seconds("import jax"), seconds("import jax, onward")
    report("import", {"jax": f"{jax:.2f} s", "onward": f"{onward - jax:.2f} s more"})


if __name__ == "__main__":
    main()
