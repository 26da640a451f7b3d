"""Losses of one step: `loss(output, target) -> scalar`. Anything with that signature will do."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int


def cross_entropy(output: Float[ArrayLike, " classes"], target: Int[ArrayLike, ""]) -> Float[Array, ""]:
    """Negative log-probability of the class `target` under logits `output`, in nats.

    A label that is no class, one below 0 or above the last, makes the loss NaN, which stops training.

    **Raises.** `TypeError` if `target` is not an integer, which would otherwise be truncated in silence.
    **Example.**

        >>> import jax.numpy as jnp
        >>> float(cross_entropy(jnp.zeros(4), jnp.asarray(1)))  # log 4
        1.3862943649291992
    """
    target = jnp.asarray(target)
    if not jnp.issubdtype(target.dtype, jnp.integer):
        raise TypeError(
            f"cross_entropy: `target` must hold integer class labels, got dtype {target.dtype}; "
            "convert it with `.astype(int)`, or use squared_error for real-valued targets"
        )
    # Not by log_softmax, whose gradient writes down one more array of all classes (decision 53).
    scores = jnp.asarray(output) - lax.stop_gradient(jnp.max(output))
    chosen = scores.at[target].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    return jnp.log(jnp.sum(jnp.exp(scores))) - chosen


def soft_cross_entropy(output: Float[ArrayLike, " classes"], target: Float[ArrayLike, " classes"]) -> Float[Array, ""]:
    """Cross-entropy of the distribution that the logits `output` give with the distribution `target`, in nats.

    **Raises.** `ValueError` if the shapes differ.
    **Example.**

        >>> import jax.numpy as jnp
        >>> float(soft_cross_entropy(jnp.zeros(4), jnp.full(4, 0.25)))  # log 4
        1.3862943649291992
    """
    if jnp.shape(output) != jnp.shape(target):
        raise ValueError(
            f"soft_cross_entropy: `output` has shape {jnp.shape(output)} and `target` {jnp.shape(target)}; "
            "give the target one probability for each class"
        )
    return -jnp.sum(jnp.asarray(target) * jax.nn.log_softmax(output))


def squared_error(output: Float[ArrayLike, " *shape"], target: Float[ArrayLike, " *shape"]) -> Float[Array, ""]:
    """Sum over the outputs of the squared difference to `target`.

    **Raises.** `ValueError` if the shapes differ, which would otherwise broadcast in silence.
    **Example.**

        >>> import jax.numpy as jnp
        >>> float(squared_error(jnp.asarray([1.0, 2.0]), jnp.asarray([0.0, 0.0])))
        5.0
    """
    if jnp.shape(output) != jnp.shape(target):
        raise ValueError(
            f"squared_error: `output` has shape {jnp.shape(output)} and `target` {jnp.shape(target)}; "
            "give the target the shape of one step's output"
        )
    return jnp.sum((jnp.asarray(output) - target) ** 2)
