"""What `onward stream` writes: a line for each sample, and on the side how it stands."""

import json
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from onward.cli.errors import UsageError
from onward.records import Outcome, StreamSettings

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_LOOKS = 0.25  # on a terminal
REPORTED = 5  # bad rows that are each reported; of the others, how many


_PLAIN = re.compile(r"[\w:+. -]*", re.ASCII).fullmatch  # what needs no quotes in CSV


class Writer:
    """Writes outcomes as CSV or JSON lines; each call's lines are handed to the system at once.

    **Arguments.** `path`: None is standard output. `keep`: bytes of a file that are kept, of a run that went before;
    None starts it anew.
    **Raises.** `UsageError` if the file has less, or cannot be written; `OSError` when writing fails.
    """

    def __init__(self, path: Path | None, form: str, settings: StreamSettings, keep: int | None = None):
        left_out = {"time"} if settings.time is None else set()
        left_out |= {"seasonal", "seasonal_error"} if settings.season is None else set()
        self._columns = [name for name in Outcome._fields if name not in left_out]
        self._places = [Outcome._fields.index(name) for name in self._columns]
        self._pick = itemgetter(*self._places)
        number = "%d," if settings.time is None else "%d,%s,"
        self._usual = number + ",".join(["%.7g"] * (len(self._places) - number.count(",")))
        self._form, self._file, self._start, self._regular = form, None, True, False
        if path is not None:
            self._file = _opened(path, keep)
            about = os.fstat(self._file)
            self._start, self._regular = about.st_size == 0, stat.S_ISREG(about.st_mode)

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """One line each."""
        lines = []
        if self._start and self._form == "csv":
            lines.append(",".join(self._columns))
        self._start = False
        line = self._csv if self._form == "csv" else self._json
        lines += map(line, outcomes)
        text = "\n".join([*lines, ""])
        if self._file is None:
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        data = text.encode()
        while data:
            data = data[os.write(self._file, data) :]

    def sync(self) -> int | None:
        """See to it that what was written survives a crash of the machine; how many bytes that is, in a file."""
        if self._file is None or not self._regular:
            return None
        os.fsync(self._file)
        return os.lseek(self._file, 0, os.SEEK_CUR)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)

    def _csv(self, outcome):
        cells = self._pick(outcome)
        if None in cells or (isinstance(outcome.time, str) and not _PLAIN(outcome.time)):
            return ",".join(
                [
                    _quoted(cell) if name == "time" else _cell(cell)
                    for name, cell in zip(self._columns, cells, strict=True)
                ]
            )
        return self._usual % cells

    def _json(self, outcome):
        cells = dict(zip(self._columns, self._pick(outcome), strict=True))
        cells |= {
            name: float(_cell(cell)) for name, cell in cells.items() if isinstance(cell, float) and name != "time"
        }
        if cells.get("time") != cells.get("time"):
            cells["time"] = None
        return json.dumps(cells)


class Monitor:
    """How the stream stands, on standard error: a line that changes on a terminal, plain lines now and then elsewhere.

    Also tells of bad rows: of each of the first few, then how many there are.
    """

    def __init__(self, *, quiet: bool, out: Any = None):
        self._out, self._quiet = sys.stderr if out is None else out, quiet
        self.live = not quiet and self._out.isatty()
        self._every = SECONDS_BETWEEN_LOOKS if self.live else SECONDS_BETWEEN_LINES
        self._shown, self._before, self._line = time.monotonic(), 0, False
        self.bad = 0

    def note(self, text: str) -> None:
        """One line that stays."""
        self.clear()
        print(f"onward stream: {text}", file=self._out, flush=True)

    def reject(self, place: str, reason: str) -> None:
        """A bad row."""
        self.bad += 1
        if self.bad <= REPORTED:
            self.note(f"{place} is skipped: {reason}." + (" More are only counted." if self.bad == REPORTED else ""))

    def due(self) -> bool:
        """Whether it is time for `show`."""
        return not self._quiet and time.monotonic() - self._shown >= self._every

    def show(self, figures: dict[str, Any]) -> None:
        """How it stands; called when it is `due`."""
        now = time.monotonic()
        rate = (figures["samples"] - self._before) / max(now - self._shown, 1e-9)
        self._shown, self._before = now, figures["samples"]
        text = described(figures, self.bad, rate)
        if not self.live:
            self.note(text)
            return
        width = shutil.get_terminal_size().columns - 1
        self._out.write(f"\r\x1b[2K{text[:width]}")
        self._out.flush()
        self._line = True

    def start(self, samples: int) -> None:
        """From here the rate counts."""
        self._shown, self._before = time.monotonic(), samples

    def clear(self) -> None:
        """Take the line that changes away, so that something else can be written."""
        if self._line:
            self._out.write("\r\x1b[2K")
            self._out.flush()
            self._line = False


def described(figures: dict[str, Any], bad: int, rate: float | None = None) -> str:
    """The figures of a stream in words, shortest first: samples, rate, rolling errors, drift, what went wrong."""
    parts = [f"{figures['samples']:,} samples"]
    if rate is not None:
        parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
    if figures["mae"] is not None:
        against = {"naive": figures["naive_mae"], "seasonal": figures["seasonal_mae"]}
        shown = ", ".join(f"{name} {value:.4g}" for name, value in against.items() if value is not None)
        parts.append(f"error {figures['mae']:.4g} ({shown})")
    if figures["drift"] is not None:
        parts.append(f"drift {figures['drift']:.2f}")
    for count, what in ((bad, "bad rows"), (figures["missing"], "missing"), (figures["refused"], "refused updates")):
        if count:
            parts.append(f"{count:,} {what}")
    return "  ".join(parts)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}" if isinstance(value, float) else str(value)


def _quoted(time: Any) -> str:
    """A time stamp for CSV, whatever is in it."""
    text = "" if time is None else str(time).encode("ascii", "backslashreplace").decode()
    return text if _PLAIN(text) else '"' + text.replace('"', '""') + '"'


def _opened(path: Path, keep: int | None) -> int:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if keep is None else 0), 0o666)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); choose another --out.") from None
    if keep is not None:
        size = os.fstat(file).st_size
        if size < keep:
            os.close(file)
            raise UsageError(
                f"{path} has {size:,} bytes, but had {keep:,} when the checkpoint was written; give the same --out, or "
                "move it away and leave --out out."
            )
        os.ftruncate(file, keep)
        os.lseek(file, keep, os.SEEK_SET)
    return file
