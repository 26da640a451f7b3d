"""Learning from a stream, traced: what one or several samples change. Every leaf has a leading axis of streams."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Int, PyTree

from onward import pending
from onward.algorithms import Algorithm, Carry
from onward.algorithms.windows import restarted
from onward.network import Network
from onward.normalisation import Statistics, denormalise, no_statistics, normalise, observe
from onward.pending import Samples
from onward.sample import Sample
from onward.update import Progress, make_descent

WIDEST = 10.0  # standard deviations from the mean, to which normalised inputs are cut


class Known(NamedTuple):
    """All that a learner knows.

    `samples`: how many were learnt from or waited for; from 2^30 on less whole windows.
    `refused`: updates that were not finite, and were not made.
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


@dataclass(frozen=True)
class Prequential:
    """Predict, then learn, sample by sample; the arguments are those of `onward.Learner`.

    `like`: one sample of zeros, without an axis of streams. `normalize`: whether inputs, and whether targets are put
    into standard deviations.
    """

    network: Network
    loss: Callable
    algorithm: Algorithm
    optimizer: optax.GradientTransformation
    window: int
    horizons: tuple[int, ...]
    normalize: tuple[bool, bool]
    memory: int
    streams: int
    like: Samples

    def __post_init__(self):
        self.algorithm.check(self.network)

    @property
    def lag(self) -> int:
        """Samples from an input to the last of its targets."""
        return max(self.horizons)

    @property
    def late(self) -> int:
        """Samples that wait to be learnt from, at most."""
        return self.lag + self.window - 1

    def start(self, key: Array) -> Known:
        """Before the first sample."""
        carry = self.algorithm.init(self.network, key=key, batch=self.streams)
        like = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.streams, *leaf.shape)), self.like)
        floats = not self.network.reads_integers
        return Known(
            parameters=self._learnt[0],
            optimizer=self.optimizer.init(self._learnt[0]),
            carry=carry,
            live=carry.states if self.late else None,
            waiting=pending.nothing(like, self.late) if self.late else None,
            seen=like.input if floats else None,
            inputs=no_statistics(like.input) if self.normalize[0] else None,
            targets=no_statistics(like.target) if self.normalize[1] else None,
            samples=jnp.int32(0),
            refused=jnp.int32(0),
        )

    def look(self, known: Known, x: PyTree, reset: Array) -> tuple[Known, Array]:
        """What the network answers to `x` now; and `known` with the states after it, though nothing is learnt of it."""
        (seen, _, _), (x, _, _) = self._see((known.seen, known.inputs, None), (x, None, reset))
        states = known.carry.states if known.live is None else known.live
        states, output = self._step(self._network(known), states, (x, reset))
        after = known._replace(seen=seen)
        if known.live is None:
            after = after._replace(carry=Carry(states, known.carry.memory))
        else:
            after = after._replace(live=states)
        return after, self._in_units(known.targets, output)

    def run(self, known: Known, samples: Samples) -> tuple[Known, Array]:
        """After a whole number of windows, which begin where one begins; and the predictions for them."""
        blocks = lambda leaf: leaf.reshape(leaf.shape[0], -1, self.window, *leaf.shape[2:]).swapaxes(0, 1)  # noqa: E731
        known, outputs = lax.scan(self.advance, known, jax.tree.map(blocks, samples))
        outputs = outputs.swapaxes(0, 1)
        return known, outputs.reshape(outputs.shape[0], -1, *outputs.shape[3:])

    def advance(self, known: Known, new: Samples) -> tuple[Known, Array]:
        """After some new samples, with at most one update, at their end; and the predictions for them."""
        size = new.weight.shape[1]
        watched = known.seen, known.inputs, known.targets
        (seen, inputs, targets), (x, y, before) = _over_time(self._see, watched, (new.input, new.target, new.reset))
        new, here = new._replace(input=x, target=y), known
        count = self._bounded_count(known.samples + size)
        known = known._replace(seen=seen, inputs=inputs, targets=targets, samples=count)
        waiting = new if known.waiting is None else pending.join(known.waiting, new)
        known = known._replace(waiting=None if known.waiting is None else pending.last(waiting, self.late))
        piece = pending.window(
            pending.last(waiting, self.lag + self.window),
            self.window,
            self.horizons,
            self.algorithm.episodes,
            self._apart,
        )
        if self.lag == 0 and size == self.window:  # what is learnt from is what is predicted
            known, output = self._update(known, piece)
            known = known._replace(live=None if known.live is None else known.carry.states)
        else:
            network = self._network(here)
            live, output = _over_time(lambda s, at: self._step(network, s, at), here.live, (x, new.reset))
            known = known._replace(live=self._finite_or_first(live))
            ready = known.samples - self.lag
            due = (ready >= self.window) & (ready % self.window == 0)
            known = lax.cond(due, lambda known: self._updated(known, piece), lambda known: known, known)
        return known, self._in_units(before, output)

    def _bounded_count(self, samples):
        """A number that is as good, since all that is asked of it is its place in a window, and never overflows."""
        turn = 2**30 // self.window * self.window
        return jnp.where(samples >= turn + self.late + 1, samples - turn, samples)

    def _see(self, watched, sample):
        """Statistics after one sample; it, filled and in standard deviations; and the targets' statistics before it."""
        (seen, inputs, targets), (x, y, reset) = watched, sample
        before = targets
        if seen is not None:
            mean = jnp.zeros_like(seen) if inputs is None else inputs.mean
            seen = jnp.where(reset[:, None], mean, seen)
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
        new, estimate, gradient = make_descent(self.algorithm, self.optimizer)(
            old, self._learnt[1], pending.loss_of_known(self.loss), piece
        )
        # The barrier has compilers work these out once, and not again for every array that depends on them.
        fine = jnp.isfinite(estimate.loss) & _bounded((gradient, new.carry.states))
        fine, made = lax.optimization_barrier((fine, fine & jnp.any(piece.weight != 0)))
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

    def _updated(self, known, piece):
        """`known` after an update between whose samples there were predictions."""
        known = self._update(known, piece)[0]
        return known if self.lag else known._replace(live=known.carry.states)

    def _restarted(self, parameters, carry):
        network = eqx.combine(parameters, self._learnt[1]).effective()
        return restarted(self.algorithm, network, carry, jnp.ones(self.streams, bool))

    def _finite_or_first(self, states):
        first = self.network.initial_state()
        return jax.tree.map(
            lambda leaf, start: jnp.where(_finite(states), leaf, start.astype(leaf.dtype)), states, first
        )

    @property
    def _apart(self):
        """Whether targets are shaped as outputs, so that some of their parts may be missing."""
        step = lambda: self.network.effective().step(self.network.initial_state(), self.like.input)[1]  # noqa: E731
        shapes = [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(step))]
        wide = self.like.target.shape[:-1] + tuple(len(self.horizons) * size for size in self.like.target.shape[-1:])
        return shapes == [wide]

    @property
    def _learnt(self):
        """The network's parameters, and what is not learnt."""
        return eqx.partition(self.network, eqx.is_inexact_array)

    def _network(self, known):
        return eqx.combine(known.parameters, self._learnt[1]).effective()


def _over_time(step, carry, inputs):
    """`lax.scan` along the second axis, without a loop where it has length 1."""
    if jax.tree.leaves(inputs)[0].shape[1] == 1:
        carry, outputs = step(carry, jax.tree.map(lambda leaf: leaf[:, 0], inputs))
        return carry, jax.tree.map(lambda leaf: leaf[:, None], outputs)
    swap = lambda tree: jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), tree)  # noqa: E731
    carry, outputs = lax.scan(step, carry, swap(inputs))
    return carry, swap(outputs)


def _bounded(tree):
    """Whether the sum of squares in `tree` is far from overflow: asked number by number, which compilers vectorise."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    count = sum(leaf.size for leaf in leaves)
    within = lambda leaf: jnp.all(jnp.abs(leaf) <= (jnp.finfo(leaf.dtype).max / count) ** 0.5)  # noqa: E731
    return functools.reduce(jnp.logical_and, map(within, leaves), jnp.asarray(True))


def _finite(tree):
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
