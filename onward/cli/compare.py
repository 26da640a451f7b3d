"""`onward compare`: one network, several algorithms, one report."""

import dataclasses
import json
import statistics
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from onward import report
from onward.cli import session
from onward.cli.config import CompareConfig
from onward.cli.describe import describe_network, describe_task, versions
from onward.cli.errors import RunError, StoppedError, UsageError
from onward.cli.options import parse_run
from onward.cli.progress import Reporter, Screen
from onward.cli.registry import build_network, make_algorithms, make_task
from onward.cli.running import TEST_BATCH, Job, clear_failures, epoch_steps, prepared, with_steps
from onward.cli.tables import estimates, results
from onward.diagnostics import Cost, exact_share
from onward.evaluation import evaluate
from onward.metrics import read_events
from onward.network import Network
from onward.report import Comparison, Result
from onward.tasks import Task


def run(words: list[str]) -> int:
    """Estimate, train with each algorithm, test, report."""
    config = parse_run(CompareConfig, "compare", words)
    choices = make_algorithms(config.algorithms)
    session.use_devices(config.batch_size, config.devices)
    if config.preset == "quick":
        session.compile_quickly()
    console, task = Screen(highlight=False), make_task(config.task)
    config = with_steps(config, task)
    network = build_network(task, config.network, config.seed)
    choices = [prepared(choice, config, task, network) for choice in choices]
    made = (report.PAGE, report.METRICS, *(choice.slug for choice in choices))
    folder = session.open_folder(config, f"compare-{task.name}", report.RESULTS, made)
    again = f"onward compare --resume --out {folder}"
    with clear_failures(), session.sole_use(folder), session.gentle_stop(), session.compilation_cache(folder):
        jobs = [Job(config, choice, task, network, folder / choice.slug) for choice in choices]
        try:
            found = _run_all(console, jobs, folder, network)
        except KeyboardInterrupt:
            raise StoppedError(f"stopped; go on with: {again}") from None
        comparison = _write_report(config, task, network, found, folder)
    console.print(results(comparison))
    console.print(f"Report: {folder / report.PAGE}", soft_wrap=True)
    failed = [result for result in found if result.status == "failed"]
    if failed:
        raise RunError(" ".join(f"{result.label}: {result.reason}" for result in failed))
    return 0


def _run_all(console: Console, jobs: list[Job], folder: Path, network: Network) -> list[Result]:
    """A result for each job, in their order; those of an earlier run are read."""
    done = {job.choice.slug: result for job in jobs if (result := _finished(job)) is not None}
    costs = _estimate(console, [job for job in jobs if job.choice.slug not in done])
    if not done and all(cost.declined for cost in costs.values()):
        reasons = " ".join(f"{job.choice.label}: {costs[job.choice.slug].declined}." for job in jobs)
        raise UsageError(f"{reasons} Choose a smaller --batch-size or network, or run it all the same with --force.")
    session.keep_config(jobs[0].config, folder)
    labels = {job.choice.slug: job.choice.label for job in jobs}
    found = []
    with Reporter(console, labels, jobs[0].steps, jobs[0].task.primary).shown() as reporter:
        for job in jobs:
            slug = job.choice.slug
            if slug in done:
                reporter.skip(slug, "finished before")
                found.append(done[slug])
            elif costs[slug].declined:
                reporter.skip(slug, "declined")
                found.append(_result(job, network, costs[slug], status="declined", reason=_declined(costs[slug])))
            else:
                found.append(_train(job, network, costs[slug], reporter))
    return found


def _finished(job: Job) -> Result | None:
    path = job.folder / session.RESULT
    if not (job.config.resume and path.exists()):
        return None
    return Result(**json.loads(path.read_text(encoding="utf-8")))


def _estimate(console: Console, jobs: list[Job]) -> dict[str, Cost]:
    """The cost of each job by slug, shown as a table."""
    if not jobs:
        return {}
    costs = {}
    with console.status("Estimating memory and time") as status:
        for job in jobs:
            status.update(f"Estimating memory and time of {job.choice.label}")
            costs[job.choice.slug] = job.estimate()
    console.print(estimates(jobs, costs))
    return costs


