"""`onward gradients`: many algorithms on one network and one stream, held against the exact gradient."""

import dataclasses
from datetime import datetime
from typing import Any

import jax
from rich.console import Console

from onward.algorithms import BPTT
from onward.algorithms.windows import chunk_length
from onward.checkpoint import load_network
from onward.cli import session, toml
from onward.cli.config import GradientsConfig
from onward.cli.describe import describe_network, describe_task, versions
from onward.cli.errors import UsageError
from onward.cli.options import parse_run
from onward.cli.progress import Screen
from onward.cli.registry import Choice, build_network, make_algorithms, make_task
from onward.cli.running import clear_failures, make_optimizer, memory_budget, with_warmup
from onward.cli.tables import gradient_groups, gradients
from onward.cli.trained import find, header_of
from onward.gradient_comparison import GradientComparison, compare_gradients
from onward.gradient_report import FIGURES, NUMBERS, PAGE, GradientReport
from onward.network import Network
from onward.report import exactness
from onward.tasks import Task
from onward.training import train

WINDOWS = 8  # about so many in a sequence where --window does not say


def run(words: list[str]) -> int:
    """Build or load the network, train it if asked to, compare, report."""
    with clear_failures():
        config, step = _configured(words)
    choices = make_algorithms(config.algorithms)
    for choice in choices:
        if choice.window is not None:
            raise UsageError(
                f"algorithm {choice.text!r}: one --window cuts the stream for all algorithms; leave the @ out."
            )
    if config.preset == "quick":
        session.compile_quickly()
    console, task = Screen(highlight=False), make_task(config.task)
    config = _with_window(config, task)
    network = build_network(task, config.network, config.seed)
    made = (PAGE, NUMBERS, *(f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")))
    folder = session.open_folder(config, f"gradients-{task.name}", PAGE, made)
    with clear_failures(), session.sole_use(folder), session.gentle_stop():
        if config.checkpoint is not None:
            network = load_network(find(config.checkpoint), network)
        if config.train:
            network = _trained(console, config, task, network)
        found = _compare(console, config, task, network, choices, step + config.train)
        report = _report(config, task, network, choices, found, step + config.train)
        names = [choice.text for choice in choices]
        console.print(gradients(report, names), gradient_groups(report, names), sep="\n")
        session.keep_config(config, folder)
        page = report.write(folder, toml.dump(config))
    console.print(f"Report: {page}", soft_wrap=True)
    return 0


def _configured(words: list[str]) -> tuple[GradientsConfig, int]:
    """The configuration, on top of what a checkpoint says if there is one, and the step that this was written at."""
    config = parse_run(GradientsConfig, "gradients", words)
    if config.checkpoint is None:
        return config, 0
    header, known = header_of(find(config.checkpoint))
    return parse_run(GradientsConfig, "gradients", words, known), header["step"]


def _with_window(config: GradientsConfig, task: Task) -> GradientsConfig:
    window = config.window or chunk_length(task.length, -(-task.length // WINDOWS))
    if window > task.length:
        raise UsageError(
            f"--window {window} is longer than the {task.length} steps of {task.name}; choose 1 to {task.length}."
        )
    return dataclasses.replace(config, window=window, optimizer=with_warmup(config.optimizer, config.train))


def _trained(console: Console, config: GradientsConfig, task: Task, network: Network) -> Network:
    with console.status(f"Training with BPTT for {config.train:,} batches"):
        trained = train(
            network,
            task,
            algorithm=BPTT(),
            optimizer=make_optimizer(config.optimizer, network, config.train, 1),
            steps=config.train,
            batch_size=config.batch_size,
            seed=config.seed,
        )
    if trained.stopped == "interrupted":
        raise KeyboardInterrupt
    return trained.network


def _compare(
    console: Console, config: GradientsConfig, task: Task, network: Network, choices: list[Choice], step: int
) -> GradientComparison:
    """The comparison on batch number `step`, which training has not seen; a `UsageError` if nothing can be run."""
    names = {choice.algorithm: choice.label for choice in choices}
    with console.status("Finding the exact gradient") as status:
        found = compare_gradients(
            network,
            task.loss,
            task.train_batch(config.seed, step, config.batch_size),
            [choice.algorithm for choice in choices],
            window=config.window,
            key=jax.random.key(config.seed),
            keys=config.keys,
            groups=config.groups,
            budget=memory_budget(config)[0],
            on_start=lambda algorithm: status.update(f"Running {names[algorithm]}"),
        )
    if all(found.declined):
        reasons = [f"{choice.label}: {reason}." for choice, reason in zip(choices, found.declined, strict=True)]
        raise UsageError(
            f"{' '.join(reasons)} Choose other --algorithms, a smaller --batch-size or network, or --force."
        )
    return found


def _report(
    config: GradientsConfig,
    task: Task,
    network: Network,
    choices: list[Choice],
    found: GradientComparison,
    step: int,
) -> GradientReport:
    windowed = [dataclasses.replace(choice, window=config.window) for choice in choices]
    exact = [choice.exact_on(network, task.length) for choice in windowed]
    weights = f"after {step:,} batches of training" if step else "initial"
    facts: dict[str, Any] = {
        "Task": describe_task(config, task),
        "Network": describe_network(config, network),
        "Weights": weights,
        "Stream": f"a batch of {config.batch_size}, in {len(found.ends)} windows of {config.window} steps",
        "Keys": f"{config.keys} for each algorithm that draws at random",
        "Machine": session.machine(),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
        "Made": f"{datetime.now():%Y-%m-%d %H:%M}",
    }
    return GradientReport(
        title=f"Gradients on {task.name}",
        comparison=found,
        labels=[choice.label for choice in choices],
        exactness=[exactness(e, 0.0, choice.algorithm.stochastic) for e, choice in zip(exact, choices, strict=True)],
        facts=facts,
    )
