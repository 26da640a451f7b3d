"""`onward list`: what there is to choose from."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from onward import networks
from onward.algorithms import Algorithm
from onward.cells import GRU, LRU
from onward.cli.config import ListConfig
from onward.cli.options import parse
from onward.cli.progress import Screen
from onward.cli.registry import ALGORITHMS, CELLS, NETWORKS
from onward.cli.specs import option_names
from onward.network import Network
from onward.tasks import TASKS


def run(words: list[str]) -> int:
    """Print the sections that were asked for."""
    config = parse(ListConfig, "list", words)
    sections = {"algorithms": _algorithms, "tasks": _tasks, "cells": _cells, "networks": _networks}
    console = Screen(highlight=False)
    for name, section in sections.items():
        if config.what in ("all", name):
            section(console)
    return 0


def _algorithms(console: Console) -> None:
    entries = []
    for name, kind in ALGORITHMS.items():
        passes = "1 pass" if kind.pass_count == "1" else f"{kind.pass_count} passes"
        where = "unbiased on: every network" if kind.stochastic else f"exact on: {exact_on(kind)}"
        facts = f"{where} | memory {kind.memory} | {passes} | {kind.kind}"
        entries.append((name, kind.summary, facts, f"source: {kind.source}", _options(name, kind)))
    _print(
        console,
        "Algorithms (--algorithms, --algorithm)",
        entries,
        "memory: how it grows with the T steps of a window. A window after @ sets the steps between updates: snap1@14, "
        "where snap1 is short for snap:1, and rflo for eprop:feedback=random, meant for leaky-rnn.",
    )


def exact_on(kind: type[Algorithm]) -> str:
    """On which of some typical networks this algorithm's gradient is exact by theory, with default options."""
    algorithm = kind(**{"n": 1} if "n" in _defaults(kind) else {})
    cases = {
        "any network": lambda key: networks.cell_stack(GRU, 2, 2, units=2, layers=2, key=key),
        "several diagonal layers (LRU)": lambda key: networks.lru_blocks(2, 2, width=2, units=2, layers=2, key=key),
        "one diagonal layer (LRU)": lambda key: networks.cell_stack(LRU, 2, 2, units=2, layers=1, key=key),
    }
    for text, build in cases.items():
        if _exact(algorithm, build):
            return text
    return "what is above the top recurrent layer"


def _exact(algorithm: Algorithm, build: Callable[..., Network]) -> bool:
    found = []

    def probe(key):  # under eval_shape nothing is computed, so that no device is started for this
        found.append(algorithm.exact_on(build(key)))

    jax.eval_shape(probe, jax.eval_shape(lambda: jax.random.key(0)))
    return found[0]


def _tasks(console: Console) -> None:
    entries = []
    for name, kind in TASKS.items():
        known = {label: getattr(kind, field, None) for label, field in SIZES.items()}
        facts = [f"{label} {value}" for label, value in known.items() if isinstance(value, int)]
        facts.append(f"judged by {kind.primary.replace('_', ' ')}")
        entries.append((name, _first_line(kind), " | ".join(facts), _options(name, kind)))
    _print(console, "Tasks (--task)", entries)


def _cells(console: Console) -> None:
    entries = [(n, _first_line(k), f"recurrence: {k.recurrence}", _options(n, k)) for n, k in CELLS.items()]
    _print(console, "Cells (--network.kind stack --network.cell NAME)", entries)


def _networks(console: Console) -> None:
    _print(console, "Networks (--network.kind)", list(NETWORKS.items()))


SIZES = {"steps": "length", "features in": "input_size", "features out": "output_size"}


def _print(console: Console, title: str, entries: Sequence[tuple[str, ...]], note: str = "") -> None:
    """A title, then for each entry its name on the left, and on the right its lines; the first says what it is."""
    grid = Table.grid(padding=(0, 2, 0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, first, *rest in entries:
        lines = [escape(first), *(f"[dim]{escape(line)}[/dim]" for line in rest if line)]
        grid.add_row(name, "\n".join(lines))
    console.print(Text(title, style="bold"))
    console.print(grid)
    if note:
        console.print(Padding(Text(note, style="dim"), (0, 0, 0, 2)))
    console.print()


def _options(name: str, kind: Any) -> str:
    options = _defaults(kind)
    return f"options: {name}:{','.join(f'{key}={value}' for key, value in options.items())}" if options else ""


def _defaults(kind: Any) -> dict[str, object]:
    parameters = inspect.signature(kind).parameters
    values = {name: parameters[name].default for name in option_names(kind)}
    return {name: "…" if value is inspect.Parameter.empty else value for name, value in values.items()}


def _first_line(kind: Any) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0].rstrip(".")
