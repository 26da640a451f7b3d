"""Dropout that stays the same while a sequence runs: of what a layer emits, and of recurrent weights."""

from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from onward.cells.base import Cell, FactoredCell, positive_sizes
from onward.cells.wrapped import Wrapped, is_its_own


class LockedDropout(Cell):
    """Dropout with one mask for all steps of a sequence ("variational"), between layers.

        y_t = mask x_t,   each entry of mask 1 / (1 - rate) with probability 1 - rate, otherwise 0      (1)

    `onward.train` draws a mask for every sequence of every batch; everywhere else, from `initial_state`, masks are 1,
    so that a network is judged whole. In a loop of one's own: `network.fresh_states(carry.states, key)`.

    **Shapes.** N = `size` inputs and units: state (value [N], mask [N]); emission [N].
    **Arguments.** `dtype`: of what it emits, by default JAX's default; give that of the weights where it is another.
    **Units.** `rate` in [0, 1): the share that is dropped.
    **Raises.** `ValueError` if `size` is not positive or `rate` outside [0, 1).
    **Source.** Gal and Ghahramani 2016, arXiv:1512.05287; the name from Merity, Keskar and Socher 2018.
    """

    input_size: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    rate: float = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)
    recurrence: ClassVar[Literal["dense", "diagonal", "none"]] = "none"

    def __init__(self, size: int, rate: float, dtype: Any = None):
        positive_sizes(size=size)
        self.input_size = self.hidden_size = self.output_size = size
        self.rate, self.dtype = _share(rate), dtype

    def initial_state(self):
        return jnp.zeros(self.hidden_size, self.dtype), jnp.ones(self.hidden_size, self.dtype)

    def emit(self, state):
        return state[0]

    def transition(self, state, emission, input):
        mask = lax.stop_gradient(state[1])
        return (mask * input).astype(mask.dtype), mask

    @property
    def invertible(self):
        return True

    def inverse(self, state, input):
        return jnp.zeros_like(state[0]), state[1]  # nobody reads what it emitted before

    def fresh_state(self, state, key):
        value, mask = state
        kept = jax.random.bernoulli(key, 1 - self.rate, mask.shape)
        return value, (kept / (1 - self.rate)).astype(mask.dtype)


class WeightDrop(Wrapped):
    """A cell whose recurrent weights drop out, the same ones for a whole batch.

    `onward.train` draws a mask for every batch: `weight_hh` is multiplied by it, 0 with probability `rate` and
    otherwise 1 / (1 - rate). Everywhere else the cell is as it was. In a loop of one's own: `network.randomized(key)`.
    What algorithms carry is the influence of the weights themselves, so that it outlives a mask.

    **Units.** `rate` in [0, 1): the share of weights that is dropped.
    **Raises.** `ValueError` if `rate` is outside [0, 1), or the cell has no matrix `weight_hh` of its own to drop (an
    LRU is diagonal, that of an AntisymmetricRNN is made of another).
    **Source.** Merity, Keskar and Socher 2018, arXiv:1708.02182, section 2; after Wan et al. 2013.
    **Example.**

        >>> import jax, onward as ow
        >>> cell = WeightDrop(ow.cells.LSTM(3, 4, key=jax.random.key(0)), 0.5)
        >>> dropped = cell.randomized(jax.random.key(1)).masked().weight_hh
        >>> 0.2 < float((dropped == 0).mean()) < 0.8
        True
    """

    cell: FactoredCell
    rate: float = eqx.field(static=True)
    mask: Bool[Array, "rows units"] | None

    def __init__(self, cell: Cell, rate: float, mask: Array | None = None):
        if not is_its_own(cell) or "weight_hh" not in cell.recurrent or not isinstance(cell, FactoredCell):
            raise ValueError(f"{type(cell).__name__} has no recurrent matrix `weight_hh` of its own to drop; leave it")
        self.cell, self.rate, self.mask = cell, _share(rate), mask

    def randomized(self, key):
        return WeightDrop(self.cell, self.rate, jax.random.bernoulli(key, 1 - self.rate, self._weight(self.cell).shape))

    def masked(self):
        if self.mask is None:
            return self.cell
        dropped = jnp.where(self.mask, self._weight(self.cell) / (1 - self.rate), 0)
        return eqx.tree_at(self._weight, self.cell, dropped)

    def _weight(self, cell):
        return cell.weight_hh


def _share(rate):
    if not 0 <= rate < 1:
        raise ValueError(f"`rate` must be at least 0 and below 1, got {rate!r}; it is the share that is dropped")
    return float(rate)
