"""Large tables of plain decimal numbers in text, read a column at a time."""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

_BLOCK = 1_000_000  # bytes read at once, so that what is made of them stays in the caches
_NEWLINE, _RETURN, _COMMA, _MINUS, _POINT, _ZERO, _QUESTION = b"\n\r,-.0?"
_DIGITS = 18  # of one number at most: a 64-bit integer holds them
_POWERS = 10.0 ** np.arange(_DIGITS + 3)


def decimals(content: bytes, skip: int = 0) -> Float[np.ndarray, "line field"]:
    """The numbers of a text with commas between and no header, in which every line has the same number of fields.

    A field is digits with or without a sign "-" and a point, or, where the number is missing (NaN), nothing or "?".
    Lines end with a line feed, which may follow a carriage return. Each number is the double nearest to what is
    written if it has at most 15 digits.

    **Arguments.** `skip`: fields at the start of each line that are passed over, whatever they are.
    **Raises.** `ValueError` with the number of a line that has another number of fields, or a field that is no number.
    """
    if not content:
        return np.zeros((0, 0))
    if not content.endswith(b"\n"):
        content += b"\n"
    fields = content.count(b",", 0, content.index(b"\n")) + 1
    blocks, start, line = [], 0, 1
    while start < len(content):
        stop = content.rfind(b"\n", start, start + _BLOCK) + 1 or content.index(b"\n", start) + 1
        blocks.append(_block(np.frombuffer(content, np.uint8, stop - start, start), fields, skip, line))
        start, line = stop, line + len(blocks[-1])
    return np.concatenate(blocks)


def _block(text: UInt8[np.ndarray, " byte"], fields: int, skip: int, line: int) -> Float[np.ndarray, "line field"]:
    """The numbers of some whole lines, of which the first has the number `line`."""
    ends = np.flatnonzero((text == _COMMA) | (text == _NEWLINE)).astype(np.int32)
    counts = np.diff(np.flatnonzero(text[ends] == _NEWLINE), prepend=-1)
    wrong = np.flatnonzero(counts != fields)
    if wrong.size:
        found = counts[wrong[0]]
        raise ValueError(f"line {line + wrong[0]} has {found} fields where the first has {fields}; correct the line")
    starts = np.concatenate([np.zeros(1, np.int32), ends[:-1] + 1]).reshape(-1, fields)
    ends = ends.reshape(-1, fields)
    ends[:, -1] -= text[np.maximum(ends[:, -1] - 1, 0)] == _RETURN
    values = np.empty((len(ends), fields - skip))
    for field in range(skip, fields):
        start, length = starts[:, field].copy(), ends[:, field] - starts[:, field]
        values[:, field - skip], bad = _column(text, start, length)
        if bad.any():
            row = int(np.argmax(bad))
            found = bytes(text[start[row] : ends[row, field]][:40])
            raise ValueError(f"field {field + 1} of line {line + row} is {found!r}, which is no number; correct it")
    return values


def _column(
    text: UInt8[np.ndarray, " byte"], start: Int[np.ndarray, " line"], length: Int[np.ndarray, " line"]
) -> tuple[Float[np.ndarray, " line"], Bool[np.ndarray, " line"]]:
    """One field of every line, and where it is neither a number nor missing."""
    longest = min(int(length.max()), _DIGITS + 2)
    mantissa = np.zeros(len(start), np.int32 if longest <= 9 else np.int64)
    digits, places, points = (np.zeros(len(start), np.int8) for _ in range(3))
    first = text[start]
    for place in range(longest):
        letter = text.take(start + place, mode="clip")  # past the end of the block is past the end of the field
        digit = letter - np.uint8(_ZERO)
        inside = length > place
        is_digit = (digit < 10) & inside
        mantissa = np.where(is_digit, mantissa * 10 + digit, mantissa)
        digits += is_digit
        points += (letter == _POINT) & inside
        places += is_digit & (points > 0)
    negative = (first == _MINUS) & (length > 0)
    missing = (length == 0) | ((first == _QUESTION) & (length == 1))
    bad = ~missing & ((digits + points + negative != length) | (points > 1) | (digits == 0) | (digits > _DIGITS))
    value = mantissa / _POWERS[places]
    np.negative(value, out=value, where=negative)
    value[missing] = np.nan
    return value, bad
