"""One training run as the command line makes it: from a configuration to a call of `onward.training.train`."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import optax

from onward import diagnostics, optimizers
from onward.checkpoint import CheckpointError
from onward.cli import toml
from onward.cli.config import CommonConfig, OptimizerConfig, RunConfig
from onward.cli.errors import RunError, UsageError
from onward.cli.options import LARGEST
from onward.cli.registry import Choice
from onward.cli.session import CHECKPOINT, METRICS
from onward.cli.specs import sentence
from onward.diagnostics import Cost
from onward.intermediate import IntermediateLosses
from onward.network import Network
from onward.tasks import Task
from onward.training import Trained, train, updates_per_batch
from onward.update import Plan

R = TypeVar("R", bound=RunConfig)
TEST_BATCH = 500
GENERATED_STEPS = 1000  # the default length of a run on a task that has no epochs, and what counts as an epoch there


def with_steps(config: R, task: Task) -> R:
    """The configuration with everything filled in that depends on the task: steps, and how often things happen."""
    steps = config.steps
    if steps is None and task.train_size is None:
        if config.epochs is not None:
            raise UsageError(f"--epochs {config.epochs:g}: {task.name} is generated without end; give --steps instead.")
        steps = GENERATED_STEPS
    elif steps is None:
        wanted = (config.epochs or 1) * epoch_steps(task, config.batch_size)
        if wanted > LARGEST:
            raise UsageError(f"--epochs {config.epochs:g} is more than {LARGEST} batches; choose fewer.")
        steps = math.ceil(wanted)
    often = max(1, min(steps, max(10, steps // 20)))
    return dataclasses.replace(
        config,
        steps=steps,
        epochs=None,
        optimizer=with_warmup(config.optimizer, steps),
        validate_every=config.validate_every or often,
        checkpoint_every=config.checkpoint_every or config.validate_every or often,
        align_every=max(5, steps // 40) if config.align_every is None else config.align_every,
    )


def with_warmup(config: OptimizerConfig, steps: int) -> OptimizerConfig:
    """The configuration with the warmup of a run of `steps` batches filled in."""
    warmup = min(100, steps // 10) if config.warmup is None else config.warmup
    if warmup > steps:
        raise UsageError(f"--optimizer.warmup must be at most the {steps} batches of the run, got {warmup}.")
    return dataclasses.replace(config, warmup=warmup)


def epoch_steps(task: Task, batch_size: int) -> int:
    """Batches in an epoch; for a task without epochs, in 1,000 batches."""
    return math.ceil(task.batches(batch_size) or GENERATED_STEPS)


def prepared(choice: Choice, config: RunConfig, task: Task, network: Network) -> Choice:
    """The choice with the windows that FPTT wants, unless it has some.

    **Raises.** `UsageError` if it cannot train this network on this task as the configuration says.
    """
    if config.optimizer.fptt is not None and choice.window is None:
        choice = dataclasses.replace(choice, window=Plan(windows_per_sequence="sqrt").steps(task.length))
    if choice.window is not None and choice.window > task.length:
        raise UsageError(
            f"algorithm {choice.text!r}: the window is longer than the {task.length} steps of {task.name}; "
            f"choose 1 to {task.length}, or leave it out."
        )
    if config.losses_on_the_way and task.train_batch(0, 0, 1).weight[:, :-1].any():
        raise UsageError(f"--losses-on-the-way: {config.task} does not ask at the end only; leave it out.")
    try:
        choice.algorithm.check(network)
    except ValueError as error:
        raise UsageError(f"algorithm {choice.text!r}: {sentence(error)}") from error
    return choice


def make_optimizer(config: OptimizerConfig, network: Network, steps: int, updates: int) -> optax.GradientTransformation:
    """The optimizer with its configured schedule over `steps` batches of `updates` updates each."""
    total, warmup, peak = steps * updates, (config.warmup or 0) * updates, config.learning_rate
    after: optax.Schedule = optax.constant_schedule(peak)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(1, total - warmup))
    rate = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup]) if warmup else after
    make = {"adamw": optimizers.adamw, "rmsprop": optimizers.rmsprop}[config.name]
    optimizer = make(
        network,
        rate,
        weight_decay=config.weight_decay,
        recurrent_factor=config.recurrent_factor,
        clip=config.clip or None,
    )
    if config.fptt is None:
        return optimizer
    return optax.chain(optimizers.fptt(config.fptt, linear=config.fptt_linear), optimizer)


def memory_budget(config: CommonConfig) -> tuple[float | None, str]:
    """Bytes that a step may need, None for any number of them, and what share of which memory that is, in words."""
    available = diagnostics.available_memory()
    budget = None if config.force or available is None else config.memory_fraction * available
    return budget, f"{config.memory_fraction:.0%} of the {diagnostics.gigabytes(available or 0)} available"


@dataclass(frozen=True)
class Job:
    """One algorithm to be run on one network and task; `folder` takes its checkpoint and metrics."""

    config: RunConfig
    choice: Choice
    task: Task
    network: Network
    folder: Path
    stateful: bool = False

    @property
    def checkpoint(self) -> Path:
        """The file of the run's checkpoint."""
        return self.folder / CHECKPOINT

    @property
    def steps(self) -> int:
        """Batches to train on."""
        return self.config.steps or 0

    def optimizer(self) -> optax.GradientTransformation:
        """The configured optimizer, for the number of updates that this algorithm makes."""
        updates = updates_per_batch(self.task.length, self.choice.window)
        return make_optimizer(self.config.optimizer, self.network, self.steps, updates)

    def estimate(self) -> Cost:
        """Memory and time of a step; `declined` says why it cannot be run within the configured share of memory."""
        budget, share = memory_budget(self.config)
        cost = diagnostics.estimate(
            self.network,
            self.task.train_batch(self.config.seed, 0, self.config.batch_size),
            algorithm=self.choice.algorithm,
            optimizer=self.optimizer(),
            loss=self.task.loss,
            window=self.choice.window,
            stateful=self.stateful or self.task.stateful,
            budget=budget,
        )
        if not cost.declined:
            return cost
        return dataclasses.replace(cost, declined=f"{cost.declined}, and {share} may be used")

    def train(self, on_event: Callable[[dict[str, Any]], None], **options: Any) -> Trained:
        """Train, from the checkpoint in the folder if there is one and the configuration says so."""
        config = self.config
        known = toml.as_dict(dataclasses.replace(config, out=None, config=None, resume=False))
        return train(
            self.network,
            self.task,
            algorithm=self.choice.algorithm,
            optimizer=self.optimizer(),
            steps=self.steps,
            batch_size=config.batch_size,
            window=self.choice.window,
            seed=config.seed,
            validate_every=config.validate_every if has_validation(self.task) else None,
            checkpoint=self.checkpoint,
            checkpoint_every=config.checkpoint_every,
            resume=config.resume,
            log=self.folder / METRICS,
            on_event=on_event,
            stateful=None if self.task.stateful else self.stateful,
            intermediate=IntermediateLosses() if config.losses_on_the_way else None,
            align_every=config.align_every or None,
            config={**known, "algorithm": self.choice.text},
            **options,
        )


def has_validation(task: Task) -> bool:
    """Whether the task holds data out to validate on."""
    return task.options.get("validation", 1) != 0


@contextmanager
def clear_failures() -> Iterator[None]:
    """Failures that a user can do something about, as one sentence instead of a traceback."""
    try:
        yield
    except CheckpointError as error:
        raise UsageError(sentence(error)) from error
    except FloatingPointError as error:
        raise RunError(f"training diverged: {sentence(error)}") from error
    except MemoryError as error:
        raise RunError("the memory is used up; choose a smaller --batch-size or another algorithm.") from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "Out of memory" not in str(error):
            raise
        raise RunError("the devices' memory is used up; choose a smaller --batch-size or another algorithm.") from error
    except ImportError as error:
        raise UsageError(sentence(error)) from error
    except OSError as error:
        if error.errno is None:  # a sentence of our own, about data that are not there
            raise UsageError(sentence(error)) from error
        where = f" {error.filename}" if error.filename else ""
        raise RunError(f"writing{where} failed ({error.strerror or error}); see to the disk and resume.") from error
