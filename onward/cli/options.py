"""From the words on the command line to a checked configuration."""

import contextlib
import dataclasses
import io
import math
import re
from pathlib import Path
from typing import Any, TypeVar, cast

import tyro

from onward.cli import toml
from onward.cli.config import CommonConfig, CompareConfig, GradientsConfig, OptimizerConfig, RunConfig
from onward.cli.errors import UsageError
from onward.cli.presets import PRESETS

T = TypeVar("T")
R = TypeVar("R", bound=CommonConfig)
LARGEST = 2**31 - 1  # what the devices count with


def parse_run(kind: type[R], command: str, words: list[str], known: dict[str, Any] | None = None) -> R:
    """The configuration of a run: defaults, then preset, `known`, then TOML file, then the words themselves.

    With `--resume` the configuration that the run's folder holds is what the words are applied to.
    **Raises.** `UsageError` on anything that cannot be; `SystemExit(0)` after help.
    """
    asked = parse(kind, command, words)  # everything is known and of the right type; also prints help
    resume = isinstance(asked, RunConfig) and asked.resume
    default: Any = kind()
    table: dict[str, Any] = {}
    source = ""
    if resume:
        if asked.out is None:
            raise UsageError("--resume needs --out DIR, the folder of the run to go on with; add it.")
        if asked.config is not None:
            raise UsageError("--resume takes the configuration from the run's folder; leave --config out.")
        stored = asked.out / "config.toml"
        if not stored.is_file():
            raise UsageError(
                f"there is no run to resume in {asked.out} (no config.toml); leave --resume out to start one."
            )
        table, source = toml.read(stored), str(stored)
    elif asked.config is not None:
        table, source = toml.read(asked.config), str(asked.config)
    if command in PRESETS and not resume:
        default = _with_preset(default, command, words, table, source)
    default = toml.merge(default, known or {}, "what is known")
    default = toml.merge(default, table, source)
    config = parse(kind, command, words, default)
    if isinstance(config, CompareConfig) and config.steps is None and config.epochs is None:
        config = dataclasses.replace(
            config, steps=max(1, PRESETS[command][config.preset]["samples"] // max(1, config.batch_size))
        )
    if resume:
        _unchanged(default, cast(RunConfig, config))
    if isinstance(config, RunConfig):
        config = dataclasses.replace(config, resume=resume)  # whatever a file says that a resumed run has left
    check(config)
    return config


def parse(kind: type[T], command: str, words: list[str], default: T | None = None) -> T:
    """`words` as a dataclass; a `UsageError` of one sentence where tyro would print a box."""
    for before, word in zip([f"onward {command}", *words], words, strict=False):
        if not word or re.fullmatch(r"--[\w.-]+=", word):
            raise UsageError(f"{word.rstrip('=') or before} is given an empty value; give another, or leave it out.")
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            if default is None:
                return tyro.cli(kind, prog=f"onward {command}", args=words)
            return tyro.cli(kind, prog=f"onward {command}", args=words, default=default)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_one_sentence(output.getvalue(), command)) from None


