"""What the bridges to River and scikit-learn share: a learner of a shape, compiled once for all models that have it."""

import functools
import operator
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from onward import losses
from onward.algorithms import RTRL, Algorithm, Carry, SnAp
from onward.learner import Known, Learner, LearnerState
from onward.network import INPUT, Network
from onward.normalisation import denormalise, normalise
from onward.prequential import WIDEST

FEATURES, LABELS = 16, 8  # the least room for features, and for labels
CLIP = 1.0  # norm that gradients are cut to


@dataclass(frozen=True)
class Settings:
    """What decides the shape of a learner, and so what is compiled; seeds and learning rates do not.

    `features`, `outputs`: capacities. `labels`: whether outputs are the logits of labels, else numbers.
    """

    units: int
    cell: str | Callable[..., Any]
    algorithm: Algorithm | str | None
    window: int
    normalize: bool
    labels: bool = False
    horizons: tuple[int, ...] = (0,)
    features: int = FEATURES
    outputs: int = 1


class Rate(NamedTuple):
    """The learning rate as part of the optimizer's state, so that another one is no other program."""

    value: Float[Array, ""]


class Engine:
    """A `Learner` of some settings, without any data of a stream: that is in the states it hands out.

    Its network is a recurrent layer, and a map of one hidden layer with a linear one beside it:

        s_t = cell(s_{t-1}, x_t),   y_t = A tanh(B [s_t; x_t] + b) + C [s_t; x_t] + c              (1)

    with A, C and c zero at first, so that a new model predicts the running mean, and all labels alike.
    """

    def __init__(self, settings: Settings):
        cell = make_cell(settings.cell)
        self._build = eqx.filter_jit(lambda key: _network(settings, cell, key))
        try:
            network = self._build(jax.random.key(0))
        except (TypeError, ValueError) as error:
            raise ValueError(f"`cell` = {settings.cell!r} cannot be built: {error}") from error
        target = np.full((1, 2), -1, np.int32) if settings.labels else None
        self.settings = settings
        self.learner = Learner(
            network,
            label_loss if settings.labels else losses.squared_error,
            make_algorithm(settings.algorithm, network),
            _optimizer(),
            settings.window,
            horizon=settings.horizons,
            normalize=settings.normalize,
            target=target,
        )
        self._like = jax.eval_shape(self.learner.init)
        self.dtype = np.dtype(jnp.result_type(float))
        _, self._static = eqx.partition(network, eqx.is_inexact_array)
        self._unroll = jax.jit(self._answer)

    def begin(self, seed: int, learning_rate: float) -> LearnerState:
        """The state before the first sample."""
        key = jax.random.key(seed)
        known = self.learner.unpack(self.learner.init(jax.random.fold_in(key, 1)))
        parameters = eqx.filter(self._build(key), eqx.is_inexact_array)
        return self.at_rate(self.learner.pack(known._replace(parameters=parameters)), learning_rate)

    def at_rate(self, state: LearnerState, learning_rate: float) -> LearnerState:
        """The same state, which learns at another rate from now on."""
        known = self.learner.unpack(state)
        rate = Rate(jnp.asarray(learning_rate, self.dtype))
        return self.learner.pack(known._replace(optimizer=(*known.optimizer[:-1], rate)))

    def take_over(self, other: "Engine", state: LearnerState, seed: int, learning_rate: float) -> LearnerState:
        """The state of an engine with less room in this one's shapes.

        Parameters, the optimizer's moments and statistics fill the leading corner of their larger arrays. States of
        cells go on; the influence of parameters on them, whose shape is the algorithm's affair, starts anew.
        """
        old, new = other.learner.unpack(state), self.learner.unpack(self.begin(seed, learning_rate))
        parts = {name: _placed(getattr(old, name), getattr(new, name)) for name in Known._fields if name != "carry"}
        return self.learner.pack(Known(carry=Carry(old.carry.states, new.carry.memory), **parts))

    def thaw(self, arrays: tuple[np.ndarray, ...]) -> LearnerState:
        """The inverse of `freeze`."""
        pairs = zip(arrays, self._like.arrays, strict=True)
        return LearnerState(tuple(jnp.asarray(array, leaf.dtype) for array, leaf in pairs))

    def unroll(self, state: LearnerState, X: np.ndarray) -> np.ndarray:
        """What the network as it is answers to whole sequences from its initial state; nothing is learnt.

        **Shapes.** X [sequences, time, features] -> [sequences, time, outputs]. Lengths and numbers of sequences are
        filled up to powers of two, of which each is compiled once.
        """
        known = self.learner.unpack(state)
        inputs, targets = jax.tree.map(lambda leaf: leaf[0], (known.inputs, known.targets))
        X = filled(X, np.zeros(X.shape[-1]) if inputs is None else np.asarray(inputs.mean))
        sequences, time, _ = X.shape
        room = [(0, power(size, least) - size) for size, least in ((sequences, 1), (time, 64))]
        X = np.pad(X, (*room, (0, 0))).astype(self.dtype)
        return np.asarray(self._unroll(known.parameters, inputs, targets, X))[:sequences, :time]

    def _answer(self, parameters, inputs, targets, X):
        if inputs is not None:
            X = jnp.clip(normalise(inputs, X), -WIDEST, WIDEST)
        outputs = jax.vmap(eqx.combine(parameters, self._static).unroll)(X)
        return outputs if targets is None else denormalise(targets, outputs)


