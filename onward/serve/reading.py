"""From the bytes of a request to records, strictly: whatever they are not is said in one sentence."""

import json
import math
from typing import Any, NoReturn

LONGEST = 60  # characters of what was received that a sentence repeats
FIELDS = 1000  # in one record
NAME, TEXT = 200, 200  # characters of a field's name, and of a value that is text
DIGITS = 17  # of an integer that is exact as a double

Record = dict[str, Any]


class RefusedError(Exception):
    """A request that is not carried out: the status, one sentence for the client, and headers."""

    def __init__(self, status: int, sentence: str, **headers: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def parse(body: bytes) -> Any:
    """What the JSON in `body` says. **Raises.** `RefusedError` if it is none, or says a name twice in an object."""
    if not body.strip():
        raise RefusedError(400, 'the request has no body; send a record as JSON, for example {"load": 3.5}')
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"the body is not UTF-8 (byte {error.start}); send JSON in UTF-8") from None
    try:
        return json.loads(
            text, parse_int=_integer, parse_float=_float, parse_constant=_constant, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RefusedError(
            400, f"the body is not JSON ({error.msg.lower()}: {where}); send one record or a list"
        ) from None
    except RecursionError:
        raise RefusedError(400, "the body is nested too deeply; send one flat record, or a list of them") from None


def records_of(value: Any, limit: int) -> list[Record]:
    """The records in `value`: an object, or a list of at most `limit`. **Raises.** `RefusedError`."""
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise RefusedError(422, "the list has no records; send at least one")
    if len(listed) > limit:
        raise RefusedError(413, f"the list has {len(listed)} records and at most {limit} are taken at once; send fewer")
    for index, record in enumerate(listed):
        _check(record, f"record {index}" if isinstance(value, list) else "the record")
    return listed


def shown(value: Any) -> str:
    """`value` as a sentence repeats it: plain ASCII, cut where it is long."""
    text = json.dumps(value, default=str) if not isinstance(value, float) or math.isfinite(value) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _check(record: Any, name: str) -> None:
    if not isinstance(record, dict):
        raise RefusedError(422, f"{name} must be an object of names and values, got {shown(record)}")
    if len(record) > FIELDS:
        raise RefusedError(422, f"{name} has {len(record)} fields and at most {FIELDS} are read; leave some out")
    for key, value in record.items():
        if len(key) > NAME:
            raise RefusedError(
                422, f"{name} has a field whose name is {len(key)} characters long; at most {NAME} are read"
            )
        if isinstance(value, str) and len(value) > TEXT:
            raise RefusedError(
                422, f"{name}: {shown(key)} is a text of {len(value)} characters; at most {TEXT} are read"
            )


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= DIGITS else _float(text)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise RefusedError(
            422, f"{text[:LONGEST]} is larger than a double can be; send a smaller number, or null if unknown"
        )
    return number


def _constant(text: str) -> NoReturn:
    raise RefusedError(400, f"{text} is not JSON; send null for a value that is missing")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in made if names.count(name) > 1)
        raise RefusedError(400, f"the name {shown(twice)} stands twice in one object; send it once")
    return made
