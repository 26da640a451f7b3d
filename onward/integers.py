"""What counts as an integer where one is asked for."""

from typing import Any


def is_integer(value: Any, least: int) -> bool:
    """Whether `value` is an `int`, and no bool, of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
