"""Where a run's events go: a file of JSON lines, TensorBoard, a callback, and the last of them in memory."""

import json
import math
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from onward.checkpoint import CheckpointError

Event = dict[str, Any]

# So that a stream without end does not fill the memory; the file has them all.
_REMEMBERED = 100_000


class Recorder:
    """Takes the events of a run, each a dict with "event" and "step".

    **Arguments.** `log`: path of a file of JSON lines. `tensorboard`: directory for TensorBoard's event files; needs
    the extra `onward[tensorboard]`. `on_event`: called with every event. `resumed`: the step that a run goes on from;
    then what `log` says of later steps is taken back first. None starts the file anew.
    **Raises.** `ImportError` if `tensorboard` is given without the extra; `OSError` if a file cannot be written.

    Numbers that JSON cannot say (NaN, infinities) are written as null.
    """

    def __init__(
        self,
        log: str | os.PathLike | None = None,
        tensorboard: str | os.PathLike | None = None,
        on_event: Callable[[Event], None] | None = None,
        *,
        resumed: int | None = None,
    ):
        self._recent: deque[Event] = deque(maxlen=_REMEMBERED)
        self._on_event = on_event
        self._board = None if tensorboard is None else _board(tensorboard, resumed)
        self._file = None
        if log is not None:
            path = Path(log)
            path.parent.mkdir(parents=True, exist_ok=True)
            if resumed is None:
                path.unlink(missing_ok=True)
            elif path.exists():
                self._recent.extend(_take_back(path, resumed))
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by `close`)

    @property
    def history(self) -> list[Event]:
        """The events of the run, from before it was resumed too if there is a log; at most the last 100,000."""
        return list(self._recent)

    def write(self, event: str, step: int, **values: Any) -> None:
        """Record one event; `values` are strings, numbers (NumPy's too), booleans or None."""
        entry = {"event": event, "step": step} | {key: _plain(value) for key, value in values.items()}
        self._recent.append(entry)
        if self._file is not None:
            self._file.write(json.dumps(entry, allow_nan=False) + "\n")
            self._file.flush()
        if self._board is not None:
            for key, value in entry.items():
                if key not in ("event", "step") and isinstance(value, (int, float)):
                    self._board.add_scalar(f"{event}/{key}", value, step)
        if self._on_event is not None:
            self._on_event(dict(entry))

    def sync(self) -> None:
        """See to it that what was recorded survives a crash of the machine."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_events(path: str | os.PathLike) -> list[Event]:
    """The events of a file of JSON lines; a last line that was cut off is left out.

    **Raises.** `CheckpointError` if a line is no event.
    """
    events = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                continue
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if not isinstance(event, dict) or not {"event", "step"} <= event.keys():
                raise CheckpointError(f"{path} is damaged: line {number} is no event; remove the line")
            events.append(event)
    return events


def _take_back(path, step):
    """Remove from the file what a run that goes on from `step` will say again, and the end that was none."""
    kept = [event for event in read_events(path) if event["step"] <= step and event["event"] != "end"]
    temporary = path.with_name(f".{path.name}.partial")
    with open(temporary, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in kept)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return kept[-_REMEMBERED:]


def _plain(value):
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _board(directory, resumed):
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ImportError(
            f"`tensorboard` = {os.fspath(directory)!r} needs the package tensorboardX; run `pip install "
            "tensorboardX`, or leave `tensorboard` out (`log` needs nothing)"
        ) from None
    return SummaryWriter(os.fspath(directory), purge_step=None if resumed is None else resumed + 1)
