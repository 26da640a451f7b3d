"""The convenience on top of windows: value and gradient of a whole sample."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from onward.algorithms.base import Algorithm, check_window
from onward.network import Network
from onward.sample import Sample


def value_and_grad(
    network: Network, loss: Callable, sample: Sample, *, algorithm: Algorithm, key: Array | None = None
) -> tuple[Float[Array, ""], PyTree]:
    """Loss and gradient estimate of a sample, run as one window from the initial state.

        value = mean over the batch of sum over time of weight_t loss(output_t, target_t)

    **Shapes.** `sample` [time, ...] or [batch, time, ...]; the gradient is the tree of the network's inexact arrays.
    **Arguments.** `loss(output, target)` -> scalar, for one step. `key`: for stochastic algorithms.
    **Raises.** `ValueError` or `TypeError`, naming the argument, where shapes or dtypes do not fit, or where the input
    or the weight holds NaN or an infinity.
    **Example.**

        >>> import jax, jax.numpy as jnp, onward as ow
        >>> net = ow.stack(ow.cells.GRU(1, 2, key=jax.random.key(0)))
        >>> sample = ow.Sample(jnp.ones((5, 1)), jnp.zeros((5, 2)), jnp.ones(5))
        >>> value, gradient = ow.value_and_grad(net, ow.losses.squared_error, sample, algorithm=ow.RTRL())
        >>> gradient.nodes["0_gru"].weight_hh.shape
        (2, 3, 2)
    """
    sample = checked(network, loss, sample, algorithm)
    return _value_and_grad(network, loss, sample, algorithm, key)


def checked(network: Network, loss: Callable, sample: Sample, *algorithms: Algorithm) -> Sample:
    """`sample` as JAX arrays, after a `ValueError` or `TypeError` that names the first argument that makes no sense."""
    if not isinstance(network, Network):
        raise TypeError(
            f"`network` must be an onward.Network, got {type(network).__name__}; wrap cells with onward.stack"
        )
    for algorithm in algorithms:
        if not isinstance(algorithm, Algorithm):
            raise TypeError(f"`algorithm` must be an instance such as onward.RTRL(), got {algorithm!r}")
    if not isinstance(sample, Sample):
        raise TypeError(
            f"`sample` must be an onward.Sample(input, target, weight), got {type(sample).__name__}; for several "
            "sequences give every leaf a leading batch axis"
        )
    if not callable(loss):
        raise TypeError(f"`loss` must be a function of one step's output and target, got {loss!r}")
    sample = jax.tree.map(jnp.asarray, sample)
    check_window(network, sample)
    check_finite(sample)
    return sample


def check_finite(sample: Sample) -> None:
    """Raise a `ValueError` that names the first field with NaN or infinite values; traced values are not looked at."""
    for field in ("input", "target", "weight"):
        for leaf in jax.tree.leaves(getattr(sample, field)):
            if isinstance(leaf, Tracer) or not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
                continue
            if not bool(jnp.all(jnp.isfinite(leaf))):
                raise ValueError(
                    f"`{field}` holds NaN or infinite values; replace them, and give steps without a target weight 0"
                )


@eqx.filter_jit
def _value_and_grad(network, loss, sample, algorithm, key):
    carry = algorithm.init(network, key=key, batch=sample.weight.shape[0] if sample.batched else None)
    _, estimate = algorithm.run(network, loss, carry, sample)
    return estimate.loss, estimate.gradient
