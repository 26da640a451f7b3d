"""Gradients of several algorithms on one stream beside the exact one: direction, length, bias, variance and cost."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from onward.algorithms import BPTT, Algorithm
from onward.diagnostics import carry_bytes, compiled_memory, gigabytes, over_budget
from onward.gradients import checked
from onward.integers import is_integer
from onward.network import Network
from onward.sample import Sample

WHOLE = "whole network"
QUANTITIES = ("cosine", "norm_ratio", "bias", "deviation")


@dataclass(frozen=True)
class GradientComparison:
    """What `compare_gradients` found, with g the exact gradient and h an algorithm's, of a window and a group.

    **Shapes.** A algorithms, W windows, G groups, the first of which is the whole network. `ends` [W]: steps of the
    stream at each window's end. `exact_norm` [W, G]: |g|. [A, W, G], with means over keys: `cosine` of g and h (0 where
    h is 0), `norm_ratio` |h| / |g|, `bias` |mean h - g| / |g|, `deviation` sqrt(mean |h - mean h|^2) / |g|, 0 for
    what does not draw at random. [A]: `seconds` for a step of the stream, the whole batch; `memory`, bytes of the
    compiled window; `declined`, why an algorithm was not run, or "".
    **Units.** NaN where there is nothing to compare with: g is 0, or the algorithm was declined.
    **Not to be confused with** zero bias: the mean over `keys` draws of an unbiased algorithm is still about
    deviation / sqrt(keys) off, which is what `bias` then shows; see `noise`.
    """

    algorithms: tuple[Algorithm, ...]
    groups: tuple[str, ...]
    keys: int
    ends: np.ndarray
    exact_norm: np.ndarray
    cosine: np.ndarray
    norm_ratio: np.ndarray
    bias: np.ndarray
    deviation: np.ndarray
    seconds: np.ndarray
    memory: np.ndarray
    declined: tuple[str, ...]

    def overall(self, quantity: str) -> np.ndarray:
        """One of the quantities [A, G] over all windows that have an exact gradient.

        "cosine": the mean. "norm_ratio", "bias", "deviation": of the windows' gradients taken together as one vector,
        so that windows count by the length of their gradient.
        """
        asked = self.exact_norm > 0
        values = np.where(asked, getattr(self, quantity), 0.0)
        with np.errstate(invalid="ignore"):  # 0 / 0 where no window has a gradient
            if quantity == "cosine":
                return values.sum(axis=1) / asked.sum(axis=0)
            lengths = np.where(asked, self.exact_norm, 0.0)
            return np.sqrt(((values * lengths) ** 2).sum(axis=1) / (lengths**2).sum(axis=0))

    @property
    def noise(self) -> np.ndarray:
        """The `overall` bias [A, G] that chance alone leaves in the mean over keys."""
        return self.overall("deviation") / np.sqrt(self.keys)


def compare_gradients(
    network: Network,
    loss: Callable,
    sample: Sample,
    algorithms: Sequence[Algorithm],
    *,
    window: int | None = None,
    key: Array | None = None,
    keys: int = 8,
    groups: Literal["nodes", "arrays"] = "nodes",
    budget: float | None = None,
    on_start: Callable[[Algorithm], None] | None = None,
) -> GradientComparison:
    """Run algorithms on the same stream and hold their gradients, window by window, against the exact ones.

    The stream is `sample`, cut into windows; states and traces go on from window to window and parameters stay. The
    exact gradient of a window is that of its losses through the whole past, which is what RTRL gives. It is found by
    BPTT over the whole sample with the weights of all other windows at 0: for any network in O(sqrt T) memory.

    **Shapes.** `sample` [time, ...] or [batch, time, ...]; a gradient is the mean over the batch.
    **Arguments.** `window`: steps in a window, the last one may be shorter; None for the whole sample as one. `key`:
    for algorithms that draw at random, which run with `keys` keys split from it. `groups`: the parameters of each node
    of the network, or each of its arrays by itself. `budget`: bytes that a window may need; what needs more is
    declined, as is an algorithm that cannot serve the network. `on_start`: called with each algorithm before it runs.
    **Cost.** For W windows W + 1 runs of BPTT, and each algorithm's stream once, or `keys` times if it is random.
    Gradients are kept on the host: 2 W numbers a parameter.
    **Raises.** `ValueError` or `TypeError`, naming the argument, where something does not fit.
    **Example.**

        >>> import jax, jax.numpy as jnp, onward as ow
        >>> net = ow.stack(ow.cells.GRU(1, 2, key=jax.random.key(0)))
        >>> sample = ow.Sample(jnp.ones((6, 1)), jnp.zeros((6, 2)), jnp.ones(6))
        >>> found = ow.compare_gradients(net, ow.losses.squared_error, sample, [ow.RTRL(), ow.EProp()], window=2)
        >>> found.cosine.shape, found.groups, bool(found.overall("bias")[0, 0] < 1e-5)
        ((2, 3, 2), ('whole network', '0_gru'), True)
    """
    sample = checked(network, loss, sample, *algorithms)
    _check(sample, algorithms, window, key, keys, groups)
    if not sample.batched:
        sample = jax.tree.map(lambda leaf: leaf[None], sample)
    parameters, static = eqx.partition(network, eqx.is_inexact_array)
    size = window or sample.length
    ends = np.array([*range(size, sample.length, size), sample.length])
    parts = _parts(parameters, by_array=groups == "arrays")
    stream = _Stream(network, parameters, static, loss, _pieces(sample, ends), list(parts.values()))
    exact = _exact(stream, sample, ends)
    found = []
    for algorithm in algorithms:
        if on_start is not None:
            on_start(algorithm)
        draws = list(jax.random.split(key, keys)) if algorithm.stochastic and key is not None else [None]
        found.append(_measure(stream, algorithm, draws, exact, budget))
    return GradientComparison(
        algorithms=tuple(algorithms),
        groups=tuple(parts),
        keys=keys,
        ends=ends,
        exact_norm=np.array([[np.linalg.norm(vector[part]) for part in stream.parts] for vector in exact]),
        **{name: np.stack([getattr(one, name) for one in found]) for name in (*QUANTITIES, "seconds", "memory")},
        declined=tuple(one.declined for one in found),
    )


def _check(sample, algorithms, window, key, keys, groups):
    if not algorithms:
        raise ValueError("`algorithms` is empty; give at least one, such as onward.SnAp(1)")
    if window is not None and not (is_integer(window, 1) and window <= sample.length):
        raise ValueError(
            f"`window` is {window!r}; choose 1 to the {sample.length} steps of the sample, or None for all"
        )
    if not is_integer(keys, 2):
        raise ValueError(f"`keys` must be an integer of at least 2, got {keys!r}; a variance needs two draws")
    if groups not in ("nodes", "arrays"):
        raise ValueError(f"`groups` must be 'nodes' or 'arrays', got {groups!r}")
    random = [type(algorithm).__name__ for algorithm in algorithms if algorithm.stochastic]
    if random and key is None:
        raise ValueError(f"{random[0]} draws at random; give a `key`, such as key=jax.random.key(0)")


class _Stream(NamedTuple):
    """A network taken apart, the windows that it runs over, and the parts of its gradient that are looked at."""

    network: Network
    parameters: PyTree
    static: PyTree
    loss: Callable
    pieces: list[Sample]
    parts: list[slice]

    def runner(self, algorithm: Algorithm) -> Callable:
        """The compiled `(parameters, carry, window) -> carry, gradient`."""

        def run(parameters, carry, window):
            carry, estimate = algorithm.run(eqx.combine(parameters, self.static), self.loss, carry, window)
            return carry, estimate.gradient

        return jax.jit(run)

    def start(self, algorithm: Algorithm, key: Array | None) -> Any:
        return algorithm.init(self.network, key=key, batch=len(self.pieces[0].weight))


class _Found(NamedTuple):
    """One algorithm's share of a `GradientComparison`, without the axis of algorithms."""

    cosine: np.ndarray
    norm_ratio: np.ndarray
    bias: np.ndarray
    deviation: np.ndarray
    seconds: float = np.nan
    memory: float = np.nan
    declined: str = ""


