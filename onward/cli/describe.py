"""What a report says about the task, the network and the versions."""

from importlib import metadata

import equinox as eqx
import jax

from onward.cli.config import CommonConfig
from onward.network import Network
from onward.tasks import Task


def describe_task(config: CommonConfig, task: Task) -> str:
    """The task as it was asked for, the length of its sequences and how many there are."""
    amount = "generated without end" if task.train_size is None else f"{task.train_size:,} to train on"
    return f"{config.task}: sequences of {task.length} steps, {amount}"


def describe_network(config: CommonConfig, network: Network) -> str:
    """Its layers, number of parameters and seed."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array)))
    made = config.network
    if made.kind == "lru-blocks":
        layers = (
            f"{made.layers} blocks of {made.units} complex linear recurrent units, {made.width} features between them"
        )
    else:
        layers = f"{made.layers} layer{'s' * (made.layers > 1)} of {made.units} units of {made.cell}"
    return f"{layers}; {parameters:,} parameters; initial weights from seed {config.seed}"


def versions() -> dict[str, str]:
    """Of Onward and what it is built on."""
    return {"onward": _version("onward"), "jax": jax.__version__, "equinox": eqx.__version__}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
