"""A forecaster that learns from records (mappings from names to values) as they come: what `onward stream` runs."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from onward import checkpoint as checkpoints
from onward import losses
from onward.baselines import NAIVE, SEASONAL, Ahead
from onward.combination import Combination, combined, judged, kept, no_forecasts
from onward.data.series import CALENDAR, calendar
from onward.forecaster import StreamSettings as StreamSettings
from onward.forecaster import algorithm_of, make_network
from onward.judge import Judge
from onward.learner import Learner, LearnerState
from onward.limits import limit_norms
from onward.readings import Reader, Reading, numeric_fields
from onward.readings import RecordError as RecordError
from onward.sample import Sample

CHUNK = 256  # most samples that go to the device at once


class Outcome(NamedTuple):
    """What a sample brought; None is what is not known.

    `number`: of the sample, from 1. `time`: the record's time stamp as it came. `value`: of the target. `forecast`:
    for `horizon` steps later, made now, before the value was learnt from. `due`, `naive`, `seasonal`: the forecasts for
    now that were made `horizon` steps ago, by the stream, by the last value and by that of a season before. Errors are
    forecast minus value.
    """

    number: int
    time: Any
    value: float | None
    forecast: float | None
    due: float | None
    error: float | None
    naive: float | None
    naive_error: float | None
    seasonal: float | None
    seasonal_error: float | None


@dataclass(frozen=True)
class View:
    """A `RecordStream` as it was after some sample: forecasts, never learns, never changes, serves any thread.

    `samples`: how many were learnt from. `latest`: the forecast that was made at the last.
    """

    samples: int
    latest: float | None
    _known: "Known"
    _ahead: Ahead | None
    _reader: Reader
    _arrays: Callable
    _advance: Callable

    def predict(self, record: Mapping[str, Any]) -> float | None:
        """To the bit the forecast that `RecordStream.update` would then give for `record`. **Raises.** `RecordError`.

        It goes through the loop that learns, and what that has learnt is dropped.
        """
        reading = self._reader.read(record)
        seasonal = math.nan if self._ahead is None else self._ahead.after(reading.values[0])
        inputs, targets = self._arrays([reading], np.array([reading.values]), [seasonal])
        _, answers = self._advance(self._known, inputs, targets, 1)
        return _known(float(np.asarray(answers)[0]))


class RecordStream:
    """Takes a stream's records one by one or many at once, forecasts, and learns; all that it knows fits in one file.

    With b_t what the last value and, with a season, that of a season before say together (`onward.combination`), the
    network learns what b will miss, and reads the last miss beside the record. What is forecast is what the two naive
    forecasts and b_t + network say together, each by how well it did of late.

    What comes out is the same to the bit however records are grouped in calls, and after `save` and `load`, since one
    compiled loop takes any number of samples up to 256; it is compiled here, nothing afterwards.

    **Arguments.** `settings`; `first`: a record, whose fields are those of the stream; it is not learnt from.
    **Raises.** `RecordError` if `first` is no record that can be read; `ValueError` if the network cannot be built.
    **Example.**

        >>> stream = RecordStream(StreamSettings("load", units=4), {"load": 3.0, "wind": 5.5})
        >>> outcome = stream.update({"load": 3.1, "wind": 5.4})
        >>> outcome.number, outcome.value, stream.features
        (1, 3.1, ('wind',))
    """

    def __init__(self, settings: StreamSettings, first: Mapping[str, Any]):
        Reader(settings.target, settings.features, settings.time).read(first)
        not_features = (settings.target, settings.time)
        found = settings.features or numeric_fields(first)
        self._setup(settings, tuple(name for name in found if name not in not_features))

    def _setup(self, settings: StreamSettings, features: tuple[str, ...]) -> None:
        self.settings, self.features = settings, features
        self._reader = Reader(settings.target, features, settings.time)
        plan = dataclasses.replace(settings, target="target", features=(), time=settings.time and "time")
        self._columns = 1 + len(features) + (settings.season is not None) + len(CALENDAR) * (settings.time is not None)
        self.learner, self._advance, self._begin = _program(plan, self._columns)
        self.known = self._begin()
        self._judge = Judge(settings.horizon, settings.season)
        self._latest = math.nan
        self.samples, self.missing = 0, 0

    @property
    def state(self) -> LearnerState:
        """Of what is known, the learner's part."""
        return self.known.learner

    def read(self, record: Mapping[str, Any]) -> Reading:
        """The record's numbers, from which `learn` learns. **Raises.** `RecordError`; nothing is changed."""
        return self._reader.read(record)

    def update(self, record: Mapping[str, Any]) -> Outcome:
        """Forecast from a record, and learn from it. **Raises.** `RecordError`; then nothing was learnt."""
        return self.learn([self.read(record)])[0]

    def update_many(self, records: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """The same for many records, faster. **Raises.** `RecordError` if any is bad; then nothing was learnt."""
        return self.learn([self.read(record) for record in records])

    def learn(self, readings: Sequence[Reading]) -> list[Outcome]:
        """Forecast from readings, and learn from them."""
        outcomes, running = [], None
        for start in range(0, len(readings), CHUNK):  # while the device works on some, the ones before are finished
            ahead = self._dispatch(readings[start : start + CHUNK])
            outcomes += self._finish(running) if running else []
            running = ahead
        return outcomes + (self._finish(running) if running else [])

    def view(self) -> View:
        """The stream as it is now, for other threads to forecast from while this one goes on to learn."""
        ahead = None if self.settings.season is None else self._judge.seasonal_ahead()
        arrays = partial(_arrays, self._columns, self.settings)
        return View(self.samples, self.forecast(), self.known, ahead, self._reader, arrays, self._advance)

    def forecast(self) -> float | None:
        """The latest forecast, for `horizon` steps after the last record; None before there is one."""
        return self._latest if math.isfinite(self._latest) else None

    def figures(self) -> dict[str, Any]:
        """How it stands: counts, rolling errors (over the last 1,000 judged samples) and the network's state.

        `mae`, `naive_mae`, `seasonal_mae`: rolling mean absolute errors. `drift`: the error of about the last 100
        samples as a multiple of that of about the last 2,000. `refused`: updates that were not finite, and not made.
        `missing`: values that were missing. `norm`: of all parameters together. None where there is none yet.
        """
        known = self.learner.unpack(self.state)
        leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(known.parameters)]
        scores, errors = self._judge.scores(), {}
        for kind, found in (("", scores.mae(rolling=True)), ("total_", scores.mae())):
            errors |= {f"{kind}mae": found["model"], f"{kind}naive_mae": found[NAIVE]}
            errors |= {f"{kind}seasonal_mae": found.get(SEASONAL, math.nan)}
        counts = {"samples": self.samples, "judged": scores.count, "failed": scores.failures["model"]}
        counts |= {"refused": int(known.refused), "missing": self.missing}
        more = {"norm": math.sqrt(sum(float((leaf**2).sum()) for leaf in leaves)), "drift": self._judge.drift()}
        return counts | {name: _known(value) for name, value in (errors | more).items()}

    def save(self, path: str | os.PathLike, **header: Any) -> None:
        """Write all that is known to one file, atomically; `header` is what JSON can say, and `load_with_header` reads.

        **Raises.** `OSError` if it cannot be written; the file that was there stays.
        """
        own = self._judge.arrays() | {"latest": np.array(self._latest), "missing": np.array(self.missing)}
        tree = self.learner.unpack(self.state)._asdict() | {"combination": self.known.combination._asdict()}
        checkpoints.save(
            path,
            tree | {"stream": {name: _bytes(own[name]) for name in own}},
            config=dataclasses.asdict(self.settings),
            step=self.samples,
            features=list(self.features),
            kind="record stream",
            **header,
        )

    @classmethod
    def load(cls, path: str | os.PathLike) -> "RecordStream":
        """What `save` wrote: goes on as if it had never stopped. **Raises.** `onward.checkpoint.CheckpointError`."""
        return cls.load_with_header(path)[0]

    @classmethod
    def load_with_header(cls, path: str | os.PathLike) -> tuple["RecordStream", dict[str, Any]]:
        """The same, and the file's header."""
        header = checkpoints.read_header(path)
        if header.get("kind") != "record stream":
            raise checkpoints.CheckpointError(f"{path} is a checkpoint, but not one of a stream; use another file")
        stream = cls.__new__(cls)
        try:
            settings = StreamSettings(**header["config"] | {"features": tuple(header["config"]["features"])})
            stream._setup(settings, tuple(header["features"]))
        except (KeyError, TypeError, ValueError) as error:
            raise checkpoints.CheckpointError(f"{path} has settings that are not known here ({error})") from None
        combination = {"combination": stream.known.combination._asdict()}
        arrays, _ = checkpoints.load(path, combination)
        combination = Combination(**jax.tree.map(jnp.asarray, arrays["combination"]))
        stream.known = Known(stream.learner.load(path)[0], combination)
        stream.samples = header["step"]
        sizes = {name[7:]: about["shape"] for name, about in header["arrays"].items() if name.startswith("stream.")}
        like = {name: np.zeros(shape, np.uint8) for name, shape in sizes.items()}
        own = {name: _floats(array) for name, array in checkpoints.load(path, {"stream": like})[0]["stream"].items()}
        stream._latest, stream.missing = float(own["latest"]), int(own["missing"])
        stream._judge.restore(own)
        return stream, header

    def _dispatch(self, readings: Sequence[Reading]) -> "_Running":
        values = np.array([reading.values for reading in readings])
        naive, seasonal = self._judge.forecasts(values[:, 0].tolist())
        inputs, targets = _arrays(self._columns, self.settings, readings, values, seasonal)
        self.known, answers = self._advance(self.known, inputs, targets, len(values))
        return _Running(readings, values, naive, seasonal, answers)

    def _finish(self, running: "_Running") -> list[Outcome]:
        values = running.values[:, 0]
        made = np.asarray(running.answers, float)[: len(values)]
        due = self._judge.judge(values, np.stack([made, running.naive, running.seasonal], 1))
        self.missing += int(np.isnan(running.values).sum())
        self._latest = float(made[-1])
        columns = np.stack([values, made, *np.stack([due, due - values[:, None]], 2).reshape(-1, 6).T])
        known = columns.astype(object)
        known[~np.isfinite(columns)] = None
        start = self.samples + 1
        self.samples += len(values)
        times = [reading.time for reading in running.readings]
        return list(map(Outcome, range(start, start + len(values)), times, *known.tolist()))


