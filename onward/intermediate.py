"""Losses on the way for tasks that ask at the end of a sequence only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from onward.integers import is_integer
from onward.losses import soft_cross_entropy
from onward.sample import Sample


@dataclass(frozen=True)
class IntermediateLosses:
    """Ask for a sequence's last target all along it, the more firmly the nearer its end is.

    The end T of a sequence is its last step with a weight: after it, if a batch is longer, nothing is asked. With
    beta_t = t / T for step t = 1 ... T, P_t the distribution that the network answers at t, and a label y,

        loss_t = -beta_t log P_t(y) - (1 - beta_t) sum_c Q_y(c) log P_t(c)                 (1)

    where Q_y, uniform in the first epoch, is the mean in the epoch before of the answers at the end of the sequences
    with label y. Where the target is real, loss_t is beta_t times the loss with the last step's target.

    Each update counts its loss_t with their mean, in training by windows those of the window, times the weight of the
    sequence's end. FPTT needs losses on the way, but they are as good without it: with whole sequences they are the
    auxiliary loss of the paper's table 3.

    **Arguments.** `points`: how many evenly spread steps of a sequence have a loss; None is the last step of each
    window. "every": all steps. `epoch`: batches after which Q is renewed; None is a task's epoch, or never.
    **State.** In checkpoints: Q and the sums of the present epoch, `[classes, classes]` each.
    **Source.** Kag and Saligrama 2021, section 3, "Intermediate losses for terminal prediction", where Q is said to be
    the "estimate in last training epoch"; by class is our reading. Weights at window ends are those of their code.
    """

    points: int | Literal["every"] | None = None
    epoch: int | None = None

    def __post_init__(self) -> None:
        points = self.points
        if points not in (None, "every") and not is_integer(points, 1):
            raise ValueError(f"`points` must be None, 'every' or a positive integer, got {points!r}")
        if self.epoch is not None and not self.epoch >= 1:
            raise ValueError(f"`epoch` must be None or a positive number of batches, got {self.epoch!r}")

    def init(self, outputs: int | None) -> PyTree:
        """Q [label, class] and, for the present epoch, the sum of answers by label and their number [label].

        **Raises.** `ValueError` if the number of the network's outputs is not known.
        """
        if outputs is None:
            raise ValueError("losses on the way need the size of the output; build the network with `input_size=`")
        q = jnp.full((outputs, outputs), 1 / outputs)
        return {"q": q, "sum": jnp.zeros_like(q), "count": jnp.zeros(outputs)}

    def apply(self, memory: PyTree, batch: Sample, window: int, loss: Callable) -> tuple[Sample, Callable]:
        """The batch with targets and weights of (1), and the loss that goes with them; `window`: steps of an update."""
        end, last = ends(batch), _targets(batch)
        beta, share = self._schedule(batch, end + 1, window)
        weight = share * jnp.take_along_axis(jnp.asarray(batch.weight), end[:, None], 1)
        if not _is_label(last):
            target = jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], batch.length, 1), last)
            return Sample(batch.input, target, weight * beta, batch.reset), loss
        q = memory["q"]
        label = jax.nn.one_hot(last, len(q), dtype=q.dtype)[:, None]
        firm = beta[..., None].astype(q.dtype)
        target = firm * label + (1 - firm) * q[last][:, None]
        return Sample(batch.input, target, weight, batch.reset), soft_cross_entropy

    def observe(self, memory: PyTree, batch: Sample, answer: Float[Array, "batch classes"], renew: Array) -> PyTree:
        """Take in the outputs at the end of each sequence; `renew`: whether the epoch ends here."""
        last = _targets(batch)
        if not _is_label(last):
            return memory
        present = jnp.any(batch.weight > 0, axis=1).astype(answer.dtype)
        chosen = jax.nn.one_hot(last, len(memory["q"]), dtype=answer.dtype) * present[:, None]
        total = memory["sum"] + chosen.T @ jax.nn.softmax(answer)
        count = memory["count"] + chosen.sum(0)
        mean = jnp.where(count[:, None] > 0, total / jnp.maximum(count, 1)[:, None], memory["q"])
        new = {"q": jnp.where(renew, mean, memory["q"])}
        new |= {"sum": jnp.where(renew, 0, total), "count": jnp.where(renew, 0, count)}
        return jax.tree.map(lambda value, old: value.astype(old.dtype), new, memory)

    def _schedule(self, batch: Sample, length: Array, window: int) -> tuple[Array, Array]:
        """beta, and what each step counts in its window [batch, time], of sequences of `length` steps."""
        steps, length = np.arange(1, batch.length + 1), length[:, None]
        if self.points is None:
            asked = (steps % window == 0) & (steps < length)
        elif self.points == "every":
            asked = steps < length
        else:
            asked = jnp.diff(steps * self.points // length, prepend=0, axis=1) > 0
        asked = (asked & (steps < length) | (steps == length)).astype(batch.weight.dtype)
        number = (steps - 1) // window
        count = asked @ jnp.asarray(number[:, None] == np.arange(number[-1] + 1), asked.dtype)
        beta = jnp.minimum(steps / length, 1).astype(asked.dtype)
        return beta, asked / jnp.maximum(count, 1)[:, number]


def ends(batch: Sample) -> Int[Array, " batch"]:
    """The last step of each sequence that has a weight; the last of all where none has."""
    return batch.length - 1 - jnp.argmax(jnp.flip(jnp.asarray(batch.weight) > 0, 1), axis=1)


def _targets(batch: Sample) -> PyTree:
    """What is asked at the ends."""
    take = jax.vmap(lambda leaf, end: leaf[end])
    return jax.tree.map(lambda leaf: take(jnp.asarray(leaf), ends(batch)), batch.target)


def _is_label(target) -> bool:
    return hasattr(target, "dtype") and jnp.issubdtype(target.dtype, jnp.integer) and target.ndim == 1