def _declined(cost: Cost) -> str:
    return f"{cost.declined}; a smaller batch or network needs less, and --force runs it all the same"


def _train(job: Job, network: Network, cost: Cost, reporter: Reporter) -> Result:
    slug = job.choice.slug
    job.folder.mkdir(exist_ok=True)
    reporter.begin(slug)
    try:
        trained = job.train(lambda event: reporter.event(slug, event))
    except FloatingPointError as error:
        return _result(job, network, cost, status="failed", reason=f"training diverged: {error}.")
    if trained.stopped == "interrupted":
        raise KeyboardInterrupt
    test = evaluate(trained.best, job.task, "test", TEST_BATCH)
    result = _result(job, network, cost, status="finished", test=test)
    text = json.dumps(dataclasses.asdict(result), indent=2)
    (job.folder / session.RESULT).write_text(text + "\n", encoding="utf-8")
    return result


def _result(job: Job, network: Network, cost: Cost, **known: Any) -> Result:
    """What is known of a job from its log, its cost and its algorithm."""
    choice, algorithm = job.choice, job.choice.algorithm
    log = job.folder / session.METRICS
    events = read_events(log) if log.exists() else []
    named = {name: [e for e in events if e["event"] == name] for name in ("end", "validation", "alignment")}
    cosines, ratios = ([e[k] for e in named["alignment"] if e[k] is not None] for k in ("cosine", "norm_ratio"))
    seconds = named["end"][-1]["seconds_per_step"] if named["end"] else None
    best = [e for e in named["validation"] if e["best"]]
    return Result(
        label=choice.label,
        slug=choice.slug,
        text=choice.text,
        updates=choice.updates(job.task.length),
        exact=choice.exact_on(network, job.task.length),
        exact_share=exact_share(network, algorithm),
        stochastic=algorithm.stochastic,
        kind=algorithm.kind,
        passes=algorithm.pass_count,
        source=algorithm.source,
        validation={k: best[-1][k] for k in ("step", "loss", job.task.primary)} if best else {},
        seconds=named["end"][-1]["seconds"] if named["end"] else None,
        seconds_per_step=seconds,
        seconds_per_epoch=None if seconds is None else seconds * epoch_steps(job.task, job.config.batch_size),
        memory=cost.memory,
        cosine_mean=statistics.fmean(cosines) if cosines else None,
        cosine_last=cosines[-1] if cosines else None,
        norm_ratio=statistics.fmean(ratios) if ratios else None,
        **known,
    )


def _write_report(config: CompareConfig, task: Task, network: Network, found: list[Result], folder: Path) -> Comparison:
    """All files of the report; `results.json`, which marks the run as finished, last."""
    with open(folder / report.METRICS, "w", encoding="utf-8") as file:
        for result in found:
            log = folder / result.slug / session.METRICS
            for event in read_events(log) if log.exists() else []:
                file.write(json.dumps({**event, "algorithm": result.slug}) + "\n")
    comparison = Comparison(
        title=f"Credit assignment on {task.name}",
        task=_describe_task(config, task),
        network={"text": describe_network(config, network)},
        machine={"text": session.machine(), "peak_rss": session.peak_rss()},
        versions=versions(),
        created=f"{datetime.now():%Y-%m-%d %H:%M}",
        batch_size=config.batch_size,
        steps=config.steps or 0,
        epoch_steps=(epoch := epoch_steps(task, config.batch_size)),
        epoch_text="1,000 batches" if task.train_size is None else f"epoch of {epoch:,} batches",
        results=tuple(found),
    )
    report.write(folder, comparison)
    comparison.save(folder)
    return comparison


def _describe_task(config: CompareConfig, task: Task) -> dict[str, Any]:
    unit = ", nats" if task.primary == "accuracy" else ""
    return {
        "name": task.name,
        "primary": task.primary,
        "higher_is_better": task.higher_is_better,
        "loss": f"loss{unit}",
        "epochs": task.train_size is not None,
        "text": describe_task(config, task),
    }
