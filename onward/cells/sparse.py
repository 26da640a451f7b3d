"""Sparse connectivity: weights that are not there."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from onward.cells.base import Cell, FactoredCell
from onward.cells.wrapped import Wrapped, is_its_own


class Packed(NamedTuple):
    """A mask as bits, which a module can hold as a constant."""

    parameter: str
    shape: tuple[int, ...]
    bits: bytes

    def mask(self) -> Bool[np.ndarray, "..."]:
        flat = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=int(np.prod(self.shape)))
        return flat.astype(bool).reshape(self.shape)


class Sparse(Wrapped):
    """A cell some of whose weights are not there: they are 0 and stay so.

    With random connections every unit reads the same number of others, drawn without replacement; its gates share them.
    `SnAp` keeps influence along the connections only, so that its cost falls with them.

    **Shapes.** A mask is [units, columns], for weights [units, columns] or, of several gates, [units, gates, columns].
    **Arguments.** `connections`: the share of connections that there are, in (0, 1], or masks by the names of
    parameters. `seed`: of random connections, which are a function of it, the names and the shapes alone; give each
    layer its own. `parameters`: names of the matrices that get random connections, by default the recurrent ones.
    **Raises.** `ValueError` for a share, name or mask that does not fit the cell.
    **Exactness.** Any algorithm serves it: absent weights have gradient 0.
    **Departures.** Menick et al. draw each weight by itself, so that gates differ; here units are connected or not.
    **Source.** Menick et al. 2021, section 5, arXiv:2006.07232.
    **Example.**

        >>> import jax, onward as ow
        >>> cell = Sparse(ow.cells.GRU(3, 8, key=jax.random.key(0)), 0.25)
        >>> int((cell.masked().weight_hh != 0).sum())  # 8 units, 3 gates, 2 of 8 connections
        48
    """

    cell: Any  # a Cell
    masks: dict[str, Bool[Array, "..."]]
    connections: tuple[Packed, ...] = eqx.field(static=True)  # the masks again, where their values must be known

    def __init__(
        self,
        cell: Cell,
        connections: float | Mapping[str, np.ndarray | Array],
        *,
        seed: int = 0,
        parameters: Sequence[str] | None = None,
    ):
        if isinstance(connections, Mapping):
            masks = {name: np.asarray(mask, bool) for name, mask in connections.items()}
        else:
            names = _matrices(cell) if parameters is None else tuple(parameters)
            masks = {name: _draw(_weight(cell, name).shape, connections, (seed, i)) for i, name in enumerate(names)}
        for name, mask in masks.items():
            shape = _weight(cell, name).shape
            if mask.shape != (shape[0], shape[-1]):
                raise ValueError(
                    f"the mask of `{name}` must have shape {(shape[0], shape[-1])}, [units, columns], got {mask.shape}"
                )
        self.connections = tuple(Packed(n, mask.shape, np.packbits(mask).tobytes()) for n, mask in masks.items())
        self.masks = {name: jnp.asarray(_by_gate(mask, _weight(cell, name))) for name, mask in masks.items()}
        self.cell = cell
        self.cell = self.masked()

    def present(self) -> dict[str, Bool[np.ndarray, "..."]]:
        """The masks as they were given, by parameter, broadcast to the parameter's shape."""
        weights = {packed.parameter: _weight(self.cell, packed.parameter) for packed in self.connections}
        given = {packed.parameter: _by_gate(packed.mask(), weights[packed.parameter]) for packed in self.connections}
        return {name: np.broadcast_to(mask, weights[name].shape) for name, mask in given.items()}

    def masked(self):
        weights = [jnp.where(mask, _weight(self.cell, name), 0) for name, mask in self.masks.items()]
        return eqx.tree_at(lambda cell: [getattr(cell, name) for name in self.masks], self.cell, weights)

    def effective(self):
        """Itself; or the cell in its masked weights, where those are made of others, or not factored out."""
        keeps = is_its_own(self.cell) and isinstance(self.cell, FactoredCell)
        return self if keeps else self.masked().effective()

    def randomized(self, key):
        return eqx.tree_at(lambda sparse: sparse.cell, self, self.cell.randomized(key))

    def fresh_state(self, state, key):
        return self.cell.fresh_state(state, key)


def _matrices(cell):
    names = tuple(name for name in cell.recurrent if getattr(cell, name).ndim > 1)
    if not names or cell.recurrence != "dense":
        raise ValueError(f"{type(cell).__name__} has no recurrent matrices; name others with `parameters`")
    return names


def _weight(cell: Cell, name: str) -> Array:
    weight = getattr(cell, name, None)
    if not isinstance(weight, jax.Array) or weight.ndim < 2:
        raise ValueError(f"{type(cell).__name__} has no matrix `{name}` that could be sparse")
    return weight


def _by_gate(mask, weight):
    return mask.reshape(len(mask), *(1,) * (weight.ndim - 2), mask.shape[1])


def _draw(shape, share, seed):
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ValueError(f"`connections` must be a share in (0, 1], or masks by parameter, got {share!r}")
    units, columns = shape[0], shape[-1]
    count = max(1, round(share * columns))
    order = np.argsort(np.random.default_rng(seed).random((units, columns)), axis=1)
    mask = np.zeros((units, columns), bool)
    np.put_along_axis(mask, order[:, :count], True, axis=1)
    return mask
