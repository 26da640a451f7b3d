"""One thread that learns, in the order of arrival, and publishes after each step what others may look at meanwhile.

Learning changes a `RecordStream`, which only that thread touches. What it publishes is immutable, and published by one
assignment: whoever reads `published` has a whole moment of the stream, of which nothing is half learnt, and waits for
nobody. The samples' numbers in the answers are the order in which they were learnt.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from onward.records import CHUNK, Outcome, RecordStream, View
from onward.serve.exposition import Histogram
from onward.serve.survey import Frame, frame_of

Record = Mapping[str, Any]
BOUNDS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 5.0)  # seconds a sample
SURVEY_EVERY = 0.25  # seconds; a survey costs as much as some samples
SAVE_EVERY = 60.0  # seconds that what was learnt is not in the checkpoint at most, however few the samples are
STOPPING = "the server is about to stop; send it again when it runs"
FRAMES = 300  # surveys that are kept


class BusyError(Exception):
    """More requests wait for learning than may, or the server is about to stop."""


class Saved(NamedTuple):
    """About checkpoints: after how many samples and when the last was written; how many failed, why the last did."""

    samples: int | None = None
    time: float | None = None
    failures: int = 0
    error: str | None = None


class Engine:
    """Learns in a thread of its own, from entering it (`with`) to leaving it.

    **Arguments.** `begin`: makes the stream from its first record. `stream`: one that goes on instead. `checkpoint`:
    the file for what is known, written after `every` samples or a minute, at the end and by `save`. `history`: outcomes
    that are kept to be looked at. `waiting`: requests that may wait for learning.
    `started`: when, in seconds since 1970. `published`: the stream after the last sample, None before the first record.
    """

    def __init__(
        self,
        begin: Callable[[Record], RecordStream],
        stream: RecordStream | None = None,
        *,
        checkpoint: Path | None = None,
        every: int = 1000,
        history: int = 2000,
        waiting: int = 64,
    ):
        self.checkpoint, self.every = checkpoint, every
        self.seconds, self.started = Histogram(BOUNDS), time.time()
        self.published: View | None = None
        self.saved = Saved(None if stream is None else stream.samples)
        self._begin, self._stream = begin, stream
        self._lock = threading.Lock()  # for what follows
        self._outcomes: deque[Outcome] = deque(maxlen=history)
        self._frames: deque[Frame] = deque(maxlen=FRAMES)
        self._open = False
        self._jobs: queue.Queue[tuple[Callable[[], Any], Future] | None] = queue.Queue(waiting)
        self._surveyed = self._tried = (0, time.monotonic())  # samples and time of the last survey, of the last attempt
        self._thread = threading.Thread(target=self._work, name="learning", daemon=True)
        if stream is not None:
            self._tried = (stream.samples, time.monotonic())
            self.published = stream.view()
            self._look()

    def __enter__(self) -> "Engine":
        self._open = True
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        """Finish the request that is being learnt from, decline those that wait, write a checkpoint."""
        with self._lock:
            self._open = False
        self._jobs.put(None)
        self._thread.join()

    @property
    def samples(self) -> int:
        """How many were learnt from."""
        return 0 if self.published is None else self.published.samples

    @property
    def waiting(self) -> int:
        """Requests that wait for learning."""
        return self._jobs.qsize()

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self._open and self._thread.is_alive()

    def learn(self, records: Sequence[Record]) -> "Future[list[Outcome]]":
        """Have the records learnt from, all or, if one is bad (`RecordError`), none. **Raises.** `BusyError`."""
        return self._ask(lambda: self._learn(records))

    def save(self) -> "Future[Saved]":
        """Have a checkpoint written, of all that was asked for before. **Raises.** `BusyError`."""
        return self._ask(self._save)

    def outcomes(self, since: int = 0) -> list[Outcome]:
        """Those that are kept of samples after number `since`, oldest first."""
        with self._lock:
            kept = list(self._outcomes)
        return [outcome for outcome in kept if outcome.number > since]

    def frames(self, since: int = 0) -> list[Frame]:
        """Those that are kept from after sample number `since`, oldest first."""
        with self._lock:
            kept = list(self._frames)
        return [frame for frame in kept if frame.samples > since]

    def figures(self) -> dict[str, Any]:
        """Those of the last survey; {} before there is one."""
        with self._lock:
            return self._frames[-1].figures if self._frames else {}

    def _ask(self, work):
        future = Future()
        with self._lock:
            if not self._open:
                self._decline()
            try:
                self._jobs.put_nowait((work, future))
            except queue.Full:
                raise BusyError(f"{self._jobs.maxsize} requests wait for learning; send it again later") from None
        return future

    def _decline(self):
        raise BusyError(STOPPING)

    # What follows runs in the thread.

    def _work(self):
        try:
            self._take_jobs()
            if self._unsaved():
                self._try_to_save()
        finally:  # nobody waits for ever, even if there was a failure that nobody foresaw
            with self._lock:
                self._open = False
            while not self._jobs.empty():
                job = self._jobs.get()
                if job is not None and job[1].set_running_or_notify_cancel():
                    job[1].set_exception(BusyError(STOPPING))

    def _take_jobs(self):
        while True:
            try:
                job = self._jobs.get(timeout=self._pause())
            except queue.Empty:
                self._do_chores()
                continue
            if job is None:
                break
            work, future = job
            if future.set_running_or_notify_cancel():
                try:
                    result = work() if self._open else self._decline()
                except Exception as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
            self._do_chores()

    def _learn(self, records):
        stream = self._begin(records[0]) if self._stream is None else self._stream
        readings = [stream.read(record) for record in records]
        self._stream, outcomes = stream, []
        for start in range(0, len(readings), CHUNK):
            began = time.perf_counter()
            new = stream.learn(readings[start : start + CHUNK])
            self.published = stream.view()
            self.seconds.observe((time.perf_counter() - began) / len(new), len(new))
            with self._lock:
                self._outcomes.extend(new)
            outcomes += new
            self._do_chores()
        return outcomes

    def _unsaved(self):
        return self.checkpoint is not None and self.samples > (self.saved.samples or 0)

    def _due(self):
        """When there is to be a survey and a checkpoint."""
        survey = self._surveyed[1] + SURVEY_EVERY if self.samples > self._surveyed[0] else None
        if not self._unsaved():
            return survey, None
        tried, at = self._tried
        return survey, at if self.samples - tried >= self.every else at + SAVE_EVERY

    def _pause(self):
        due = [moment for moment in self._due() if moment is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _do_chores(self):
        survey, save = self._due()
        if survey is not None and survey <= time.monotonic():
            self._look()
        if save is not None and save <= time.monotonic():
            self._try_to_save()

    def _look(self):
        assert self._stream is not None
        frame = frame_of(self._stream, self._outcomes[-1].time if self._outcomes else None)
        with self._lock:
            self._frames.append(frame)
        self._surveyed = (frame.samples, time.monotonic())

    def _save(self):
        self._tried = (self.samples, time.monotonic())
        if self._stream is not None and self.checkpoint is not None:
            try:
                self._stream.save(self.checkpoint)
            except OSError as error:
                reason = error.strerror or type(error).__name__
                self.saved = self.saved._replace(failures=self.saved.failures + 1, error=reason)
                raise
            self.saved = Saved(self.samples, time.time(), self.saved.failures)
        return self.saved

    def _try_to_save(self):
        with contextlib.suppress(OSError):  # `saved` says so
            self._save()
