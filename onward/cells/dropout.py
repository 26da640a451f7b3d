"""Dropout that stays the same while a sequence runs: of what a layer emits, and of recurrent weights."""

from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from onward.cells.base import Cell, positive_sizes


class LockedDropout(Cell):
    """Dropout with one mask for all steps of a sequence ("variational"), between layers.

        y_t = mask x_t,   each entry of mask 1 / (1 - rate) with probability 1 - rate, otherwise 0      (1)

    `onward.train` draws a mask for every sequence of every batch; everywhere else, from `initial_state`, masks are 1,
    so that a network is judged whole. In a loop of one's own: `network.fresh_states(carry.states, key)`.

    **Shapes.** N = `size` inputs and units: state (value [N], mask [N]); emission [N].
    **Units.** `rate` in [0, 1): the share that is dropped.
    **Raises.** `ValueError` if `size` is not positive or `rate` outside [0, 1).
    **Source.** Gal and Ghahramani 2016, arXiv:1512.05287; the name from Merity, Keskar and Socher 2018.
    """

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    rate: float = eqx.field(static=True)
    recurrence: ClassVar[Literal["dense", "diagonal", "none"]] = "none"

    def __init__(self, size: int, rate: float):
        positive_sizes(size=size)
        self.input_size = self.hidden_size = self.output_size = size
        self.rate = _share(rate)

    def initial_state(self):
        return jnp.zeros(self.hidden_size), jnp.ones(self.hidden_size)

    def emit(self, state):
        return state[0]

    def transition(self, state, emission, input):
        mask = lax.stop_gradient(state[1])
        return mask * input, mask

    def fresh_state(self, state, key):
        value, mask = state
        kept = jax.random.bernoulli(key, 1 - self.rate, mask.shape)
        return value, (kept / (1 - self.rate)).astype(mask.dtype)


class WeightDrop(Cell):
    """A cell whose recurrent weights drop out, the same ones for a whole batch.

    `onward.train` draws a mask for every batch: weights named in the cell's `recurrent` are multiplied by it, 0 with
    probability `rate` and otherwise 1 / (1 - rate). Everywhere else the cell is as it was. In a loop of one's own:
    `network.randomized(key)`.

    **Units.** `rate` in [0, 1): the share of weights that is dropped.
    **Raises.** `ValueError` if `rate` is outside [0, 1), or the cell names no recurrent weights.
    **Source.** Merity, Keskar and Socher 2018, arXiv:1708.02182, section 2; after Wan et al. 2013.
    **Example.**

        >>> import jax, onward as ow
        >>> cell = WeightDrop(ow.cells.LSTM(3, 4, key=jax.random.key(0)), 0.5)
        >>> dropped = cell.randomized(jax.random.key(1)).effective().weight_hh
        >>> 0.2 < float((dropped == 0).mean()) < 0.8
        True
    """

    cell: Cell
    rate: float = eqx.field(static=True)
    masks: tuple[Array | None, ...]  # drawn or not, gradients have the same tree

    def __init__(self, cell: Cell, rate: float, masks: tuple[Array, ...] | None = None):
        if not cell.recurrent:
            raise ValueError(f"{type(cell).__name__} names no `recurrent` weights, so that there is nothing to drop")
        self.cell, self.rate = cell, _share(rate)
        self.masks = masks or (None,) * len(cell.recurrent)

    def randomized(self, key):
        weights = self._weights(self.cell)
        keys = jax.random.split(key, len(weights))
        kept = [jax.random.bernoulli(k, 1 - self.rate, w.shape) for k, w in zip(keys, weights, strict=True)]
        return WeightDrop(self.cell, self.rate, tuple(kept))

    def effective(self):
        weights = self._weights(self.cell)
        share = 1 - self.rate
        masked = [
            weight if mask is None else jnp.where(mask, weight / share, 0)
            for mask, weight in zip(self.masks, weights, strict=True)
        ]
        return eqx.tree_at(self._weights, self.cell, masked).effective()

    def _weights(self, cell):
        return [getattr(cell, name) for name in self.cell.recurrent]

    @property
    def input_size(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cell.input_size

    @property
    def output_size(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cell.output_size

    @property
    def recurrence(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cell.recurrence

    @property
    def unit_local(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cell.unit_local

    @property
    def recurrent(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.cell.recurrent

    def initial_state(self):
        return self.cell.initial_state()

    def emit(self, state):
        return self.cell.emit(state)

    def transition(self, state, emission, input):
        return self.effective().transition(state, emission, input)


def _share(rate):
    if not 0 <= rate < 1:
        raise ValueError(f"`rate` must be at least 0 and below 1, got {rate!r}; it is the share that is dropped")
    return float(rate)