class Known(NamedTuple):
    """What the compiled loop carries on."""

    learner: LearnerState
    combination: Combination


class _Running(NamedTuple):
    """A chunk that is on the device: its readings, their values, naive forecasts, and answers to come."""

    readings: Sequence[Reading]
    values: np.ndarray
    naive: list[float]
    seasonal: list[float]
    answers: jax.Array


@lru_cache(maxsize=8)
def _program(plan: StreamSettings, columns: int):
    """The learner of records with so many numbers, a compiled loop that takes up to `CHUNK`, and what it begins with.

    The number of samples is one of its arguments, so that a sample goes through the same instructions, and gives the
    same bits, in whatever company it comes. (`Learner.run` is compiled for each length, differently.)
    """
    network = make_network(plan.cell, columns + 1, plan.units, plan.seed)
    # Flat, since the time goes into the number of operations: all are small.
    optimizer = optax.flatten(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(plan.learning_rate)))
    optimizer = optax.chain(optimizer, limit_norms())
    learner = Learner(
        network,
        losses.squared_error,
        algorithm_of(plan.algorithm),
        optimizer,
        plan.window,
        horizon=plan.horizon,
        normalize=True,
        seed=plan.seed,
    )
    dtype = learner.network_of(learner.init()).nodes["skip"].weight.dtype

    seasonal = [] if plan.season is None else [columns - 1 - len(CALENDAR) * (plan.time is not None)]

    def begin():  # forecasters: the naive ones, the network on top of what they say together, and that alone
        return Known(learner.init(), no_forecasts(3 + len(seasonal), plan.horizon, dtype))

    def advance(state, inputs, targets, count):
        def step(index, carried):
            (state, combination), outputs = carried
            x, y = inputs[index].astype(dtype), targets[index].astype(dtype)
            combination, due = judged(combination, y)
            naive = [combination.latest, *(x[place] for place in seasonal)]
            base, missed = combined(combination, jnp.stack(naive)), y - due[-1]
            x = jnp.append(x, missed)
            if learner.window == 1:
                state, output = learner.run(state, Sample(x[None], missed[None, None], jnp.ones(1, dtype)))
                output = output[0, 0]
            else:
                output = learner.predict(state, x)[0]
                state = learner.learn(state, x, missed[None])
            made = jnp.stack([*naive, base + output, base])
            forecast = combined(combination, made[:-1])
            return Known(state, kept(combination, made)), outputs.at[index].set(forecast)

        return lax.fori_loop(0, count, step, (state, jnp.zeros(CHUNK, dtype)))

    compiled = jax.jit(advance)
    jax.block_until_ready(compiled(begin(), np.zeros((CHUNK, columns)), np.zeros(CHUNK), 1))
    return learner, compiled, begin


def _arrays(width, settings, readings, values, seasonal):
    """What the compiled loop takes: inputs [CHUNK, width] and targets [CHUNK], of which as many as `readings` count."""
    parts = [values]
    if settings.season is not None:
        parts.append(np.array(seasonal)[:, None])
    if settings.time is not None:
        parts.append(calendar(_datetimes(np.array([reading.seconds for reading in readings]))))
    inputs, targets = np.zeros((CHUNK, width)), np.zeros(CHUNK)
    inputs[: len(values)], targets[: len(values)] = np.concatenate(parts, 1), values[:, 0]
    return inputs, targets


def _datetimes(seconds):
    known = np.isfinite(seconds)
    whole = np.where(known, 1000 * seconds, 0).astype(np.int64).astype("datetime64[ms]")
    return np.where(known, whole, np.datetime64("NaT"))


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _bytes(array):
    """Doubles as bytes, which JAX would take for single precision."""
    return np.frombuffer(np.ascontiguousarray(array, "<f8").tobytes(), np.uint8).reshape(*np.shape(array), 8)


def _floats(array):
    return np.ascontiguousarray(array).view("<f8")[..., 0]
