"""A recurrent network that learns from a stream that never ends: one sample after another, in constant memory."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Int, PyTree

from onward import checkpoint as checkpoints
from onward import losses, pending
from onward.algorithms import Algorithm
from onward.algorithms.windows import restarted
from onward.network import Network
from onward.normalisation import Statistics, denormalise, no_statistics, normalise, observe
from onward.packing import Packing
from onward.pending import Samples
from onward.sample import Sample
from onward.update import Progress, make_descent

WIDEST = 10.0  # standard deviations from the mean, to which normalised inputs are cut


class LearnerState(NamedTuple):
    """All that a learner knows, as a flat tuple of arrays, which costs least to hand over; `Learner.unpack` names them."""

    arrays: tuple[Array, ...]


class Known(NamedTuple):
    """What a `LearnerState` consists of.

    `samples`: how many were learnt from or waited for. `refused`: updates that were not finite, and were not made.
    `live`: states of all cells now, where learning lags behind (a horizon, or windows that are not full); else None.
    `waiting`: the samples in between. `seen`: each feature's last known value. The rest is as its name says.
    """

    parameters: PyTree
    optimizer: PyTree
    carry: PyTree
    live: PyTree
    waiting: Samples | None
    seen: Array | None
    inputs: Statistics | None
    targets: Statistics | None
    samples: Int[Array, ""]
    refused: Int[Array, ""]


class Learner:
    """Predicts and learns, sample by sample: a network, a loss, an algorithm and an optimizer on a stream.

    At step t the input x_t and the target y_t arrive together. With `horizon` 0 the network answers x_t, and y_t says
    what that answer should have been. With horizon h the answer to x_t is a forecast of y_{t+h}: learning runs h
    steps behind the present, on the pair (x_{t-h}, y_t), with an influence of its own time, while predictions come from
    states that are up to date. `window` = k updates after every k samples, from the gradient of the window.

    **Arguments.** `network`, `loss(output, target)` -> scalar, `algorithm`, `optimizer` (any of Optax's).
    `window`: samples from one update to the next. `horizon`: steps ahead, or several, whose forecasts stand side by side
    in the output. `normalize`: inputs, and targets that are not labels, are put into standard deviations from their
    running means (`memory` samples long), inputs cut at 10 of them; predictions come back in the target's own units.
    `batch`: so many parallel streams, which share one network; every sample then has a leading axis. `target`: an
    example of one target, where it is neither a vector of the network's outputs nor a label for `cross_entropy`.
    **Missing values.** A feature that is NaN or infinite takes its last known value, at first its mean (0 where
    nothing is normalised). The parts of a target that are NaN, a label that is negative, or a target that is None have
    no loss; an update from no loss at all is not made.
    **Episodes.** `reset=True` says that a sample is the first of a new episode: states and influence start anew, and no
    target is taken across the boundary. Parameters and statistics live on.
    **Safety.** An update that is not finite is refused, influence and states start anew, and it is counted.
    **Purity.** Methods change nothing: a state goes in, a state comes out. Each is compiled once per shape.
    **Raises.** `ValueError` or `TypeError` where sizes and types do not fit, naming the argument.
    **Example.**

        >>> import jax, onward as ow, optax
        >>> net = ow.stack(ow.cells.GRU(2, 8, key=jax.random.key(0)), readout=eqx.nn.Linear(8, 1, key=jax.random.key(1)))
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
        _check(network, loss, algorithm, optimizer, window=window, horizons=horizons, memory=memory, batch=batch)
        algorithm.check(network)
        self.network, self.loss, self.algorithm, self.optimizer = network, loss, algorithm, optimizer
        self.window, self.horizons, self.memory, self.batch, self.seed = window, horizons, memory, batch, seed
        self.lag = max(horizons)
        self._parameters, self._static = eqx.partition(network, eqx.is_inexact_array)
        leaves = jax.tree.leaves(self._parameters)
        self._dtype = jnp.result_type(*leaves) if leaves else jnp.result_type(float)
        self._lead = () if batch is None else (batch,)
        self._like = self._example(target)
        self.normalize = normalize and not network.reads_integers
        self.scales_targets = normalize and jnp.issubdtype(self._like.target.dtype, jnp.inexact)
        self._descend = make_descent(algorithm, optimizer)
        self._asked = pending.loss_of_known(loss)
        self._shapes = jax.eval_shape(self._start, jax.random.key(0))
        self._packing = Packing(self._shapes)
        self._apart = jax.jit(self._packing.unpack)
        self._begin = jax.jit(lambda key: self._packed(self._start(key)))
        self._answer = jax.jit(self._predict)
        self._one = jax.jit(lambda state, sample: self._learn_one(state, sample)[0])
        self._one_with_answer = jax.jit(self._learn_one)
        self._many = jax.jit(self._run)
        self._nothing = jax.tree.map(jnp.asarray, (np.zeros(self._lead, bool), np.ones(self._lead, self._dtype)))
        self._unknown = jnp.full(*_missing(self._like.target, self._lead))

    def init(self, key: Array | None = None) -> LearnerState:
        """The state before the first sample; `key` is for algorithms that draw at random (default: by `seed`)."""
        return self._begin(jax.random.key(self.seed) if key is None else key)

    def predict(self, state: LearnerState, x: Any, *, reset: Any = None) -> Array:
        """What the network answers to `x` now, in the target's units; `state` stays as it is.

        **Shapes.** x [features] -> [outputs], or [batch, features] -> [batch, outputs] for parallel streams.
        """
        return self._answer(state, self._checked("x", x, self._like.input), self._flag(reset))

    def learn(
        self, state: LearnerState, x: Any, y: Any = None, *, reset: Any = None, weight: Any = None
    ) -> LearnerState:
        """The state after the sample (x, y); `weight` multiplies its loss."""
        return self._one(state, self._sample(x, y, reset, weight))

    def run(self, state: LearnerState, chunk: Sample) -> tuple[LearnerState, Array]:
        """Many samples at once: the state after them, and the prediction for each as it was made before learning it.

        **Shapes.** Leaves of `chunk` [time, ...], or [batch, time, ...] for parallel streams; predictions alike. It is
        what `predict` and `learn` give one by one, for a fraction of the time. Each length is compiled once; where
        windows are longer than a sample, best are multiples of them.
        """
        chunk, length = self._checked_chunk(chunk)
        if self.window == 1:
            return self._many(state, chunk)
        axis = len(self._lead)
        done = int(self.unpack(state).samples) - self.lag
        head = min(-done % self.window, length)
        body = (length - head) // self.window * self.window
        cut = lambda start, stop: jax.tree.map(lambda leaf: lax.slice_in_dim(leaf, start, stop, axis=axis), chunk)  # noqa: E731
        outputs = []
        for start, stop in ((0, head), (head, head + body), (head + body, length)):
            if start == head and body:
                state, output = self._many(state, cut(start, stop))
                outputs.append(output)
                continue
            for step in range(start, stop):
                state, output = self._one_with_answer(
                    state, jax.tree.map(lambda leaf: jnp.take(leaf, step, axis), chunk)
                )
                outputs.append(jnp.expand_dims(output, axis))
        return state, jnp.concatenate(outputs, axis=axis)

    def unpack(self, state: LearnerState) -> Known:
        """The arrays of `state` by name; those of streams have a leading axis, of 1 where there is no `batch`."""
        return self._apart(state.arrays)

    def pack(self, known: Known) -> LearnerState:
        """The inverse of `unpack`."""
        return self._packed(known)

    def network_of(self, state: LearnerState) -> Network:
        """The network as it is now."""
        return eqx.combine(self.unpack(state).parameters, self._static)

    def save(self, path: str | os.PathLike, state: LearnerState, *, config: Any = None, **header: Any) -> None:
        """Write `state` to one file, atomically; `config` and `header` are what JSON can say, and come back."""
        known = self.unpack(state)
        checkpoints.save(path, known._asdict(), config=config, step=int(known.samples), **header)

    def load(self, path: str | os.PathLike) -> tuple[LearnerState, dict[str, Any]]:
        """The state in a file, and its header. **Raises.** `CheckpointError`, in one sentence, where it does not fit."""
        tree, header = checkpoints.load(path, self._shapes._asdict())
        return self._packed(jax.tree.map(jnp.asarray, Known(**tree))), header

    # What follows is traced: every leaf has a leading axis of streams, and samples one of time after it.

    def _example(self, target):
        """One sample without a leading axis, of zeros."""
        size = self.network.input_size
        if self.network.reads_integers:
            input = jnp.int32(0)
        elif size is None:
            raise ValueError("the network does not say how many features it reads; build it with `input_size=`")
        else:
            input = jnp.zeros(size, self._dtype)
        if target is None and self.loss is losses.cross_entropy:
            target = jnp.int32(0)
        elif target is None:
            width, rest = divmod(self.network.output_size or 0, len(self.horizons))
            if not width or rest:
                raise ValueError(
                    f"`horizon` has {len(self.horizons)} steps, which the network's {self.network.output_size} outputs "
                    "cannot be shared among; give it a multiple, or say `target=` (an example of one)"
                )
            target = jnp.zeros(width, self._dtype)
        target = jnp.asarray(target)
        if jnp.issubdtype(target.dtype, jnp.inexact):
            target = target.astype(self._dtype)
        if len(self.horizons) > 1 and target.ndim != 1:
            raise ValueError(f"`target` must be a vector where there are several horizons, got shape {target.shape}")
        return Samples(input, jnp.zeros_like(target), jnp.ones((), self._dtype), jnp.zeros((), bool))

    def _start(self, key):
        streams = self.batch or 1
        carry = self.algorithm.init(self.network, key=key, batch=streams)
        like = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (streams, *leaf.shape)), self._like)
        late = self.lag + self.window - 1
        floats = not self.network.reads_integers
        return Known(
            parameters=self._parameters,
            optimizer=self.optimizer.init(self._parameters),
            carry=carry,
            live=carry.states if late else None,
            waiting=pending.nothing(like, late) if late else None,
            seen=like.input if floats else None,
            inputs=no_statistics(like.input) if self.normalize else None,
            targets=no_statistics(like.target) if self.scales_targets else None,
            samples=jnp.int32(0),
            refused=jnp.int32(0),
        )

    def _packed(self, known):
        return LearnerState(self._packing.pack(known))

    def _led(self, tree):
        """With an axis of streams."""
        return jax.tree.map(lambda leaf: leaf[None], tree) if self.batch is None else tree

    def _unled(self, leaf):
        return leaf[0] if self.batch is None else leaf

    def _predict(self, state, x, reset):
        known = self.unpack(state)
        x, reset = self._led((x, reset))
        _, (x, _, _) = self._see((known.seen, known.inputs, None), (x, None))
        states = known.carry.states if known.live is None else known.live
        _, output = self._step(eqx.combine(known.parameters, self._static), states, (x, reset))
        return self._unled(self._in_units(known.targets, output))

    def _learn_one(self, state, sample):
        samples = jax.tree.map(lambda leaf: leaf[:, None], self._led(Samples(*sample)))
        known, output = self._advance(self.unpack(state), samples)
        return self._packed(known), self._unled(output[:, 0])

    def _run(self, state, chunk):
        samples = self._led(Samples(*chunk))
        blocks = lambda leaf: leaf.reshape(leaf.shape[0], -1, self.window, *leaf.shape[2:]).swapaxes(0, 1)  # noqa: E731
        known, outputs = lax.scan(self._advance, self.unpack(state), jax.tree.map(blocks, samples))
        outputs = outputs.swapaxes(0, 1)
        return self._packed(known), self._unled(outputs.reshape(outputs.shape[0], -1, *outputs.shape[3:]))

    def _advance(self, known: Known, new: Samples) -> tuple[Known, Array]:
        """After some new samples, with at most one update, at their end; and the predictions for them."""
        size = new.weight.shape[1]
        watched = known.seen, known.inputs, known.targets
        (seen, inputs, targets), (x, y, before) = _over_time(self._see, watched, (new.input, new.target))
        new, here = new._replace(input=x, target=y), known
        known = known._replace(seen=seen, inputs=inputs, targets=targets, samples=known.samples + size)
        waiting = new if known.waiting is None else pending.join(known.waiting, new)
        known = known._replace(waiting=None if known.waiting is None else pending.last(waiting, self._late))
        piece = pending.window(
            pending.last(waiting, self.lag + self.window), self.window, self.horizons, self.algorithm.episodes
        )
        if self.lag == 0 and size == self.window:  # what is learnt from is what is predicted
            known, output = self._update(known, piece)
            known = known._replace(live=None if known.live is None else known.carry.states)
        else:
            network = eqx.combine(here.parameters, self._static)
            live, output = _over_time(lambda s, at: self._step(network, s, at), here.live, (x, new.reset))
            known = known._replace(live=self._finite_or_first(live))
            ready = known.samples - self.lag
            due = (ready >= self.window) & (ready % self.window == 0)
            known = lax.cond(due, lambda known: self._update(known, piece)[0], lambda known: known, known)
        return known, self._in_units(before, output)

    def _see(self, watched, sample):
        """Statistics after one sample; it, filled and in standard deviations; and the targets' statistics before it."""
        (seen, inputs, targets), (x, y) = watched, sample
        before = targets
        if inputs is not None:
            inputs = observe(inputs, x, self.memory)
        if seen is not None:
            seen = x = jnp.where(jnp.isfinite(x), x, seen)
        if inputs is not None:
            x = jnp.clip(normalise(inputs, x), -WIDEST, WIDEST)
        if targets is not None:
            targets = observe(targets, y, self.memory)
            y = normalise(targets, y)
        return (seen, inputs, targets), (x, y, before)

    def _step(self, network, states, at):
        """One step of every stream: states and outputs."""
        input, reset = at
        return jax.vmap(network.step)(jax.vmap(network.begin)(states, reset), input)

    def _in_units(self, statistics, output):
        """Predictions in the units of the target."""
        if statistics is None:
            return output
        wide = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * len(self.horizons), axis=-1), statistics)
        return denormalise(wide, output)

    def _update(self, known: Known, piece: Sample) -> tuple[Known, Array]:
        """One window learnt from, unless that gives what is not finite; and its outputs."""
        old = Progress(known.parameters, known.optimizer, known.carry)
        new, estimate, gradient = self._descend(old, self._static, self._asked, piece)
        size = estimate.loss + sum(jnp.real(jnp.vdot(leaf, leaf)) for leaf in jax.tree.leaves((gradient, new.carry.states)))
        # The barrier has compilers work these out once, and not again for every array that depends on them.
        fine, made = lax.optimization_barrier((jnp.isfinite(size), jnp.isfinite(size) & jnp.any(piece.weight != 0)))
        choose = lambda a, b: jax.tree.map(lambda after, before: jnp.where(made, after, before), a, b)  # noqa: E731
        # A loop of at most one turn: a conditional, or a choice, would copy the influence at every step.
        carry = lax.fori_loop(
            0, (~fine).astype(int), lambda _, carry: self._restarted(known.parameters, carry), new.carry
        )
        known = known._replace(
            parameters=choose(new.parameters, old.parameters),
            optimizer=choose(new.optimizer, old.optimizer),
            carry=carry,
            refused=known.refused + ~fine,
        )
        return known, estimate.output

    def _restarted(self, parameters, carry):
        network = eqx.combine(parameters, self._static).effective()
        return restarted(self.algorithm, network, carry, jnp.ones(self.batch or 1, bool))

    def _finite_or_first(self, states):
        first = self.network.initial_state()
        return jax.tree.map(
            lambda leaf, start: jnp.where(_finite(states), leaf, start.astype(leaf.dtype)), states, first
        )

    @property
    def _late(self):
        return self.lag + self.window - 1

    # What follows looks at what the caller gives.

    def _checked(self, name, value, like):
        shape = (*self._lead, *like.shape)
        if getattr(value, "dtype", None) == like.dtype and np.shape(value) == shape:
            return value
        return _converted(name, value, like.dtype, shape)

    def _flag(self, reset):
        if reset is None:
            return self._nothing[0]
        if not self.algorithm.episodes and not isinstance(reset, jax.core.Tracer) and np.any(reset):
            raise ValueError(
                f"`reset`: {type(self.algorithm).__name__} cannot begin an episode inside a window; use BPTT or an online "
                "algorithm, or start each episode from `init()` with the parameters kept"
            )
        return _converted("reset", reset, jnp.dtype(bool), self._lead)

    def _sample(self, x, y, reset, weight):
        return (
            self._checked("x", x, self._like.input),
            self._unknown if y is None else self._checked("y", y, self._like.target),
            self._nothing[1] if weight is None else _converted("weight", weight, self._dtype, self._lead),
            self._flag(reset),
        )

    def _checked_chunk(self, chunk):
        if not isinstance(chunk, Sample):
            raise TypeError(f"`chunk` must be an onward.Sample(input, target, weight), got {type(chunk).__name__}")
        axis, shape = len(self._lead), np.shape(chunk.weight)
        if len(shape) != axis + 1 or shape[:axis] != self._lead or not shape[-1]:
            wanted = "[time]" if self.batch is None else f"[{self.batch}, time]"
            raise ValueError(f"`chunk.weight` must have shape {wanted} with at least one step, got {shape}")
        reset = np.zeros(shape, bool) if chunk.reset is None else chunk.reset
        self._flag(None if chunk.reset is None else np.any(reset, axis=-1))
        parts = zip(Samples._fields, (chunk.input, chunk.target, chunk.weight, reset), self._like, strict=True)
        return tuple(_converted(f"chunk.{n}", v, e.dtype, (*shape, *e.shape)) for n, v, e in parts), shape[-1]


