"""A recurrent network that learns from a stream that never ends: one sample after another, in constant memory."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from onward import checkpoint as checkpoints
from onward.algorithms import Algorithm
from onward.learner_arguments import check_learner, converted, example, unknown
from onward.network import Network
from onward.packing import Packing
from onward.pending import Samples
from onward.prequential import Known, Prequential
from onward.sample import Sample


class LearnerState(NamedTuple):
    """All that a learner knows, in few arrays, which cost least to hand over; `Learner.unpack` gives them names."""

    arrays: tuple[Array, ...]


class Learner:
    """Predicts and learns, sample by sample: a network, a loss, an algorithm and an optimizer on a stream.

    At step t the input x_t and the target y_t arrive together. With `horizon` 0 the network answers x_t, and y_t says
    what that answer should have been. With horizon h the answer to x_t is a forecast of y_{t+h}: learning runs h
    steps behind the present, on the pair (x_{t-h}, y_t), with an influence of its own time, while predictions come from
    states that are up to date. `window` = k updates after every k samples, from the gradient of the window.

    **Arguments.** `network`, `loss(output, target)` -> scalar, `algorithm`, `optimizer` (any of Optax's).
    `window`: samples from one update to the next. `horizon`: steps ahead, or several of them, whose forecasts stand
    side by side in the output. `normalize`: inputs, and targets that are no labels, are put into standard deviations
    from their running means (`memory` samples long), inputs cut at 10 of them; predictions come back in the target's
    own units. `batch`: so many parallel streams, which share one network; every sample then has a leading axis.
    `target`: an example of one target, where it is neither a vector like the network's outputs nor a label for
    `cross_entropy`. `seed`: of algorithms that draw at random.
    **Missing values.** A feature that is NaN or infinite takes its last known value of the episode, at first its mean
    (0 where nothing is normalised). The parts of a target that are NaN (or all of it where it is not shaped as the
    output), a label that is negative, or a target that is None have no loss; an update from no loss is not made.
    **Episodes.** `reset=True` says that a sample is the first of a new episode: states and influence start anew, and no
    target is taken across the boundary. Parameters and statistics live on.
    **Safety.** An update that is not finite is refused and counted; influence and states start anew.
    **Purity.** Methods change nothing: a state goes in, a state comes out. Each is compiled once per shape.
    **Cost.** Memory: the algorithm's, and `horizon` + `window` samples. A step costs one window of the algorithm and,
    where learning lags behind, one more forward step.
    **Raises.** `ValueError` or `TypeError` where sizes and types do not fit, naming the argument.
    **Example.**

        >>> import equinox as eqx, jax, onward as ow, optax
        >>> keys = jax.random.split(jax.random.key(0))
        >>> net = ow.stack(ow.cells.GRU(2, 8, key=keys[0]), readout=eqx.nn.Linear(8, 1, key=keys[1]))
        >>> learner = Learner(net, ow.losses.squared_error, ow.EProp(), optax.adam(1e-2), horizon=1)
        >>> state = learner.init()
        >>> forecast = learner.predict(state, [0.1, 0.2])  # of the y that comes with the next sample
        >>> state = learner.learn(state, [0.1, 0.2], [0.3])
    """

    def __init__(
        self,
        network: Network,
        loss: Callable,
        algorithm: Algorithm,
        optimizer: optax.GradientTransformation,
        window: int = 1,
        *,
        horizon: int | Sequence[int] = 0,
        normalize: bool = False,
        memory: int = 10_000,
        batch: int | None = None,
        target: Any = None,
        seed: int = 0,
    ):
        horizons = tuple(horizon) if isinstance(horizon, Sequence) else (horizon,)
        check_learner(network, loss, algorithm, optimizer, window=window, horizons=horizons, memory=memory, batch=batch)
        self._like = example(network, loss, horizons, target)
        real = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in (self._like.input, self._like.target)]
        scaled = normalize and real[0], normalize and real[1]
        self._core = Prequential(
            network, loss, algorithm, optimizer, window, horizons, scaled, memory, batch or 1, self._like
        )
        self.network, self.loss, self.algorithm, self.optimizer = network, loss, algorithm, optimizer
        self.window, self.horizons, self.batch, self.seed = window, horizons, batch, seed
        self._lead = () if batch is None else (batch,)
        shape = lambda example: (*self._lead, *example.shape)  # noqa: E731
        self._defaults = Samples(
            input=None,
            target=jnp.full(shape(self._like.target), unknown(self._like.target.dtype), self._like.target.dtype),
            weight=jnp.ones(self._lead, self._like.weight.dtype),
            reset=jnp.zeros(self._lead, bool),
        )
        self._shapes = jax.eval_shape(self._core.start, jax.random.key(0))
        packing = self._packing = Packing(self._shapes)
        self._begin = jax.jit(lambda key: packing.pack(self._core.start(key)))
        self._apart, self._together = jax.jit(packing.unpack), jax.jit(packing.pack)
        self._answer, self._many = jax.jit(lambda *given: self._look(*given)[1]), jax.jit(self._run)
        self._see = jax.jit(lambda *given: self._look(*given)[0])
        self._both, self._one = jax.jit(self._learn), jax.jit(lambda arrays, sample: self._learn(arrays, sample)[0])

    def init(self, key: Array | None = None) -> LearnerState:
        """The state before the first sample; `key` is for algorithms that draw at random (default: by `seed`)."""
        return LearnerState(self._begin(jax.random.key(self.seed) if key is None else key))

    def predict(self, state: LearnerState, x: Any, *, reset: Any = None) -> Array:
        """What the network answers to `x` now, in the target's units; `state` stays as it is.

        **Shapes.** x [features] -> [outputs], or [batch, features] -> [batch, outputs] for parallel streams.
        """
        return self._answer(state.arrays, self._given("input", x), self._given("reset", reset))

    def look(self, state: LearnerState, x: Any, *, reset: Any = None) -> LearnerState:
        """The state that has seen `x` too, to look further ahead with `predict`: nothing is learnt or counted.

        The influence stays behind, so that learning goes on from `state` and not from what this returns.
        """
        return LearnerState(self._see(state.arrays, self._given("input", x), self._given("reset", reset)))

    def learn(
        self, state: LearnerState, x: Any, y: Any = None, *, reset: Any = None, weight: Any = None
    ) -> LearnerState:
        """The state after the sample (x, y); `weight` multiplies the loss of the answer to x, also where y is later."""
        return LearnerState(self._one(state.arrays, self._sample(x, y, reset, weight)))

    def run(self, state: LearnerState, chunk: Sample) -> tuple[LearnerState, Array]:
        """Many samples at once: the state after them, and the prediction for each as it was made before learning it.

        **Shapes.** Leaves of `chunk` [time, ...], or [batch, time, ...] for parallel streams; predictions alike. It is
        what `predict` and `learn` give one by one, for a fraction of the time. Each length is compiled once; where
        windows are longer than a sample, best are multiples of them.
        """
        parts, length = self._chunk(chunk)
        axis, size = len(self._lead), self.window
        arrays, outputs = state.arrays, []
        # A window that an earlier call began is filled sample by sample, and so is what is left over at the end.
        head = min((self._core.lag - int(self.unpack(state).samples)) % size, length) if size > 1 else 0
        body = (length - head) // size * size
        for start in (*range(head), *([head] if body else []), *range(head + body, length)):
            if start == head and body:
                piece = parts if body == length else _at(parts, axis, slice(head, head + body))
                arrays, output = self._many(arrays, piece)
            else:
                arrays, output = self._both(arrays, _at(parts, axis, start))
                output = np.expand_dims(output, axis)
            outputs.append(output)
        return LearnerState(arrays), outputs[0] if body == length else jnp.asarray(np.concatenate(outputs, axis=axis))

    def unpack(self, state: LearnerState) -> Known:
        """The arrays of `state` by name; those of streams have a leading axis, of 1 where there is no `batch`."""
        return self._apart(state.arrays)

    def pack(self, known: Known) -> LearnerState:
        """The inverse of `unpack`."""
        return LearnerState(self._together(known))

    def network_of(self, state: LearnerState) -> Network:
        """The network as it is now."""
        return eqx.combine(self.unpack(state).parameters, self.network)

    def save(self, path: str | os.PathLike, state: LearnerState, *, config: Any = None, **header: Any) -> None:
        """Write `state` to one file, atomically; `config` and `header` are what JSON can say, and come back."""
        known = self.unpack(state)
        checkpoints.save(path, known._asdict(), config=config, step=int(known.samples), **header)

    def load(self, path: str | os.PathLike) -> tuple[LearnerState, dict[str, Any]]:
        """The state in a file, and its header.

        **Raises.** `CheckpointError`, in one sentence, where the file is none, is damaged, or is of another learner.
        """
        tree, header = checkpoints.load(path, self._shapes._asdict())
        return self.pack(Known(**jax.tree.map(jnp.asarray, tree))), header

    def _look(self, arrays, x, reset):
        known, output = self._core.look(self._packing.unpack(arrays), *self._led((x, reset)))
        return self._packing.pack(known), self._unled(output)

    def _learn(self, arrays, sample):
        samples = jax.tree.map(lambda leaf: leaf[:, None], self._led(Samples(*sample)))
        known, output = self._core.advance(self._packing.unpack(arrays), samples)
        return self._packing.pack(known), self._unled(output[:, 0])

    def _run(self, arrays, chunk):
        known, outputs = self._core.run(self._packing.unpack(arrays), self._led(Samples(*chunk)))
        return self._packing.pack(known), self._unled(outputs)

    def _led(self, tree):
        """With an axis of streams."""
        return jax.tree.map(lambda leaf: leaf[None], tree) if self.batch is None else tree

    def _unled(self, leaf):
        return leaf[0] if self.batch is None else leaf

    def _sample(self, x, y, reset, weight):
        fields = zip(Samples._fields, (x, y, weight, reset), strict=True)
        return tuple(self._given(name, value) for name, value in fields)

    def _given(self, field, value, time=()):
        """One of a sample's parts, or of a chunk's with the axis `time`, checked; or what stands for it."""
        like = getattr(self._like, field)
        shape = (*self._lead, *time, *like.shape)
        if value is None and field != "input":
            default = getattr(self._defaults, field)
            return np.full(shape, np.ravel(default)[0]) if time else default
        if field == "reset" and not self.algorithm.episodes:
            raise ValueError(
                f"`reset`: {type(self.algorithm).__name__} cannot begin an episode inside a window; use an "
                "online algorithm or BPTT, or go on from `init()` with the parameters of the old state"
            )
        # What fits already, which is the usual case, costs no conversion.
        if getattr(value, "dtype", None) == like.dtype and getattr(value, "shape", None) == shape:
            return value
        name = {"input": "x", "target": "y"}.get(field, field)
        return converted(f"chunk.{field}" if time else name, value, like.dtype, shape)

    def _chunk(self, chunk):
        if not isinstance(chunk, Sample):
            raise TypeError(f"`chunk` must be an onward.Sample(input, target, weight), got {type(chunk).__name__}")
        axis, shape = len(self._lead), np.shape(chunk.weight)
        if len(shape) != axis + 1 or shape[:axis] != self._lead or not shape[-1]:
            wanted = "[time]" if self.batch is None else f"[{self.batch}, time]"
            raise ValueError(f"`chunk.weight` must have shape {wanted} with at least one step, got {shape}")
        parts = tuple(self._given(name, getattr(chunk, name), shape[-1:]) for name in Samples._fields)
        return parts, shape[-1]


def _at(parts, axis, place):
    """The steps `place` of a chunk, cut by NumPy: JAX would compile a program for every place."""
    index = (slice(None),) * axis + (place,)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], parts)
