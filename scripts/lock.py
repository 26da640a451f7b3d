"""Write requirements.lock anew from pyproject.toml: python3 scripts/lock.py [--upgrade]

Needs `uv` on the PATH. The lock holds one version of each package for all of Python 3.11 and newer, Linux and macOS,
with the digests of all its files: what the library needs, its TensorBoard writer, the test tools, and the build
backend. PyTorch is left out for its size; what needs it is skipped where it is missing.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Written by scripts/lock.py from pyproject.toml: change that file, then run the script."


def main(options: list[str]) -> None:
    lock = ROOT / "requirements.lock"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    command = ["uv", "pip", "compile", "--quiet", "pyproject.toml", "-", "--extra", "test", "--extra", "tensorboard"]
    command += ["--universal", "--python-version", "3.11", "--fork-strategy", "fewest", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--output-file", lock.name, *options]
    subprocess.run(command, cwd=ROOT, input="\n".join(project["build-system"]["requires"]), text=True, check=True)
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith(("#", "--index"))]
    lock.write_text("\n".join([HEADER, *lines, ""]))


if __name__ == "__main__":
    main(sys.argv[1:])
