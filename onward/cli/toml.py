"""Configuration files: TOML into the dataclasses of `config`, strictly, and back."""

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from onward.cli.errors import UsageError

T = TypeVar("T")


def read(path: Path) -> dict[str, Any]:
    """The table in a TOML file; a `UsageError` if there is no such file or it is not TOML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return tomllib.loads(text)
    except FileNotFoundError:
        raise UsageError(f"there is no configuration file {path}; check the path.") from None
    except OSError as error:
        raise UsageError(f"the configuration file {path} cannot be read ({error.strerror}); choose another.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a TOML file ({error}); correct it there.") from None


def merge(config: T, table: dict[str, Any], source: str, prefix: str = "") -> T:
    """`config` with the values of `table`; a `UsageError` that names the first unknown key or value of a wrong type."""
    hints = typing.get_type_hints(type(config))
    changes = {}
    for key, value in table.items():
        name, full = key.replace("-", "_"), f"{prefix}{key}"
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known here: {', '.join(hints)}."
            raise UsageError(f"{source} has the unknown key {full!r}; {hint}")
        if name in changes:
            raise UsageError(f"{source} has {full!r} twice, once with - and once with _; leave one out.")
        old = getattr(config, name)
        if dataclasses.is_dataclass(old):
            if not isinstance(value, dict):
                raise UsageError(f"{source}: {full} must be a table, got {value!r}; write [{full}] above its values.")
            changes[name] = merge(old, value, source, f"{full}.")
        else:
            changes[name] = _convert(hints[name], value, f"{source}: {full}")
    return dataclasses.replace(typing.cast(Any, config), **changes)


def dump(config: Any) -> str:
    """A dataclass as TOML; fields that are None are left out."""
    lines, tables = [], []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            tables.append(f"\n[{field.name}]\n{dump(value)}")
        elif value is not None:
            lines.append(f"{field.name} = {_literal(value)}\n")
    return "".join(lines + tables)


def as_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain values that JSON can hold; fields that are None are left out."""
    return tomllib.loads(dump(config))


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return json.dumps(str(value)).replace("\x7f", "\\u007f")


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint` wants it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _convert(arguments[0], value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert(next(kind for kind in arguments if kind is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise UsageError(f"{where} must be one of {', '.join(map(repr, arguments))}, got {value!r}.")
        return value
    if origin is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError(f'{where} must be a list of strings such as ["bptt", "snap1@14"], got {value!r}.')
        return tuple(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    kinds = {int: "an integer", float: "a number", bool: "true or false", str: "a string", Path: "a string"}
    raise UsageError(f"{where} must be {kinds[hint]}, got {value!r}.")
