"""What keeps a network sound that learns for ever: an Optax transformation that bounds its weights."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree


class LimitNormsState(NamedTuple):
    """The largest norm of each array."""

    largest: PyTree


def limit_norms(factor: float = 10.0) -> optax.GradientTransformation:
    """Keep the norm of each parameter array below `factor` times what it was at first.

        W' = min(1, factor max(|W_0|, 1) / |W + u|) (W + u)                            (1)

    for the update u that comes in, whose place W' - W takes. On a stream without end this stops the slow growth of
    weights that saturates units. Put it last in a chain.

    **Raises.** `ValueError` if `factor` is not at least 1; at an update without the parameters.
    **Example.**

        >>> import jax.numpy as jnp, optax
        >>> optimizer = optax.chain(optax.sgd(1.0), limit_norms(2.0))
        >>> weights = jnp.asarray([3.0, 4.0])  # of norm 5, which may become 10
        >>> updates, state = optimizer.update(-9 * weights, optimizer.init(weights), weights)
        >>> optax.apply_updates(weights, updates).round().astype(int).tolist()
        [6, 8]
    """
    if not factor >= 1:
        raise ValueError(f"`factor` must be at least 1, got {factor!r}; 10 lets norms grow to ten times their start")

    def init(params: Any) -> Any:
        return LimitNormsState(jax.tree.map(lambda leaf: factor * jnp.maximum(_norm(leaf), 1), params))

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        if params is None:
            raise ValueError("limit_norms needs the parameters; call optimizer.update(gradient, state, parameters)")

        def limit(step: Array, weights: Array, largest: Array) -> Array:
            moved = weights + step
            share = jnp.minimum(1, largest / jnp.maximum(_norm(moved), jnp.finfo(largest.dtype).tiny))
            return jnp.where(share < 1, share * moved - weights, step).astype(step.dtype)

        return jax.tree.map(limit, updates, params, state.largest), state

    return optax.GradientTransformation(init, update)


def _norm(leaf):
    return jnp.sqrt(jnp.sum(jnp.abs(leaf) ** 2))
