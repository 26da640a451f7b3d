"""The options that `onward stream` and `onward serve` share: what is forecast, and by which network."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Annotated

import tyro

from onward.cli.config import Count
from onward.cli.errors import UsageError
from onward.cli.specs import sentence
from onward.forecaster import StreamSettings

Name = Annotated[str | None, tyro.conf.arg(metavar="FIELD")]
SETTINGS = tuple(field.name for field in dataclasses.fields(StreamSettings))


@dataclass(frozen=True, kw_only=True)
class ForecastOptions:
    """The fields of `StreamSettings`, by the same names, where the target need not be known yet."""

    target: Name = None
    """The field to forecast. Needed, but where --resume finds a checkpoint."""
    features: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[FIELD ...]")] = ()
    """Other fields that the network reads; by default all that are numbers in the first record."""
    horizon: int = StreamSettings.horizon
    """Records from the one that is read last to the one that is forecast."""
    season: Count = StreamSettings.season
    """Records in a season, such as 24 of hourly ones: the network then also reads the seasonal naive forecast."""
    time: Name = StreamSettings.time
    """A field with a time stamp (ISO 8601, or seconds since 1970); the network then knows hour and day of the week."""
    cell: str = StreamSettings.cell
    """Cell of the recurrent layer, with options: rtu, lru, gru, leaky-rnn:leak=0.8; see onward list cells."""
    units: int = StreamSettings.units
    """Units of the recurrent layer, and of the perceptron that reads it."""
    algorithm: str = StreamSettings.algorithm
    """Algorithm, with options: rtrl, snap1, eprop; see onward list algorithms."""
    window: int = StreamSettings.window
    """Records from one update to the next."""
    learning_rate: float = StreamSettings.learning_rate
    """Adam's learning rate."""
    seed: int = StreamSettings.seed
    """Seed of the initial weights."""

    def settings(self) -> StreamSettings:
        """What the forecaster is made of. **Raises.** `UsageError` at the first option that makes no sense."""
        if self.target is None:
            raise UsageError("give --target FIELD, the field to forecast.")
        try:
            return StreamSettings(**{name: getattr(self, name) for name in SETTINGS})
        except ValueError as error:
            raise UsageError(with_options(error)) from error


def with_options(error: ValueError) -> str:
    """The error as a sentence, in which `learning_rate` is --learning-rate."""
    return re.sub(r"`(\w+)`", lambda name: "--" + name[1].replace("_", "-"), sentence(error))