def _exact(stream: _Stream, sample: Sample, ends: np.ndarray) -> list[np.ndarray]:
    """Each window's gradient through the whole past."""
    algorithm = BPTT(checkpoint="sqrt")
    run, carry = stream.runner(algorithm), stream.start(algorithm, None)
    found, step = [], np.arange(sample.length)
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        weight = jnp.where((step >= begin) & (step < end), sample.weight, 0)
        masked = Sample(sample.input, sample.target, weight)
        found.append(_vector(run(stream.parameters, carry, masked)[1]))
    return found


def _measure(stream, algorithm, draws, exact, budget) -> _Found:
    """Run one algorithm over the stream with each of `draws` (keys, or None), if it can be and fits the budget."""
    try:
        carry = carry_bytes(stream.network, algorithm, len(stream.pieces[0].weight))
    except ValueError as error:
        return _not_run(stream, f"it cannot serve this network: {error}")
    if reason := over_budget(budget, carry):
        return _not_run(stream, _too_much(reason, budget))
    run, shapes = stream.runner(algorithm), jax.eval_shape(lambda: stream.start(algorithm, jax.random.key(0)))
    forms = {piece.length: piece for piece in stream.pieces}  # but for a shorter last window there is one
    compiled = {length: run.lower(stream.parameters, shapes, piece).compile() for length, piece in forms.items()}
    first = stream.pieces[0]
    memory = compiled_memory(compiled[first.length])
    if reason := over_budget(budget, carry, memory):
        return _not_run(stream, _too_much(reason, budget), memory)
    totals, times = _Totals(stream, exact), []
    jax.block_until_ready(compiled[first.length](stream.parameters, stream.start(algorithm, draws[0]), first))
    for count, draw in enumerate(draws, 1):
        carry = stream.start(algorithm, draw)
        for index, piece in enumerate(stream.pieces):
            began = time.perf_counter()
            carry, gradient = jax.block_until_ready(compiled[piece.length](stream.parameters, carry, piece))
            times.append((time.perf_counter() - began) / piece.length)
            totals.add(index, _vector(gradient), count)
    return totals.found(len(draws), statistics.median(times), np.nan if memory is None else memory)