def engine_of(settings: Settings) -> Engine:
    """The engine of `settings`, which all models of these settings share."""
    return _engine_of(settings, jnp.result_type(float).name)


@functools.lru_cache(maxsize=128)
def _engine_of(settings, dtype):
    del dtype  # programs for float32 and float64 are different ones
    return Engine(settings)


def freeze(state: LearnerState) -> tuple[np.ndarray, ...]:
    """A state as NumPy arrays, which can be pickled."""
    return tuple(np.asarray(leaf) for leaf in state.arrays)


def label_loss(output: Float[Array, " room"], target: Int[Array, "1 2"]) -> Float[Array, ""]:
    """Cross-entropy in nats; `target` is the label's number and how many labels there are, the rest is room."""
    label, count = target[0]
    known = jnp.arange(output.shape[0]) < count
    scores = jax.nn.log_softmax(jnp.where(known, output, jnp.finfo(output.dtype).min / 2))
    return -scores[label]


def make_cell(cell: str | Callable[..., Any]) -> Callable[..., Any]:
    """What builds the cell, from a name as on the command line ("GRU", "leaky-rnn:leak=0.8") or from itself."""
    if not isinstance(cell, str):
        if not callable(cell):
            raise TypeError(f"`cell` must be a name such as 'GRU', or a cell class, got {cell!r}")
        return cell
    from onward.cli.errors import UsageError
    from onward.cli.registry import CELLS
    from onward.cli.specs import choose, options_of, parse

    try:
        spec = parse(cell, "cell")
        kind = choose(spec, CELLS, "cell")
        return functools.partial(kind, **options_of(kind, spec, "cell"))
    except UsageError as error:
        raise ValueError(f"`cell`: {error}") from None


def make_algorithm(algorithm: Algorithm | str | None, network: Network) -> Algorithm:
    """An algorithm from its name or from itself; None: exact where that is cheap, else `SnAp(1)`."""
    if algorithm is None:
        cheap = all(network.nodes[name].recurrence == "diagonal" for name in network.recurrent_names)
        return RTRL() if cheap else SnAp(1)
    if isinstance(algorithm, Algorithm):
        return algorithm
    if not isinstance(algorithm, str):
        raise TypeError(f"`algorithm` must be an onward.Algorithm, a name such as 'rtrl', or None, got {algorithm!r}")
    from onward.cli.errors import UsageError
    from onward.cli.registry import make_algorithm as make

    try:
        choice = make(algorithm)
    except UsageError as error:
        raise ValueError(f"`algorithm`: {error}") from None
    if choice.window is not None:
        raise ValueError(f"`algorithm` = {algorithm!r} has a window after @; give it as `window` instead")
    return choice.algorithm


def whole(name: str, value: Any, least: int) -> int:
    """`value` as an `int`, if it is a whole number of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"`{name}` must be an integer of {least} or more, got {value!r}")
    return number


def positive(name: str, value: Any) -> float:
    """`value` as a `float`, if it is a finite number above 0."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not 0 < value < np.inf:
        raise ValueError(f"`{name}` must be a finite number above 0, got {value!r}")
    return float(value)


def seed_of(seed: int | None) -> int:
    """`seed`, or one drawn by chance where it is None."""
    return secrets.randbits(31) if seed is None else seed


def power(size: int, least: int) -> int:
    """The power of two (times `least`) that has room for `size`."""
    while least < size:
        least *= 2
    return least


def filled(X: np.ndarray, first: np.ndarray) -> np.ndarray:
    """`X` [..., time, features] with the last known value where there is none, at first `first` [features]."""
    time = np.arange(X.shape[-2])[:, None]
    last = np.maximum.accumulate(np.where(np.isfinite(X), time, -1), axis=-2)
    return np.where(last < 0, first, np.take_along_axis(X, np.maximum(last, 0), axis=-2))


def _network(settings, cell, key):
    first, second, third = jax.random.split(key, 3)
    layer = cell(settings.features, settings.units, key=first)
    width = layer.output_size + settings.features
    hidden = eqx.nn.Linear(width, settings.units, key=second)
    out = eqx.nn.Linear(settings.units + width, settings.outputs * len(settings.horizons), key=third)
    out = eqx.tree_at(lambda m: (m.weight, m.bias), out, replace_fn=jnp.zeros_like)
    # What reads the input has it last, so that room for more features is at the end of its weights.
    nodes = {"cell": layer, "hidden": hidden, "tanh": eqx.nn.Lambda(jnp.tanh), "readout": out}
    reads = {"cell": (INPUT,), "hidden": ("cell", INPUT), "tanh": ("hidden",), "readout": ("tanh", "cell", INPUT)}
    return Network(nodes, reads, "readout")


def _optimizer():
    def descend(updates: Any, state: Any, params: Any = None) -> Any:
        del params
        return jax.tree.map(lambda g: -state.value * g, updates), state

    rate = optax.GradientTransformation(lambda params: Rate(jnp.ones(())), descend)
    return optax.chain(optax.clip_by_global_norm(CLIP), optax.scale_by_adam(), rate)


def _placed(old, new):
    """The arrays of `old` in the leading corners of those of `new`; in NumPy, which has nothing to compile."""
    leaves, tree = jax.tree.flatten(new)
    placed = []
    for small, large in zip(jax.tree.leaves(old), map(np.array, leaves), strict=True):
        large[tuple(map(slice, small.shape))] = small
        placed.append(jnp.asarray(large))
    return jax.tree.unflatten(tree, placed)
