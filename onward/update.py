"""One step of training: what it changes, and the compiled function that changes it."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, PyTree

from onward import checkpoint as checkpoints
from onward.algorithms import Algorithm
from onward.batches import Devices
from onward.network import Network
from onward.sample import Sample


class State(NamedTuple):
    """What an update changes; the carry only where it lives from batch to batch."""

    parameters: PyTree
    optimizer: PyTree
    carry: PyTree
    key: Array


def updates_per_batch(length: int, window: int | None) -> int:
    """How many updates an optimizer (and its schedule) sees in a batch of sequences of `length` steps."""
    return 1 if window is None else -(-length // window)


def make_update(
    static: PyTree,
    algorithm: Algorithm,
    optimizer: optax.GradientTransformation,
    loss: Callable,
    window: int | None,
    stateful: bool,
    devices: Devices,
) -> Callable[[State, Sample], tuple[State, dict[str, Array]]]:
    """The compiled function that takes the state through one batch; it uses up the state that it is given."""
    full = optax.with_extra_args_support(optimizer)

    def learn(state, piece):
        carry, estimate = algorithm.run(eqx.combine(state.parameters, static), loss, state.carry, piece)
        # The derivative by a complex parameter, as JAX has it, is the conjugate of the direction of steepest ascent.
        gradient = jax.tree.map(jnp.conj, estimate.gradient)
        updates, memory = full.update(gradient, state.optimizer, state.parameters, value=estimate.loss)
        parameters = optax.apply_updates(state.parameters, updates)
        return State(parameters, memory, carry, state.key), (estimate.loss, optax.tree.norm(gradient))

    def update(state, batch):
        key, fresh = jax.random.split(state.key)
        state = state._replace(key=key)
        if not stateful:
            network = eqx.combine(state.parameters, static)
            state = state._replace(carry=algorithm.init(network, key=fresh, batch=batch.weight.shape[0]))
        size = window or batch.length
        count, rest = divmod(batch.length, size)
        cut = lambda start, size: jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, size, 1), batch)  # noqa: E731
        if count == 1:
            state, (losses, norms) = learn(state, cut(0, size))
        else:
            state, (losses, norms) = lax.scan(
                lambda s, start: learn(s, cut(start, size)), state, jnp.arange(count) * size
            )
        if rest:
            state, last = learn(state, cut(count * size, rest))
            losses, norms = jnp.append(losses, last[0]), jnp.append(norms, last[1])
        figures = {"loss": jnp.sum(losses), "gradient_norm": jnp.mean(norms)}
        return state if stateful else state._replace(carry=None), figures

    everywhere = cast(Any, devices.replicated)
    where = State(everywhere, everywhere, devices.spread, everywhere), everywhere
    return jax.jit(update, donate_argnums=0, out_shardings=where)


def initial_state(
    network: Network,
    algorithm: Algorithm,
    optimizer: optax.GradientTransformation,
    seed: int,
    batch: int | None,
    devices: Devices,
) -> State:
    """The state before the first step, in buffers of its own; `batch` if the carry is to live from batch to batch."""
    keys = jax.random.split(jax.random.key(seed))
    parameters, static = eqx.partition(network, eqx.is_inexact_array)
    parameters = devices.copy(jax.device_get(parameters))
    carry = None
    if batch is not None:
        fresh = jax.jit(lambda p: algorithm.init(eqx.combine(p, static), key=keys[0], batch=batch))(parameters)
        carry = devices.copy(fresh, spread=True)
    return State(parameters, devices.copy(optimizer.init(parameters)), carry, devices.copy(keys[1]))


def restore_state(path: str | os.PathLike, state: State, devices: Devices) -> tuple[State, PyTree]:
    """The state in a checkpoint, and the best parameters if there are any; `state` says what they must look like."""
    like = state._asdict()
    if any(name.startswith("best.") for name in checkpoints.read_header(path)["arrays"]):
        like["best"] = state.parameters
    tree, _ = checkpoints.load(path, like)
    best, carry = tree.pop("best", None), devices.copy(tree.pop("carry"), spread=True)
    return State(**devices.copy(tree), carry=carry), devices.copy(best)
