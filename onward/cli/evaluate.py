"""`onward evaluate`: the network of a checkpoint on data that it was not trained on."""

import json

from onward.checkpoint import load_network
from onward.cli import session, toml
from onward.cli.config import EvaluateConfig, NetworkConfig
from onward.cli.errors import UsageError
from onward.cli.options import parse
from onward.cli.registry import build_network, make_task
from onward.cli.running import clear_failures, has_validation
from onward.cli.tables import metrics
from onward.cli.trained import find, header_of
from onward.evaluation import evaluate


def run(words: list[str]) -> int:
    """Rebuild network and task from the checkpoint's header, and measure."""
    config = parse(EvaluateConfig, "evaluate", words)
    if config.batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, got {config.batch_size}.")
    path = find(config.checkpoint)
    with clear_failures():
        header, known = header_of(path)
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
