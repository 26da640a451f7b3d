"""The entry point: which command, and how errors end."""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from onward.cli.errors import RunError, StoppedError, UsageError

COMMANDS = {
    "compare": "train one network with several algorithms and report on them",
    "gradients": "hold the gradients of several algorithms against the exact one",
    "train": "train one network with one algorithm on one task",
    "evaluate": "test the network of a checkpoint",
    "stream": "learn from CSV or JSON lines as they come, and forecast",
    "serve": "learn from records that come by HTTP, and show it on a page",
    "reproduce": "repeat a study, from measurements to figures",
    "list": "describe the algorithms, tasks, cells and networks",
}
OVERVIEW = """usage: onward COMMAND [OPTION ...]

Train recurrent networks forward in time, and compare ways of assigning credit.

commands:
{commands}

`onward COMMAND --help` explains each option. To begin with:

  onward compare --task mnist98                  some minutes: a report in runs/
  onward compare --task mnist98 --preset full    1,000,000 samples, as published
  onward gradients --task mnist98                a minute: how far off is each algorithm's gradient, and what it costs
  onward train --task copy --algorithm rtrl@1    learn after every step
  tail -f data.csv | onward stream --target load --horizon 24
  onward reproduce gradient-quality --quick      where propagating errors forward fails
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command that `words` (by default those of the process) ask for; returns the exit code.

    0: done. 1: the run failed. 2: the request makes no sense. 130: stopped by Ctrl-C or SIGTERM.
    """
    words = list(sys.argv[1:] if words is None else words)
    name = words[0] if words else ""
    try:
        code = _run(name, words[1:])
        print(end="", flush=True)
        return code
    except (UsageError, RunError, StoppedError) as error:
        _complain(name, str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain(name, "interrupted before there was anything to keep; run the same command to start again.")
        return StoppedError.exit_code
    except BrokenPipeError:  # the reader of a pipe went away, as in `onward list | head`
        _drop_output()
        return 0
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        _complain(
            name, f"reading or writing{where} failed ({error.strerror or error}); see to the disk and run it again."
        )
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        return RunError.exit_code


def _run(name: str, words: list[str]) -> int:
    if not name:
        raise UsageError(f"give a command: {', '.join(COMMANDS)}; see onward --help.")
    if name in ("-h", "--help", "help"):
        lines = [f"  {command:<10}{text}" for command, text in COMMANDS.items()]
        print(OVERVIEW.format(commands="\n".join(lines)), end="")
        return 0
    if name == "--version":
        print(f"onward {_version()}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(COMMANDS)}."
        raise UsageError(f"there is no command {name!r}; {hint}")
    return importlib.import_module(f"onward.cli.{name}").run(words)


def _drop_output() -> None:
    """Let what could not be printed go, so that Python does not try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(name: str, sentence: str) -> None:
    prefix = f"onward {name}" if name in COMMANDS else "onward"
    print(f"{prefix}: {sentence}", file=sys.stderr)


def _version() -> str:
    try:
        return metadata.version("onward")
    except metadata.PackageNotFoundError:
        return "of an uninstalled checkout"
