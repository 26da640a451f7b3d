"""What the command line finds in a checkpoint: the file that a path means, and what was configured."""

from pathlib import Path
from typing import Any

from onward.checkpoint import CheckpointError, read_header
from onward.cli import session
from onward.cli.errors import UsageError


def find(path: Path) -> Path:
    """The checkpoint that a path means: itself, or that of the run whose folder it is."""
    if not path.is_dir():
        return path
    if (path / session.CHECKPOINT).is_file():
        return path / session.CHECKPOINT
    inside = sorted(str(found) for found in path.glob(f"*/{session.CHECKPOINT}"))
    if inside:
        raise UsageError(f"{path} holds several checkpoints; choose one: {', '.join(inside)}.")
    raise UsageError(f"the folder {path} holds no {session.CHECKPOINT}; give the path of a checkpoint.")


def header_of(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header of a checkpoint, and the task, network and seed that the command line wrote into it."""
    header = read_header(path)
    known = header.get("config")
    kinds = {"task": str, "network": dict, "seed": int}
    if not isinstance(known, dict) or not all(isinstance(known.get(key), kind) for key, kind in kinds.items()):
        raise CheckpointError(
            f"{path} was not written by this command line, so that its task and network are not known; "
            "load it with onward.checkpoint.load_network"
        )
    return header, {key: known[key] for key in kinds}
