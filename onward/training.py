"""The training loop, whole: batches in, updates in one compiled function, events and checkpoints out."""

import functools
import itertools
import math
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from os.path import exists
from typing import Any, Literal, NamedTuple, cast

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, PyTree

from onward import checkpoint as checkpoints
from onward.algorithms import Algorithm
from onward.arguments import check_arguments
from onward.batches import Checker, Devices, Source, batches
from onward.evaluation import evaluate as evaluate
from onward.evaluation import judge, make_alignment
from onward.intermediate import IntermediateLosses
from onward.interrupt import Interrupt
from onward.metrics import Event, Recorder
from onward.network import Network
from onward.optimizers import anchor, uses_fptt
from onward.sample import Sample
from onward.tasks.base import Task
from onward.update import Plan, State, initial_state, make_update, restore_state
from onward.update import updates_per_batch as updates_per_batch


@dataclass(frozen=True)
class Trained:
    """What came of a run: the last `network` and the `best` on validation (the last where nothing was validated), the
    `anchor` of `onward.fptt` (the last where there is none), the `history` of events, the `step` reached, and why it
    `stopped`: all steps done, patience lost, or Ctrl-C."""

    network: Network
    best: Network
    anchor: Network
    history: list[Event]
    step: int
    stopped: Literal["finished", "patience", "interrupted"]


@dataclass
class Progress:
    """What the host knows of a run; in checkpoints it is part of the header."""

    step: int = 0
    seconds: float = 0.0
    validated: int = 0
    best_score: float | None = None
    best_step: int | None = None
    failures: int = 0


