"""What every study has in common: rows that are measured one by one, figures and text made from them, and the files."""

import abc
import csv
import dataclasses
import hashlib
import io
import json
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import jax

from onward import figures
from onward.metrics import read_events
from onward.training import Trained, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
TABLE, CONFIG, TEXT = "results.csv", "config.json", "findings.md"
UNFINISHED, EVENTS = "unfinished", "metrics.jsonl"
PACKAGES = ("onward", "jax", "jaxlib", "equinox", "optax", "numpy")


class Study(abc.ABC):
    """One question, answered by measurements.

    **Class attributes.** `name`: as on the command line. `summary`: the question, in a line. `full`, `quick`: settings
    (a dataclass); quick ones take less than two minutes. `double`: whether JAX's 64-bit mode must be on. `batch`: the
    batch that is to be spread over virtual devices.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    full: ClassVar[Any]
    quick: ClassVar[Any]
    double: ClassVar[bool] = False
    batch: ClassVar[int] = 1
    unfinished: Path | None = None  # a folder for the row that is being measured

    def train(self, *arguments: Any, **options: Any) -> Trained:
        """`onward.train`, one for a row, which goes on where it was when the study is stopped and resumed."""
        if self.unfinished is not None:
            options |= {"checkpoint": self.unfinished / "checkpoint.safetensors", "log": self.unfinished / EVENTS}
            options |= {"resume": True, "checkpoint_every": 200}
        trained = train(*arguments, **options)
        if trained.stopped == "interrupted":
            raise KeyboardInterrupt
        return trained

    @abc.abstractmethod
    def points(self, settings: Any, seed: int) -> Sequence[Row]:
        """What is to be measured: the columns that name each row, in the order of measuring."""

    @abc.abstractmethod
    def measure(self, settings: Any, point: Row, earlier: Sequence[Row]) -> Row:
        """The measured columns of one row, given all rows before it."""

    @abc.abstractmethod
    def draw(self, rows: Sequence[Row]) -> dict[str, "Figure"]:
        """File name without suffix -> figure."""

    @abc.abstractmethod
    def describe(self, rows: Sequence[Row]) -> str:
        """What was found, in some sentences, with the numbers that the rows give."""


def run(
    study: Study,
    folder: Path,
    *,
    quick: bool,
    seed: int,
    resume: bool,
    say: Callable[[str], None],
    settings: Any = None,
) -> str:
    """Measure, and write everything into `folder`; returns the text.

    Rows are written as they come; with `resume` those that the folder holds are not measured again, and a training
    goes on where it was. `settings`: others than the study's full or quick ones.
    **Raises.** `ValueError` where the folder holds a study already and `resume` is not asked for, or another one.
    """
    settings = settings or (study.quick if quick else study.full)
    asked = {"study": study.name, "quick": quick, "seed": seed, "settings": dataclasses.asdict(settings)}
    asked = json.loads(json.dumps(asked))
    known = _known(folder, asked, resume)
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / CONFIG, json.dumps(asked, indent=2) + "\n")
    rows: list[Row] = []
    with _table(folder / TABLE, known) as add:
        for point in study.points(settings, seed):
            named = {key: _written(value) for key, value in point.items()}
            row = next((old for old in known if named.items() <= old.items()), None)
            if row is None:
                digest = hashlib.sha256(json.dumps(named).encode()).hexdigest()
                study.unfinished = folder / UNFINISHED / digest[:16]
                clock = time.perf_counter() - _spent(study.unfinished / EVENTS)
                found = {**point, **study.measure(settings, point, rows)}
                found["seconds"] = time.perf_counter() - clock
                row = {key: _written(value) for key, value in found.items()}
                add(row)
                shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
                say("  ".join(f"{key} {value}" for key, value in row.items()))
            rows.append({key: _read(value) for key, value in row.items()})
    config = asked | {"seconds": round(sum(row["seconds"] for row in rows)), "versions": _versions()}
    _replace(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    for name, figure in study.draw(rows).items():
        (folder / f"{name}.png").write_bytes(figures.png(figure))
        figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    text = study.describe(rows)
    _replace(folder / TEXT, f"# {study.name}\n\n{study.summary}\n\n{text}\n")
    return text


def record(trained: Trained, metric: str) -> Row:
    """What a training leaves in a row: seconds a batch (median), and `metric` at each validation, in one cell."""
    curve = [event[metric] for event in trained.history if event["event"] == "validation"]
    seconds = next(event["seconds_per_step"] for event in reversed(trained.history) if event["event"] == "end")
    return {"batch_seconds": seconds, "curve": " ".join(f"{value:.4g}" for value in curve)}


def read_curve(row: Row) -> list[float]:
    """The values that `record` wrote."""
    return [float(value) for value in str(row["curve"]).split()]


def clock(function: Callable, *arguments: Any, runs: int) -> tuple[float, int]:
    """Median seconds of the compiled function, without its first run, and the bytes of its temporary arrays."""
    compiled = jax.jit(function).lower(*arguments).compile()
    plan: Any = compiled.memory_analysis()
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]), plan.temp_size_in_bytes


def panels(rows: int, columns: int, height: float = 2.9) -> tuple["Figure", Any]:
    """A figure in the house style, and its axes by row and column."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(10, height * rows), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False)


def shades(count: int) -> list[Any]:
    """Colours for an ordered quantity, from light to dark."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 - 0.9 * i / max(1, count - 1)) for i in range(count)]


def _spent(log: Path) -> float:
    """Seconds that went into a training before it was stopped."""
    return max((event.get("seconds") or 0.0 for event in read_events(log)), default=0.0) if log.exists() else 0.0


def _known(folder: Path, asked: Mapping[str, Any], resume: bool) -> list[dict[str, str]]:
    """Rows that the folder holds, as they are written."""
    rows: list[dict[str, str]] = []
    if not (folder / TABLE).exists():
        return []
    if not resume:
        raise ValueError(f"{folder} holds a study already; give another --out, or --resume to go on with it")
    try:
        stored = json.loads((folder / CONFIG).read_text())
        with (folder / TABLE).open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (ValueError, FileNotFoundError):
        stored = None
    if not isinstance(stored, dict):
        raise ValueError(f"{folder} has no readable {CONFIG} beside its {TABLE}; give another --out")
    for key, value in asked.items():
        if stored.get(key) != value:
            raise ValueError(f"{folder} holds a study with another {key}; give another --out")
    return [row for row in rows if None not in row.values() and None not in row]  # but for one that was cut short


@contextmanager
def _table(path: Path, known: Sequence[Mapping[str, str]]) -> Iterator[Callable[[Mapping[str, str]], None]]:
    """A function that adds a row to the table; it starts with those that are known."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerows([list(known[0]), *(row.values() for row in known)] if known else [])
    _replace(path, text.getvalue())
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")

        def add(row: Mapping[str, str]) -> None:
            if file.tell() == 0:
                writer.writerow(row)
            writer.writerow(row.values())
            file.flush()

        yield add


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)


def _written(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _read(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
