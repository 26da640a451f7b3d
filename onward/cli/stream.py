"""`onward stream`: learn from rows as they come, and forecast."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from onward.checkpoint import CheckpointError
from onward.cli import session
from onward.cli.errors import RunError, StoppedError, UsageError
from onward.cli.options import parse
from onward.cli.rows import Header, Row, RowReader, place_of
from onward.cli.source import Source
from onward.cli.specs import sentence
from onward.cli.stream_config import StreamConfig
from onward.cli.stream_output import Monitor, Writer, described
from onward.forecaster import StreamSettings
from onward.interrupt import Interrupt
from onward.readings import Reading, RecordError
from onward.records import CHUNK, RecordStream

SECONDS_BETWEEN_CHECKPOINTS = 60.0


def run(words: list[str]) -> int:
    """Read, learn, write, until the input ends or somebody stops it."""
    config = parse(StreamConfig, "stream", words)
    config.check()
    session.use_one_thread()
    if config.checkpoint is None:
        return _run(config, None, {})
    if not config.resume and config.checkpoint.exists():
        raise UsageError(f"{config.checkpoint} is there; go on from it with --resume, or choose another --checkpoint.")
    with session.sole_use_of(config.checkpoint):
        if not config.checkpoint.exists():
            return _run(config, None, {})
        try:
            stream, header = RecordStream.load_with_header(config.checkpoint)
            position = header["position"]
        except CheckpointError as error:
            raise UsageError(sentence(error)) from error
        except KeyError:
            raise UsageError(f"{config.checkpoint} was not written by onward stream; use another file.") from None
        return _run(_resumed(config, stream.settings, words), stream, position)


def _run(config: StreamConfig, stream: RecordStream | None, position: dict[str, Any]) -> int:
    settings = config.settings()
    explicit = [name for name in (settings.time, *settings.features) if name is not None]
    header = Header(position["header"][0], tuple(position["header"][1])) if position.get("header") else None
    reader = RowReader((settings.target, *explicit), config.format, header if config.follow_on else None)
    if config.follow_on and position:
        reader.go_on(position["number"], position["digest"])
    source = Source(config.files, reader)
    if config.out is not None and not config.resume and config.out.exists() and config.out.stat().st_size:
        raise UsageError(f"{config.out} is there and not empty; choose another --out, or move it away.")
    monitor = Monitor(quiet=config.quiet)
    writer = Writer(config.out, config.output, settings, position.get("out"))
    work = _Work(config, settings, writer, monitor, stream, position)
    try:
        with session.gentle_stop(), Interrupt() as interrupt, source:
            try:
                for rows in source.rows():
                    stopped = work.take(rows, interrupt)
                    if stopped or interrupt.requested:
                        raise StoppedError(work.stop())
            except BrokenPipeError:
                work.save()
                raise
            except KeyboardInterrupt:  # the second
                raise StoppedError("stopped at once; what came after the last checkpoint is lost.") from None
        work.end()
    finally:
        monitor.clear()
        writer.close()
    return 0


class _Work:
    """Rows in, outcomes out; knows which row it has come to."""

    def __init__(
        self,
        config: StreamConfig,
        settings: StreamSettings,
        writer: Writer,
        monitor: Monitor,
        stream: RecordStream | None,
        position: dict[str, Any],
    ):
        self.config, self.settings, self.writer, self.monitor, self.stream = config, settings, writer, monitor, stream
        self.known = position
        self.position: Row | None = None
        self.replayed = 0
        self.monitor.bad = position.get("bad", 0)
        self.saved, self.saved_at = stream.samples if stream else 0, time.monotonic()
        monitor.start(self.saved)
        if stream is not None and not config.quiet:
            monitor.note(f"going on after row {position['number']:,} ({stream.samples:,} samples).")

    def take(self, rows: Sequence[Row], interrupt: Interrupt) -> bool:
        """Learn from rows, in the sizes that the device takes; whether it was interrupted on the way."""
        for start in range(0, len(rows), CHUNK):
            if interrupt.requested:
                return True
            self._chunk(rows[start : start + CHUNK])
        if self.stream is not None and self.monitor.due():
            self.monitor.show(self.stream.figures())
        if self._samples - self.saved and time.monotonic() - self.saved_at >= SECONDS_BETWEEN_CHECKPOINTS:
            self.save()
        return False

    def _chunk(self, rows: Sequence[Row]) -> None:
        readings: list[Reading] = []
        last = self.position
        for row in self._new(rows):
            try:
                readings.append(self._read(row))
            except RecordError as error:
                place, why = place_of(row), f"cannot be read: {error}"
                if self.config.on_error == "stop":
                    self._learn(readings, last)
                    self.save()
                    raise RunError(f"{place} {why}; mend it, or pass over such rows with --on-error skip.") from None
                self.monitor.reject(place, str(error))
            last = row
        self._learn(readings, last)

    def _read(self, row: Row) -> Reading:
        if row.record is None:
            raise RecordError(row.reason)
        if self.stream is None:
            self.stream = self._begin(row.record)
        return self.stream.read(row.record)

    def _begin(self, record: dict[str, Any]) -> RecordStream:
        try:
            stream = RecordStream(self.settings, record)
        except RecordError:
            raise
        except ValueError as error:
            raise UsageError(sentence(error)) from error
        if not self.config.quiet:
            used = (
                self.settings.target,
                *stream.features,
                *(() if self.settings.time is None else (self.settings.time,)),
            )
            others = [name for name in record if name not in used]
            note = f"forecasts {self.settings.target!r}, reads {', '.join(map(repr, used))}"
            self.monitor.note(note + (f"; not {', '.join(map(repr, others[:20]))}." if others else "."))
        self.monitor.start(0)
        return stream

    def _new(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Those after the row that the checkpoint had come to; the others must be what was learnt then."""
        number = self.known.get("number", 0)
        if not rows or rows[0].number > number:
            return rows
        self.replayed = min(rows[-1].number, number)
        if rows[-1].number < number:
            return ()
        new = number - rows[0].number + 1
        if rows[new - 1].digest != self.known["digest"]:
            raise UsageError(
                f"the input does not begin with the {number:,} rows that {self.config.checkpoint} has learnt; give the "
                "same input from its beginning, or only what comes after them with --follow-on."
            )
        return rows[new:]

    def _learn(self, readings: Sequence[Reading], last: Row | None) -> None:
        self.position = last
        if readings and self.stream is not None:
            outcomes = self.stream.learn(readings)
            self.monitor.clear()
            self.writer.write(outcomes)
        if self._samples - self.saved >= self.config.checkpoint_every:
            self.save()

    @property
    def _samples(self) -> int:
        return self.stream.samples if self.stream else 0

    def save(self) -> None:
        """Write the checkpoint, if there is anything new to keep."""
        if self.config.checkpoint is None or self.stream is None or self.position is None:
            return
        row, header = self.position, self.position.header
        position = {"number": row.number, "digest": row.digest, "bad": self.monitor.bad, "out": self.writer.sync()}
        self.stream.save(self.config.checkpoint, position=position | {"header": header and [header[0], [*header[1]]]})
        self.saved, self.saved_at = self.stream.samples, time.monotonic()

    def stop(self) -> str:
        """Keep what there is, since it is interrupted, and say how to go on."""
        self.save()
        if self.config.checkpoint is None:
            return f"stopped after {self._samples:,} samples; nothing is kept without --checkpoint."
        if not self.config.checkpoint.exists():
            return "stopped before there was anything to keep."
        return f"stopped after {self._samples:,} samples; go on with --resume --checkpoint {self.config.checkpoint}"

    def end(self) -> None:
        """The input has ended."""
        self.save()
        if not self.config.follow_on and self.replayed < self.known.get("number", 0):
            raise UsageError(
                f"the input ends after {self.replayed:,} rows, before the {self.known['number']:,} that "
                f"{self.config.checkpoint} has learnt; give the same input, or only what comes after with --follow-on."
            )
        if self.stream is None:
            if self.monitor.bad:
                raise RunError("no row could be read; see the reasons above, and mend the input.")
            self.monitor.note("there were no rows.")
        elif not self.config.quiet:
            self.monitor.note(described(self.stream.figures(), self.monitor.bad))


def _resumed(config: StreamConfig, stored: StreamSettings, words: list[str]) -> StreamConfig:
    """The configuration with the settings of the checkpoint; a `UsageError` where an option differs from them."""
    settings = dataclasses.asdict(stored)
    resumed = parse(StreamConfig, "stream", words, dataclasses.replace(StreamConfig(), **settings))
    for name, value in settings.items():
        if getattr(resumed, name) != value:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option} differs from that of {config.checkpoint}, which has {value!r}; leave it out, or start anew "
                "with another --checkpoint."
            )
    return resumed
