"""The short form of a name with options on the command line: `name:value`, `name:key=value,...`, `name@window`."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onward.cli.errors import UsageError
from onward.integers import is_integer

CONSTANTS: dict[str, Any] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Spec:
    """`text` taken apart: a name, options by position and by key, and how many steps there are between updates."""

    text: str
    name: str
    positional: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    window: int | None = None


def parse(text: str, what: str, *, windowed: bool = False) -> Spec:
    """Take `text` apart; `what` is what it names ("algorithm"), for error messages.

    **Raises.** `UsageError` if the text does not follow the grammar.
    """
    body, at, tail = text.strip().partition("@")
    window = None
    if at:
        if not windowed:
            raise UsageError(f"{what} {text!r} has a window (@{tail}), which only algorithms take; leave it out.")
        window = _value(tail)
        if not is_integer(window, 1):
            raise UsageError(f"{what} {text!r}: the window after @ must be a positive number of steps, as in snap1@14.")
    name, _, arguments = body.partition(":")
    positional: list[Any] = []
    options: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in arguments.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            if options:
                raise UsageError(f"{what} {text!r}: {part!r} follows a key=value option; write it as key=value too.")
            positional.append(_value(part))
        elif not key or not value:
            raise UsageError(
                f"{what} {text!r}: {part!r} is not key=value; write for example {name}:{key.strip() or 'length'}=5."
            )
        elif (known := key.strip().replace("-", "_")) in options:
            raise UsageError(f"{what} {text!r} has the option {known!r} twice; leave one out.")
        else:
            options[known] = _value(value.strip())
    return Spec(text, name.strip().lower(), tuple(positional), options, window)


def choose(spec: Spec, known: Mapping[str, Any], what: str) -> Any:
    """The entry of `known` that the spec names; a `UsageError` that lists them (and the nearest) otherwise."""
    if spec.name in known:
        return known[spec.name]
    near = [name for name in known if spec.name and spec.name in name] or difflib.get_close_matches(
        spec.name, known, n=1
    )
    hint = f"did you mean {' or '.join(near)}? All of them" if near else "there are"
    raise UsageError(f"unknown {what} {spec.name!r}; {hint}: {', '.join(known)}.")


def options_of(make: Callable[..., Any], spec: Spec, what: str) -> dict[str, Any]:
    """The spec's options by name; a `UsageError` if they are not ones that `make` takes."""
    known = option_names(make)
    takes = f"its options are {', '.join(known)}" if known else "it takes none"
    if len(spec.positional) > len(known):
        raise UsageError(f"{what} {spec.text!r} has more values than {spec.name} takes; {takes}.")
    for key in spec.options:
        if key not in known:
            raise UsageError(f"{what} {spec.text!r} has the option {key!r}, which {spec.name} does not take; {takes}.")
    placed = dict(zip(known, spec.positional, strict=False))
    for key in placed.keys() & spec.options.keys():
        raise UsageError(f"{what} {spec.text!r} has the option {key!r} twice; leave one out.")
    options = placed | spec.options
    for key, value in options.items():
        default = inspect.signature(make).parameters[key].default
        if type(default) is float and type(value) not in (int, float):
            raise UsageError(f"{what} {spec.text!r}: {key} must be a number, got {value!r}; write {key}={default}.")
    return options


def call(make: Callable[..., Any], spec: Spec, what: str) -> Any:
    """`make` called with the spec's options; a `UsageError` if it does not take them or their values."""
    options = options_of(make, spec, what)
    try:
        return make(**options)
    except ValueError as error:
        raise UsageError(f"{what} {spec.text!r}: {sentence(error)}") from error
    except TypeError as error:
        raise UsageError(f"{what} {spec.text!r} has a value of the wrong type ({error}); give a number.") from error


def option_names(make: Callable[..., Any]) -> list[str]:
    """Names of the options that a class or function takes, without sizes and keys that are not the user's to set."""
    hidden = ("input_size", "hidden_size", "key")
    return [name for name in inspect.signature(make).parameters if name not in hidden]


def _value(text: str) -> Any:
    if text.lower() in CONSTANTS:
        return CONSTANTS[text.lower()]
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def sentence(error: Exception) -> str:
    """The message of an error, ended by a full stop."""
    text = str(error).strip() or type(error).__name__
    return text if text.endswith(".") else f"{text}."