def train(
    network: Network,
    source: Source,
    *,
    algorithm: Algorithm,
    optimizer: optax.GradientTransformation,
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int = 64,
    window: int | None = None,
    windows_per_sequence: int | Literal["sqrt"] | None = None,
    intermediate: IntermediateLosses | None = None,
    loss: Callable | None = None,
    seed: int = 0,
    validation: Iterable[Sample] | None = None,
    validate_every: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    keep_best: bool = True,
    patience: int | None = None,
    resume: bool = False,
    log: str | os.PathLike | None = None,
    tensorboard: str | os.PathLike | None = None,
    on_event: Callable[[Event], None] | None = None,
    stateful: bool | Literal["epoch"] | None = None,
    at_anchor: bool = False,
    align_every: int | None = None,
    config: Mapping[str, Any] | None = None,
) -> Trained:
    """Train `network` on `source`, one batch a step.

    **Arguments.**
    `source`: a `Task`; or batched Samples [batch, time, ...] as an iterator, an iterable, or a function that returns
    one (then `loss` is needed and `batch_size` unused).
    `algorithm`: where gradients come from. `optimizer`: what is done with them; any of Optax's, which sees the tree of
    the network's inexact arrays, and as many updates in a batch as there are windows (`updates_per_batch`).
    `steps` or `epochs`: how long, counted from the start of the run, not from where it is resumed; an iterable with
    neither is read once.
    `window`: None updates once from the whole sequence, k after every k steps; what a length leaves over k is a shorter
    last window.
    `stateful`: whether the carry lives on from batch to batch (True), and that until an epoch's end ("epoch"), or
    starts anew with each. None goes by the task: "epoch" for texts, where a batch goes on where the last one ended.
    `windows_per_sequence`: K in place of `window`: windows of floor(length / K) steps and a shorter one of what is
    left over; "sqrt" is K = floor(sqrt(length)), which is the default with an optimizer that has `onward.fptt`.
    `intermediate`: losses on the way for a task that asks at the end; see `IntermediateLosses`.
    `at_anchor`: validate, and remember as best, the anchor of `onward.fptt` in place of the parameters.
    `seed`: of a task's batches and of stochastic algorithms.
    `validate_every`, in steps: judge the network on the task's validation split by `task.primary`, or on the Samples
    `validation` by the loss, each from the initial states; at the end too. `patience`: stop after so many in a row
    that are no improvement. `keep_best`: remember the parameters that were best.
    `checkpoint`: a file, written at the start, every `checkpoint_every` steps (`validate_every`, or else 1,000) and
    at the end. `resume`: go on from it, if there is one, to the same bits as if never stopped (on the same machine,
    devices and versions); an iterable source must then start from its beginning again. Without it a new run replaces
    the files. `config`: anything of JSON's, kept in the checkpoint.
    `log`: a file of JSON lines. `tensorboard`: a directory. `on_event`: called with each event, a dict.
    `align_every`, in steps: compare the gradient, summed over the windows of a batch with frozen parameters, with
    BPTT's of whole sequences; both from the initial states, of the task's own loss, and without dropout.

    **Events.** "start"; "train": loss (sum over time, mean over the batch), gradient_norm (mean over windows), epoch,
    seconds; "alignment": cosine and norm_ratio with BPTT's gradient before the update of that step; "validation":
    loss, the task's metrics, best; "end": stopped, seconds, seconds_per_step (median).
    **Ctrl-C** finishes the step, writes the checkpoint and returns; a second one raises at once.
    **Raises.** `FloatingPointError` when a loss or a parameter is no longer finite: it names the step and the last good
    checkpoint. `ValueError` or `TypeError` for arguments and batches that make no sense; `CheckpointError` for a
    checkpoint that does not fit.
    """
    task = source if isinstance(source, Task) else None
    loss = cast(Callable, loss or getattr(task, "loss", None))
    check_arguments(task, dict(locals()))
    if window is None and windows_per_sequence is None:
        shapes = jax.eval_shape(optimizer.init, eqx.filter(network, eqx.is_inexact_array))
        windows_per_sequence = "sqrt" if uses_fptt(shapes) else None
    if stateful is None:
        stateful = "epoch" if task is not None and task.stateful else False
    settings = {"seed": seed, "batch_size": batch_size, "window": window, "stateful": stateful}
    settings |= {"windows_per_sequence": windows_per_sequence, "at_anchor": at_anchor or None}
    settings |= {"intermediate": repr(intermediate) if intermediate else None}
    settings |= {"algorithm": repr(algorithm), "source": f"{task.name} {task.options}" if task else "iterable"}
    header = checkpoints.read_header(checkpoint, settings) if checkpoint and resume and exists(checkpoint) else None
    progress = Progress(**header["progress"]) if header else Progress()
    whole = windows_per_sequence if isinstance(windows_per_sequence, int) else None
    check = Checker(network, ("window", window) if window else ("windows_per_sequence", whole or 1))
    stream = batches(source, seed, batch_size, start=progress.step, passes=math.inf if steps else epochs or 1)
    size = header["batch"] if header else batch_size
    if task is None and header is None:
        first = next(stream)
        size, stream = len(check("training batch 0", first[1]).weight), itertools.chain([first], stream)
    if task is not None and epochs is not None:
        steps = math.ceil(epochs * cast(float, task.batches(batch_size)))
    devices, static = Devices(size), eqx.partition(network, eqx.is_inexact_array)[1]
    count = task.batches(batch_size) if task is not None else None
    epoch = max(1, round(count)) if count else None
    renewal = intermediate.epoch or epoch if intermediate else None
    plan = Plan(window, windows_per_sequence, stateful, intermediate, epoch, renewal)
    state = initial_state(network, algorithm, optimizer, seed, plan, size, devices)
    state, best = restore_state(checkpoint, state, devices) if checkpoint and header else (state, None)
    if jax.process_index():  # where several hosts train together, the first keeps the records
        log = tensorboard = on_event = checkpoint = None
    known = {"config": config, "settings": settings, "batch": size}
    run = _Run(
        update=make_update(static, algorithm, optimizer, loss, plan, devices),
        align=make_alignment(static, algorithm, loss, plan.steps),
        judge=lambda parameters: judge(eqx.combine(parameters, static), task, validation, loss, batch_size),
        write=functools.partial(checkpoints.save, checkpoint, **known) if checkpoint else None,
        check=check,
        stream=stream,
        devices=devices,
        recorder=Recorder(log, tensorboard, on_event, resumed=progress.step if header else None),
        every=Every(validate_every, checkpoint_every or validate_every or 1000, align_every),
        total=steps or math.inf,
        patience=patience or math.inf,
        keep_best=keep_best,
        at_anchor=at_anchor,
        state=state,
        best=best,
        progress=progress,
        kept=f"{checkpoint} (step {progress.step})" if header else None,
        changed=header is None,
    )
    try:
        run.recorder.write("resume" if header else "start", progress.step, steps=steps, **settings)
        stopped = run.run()
    finally:
        run.recorder.close()
    end = run.state.parameters
    trees = end, end if run.best is None else run.best, anchor(end, run.state.optimizer)
    last, best, held = (eqx.combine(devices.fetch(tree), static) for tree in trees)
    return Trained(last, best, held, run.recorder.history, progress.step, stopped)


class Every(NamedTuple):
    """How many steps apart things happen; None for never."""

    validate: int | None
    checkpoint: int
    align: int | None