def check(config: CommonConfig) -> None:
    """Raise a `UsageError` that names the first option whose value makes no sense."""
    positive = ["batch_size", "steps", "epochs", "validate_every", "checkpoint_every", "devices", "patience", "window"]
    for name in positive:
        _at_least(config, name, 1 if name != "epochs" else None)
    for name in ("align_every", "seed", "train"):
        _at_least(config, name, 0)
    _at_least(config, "keys", 2)
    _at_most(config, "seed", 2**32 - 1)
    for name in ("batch_size", "steps", "train", "keys"):
        _at_most(config, name, LARGEST)
    for name in ("dropout", "weight_drop"):
        if not 0 <= getattr(config.network, name) < 1:
            option, value = name.replace("_", "-"), getattr(config.network, name)
            raise UsageError(f"--network.{option} must be at least 0 and below 1, got {value}.")
    for name in ("layers", "units", "width", "softmaxes"):
        _at_least(config.network, name, 1, "network.")
        _at_most(config.network, name, LARGEST, "network.")
    for name in ("warmup", "weight_decay", "recurrent_factor", "clip", "fptt", "fptt_linear"):
        _at_least(config.optimizer, name, 0, "optimizer.")
    _at_least(config.optimizer, "learning_rate", None, "optimizer.")
    if config.optimizer.fptt is None and config.optimizer.fptt_linear != OptimizerConfig().fptt_linear:
        raise UsageError("--optimizer.fptt-linear says how FPTT is done; give --optimizer.fptt too, or leave it out.")
    if isinstance(config, RunConfig) and config.steps is not None and config.epochs is not None:
        raise UsageError("--steps and --epochs say the same thing in two ways; give one of them.")
    if not 0 < config.memory_fraction <= 1:
        raise UsageError(f"--memory-fraction must be above 0 and at most 1, got {config.memory_fraction}.")
    if isinstance(config, (CompareConfig, GradientsConfig)) and not config.algorithms:
        raise UsageError("--algorithms needs at least one algorithm, for example: --algorithms spatialbp bptt snap1.")


def _with_preset(default: Any, command: str, words: list[str], table: dict[str, Any], source: str) -> Any:
    name = parse(type(default), command, words, toml.merge(default, table, source)).preset
    values = {key: value for key, value in PRESETS[command][name].items() if key != "samples"}
    return toml.merge(dataclasses.replace(default, preset=name), values, f"preset {name}")


def _unchanged(stored: RunConfig, config: RunConfig) -> None:
    may_change = {"out", "resume", "config", "force", "memory_fraction", "devices"}
    for field in dataclasses.fields(config):
        if field.name not in may_change and getattr(stored, field.name) != getattr(config, field.name):
            option = field.name.replace("_", "-")
            raise UsageError(
                f"--resume goes on with the run as it was configured, and --{option} differs from that; "
                f"leave --{option} out, or start a new run in another folder."
            )


def _at_least(config: Any, name: str, minimum: float | None, prefix: str = "") -> None:
    """`minimum` None: above 0."""
    value = getattr(config, name, None)
    if value is None:
        return
    option = f"--{prefix}{name}".replace("_", "-")
    if not math.isfinite(value) or (value <= 0 if minimum is None else value < minimum):
        bound = "above 0" if minimum is None else f"at least {minimum}"
        raise UsageError(f"{option} must be {bound}, got {value}.")


def _at_most(config: Any, name: str, maximum: int, prefix: str = "") -> None:
    value = getattr(config, name, None)
    if value is not None and value > maximum:
        option = f"--{prefix}{name}".replace("_", "-")
        raise UsageError(f"{option} must be at most {maximum}, got {value}; choose a smaller one.")


def _one_sentence(box: str, command: str) -> str:
    """What tyro wrote into a box, up to its first ruler, as one sentence with a hint."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    if "╭" not in text:  # where the terminal has no box characters, a title and a ruler stand above it
        text = re.sub(r"\A.*?\n *-{8,} *\n", "", text, flags=re.DOTALL)
    lines = [line.strip("│ ").strip() for line in text.splitlines() if not line.startswith(("╭", "╰"))]
    rulers = [index for index, line in enumerate(lines) if re.fullmatch("─+|-{8,}", line)]
    head = " ".join(line for line in lines[: rulers[0] if rulers else None] if line)
    head = re.split(r"\s*Got errors:", head)[0].rstrip(" .,;:")
    head = re.sub(r"\. ([A-Z])", lambda match: "; " + match.group(1).lower(), head)
    head = re.sub(r"no type matching \S+ could be instantiated from \['?(.*?)'?\]", r"\1 is not a value for it", head)
    near = re.search(r"Perhaps you meant:\s*(--?[\w.-]+)", " ".join(lines))
    hint = f"did you mean {near.group(1)}?" if near else f"see onward {command} --help."
    return f"{head[:1].lower() + head[1:]}; {hint}"


def default_folder(name: str, now: str) -> Path:
    """Where a run goes that was given no folder."""
    return Path("runs") / f"{name}-{now}"
