"""Reads a stream's inputs in a thread of its own, so that nothing waits for a slow one."""

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from onward.cli.errors import UsageError
from onward.cli.rows import Row, RowReader

BLOCK = 1 << 16  # bytes that are read at once
AHEAD = 4  # blocks of rows that may wait
PATIENCE = 0.1  # seconds after which `rows` gives nothing, so that its caller can look at the clock


class Source:
    """The rows of files, one after another, or of standard input (no files, or "-"). Use as a context manager.

    Reading and parsing go on in a thread while the caller computes; at most a few blocks of rows wait.
    **Raises.** `UsageError` where there is no such file.
    """

    def __init__(self, files: Sequence[Path], reader: RowReader):
        self._files, self._reader = [str(file) for file in files] or ["-"], reader
        for name in self._files:
            if name != "-" and (os.path.isdir(name) or not os.path.exists(name)):
                what = "is a folder" if os.path.isdir(name) else "is not there"
                raise UsageError(f"{name} {what}; give a file of CSV or JSON lines, or - for standard input.")
        self._waiting: queue.Queue[list[Row] | BaseException | None] = queue.Queue(AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="onward-source", daemon=True)

    def __enter__(self) -> "Source":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._closed.set()  # a thread that waits for a silent input is left to the end of the process

    def rows(self) -> Iterator[list[Row]]:
        """Rows as they come; an empty list now and then while none come. **Raises.** What reading raised."""
        while True:
            try:
                rows = self._waiting.get(timeout=PATIENCE)
            except queue.Empty:
                yield []
                continue
            if rows is None:
                return
            if isinstance(rows, BaseException):
                raise rows
            yield rows

    @property
    def empty(self) -> bool:
        """Whether no rows wait now."""
        return self._waiting.empty()

    def _work(self) -> None:
        try:
            for name in self._files:
                self._read(name)
            self._put(None)
        except BaseException as error:  # the caller's to deal with
            self._put(error)

    def _read(self, name: str) -> None:
        self._reader.begin(name)
        handle = sys.stdin.fileno() if name == "-" else os.open(name, os.O_RDONLY)
        try:
            while not self._closed.is_set() and (data := os.read(handle, BLOCK)):
                self._put(self._reader.feed(data))
            self._put(self._reader.finish())
        except OSError as error:
            error.filename = error.filename or name
            raise
        finally:
            if name != "-":
                os.close(handle)

    def _put(self, rows: list[Row] | BaseException | None) -> None:
        while rows != [] and not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._waiting.put(rows, timeout=PATIENCE)
                return
