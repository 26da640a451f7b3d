"""What a learner is given, checked: one sentence where it does not fit."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from onward import losses
from onward.algorithms import Algorithm
from onward.integers import is_integer
from onward.network import Network
from onward.pending import Samples


def check_learner(
    network: Any, loss: Any, algorithm: Any, optimizer: Any, *, window: Any, horizons: Any, memory: Any, batch: Any
) -> None:
    """Raise a `TypeError` or a `ValueError` that names the first argument of `Learner` which makes no sense."""
    for name, value, kind in (
        ("network", network, Network),
        ("algorithm", algorithm, Algorithm),
        ("optimizer", optimizer, optax.GradientTransformation),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"`{name}` must be of type {kind.__name__}, got {value!r}")
    if not callable(loss):
        raise TypeError(f"`loss` must be a function of one step's output and target, got {loss!r}")
    for name, value in (("window", window), ("memory", memory), ("batch", 1 if batch is None else batch)):
        if not is_integer(value, 1):
            raise ValueError(f"`{name}` must be a positive integer, got {value!r}")
    if not horizons or not all(is_integer(ahead, 0) for ahead in horizons) or len(set(horizons)) < len(horizons):
        raise ValueError(f"`horizon` must be an integer of 0 or more, or several different ones, got {horizons!r}")


def converted(name: str, value: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    """`value` as an array of `dtype` and `shape`.

    **Raises.** `TypeError` or `ValueError` where it is none.
    """
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except ValueError:
        raise ValueError(f"`{name}` is ragged; give it shape {shape}") from None
    number = jnp.issubdtype(array.dtype, jnp.number) or jnp.issubdtype(array.dtype, bool)
    if not number or not (jnp.issubdtype(dtype, jnp.inexact) or not jnp.issubdtype(array.dtype, jnp.inexact)):
        raise TypeError(f"`{name}` must hold numbers of type {jnp.dtype(dtype).name}, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"`{name}` must have shape {shape}, got {array.shape}")
    return array.astype(dtype)


def unknown(dtype: Any) -> float:
    """What stands for a target of which nothing is known."""
    return math.nan if jnp.issubdtype(dtype, jnp.inexact) else -1


def example(network: Network, loss: Callable, horizons: tuple[int, ...], target: Any) -> Samples:
    """One sample of zeros; its target is like `target`, or else what the loss and the network's outputs say."""
    leaves = jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))
    dtype = jnp.result_type(*leaves) if leaves else jnp.result_type(float)
    size = network.input_size
    if network.reads_integers:
        input = jnp.int32(0)
    elif size is None:
        raise ValueError("the network does not say how many features it reads; build it with `input_size=`")
    else:
        input = jnp.zeros(size, dtype)
    if target is None and loss is losses.cross_entropy:
        target = jnp.int32(0)
    elif target is None:
        width, rest = divmod(network.output_size or 0, len(horizons))
        if not width or rest:
            raise ValueError(
                f"`horizon` has {len(horizons)} steps, which the network's {network.output_size} outputs "
                "cannot be shared among; give it a multiple, or say `target=` (an example of one)"
            )
        target = jnp.zeros(width, dtype)
    target = jnp.asarray(target)
    if jnp.issubdtype(target.dtype, jnp.inexact):
        target = target.astype(dtype)
    if len(horizons) > 1 and target.ndim != 1:
        raise ValueError(f"`target` must be a vector where there are several horizons, got shape {target.shape}")
    return Samples(input, jnp.zeros_like(target), jnp.ones((), dtype), jnp.zeros((), bool))