def _check(network, loss, algorithm, optimizer, *, window, horizons, memory, batch):
    for name, value, kind in (
        ("network", network, Network),
        ("algorithm", algorithm, Algorithm),
        ("optimizer", optimizer, optax.GradientTransformation),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"`{name}` must be of type {kind.__name__}, got {value!r}")
    if not callable(loss):
        raise TypeError(f"`loss` must be a function of one step's output and target, got {loss!r}")
    whole = lambda value, least: isinstance(value, int) and not isinstance(value, bool) and value >= least  # noqa: E731
    for name, value in (("window", window), ("memory", memory), ("batch", 1 if batch is None else batch)):
        if not whole(value, 1):
            raise ValueError(f"`{name}` must be a positive integer, got {value!r}")
    if not horizons or not all(whole(ahead, 0) for ahead in horizons) or len(set(horizons)) < len(horizons):
        raise ValueError(f"`horizon` must be an integer of 0 or more, or several different ones, got {horizons!r}")


def _converted(name, value, dtype, shape):
    """`value` as an array of `dtype` and `shape`, or one sentence about why it is none."""
    if isinstance(value, jax.Array):
        array = value
    else:
        try:
            array = np.asarray(value)
        except ValueError:
            raise ValueError(f"`{name}` is ragged; give it shape {shape}") from None
    number = jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool
    whole = jnp.issubdtype(dtype, jnp.integer) or dtype == bool
    if not number or (whole and jnp.issubdtype(array.dtype, jnp.inexact)):
        raise TypeError(f"`{name}` must hold numbers of type {jnp.dtype(dtype).name}, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"`{name}` must have shape {shape}, got {array.shape}")
    return array.astype(dtype)


def _missing(like, lead):
    """Shape, value and type of a target of which nothing is known."""
    return (*lead, *like.shape), jnp.nan if jnp.issubdtype(like.dtype, jnp.inexact) else -1, like.dtype


def _over_time(step, carry, inputs):
    """`lax.scan` along the second axis, without a loop where it has length 1."""
    if jax.tree.leaves(inputs)[0].shape[1] == 1:
        carry, outputs = step(carry, jax.tree.map(lambda leaf: leaf[:, 0], inputs))
        return carry, jax.tree.map(lambda leaf: leaf[:, None], outputs)
    swap = lambda tree: jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), tree)  # noqa: E731
    carry, outputs = lax.scan(step, carry, swap(inputs))
    return carry, swap(outputs)


def _finite(tree):
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
