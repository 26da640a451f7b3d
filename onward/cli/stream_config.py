"""The options of `onward stream`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from onward.cli.config import File
from onward.cli.errors import UsageError
from onward.cli.forecasting import ForecastOptions


@dataclass(frozen=True, kw_only=True)
class StreamConfig(ForecastOptions):
    """Learn from a stream while it comes, and forecast one of its fields.

    Rows of CSV or of JSON lines come from files, one after another, or from standard input, without end if need be:

      tail -f data.csv | onward stream --target load --horizon 24
      onward stream data.csv --target load --time time --season 24 --checkpoint load.safetensors

    A row is learnt from as soon as it is there, and a line of forecasts and errors is written. Ctrl-C or SIGTERM stops
    it; with --checkpoint nothing is lost, and with --resume it goes on as if it had never stopped.
    """

    files: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="[FILE ...]")]] = ()
    """Files to read; standard input if there are none, or where one is called -."""
    out: File = None
    """File for the forecasts; standard output by default."""
    output: Literal["csv", "json"] = "csv"
    """Form of the forecasts: CSV or JSON lines."""
    format: Literal["auto", "csv", "json"] = "auto"
    """Form of the input; auto: by what it starts with."""
    on_error: Literal["skip", "stop"] = "skip"
    """What to do with a row that cannot be read: count it and go on, or stop."""
    checkpoint: File = None
    """File that all that was learnt is kept in; none by default."""
    checkpoint_every: int = 10_000
    """Rows from one checkpoint to the next; there is one every minute in any case, and one at the end."""
    resume: bool = False
    """Go on from --checkpoint, if it is there. The input is read again from its beginning, and the rows that were
    learnt are passed over; that they are the same is checked."""
    follow_on: bool = False
    """With --resume: the input starts after the rows that were learnt (its header may be left out)."""
    quiet: bool = False
    """Show no progress."""

    def check(self) -> None:
        """**Raises.** `UsageError` where options other than those of the forecaster make no sense together."""
        if self.checkpoint_every < 1:
            raise UsageError(f"--checkpoint-every must be at least 1, got {self.checkpoint_every}.")
        if self.resume and self.checkpoint is None:
            raise UsageError("--resume needs --checkpoint FILE, the file to go on from; add it.")
        if self.follow_on and not self.resume:
            raise UsageError("--follow-on says how --resume reads the input; add --resume, or leave it out.")
        if self.out is not None and self.checkpoint is not None and self.out.absolute() == self.checkpoint.absolute():
            raise UsageError(f"--out and --checkpoint are both {self.out}; give two files.")
        for file in self.files:
            if self.out is not None and str(file) != "-" and file.absolute() == self.out.absolute():
                raise UsageError(f"--out {self.out} is one of the inputs; give another file.")
