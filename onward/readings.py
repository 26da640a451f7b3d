"""What a record of a stream holds: its numbers, checked, and when it was."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

MISSING = ("", "nan", "na", "n/a", "null", "none", "?")  # whatever the case
LARGEST = 1e15  # the square of its ten-thousandfold is still finite in single precision
_EPOCH = datetime(1970, 1, 1).toordinal()
_MILLISECONDS = 1e11  # time stamps from here on (in seconds, the year 5138) are milliseconds


class RecordError(ValueError):
    """A record that nothing can be learnt from; one sentence that names the field, what it holds and the remedy."""


class Reading(NamedTuple):
    """A record as the learner takes it: the target's value, then the features', NaN where missing.

    `time`: the time stamp as it came. `seconds`: the same in seconds since 1970, NaN where missing.
    """

    values: tuple[float, ...]
    time: Any = None
    seconds: float = math.nan


class Reader:
    """Makes a `Reading` of each record: a mapping from names of fields to numbers, or text that says numbers.

    **Arguments.** `target`, `features`: names of fields. `time`: that of the time stamp, or None.
    A feature that a record lacks is missing, but a target that it lacks is an error. "", "NaN", "NA", "null", "None",
    "?" (in any case), None, NaN and infinite numbers are missing values. True and False are 1 and 0.
    A time stamp is ISO 8601 (an offset is left aside: hours and days are those of the clock that wrote it), or seconds
    or milliseconds since 1970.
    """

    def __init__(self, target: str, features: Sequence[str], time: str | None = None):
        self.target, self.features, self.time = target, tuple(features), time
        names = (target, *features)
        self._pick = itemgetter(*names) if features else lambda record: (record[target],)

    def read(self, record: Mapping[str, Any]) -> Reading:
        """The record's numbers. **Raises.** `RecordError`."""
        try:
            values = tuple(map(float, self._pick(record)))
            usual = sum(map(abs, values)) <= LARGEST
        except (KeyError, TypeError, ValueError, OverflowError):
            usual = False
        if not usual:
            values = self._slowly(record)
        if self.time is None:
            return Reading(values)
        stamp = record.get(self.time)
        return Reading(values, stamp, seconds(self.time, stamp))

    def _slowly(self, record):
        try:
            target = record[self.target]
        except (KeyError, TypeError):
            raise RecordError(_lacking(record, self.target)) from None
        return tuple([number(self.target, target)] + [number(name, record.get(name)) for name in self.features])


def number(name: str, value: Any) -> float:
    """The value of the field `name`, NaN if it is missing. **Raises.** `RecordError` if it is no number."""
    if value is None:
        return math.nan
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        if isinstance(value, str) and value.strip().lower() in MISSING:
            return math.nan
        raise RecordError(_no_number(name, value)) from None
    if -LARGEST <= found <= LARGEST:
        return found
    if math.isfinite(found):
        raise RecordError(f"field {name!r} is {found:.6g}, beyond {LARGEST:g}; give it in larger units")
    return math.nan


def seconds(name: str, value: Any) -> float:
    """The time stamp in seconds since 1970 on its own clock, NaN if it is missing. **Raises.** `RecordError`."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        try:
            stamp = datetime.fromisoformat(value)
        except ValueError:
            if value.strip().lower() in MISSING:
                return math.nan
        else:
            return _on_its_clock(stamp)
    elif isinstance(value, datetime):
        return _on_its_clock(value)
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if abs(found) >= _MILLISECONDS:
        found /= 1000
    if abs(found) >= _MILLISECONDS or math.isnan(found):
        raise RecordError(
            f"field {name!r} holds {_short(value)}, which is no time; give ISO 8601 (2026-01-31T12:00) or seconds "
            "since 1970"
        )
    return found


def _on_its_clock(stamp):
    days = stamp.toordinal() - _EPOCH
    return 86400.0 * days + 3600 * stamp.hour + 60 * stamp.minute + stamp.second + stamp.microsecond / 1e6


def numeric_fields(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the fields that hold a number, in their order."""
    return tuple(name for name, value in record.items() if isinstance(name, str) and _is_number(value))


def _is_number(value):
    if isinstance(value, str) and value.strip().lower() in MISSING:
        return False
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _lacking(record, name):
    if not isinstance(record, Mapping):
        return f"a record must be a mapping from names to values, got {_short(record)}; give one with {name!r}"
    known = ", ".join(map(_short, list(record)[:8])) + (", ..." if len(record) > 8 else "")
    return f"the target field {name!r} is not there (fields: {known or 'none'}); name one that is"


def _no_number(name, value):
    if isinstance(value, (Mapping, list, tuple, set)):
        return f"field {name!r} holds a nested value, {_short(value)}, instead of a number; put its numbers beside it"
    if isinstance(value, int):
        return f"field {name!r} is an integer of too many digits; give it in larger units"
    return f"field {name!r} holds {_short(value)} instead of a number; leave it empty where it is missing"


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
