"""Losses on the way for tasks that ask at the end of a sequence only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from onward.losses import soft_cross_entropy
from onward.sample import Sample


@dataclass(frozen=True)
class IntermediateLosses:
    """Ask for the last step's target all along a sequence, the more firmly the nearer its end is.

    With beta_t = t / T for step t = 1 ... T, P_t the distribution that the network answers at t, and a label y,

        loss_t = -beta_t log P_t(y) - (1 - beta_t) sum_c Q_y(c) log P_t(c)                 (1)

    where Q_y, uniform in the first epoch, is the mean in the epoch before of the answers at the end of the sequences
    with label y. Where the target is real, loss_t is beta_t times the loss with the last step's target.

    Each update counts its loss_t with their mean: in training by windows those of the window. FPTT needs losses on
    the way, but they are as good without it: with whole sequences they are the auxiliary loss of the paper's table 3.

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
        if points not in (None, "every") and (isinstance(points, bool) or not isinstance(points, int) or points < 1):
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
        beta, weight = (jnp.asarray(a, batch.weight.dtype) for a in self._schedule(batch.length, window))
        present = _present(batch)[:, None]
        last = jax.tree.map(lambda leaf: leaf[:, -1], batch.target)
        if not _is_label(last):
            target = jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], batch.length, 1), last)
            return Sample(batch.input, target, present * weight * beta), loss
        q = memory["q"]
        label = jax.nn.one_hot(last, len(q), dtype=q.dtype)[:, None]
        target = beta[:, None] * label + (1 - beta[:, None]) * q[last][:, None]
        return Sample(batch.input, target, present * weight), soft_cross_entropy

    def observe(self, memory: PyTree, batch: Sample, answer: Float[Array, "batch classes"], renew: Array) -> PyTree:
        """Take in the outputs at the end of each sequence; `renew`: whether the epoch ends here."""
        last = jax.tree.map(lambda leaf: leaf[:, -1], batch.target)
        if not _is_label(last):
            return memory
        present = _present(batch).astype(answer.dtype)
        chosen = jax.nn.one_hot(last, len(memory["q"]), dtype=answer.dtype) * present[:, None]
        total = memory["sum"] + chosen.T @ jax.nn.softmax(answer)
        count = memory["count"] + chosen.sum(0)
        mean = jnp.where(count[:, None] > 0, total / jnp.maximum(count, 1)[:, None], memory["q"])
        new = {"q": jnp.where(renew, mean, memory["q"])}
        new |= {"sum": jnp.where(renew, 0, total), "count": jnp.where(renew, 0, count)}
        return jax.tree.map(lambda value, old: value.astype(old.dtype), new, memory)

    def _schedule(self, length: int, window: int) -> tuple[np.ndarray, np.ndarray]:
        """beta and weight of each step."""
        steps = np.arange(1, length + 1)
        if self.points is None:
            asked = steps % window == 0
        else:
            points = length if self.points == "every" else self.points
            asked = np.diff(steps * points // length, prepend=0) > 0
        asked[-1] = True
        number = (steps - 1) // window
        return steps / length, asked / np.bincount(number, asked)[number].clip(1)


def _present(batch: Sample) -> Bool[Array, " batch"]:
    """Which sequences count: a batch may be filled up with others, which have weight 0 throughout."""
    return jnp.any(batch.weight > 0, axis=1)


def _is_label(target) -> bool:
    return hasattr(target, "dtype") and jnp.issubdtype(target.dtype, jnp.integer) and target.ndim == 1
