"""`onward train`: one network, one algorithm, one task."""

import json

from rich.console import Console

from onward.cli import session
from onward.cli.config import TrainConfig
from onward.cli.errors import StoppedError, UsageError
from onward.cli.options import parse_run
from onward.cli.progress import Reporter
from onward.cli.registry import build_network, make_algorithm, make_task
from onward.cli.running import TEST_BATCH, Job, check_choice, clear_failures, with_steps
from onward.cli.tables import estimates, metrics
from onward.evaluation import evaluate
from onward.training import Trained


def run(words: list[str]) -> int:
    """Estimate, train, test."""
    config = parse_run(TrainConfig, "train", words)
    choice = make_algorithm(config.algorithm)
    if config.resume and config.out and not (config.out / session.CHECKPOINT).exists():
        raise UsageError(f"{config.out} has no {session.CHECKPOINT} to resume from; delete the folder and start anew.")
    session.use_devices(config.batch_size, config.devices)
    console, task = Console(highlight=False), make_task(config.task)
    config = with_steps(config, task)
    network = build_network(task, config.network, config.seed)
    check_choice(choice, network, task)
    folder = session.open_folder(config, f"train-{task.name}-{choice.slug}", session.RESULT)
    job = Job(config, choice, task, network, folder, config.stateful)
    again = f"onward train --resume --out {folder}"
    with clear_failures(), session.gentle_stop(), session.compilation_cache(folder):
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


def _kept(job: Job, again: str) -> str:
    if job.checkpoint.exists():
        return f"stopped; the last checkpoint is kept; go on with: {again}"
    return "stopped before the first checkpoint; run the same command to start again."
