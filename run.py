#!/usr/bin/env python3
"""Set Onward up and run it, with nothing but Python 3.11 or newer, on Linux or macOS.

    python3 run.py demo [OPTION ...]   train one network with several algorithms on MNIST98 and compare them
    python3 run.py test [OPTION ...]   run the tests and the examples in docstrings
    python3 run.py setup               only set up

Options are handed to `onward compare` and to `pytest`. Setting up puts the packages of requirements.lock into .venv;
it is done again only when that file, pyproject.toml, the version of Python or the folder's place has changed.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "onward-setup"  # what .venv was made from, or UNFINISHED while it is being made
LOG = VENV / "onward-setup.log"
UNFINISHED = "unfinished\n"


def main(arguments):
    check_platform()
    command, options = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command == "demo":
        set_up()
        replace_by([VENV / "bin" / "onward", "compare", "--task", "mnist98", "--preset", "demo", *options])
    elif command == "test":
        set_up()
        replace_by([PYTHON, "-m", "pytest", *options])
    elif command == "setup" and not options:
        set_up()
        print(f"Onward is ready in {VENV}.")
    elif command in ("-h", "--help", "help"):
        print(__doc__)
    else:
        sys.exit(__doc__)


def check_platform():
    """Stop with one sentence where Onward cannot run; Python 3.6 must still be able to read this file."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is started by whatever python3 is there
        found = f"{platform.python_version()} ({sys.executable})"
        sys.exit(f"Onward needs Python 3.11 or newer, and this is {found}: start run.py with a newer one.")
    if os.name != "posix":
        sys.exit("Onward's run.py needs Linux or macOS: on Windows, run it inside WSL.")
    if (sys.platform, platform.machine()) == ("darwin", "x86_64"):
        sys.exit("JAX no longer supports Intel Macs: use Apple silicon, with a Python that was built for it.")


def set_up():
    """Bring .venv in line with requirements.lock, unless it is already."""
    wanted, found = fingerprint(), STAMP.read_text() if STAMP.is_file() else ""
    if found == wanted and PYTHON.exists():
        return
    start, uv = time.monotonic(), find_uv()
    print(f"Setting up Onward in {VENV} (about 200 MB to download, once) ...", flush=True)
    if VENV.exists() and (found == UNFINISHED or not usable(uv)):
        print("  removing what is there: it is unfinished, broken or of another Python", flush=True)
        shutil.rmtree(VENV)
    if not uv:
        install_ensurepip()
    new = not VENV.exists()
    VENV.mkdir(exist_ok=True)
    STAMP.write_text(UNFINISHED)
    if new:
        with_uv = [uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable]
        step([*(with_uv if uv else [sys.executable, "-m", "venv"]), VENV], "the virtual environment could not be made")
    install = [uv, "pip", "install", "--python", PYTHON] if uv else [PYTHON, "-m", "pip", "install", "--no-compile"]
    packages = ["--require-hashes", "--only-binary", ":all:", "--requirement", LOCK]
    step([*install, *packages], "the packages could not be installed (does the network work?)")
    onward = ["--no-deps", "--no-build-isolation", "--editable", ROOT]
    step([*install, *onward], "Onward itself could not be installed")
    STAMP.write_text(wanted)
    print(f"Set up in {time.monotonic() - start:.0f} s.", flush=True)


def fingerprint():
    """A digest of everything that .venv is made from."""
    python = f"{sys.version_info[:2]} {ROOT}".encode()
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), python]
    return hashlib.sha256(b"\0".join(parts)).hexdigest() + "\n"


def find_uv():
    """The path of a `uv` that works, or None."""
    uv = shutil.which("uv")
    return uv if uv and succeeds([uv, "--version"]) else None


def usable(uv):
    """Whether .venv has a Python of the running version, and pip where that is what installs."""
    code = f"import sys; assert sys.version_info[:2] == {sys.version_info[:2]}"
    return succeeds([PYTHON, "-c", code if uv else code + "; import pip"])


def succeeds(command):
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def install_ensurepip():
    """Debian and Ubuntu keep `ensurepip` in a package of its own: install that as root, or say how."""
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return
    is_default = os.path.realpath(sys.executable) == os.path.realpath("/usr/bin/python3")
    package = "python3-venv" if is_default else f"python3.{sys.version_info[1]}-venv"
    missing = f"This Python ({sys.executable}) cannot make virtual environments, since its ensurepip is missing"
    if not shutil.which("apt-get"):
        sys.exit(f"{missing}: install that (or uv) with your system's packages, and run the same command again.")
    if os.geteuid() != 0:
        command = f"sudo apt-get update && sudo apt-get install -y {package}"
        sys.exit(f"{missing}. Install it with\n\n    {command}\n\nand run the same command again.")
    print(f"  installing the system's package {package}", flush=True)
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["apt-get", "-qq", "update"], ["apt-get", "-qq", "install", "-y", package]):
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode != 0:
            sys.exit(f"{missing}, and `{' '.join(command)}` failed for the reason above.")


def step(command, failure):
    """Run a step of the set-up: all of its output goes to LOG, its latest line to the terminal."""
    settings = {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_PROGRESS_BAR": "off", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    width = shutil.get_terminal_size().columns - 3 if sys.stdout.isatty() else 0
    last = []
    words = [str(word) for word in command]
    with LOG.open("a") as log, subprocess.Popen(words, env={**os.environ, **settings}, **pipe) as process:
        for line in process.stdout or ():
            log.write(line)
            last = [*last[-7:], line]
            if width:
                print("\r\033[K  " + line.strip()[:width], end="", flush=True)
            elif line.lstrip().startswith("Downloading") and (" MB" in line or "MiB" in line):
                print("  " + line.strip(), flush=True)
    print("\r\033[K" if width else "", end="", flush=True)
    if process.returncode != 0:
        STAMP.unlink()  # pip and uv undo what fails: only a set-up that was killed has to start from nothing
        print("".join(last), file=sys.stderr)
        sys.exit(f"Setting up failed: {failure}. All output is in {LOG}; run the same command to try again.")


def replace_by(command):
    """Become another program, so that its exit code and its answer to Ctrl-C are what the caller sees."""
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execv(str(command[0]), [str(part) for part in command])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("\nInterrupted: run the same command again to go on.")
