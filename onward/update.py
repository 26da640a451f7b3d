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
    """What a step changes; the carry only where it lives from batch to batch.

    `key` stays as it is: what is random in batch `count` (from 1) is drawn from the key folded with it.
    """

    parameters: PyTree
    optimizer: PyTree
    carry: PyTree
    key: Array
    count: Array


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
        return state._replace(parameters=parameters, optimizer=memory, carry=carry), (
            estimate.loss,
            optax.tree.norm(gradient),
        )

    def update(state, batch):
        state = state._replace(count=state.count + 1)
        if not stateful:
            network, key = eqx.combine(state.parameters, static), jax.random.fold_in(state.key, state.count)
            state = state._replace(carry=algorithm.init(network, key=key, batch=batch.weight.shape[0]))
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
    where = State(everywhere, everywhere, devices.spread, everywhere, everywhere), everywhere
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
    parameters, static = eqx.partition(network, eqx.is_inexact_array)
    parameters, key = devices.copy((jax.device_get(parameters), jax.random.key(seed)))
    carry = None
    if batch is not None:
        begin = lambda p, k: algorithm.init(eqx.combine(p, static), key=jax.random.fold_in(k, 0), batch=batch)  # noqa: E731
        carry = devices.copy(jax.jit(begin)(parameters, key), spread=True)
    return State(parameters, devices.copy(optimizer.init(parameters)), carry, key, devices.copy(jnp.uint32(0)))


def restore_state(path: str | os.PathLike, state: State, devices: Devices) -> tuple[State, PyTree]:
    """The state in a checkpoint, and the best parameters if there are any; `state` says what they must look like."""
    like = state._asdict()
    if any(name.startswith("best.") for name in checkpoints.read_header(path)["arrays"]):
        like["best"] = state.parameters
    tree, _ = checkpoints.load(path, like)
    best, carry = tree.pop("best", None), devices.copy(tree.pop("carry"), spread=True)
    return State(**devices.copy(tree), carry=carry), devices.copy(best)
