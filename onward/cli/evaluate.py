"""`onward evaluate`: the network of a checkpoint on data that it was not trained on."""

import json
from pathlib import Path
from typing import Any

from onward.checkpoint import CheckpointError, load_network, read_header
from onward.cli import session, toml
from onward.cli.config import EvaluateConfig, NetworkConfig
from onward.cli.errors import UsageError
from onward.cli.options import parse
from onward.cli.registry import build_network, make_task
from onward.cli.running import clear_failures, has_validation
from onward.cli.tables import metrics
from onward.evaluation import evaluate


def run(words: list[str]) -> int:
    """Rebuild network and task from the checkpoint's header, and measure."""
    config = parse(EvaluateConfig, "evaluate", words)
    if config.batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, got {config.batch_size}.")
    path = _find(config.checkpoint)
    with clear_failures():
        header = read_header(path)
        known = _known(header, path)
        session.use_devices(config.batch_size, None)
        task = make_task(known["task"])
        if config.split == "validation" and not has_validation(task):
            raise UsageError(f"{known['task']} holds no validation data out; use --split test.")
        network_config = toml.merge(NetworkConfig(), known["network"], f"the header of {path}", "network.")
        network = build_network(task, network_config, known["seed"])
        network = load_network(path, network, best=config.which == "best")
        values = evaluate(network, task, config.split, config.batch_size)
    if config.json:
        print(json.dumps({"checkpoint": str(path), "step": header["step"], "split": config.split, **values}))
    else:
        print(metrics(f"{known['task']}, {config.split} set, {config.which} parameters of {path}:", values))
    return 0


def _find(path: Path) -> Path:
    """The checkpoint that a path means: itself, or that of the run whose folder it is."""
    if not path.is_dir():
        return path
    if (path / session.CHECKPOINT).is_file():
        return path / session.CHECKPOINT
    inside = sorted(str(found) for found in path.glob(f"*/{session.CHECKPOINT}"))
    if inside:
        raise UsageError(f"{path} holds several checkpoints; choose one: {', '.join(inside)}.")
    raise UsageError(f"the folder {path} holds no {session.CHECKPOINT}; give the path of a checkpoint.")


def _known(header: dict[str, Any], path: Path) -> dict[str, Any]:
    """What the command line writes into a checkpoint's header."""
    known = header.get("config")
    kinds = {"task": str, "network": dict, "seed": int}
    if not isinstance(known, dict) or not all(isinstance(known.get(key), kind) for key, kind in kinds.items()):
        raise CheckpointError(
            f"{path} was not written by this command line, so that its task and network are not known; "
            "load it with onward.checkpoint.load_network"
        )
    return known