def _too_much(reason, budget):
    return f"{reason}, and {gigabytes(budget)} may be used"


def _not_run(stream, reason, memory=None) -> _Found:
    nothing = np.full((len(stream.pieces), len(stream.parts)), np.nan)
    known = np.nan if memory is None else memory
    return _Found(nothing, nothing, nothing, nothing, memory=known, declined=reason)


class _Totals:
    """Means over keys and what is scattered around them (by Welford's recursion), in float64."""

    def __init__(self, stream: _Stream, exact: list[np.ndarray]):
        self._exact, self._parts = exact, stream.parts
        self._means = [np.zeros_like(vector) for vector in exact]
        shape = len(exact), len(stream.parts)
        self._cosine, self._norm, self._scatter = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def add(self, index: int, vector: np.ndarray, count: int) -> None:
        """Take in the gradient of window number `index`, the `count`-th of that window."""
        before = vector - self._means[index]
        self._means[index] += before / count
        after = vector - self._means[index]
        for group, part in enumerate(self._parts):
            ours, theirs = vector[part], self._exact[index][part]
            norm = np.linalg.norm(ours)
            lengths = norm * np.linalg.norm(theirs)
            self._cosine[index, group] += ours @ theirs / lengths if lengths != 0 else 0.0
            self._norm[index, group] += norm
            self._scatter[index, group] += before[part] @ after[part]

    def found(self, count: int, seconds: float, memory: float) -> _Found:
        """All quantities, NaN where the exact gradient is 0."""
        exact, bias = np.zeros(self._cosine.shape), np.zeros(self._cosine.shape)
        for place in np.ndindex(exact.shape):
            mean, theirs = (vectors[place[0]][self._parts[place[1]]] for vectors in (self._means, self._exact))
            exact[place], bias[place] = np.linalg.norm(theirs), np.linalg.norm(mean - theirs)
        exact = np.where(exact > 0, exact, np.nan)
        cosine = np.where(exact > 0, self._cosine / count, np.nan)
        deviation = np.sqrt(self._scatter / max(1, count - 1))
        return _Found(cosine, self._norm / count / exact, bias / exact, deviation / exact, seconds, memory)


def _pieces(sample: Sample, ends: np.ndarray) -> list[Sample]:
    return [
        jax.tree.map(lambda leaf: leaf[:, begin:end], sample)  # noqa: B023 (used at once)
        for begin, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _parts(parameters: PyTree, *, by_array: bool) -> dict[str, slice]:
    """Where in `_vector` of the gradient each group's numbers are."""
    parts, start = {WHOLE: slice(None)}, 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        name = jax.tree_util.keystr(path[1:] if by_array else path[1:2], simple=True, separator=".")
        end = start + leaf.size * (2 if jnp.iscomplexobj(leaf) else 1)
        parts[name] = slice(parts[name].start if name in parts else start, end)
        start = end
    return parts


def _vector(gradient: PyTree) -> np.ndarray:
    """All numbers of a gradient in a row; a complex one is two."""
    flat = []
    for leaf in map(np.asarray, jax.tree.leaves(gradient)):
        flat += [np.real(leaf).ravel(), np.imag(leaf).ravel()] if np.iscomplexobj(leaf) else [leaf.ravel()]
    return np.concatenate(flat).astype(np.float64)
