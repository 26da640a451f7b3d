"""`onward train`: one network, one algorithm, one task."""

import importlib.util
import json
from pathlib import Path

from rich.console import Console

from onward.cli import session
from onward.cli.config import TrainConfig
from onward.cli.errors import StoppedError, UsageError
from onward.cli.options import parse_run
from onward.cli.progress import Reporter, Screen
from onward.cli.registry import build_network, make_algorithm, make_task
from onward.cli.running import TEST_BATCH, Job, clear_failures, has_validation, prepared, with_steps
from onward.cli.tables import estimates, metrics
from onward.evaluation import evaluate
from onward.metrics import read_events
from onward.training import Trained


def run(words: list[str]) -> int:
    """Estimate, train, test."""
    config = parse_run(TrainConfig, "train", words)
    choice = make_algorithm(config.algorithm)
    with clear_failures():
        lost = config.resume and config.out is not None and _lost(config.out)
    if lost:
        raise UsageError(f"{config.out} has no {session.CHECKPOINT} to resume from; delete the folder and start anew.")
    if config.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UsageError(
            "--tensorboard needs tensorboardX; run `pip install tensorboardX`, or leave --tensorboard out."
        )
    session.use_devices(config.batch_size, config.devices)
    console, task = Screen(highlight=False), make_task(config.task)
    config = with_steps(config, task)
    if config.patience is not None and not has_validation(task):
        raise UsageError(f"--patience {config.patience}: {config.task} holds no validation data out; leave it out.")
    network = build_network(task, config.network, config.seed)
    choice = prepared(choice, config, task, network)
    made = (session.CHECKPOINT, session.METRICS)
    folder = session.open_folder(config, f"train-{task.name}-{choice.slug}", session.RESULT, made)
    job = Job(config, choice, task, network, folder, config.stateful)
    again = f"onward train --resume --out {folder}"
    with clear_failures(), session.sole_use(folder), session.gentle_stop(), session.compilation_cache(folder):
        try:
            trained = _train(console, job, config)
        except KeyboardInterrupt:
            raise StoppedError(_kept(job, again)) from None
        if trained.stopped == "interrupted":
            raise StoppedError(f"stopped after step {trained.step:,}; go on with: {again}")
        test = evaluate(trained.best, task, "test", TEST_BATCH)
    result = {"step": trained.step, "stopped": trained.stopped, "test": test}
    (folder / session.RESULT).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(metrics(f"{choice.label} on {task.name}, test set, best parameters:", test))
    print(f"Checkpoint: {job.checkpoint}")
    return 0


def _train(console: Console, job: Job, config: TrainConfig) -> Trained:
    with console.status("Estimating memory and time"):
        cost = job.estimate()
    console.print(estimates([job], {job.choice.slug: cost}))
    if cost.declined:
        raise UsageError(
            f"{job.choice.label} is declined: {cost.declined}; choose a smaller --batch-size, network or window, "
            "or run it all the same with --force."
        )
    session.keep_config(job.config, job.folder)
    labels = {job.choice.slug: job.choice.label}
    with Reporter(console, labels, job.steps, job.task.primary).shown() as reporter:
        reporter.begin(job.choice.slug)
        return job.train(
            lambda event: reporter.event(job.choice.slug, event),
            patience=config.patience,
            tensorboard=job.folder / "tensorboard" if config.tensorboard else None,
        )


def _lost(folder: Path) -> bool:
    """Whether the run in `folder` has trained and its checkpoint is gone; one killed before its first starts anew."""
    if (folder / session.CHECKPOINT).exists() or not (folder / session.METRICS).exists():
        return False
    return any(event["event"] == "train" for event in read_events(folder / session.METRICS))


def _kept(job: Job, again: str) -> str:
    if job.checkpoint.exists():
        return f"stopped; the last checkpoint is kept; go on with: {again}"
    return f"stopped before the first checkpoint; go on with: {again}"
