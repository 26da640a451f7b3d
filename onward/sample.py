"""What goes into an algorithm and what comes out of it."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree


class Sample(eqx.Module):
    """A window of a stream: what the network reads, what it should say, and how much each step counts.

    **Shapes.** One sequence: every leaf `[time, ...]`, `weight` `[time]`. A batch: `[batch, time, ...]`, `weight`
    `[batch, time]`; the number of axes of `weight` is what tells the two apart.
    **Units.** `weight` multiplies the loss of its step; 0 means that the step has no loss (its target is not read,
    but must have the right shape and be finite).
    `reset`: None, or booleans in the shape of `weight`: True where a new episode begins, which knows nothing of the
    steps before it: states start anew, and no error passes.
    **Example.**

        >>> import jax.numpy as jnp
        >>> sample = Sample(jnp.zeros((5, 2)), jnp.zeros((5, 1)), jnp.ones(5))
        >>> sample.batched, sample.length
        (False, 5)
    """

    input: PyTree
    target: PyTree
    weight: Float[Array | np.ndarray, "*batch time"]
    reset: Bool[Array | np.ndarray, "*batch time"] | None = None

    @property
    def batched(self) -> bool:
        """Whether the leaves have a leading batch axis."""
        return self.weight.ndim == 2

    @property
    def length(self) -> int:
        """Number of time steps."""
        return self.weight.shape[-1]

    def cut(self, start: Any, length: int) -> "Sample":
        """A stretch of `length` steps from `start`, which may be traced."""
        axis = self.weight.ndim - 1
        return jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, length, axis), self)


class Estimate(eqx.Module):
    """What an algorithm makes of one window.

    **Shapes.** `gradient`: the tree of the network's inexact arrays. `loss`: a scalar, the sum over time of
    `weight * loss`, averaged over the batch if there is one. `output`: `[time, ...]` or `[batch, time, ...]`.
    `info`: diagnostics by name.
    """

    gradient: PyTree
    loss: Float[Array, ""]
    output: PyTree
    info: dict[str, Any]