@dataclass
class _Run:
    """The parts of a run, and the loop that they make."""

    update: Callable[[State, Sample], tuple[State, dict[str, Array]]]
    align: Callable[[PyTree, Sample, Array], dict[str, Array]]
    judge: Callable[[PyTree], tuple[Mapping[str, float], float]]
    write: Callable | None
    check: Checker
    stream: Iterator[tuple[float | None, Sample]]
    devices: Devices
    recorder: Recorder
    every: Every
    total: float
    patience: float
    keep_best: bool
    at_anchor: bool
    state: State
    best: PyTree
    progress: Progress
    kept: str | None  # the last checkpoint, in words
    changed: bool  # since it
    ended: bool = False
    pending: tuple | None = None  # step, epoch and figures of the update that the devices are at
    times: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def run(self) -> Literal["finished", "patience", "interrupted"]:
        """Step until there is a reason to stop, and return it."""
        self.began = time.perf_counter() - self.progress.seconds
        with Interrupt() as self.interrupt:
            while True:
                step = self.progress.step
                done = self.ended or step >= self.total
                due = self.every.validate and (done or step % self.every.validate == 0)
                if due and step != self.progress.validated and not self.interrupt.requested:
                    self._validate()
                reason = "finished" if done else "patience" if self.progress.failures >= self.patience else None
                reason = "interrupted" if self.interrupt.requested else reason
                if self.changed and (reason or step % self.every.checkpoint == 0):
                    self._save()
                if reason:
                    self._end(reason)
                    return reason
                self._step()

    def _step(self):
        """Send one batch to the devices, and record the one before while they work."""
        began = time.perf_counter()
        try:
            with self.interrupt.at_once():
                item = next(self.stream, None)
        except KeyboardInterrupt:
            return
        if item is None:
            self.ended = True
            return
        epoch, sample = item
        batch = self.devices.put(self.check(f"training batch {self.progress.step}", sample))
        if self.every.align and self.progress.step % self.every.align == 0:
            self._settle()
            found = jax.device_get(self.align(self.state.parameters, batch, self.state.key))
            self.recorder.write("alignment", self.progress.step + 1, **found)
        self.state, figures = self.update(self.state, batch)
        self.progress.step, self.changed = self.progress.step + 1, True
        before, self.pending = self.pending, (self.progress.step, epoch, figures)
        self._record(before)
        self.times.append(time.perf_counter() - began)

    def _settle(self):
        """Wait for the update that the devices are at."""
        before, self.pending = self.pending, None
        self._record(before)

    def _record(self, pending):
        if pending is None:
            return
        step, epoch, figures = pending
        loss, norm = (float(jax.device_get(figures[name])) for name in ("loss", "gradient_norm"))
        self.progress.seconds = time.perf_counter() - self.began
        if not math.isfinite(loss):
            self._fail(step, f"the loss of step {step} is {loss}")
        seconds = self.progress.seconds
        self.recorder.write("train", step, loss=loss, gradient_norm=norm, epoch=epoch, seconds=seconds)

    def _validate(self):
        self._settle()
        progress = self.progress
        parameters = self.state.parameters
        if self.at_anchor:
            parameters = anchor(parameters, self.state.optimizer)
        values, score = self.judge(parameters)
        better = math.isfinite(score) and (progress.best_score is None or score > progress.best_score)
        if better:
            progress.best_score, progress.best_step, progress.failures = score, progress.step, 0
            self.best = self.devices.copy(parameters) if self.keep_best else None
        else:
            progress.failures += 1
        progress.validated, self.changed = progress.step, True
        progress.seconds = time.perf_counter() - self.began
        self.recorder.write("validation", progress.step, **values, best=better, seconds=progress.seconds)

    def _save(self):
        self._settle()
        step = self.progress.step
        tree = self.devices.copy(self.state._asdict() | {"best": self.best})
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(tree["parameters"]))):
            self._fail(step, f"the parameters after step {step} are not finite")
        if self.write is not None:
            self.recorder.sync()
            self.write(tree, step=step, progress=asdict(self.progress))
            self.kept = f"{self.write.args[0]} (step {step})"
        self.changed = False

    def _fail(self, step, what):
        self._end("not finite", step)
        kept = f"the last good checkpoint is {self.kept}" if self.kept else "no checkpoint was kept, for want of a path"
        raise FloatingPointError(f"{what}; {kept}; lower the learning rate or clip the gradient")

    def _end(self, reason, step=None):
        self.recorder.write(
            "end",
            self.progress.step if step is None else step,
            stopped=reason,
            seconds=self.progress.seconds,
            seconds_per_step=statistics.median(self.times) if self.times else None,
        )
