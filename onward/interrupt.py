"""Ctrl-C that waits for a good moment."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupt:
    """While this context lasts, the first Ctrl-C only sets `requested`; a second raises `KeyboardInterrupt` at once.

    Outside the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self):
        self.requested = False
        self._at_once = False
        self._old = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._old = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_) -> None:
        if self._old is not None:
            signal.signal(signal.SIGINT, self._old)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Where waiting may take for ever and nothing can be lost: the first Ctrl-C raises here already."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _handle(self, *_):
        again, self.requested = self.requested, True
        if again or self._at_once:
            raise KeyboardInterrupt
