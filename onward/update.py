"""One step of training: what it changes, and the compiled function that changes it."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, PyTree

from onward import checkpoint as checkpoints
from onward.algorithms import Algorithm, Carry
from onward.batches import Devices
from onward.intermediate import IntermediateLosses, ends
from onward.network import Network
from onward.optimizers import settle, uses_fptt
from onward.sample import Estimate, Sample


class State(NamedTuple):
    """What a step changes; the carry only where it lives from batch to batch.

    `key` stays as it is: what is random in batch `count` (from 1) is drawn from the key folded with it.
    """

    parameters: PyTree
    optimizer: PyTree
    carry: PyTree
    key: Array
    count: Array
    intermediate: PyTree = None


class Progress(NamedTuple):
    """What one window changes."""

    parameters: PyTree
    optimizer: PyTree
    carry: PyTree


def make_descent(
    algorithm: Algorithm, optimizer: optax.GradientTransformation
) -> Callable[[Progress, PyTree, Callable, Sample], tuple[Progress, Estimate, PyTree]]:
    """One window, one update: a function of progress, the part of the network that is not learnt, loss and window.

    It returns the progress after it, the estimate, and the gradient as the optimizer gets it.
    """
    full = optax.with_extra_args_support(optimizer)

    def gradient(parameters, static, loss, carry, window):
        carry, estimate = algorithm.run(eqx.combine(parameters, static), loss, carry, window)
        # The derivative by a complex parameter, as JAX has it, is the conjugate of the direction of steepest ascent.
        return carry, estimate, jax.tree.map(jnp.conj, estimate.gradient)

    def descend(old, static, loss, window):
        carry, estimate, found = gradient(old.parameters, static, loss, old.carry, window)
        updates, memory = full.update(found, old.optimizer, old.parameters, value=estimate.loss)
        parameters: Any = optax.apply_updates(old.parameters, updates)
        again = None
        if uses_fptt(memory, "paper"):
            again = gradient(parameters, static, loss, old.carry, window)[2]
        parameters, memory = settle(parameters, memory, again)
        return Progress(parameters, memory, carry), estimate, found

    return descend


@dataclass(frozen=True)
class Plan:
    """How a batch is turned into updates: by windows of so many steps, or so many windows; None for the whole."""

    window: int | None = None
    windows_per_sequence: int | Literal["sqrt"] | None = None
    stateful: bool | Literal["epoch"] = False
    intermediate: IntermediateLosses | None = None
    epoch: int | None = None  # batches after which states start anew, with `stateful="epoch"`
    renewal: int | None = None  # batches after which `intermediate` renews what it knows

    def steps(self, length: int) -> int:
        """Steps of each window but for a shorter last one."""
        count = math.isqrt(length) if self.windows_per_sequence == "sqrt" else self.windows_per_sequence
        return self.window or max(1, length // (count or 1))


def updates_per_batch(
    length: int, window: int | None = None, windows_per_sequence: int | Literal["sqrt"] | None = None
) -> int:
    """How many updates an optimizer (and its schedule) sees in a batch of sequences of `length` steps."""
    return -(-length // Plan(window, windows_per_sequence).steps(length))


def make_update(
    static: PyTree,
    algorithm: Algorithm,
    optimizer: optax.GradientTransformation,
    loss: Callable,
    plan: Plan,
    devices: Devices,
) -> Callable[[State, Sample], tuple[State, dict[str, Array]]]:
    """The compiled function that takes the state through one batch; it uses up the state that it is given."""
    descend = make_descent(algorithm, optimizer)

    def learn(state, way, batch, start, size):
        static, loss, ends = way
        done, estimate, found = descend(
            Progress(state.parameters, state.optimizer, state.carry), static, loss, batch.cut(start, size)
        )
        answer = None
        if ends is not None:
            at = jnp.clip(ends - start, 0, size - 1)
            answer = jax.tree.map(lambda leaf: jax.vmap(lambda one, at: one[at])(leaf, at), estimate.output)
        return state._replace(**done._asdict()), (answer, estimate.loss, optax.tree.norm(found))

    def windows(state, way, batch):
        """Learn from window after window: the state, and the outputs at the end, loss and norm of each.

        `way`: the part of the network that is not learnt, the loss, and the steps whose outputs are asked for, if any.
        """
        size = plan.steps(batch.length)
        count, rest = divmod(batch.length, size)
        single = lambda figures: jax.tree.map(lambda leaf: leaf[None], figures)  # noqa: E731
        if count == 1:
            state, figures = learn(state, way, batch, 0, size)
            figures = single(figures)
        else:
            state, figures = lax.scan(lambda s, at: learn(s, way, batch, at, size), state, jnp.arange(count) * size)
        if rest:
            state, last = learn(state, way, batch, count * size, rest)
            figures = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), figures, single(last))
        return state, figures

    def update(state, batch):
        state = state._replace(count=state.count + 1)
        network, key = eqx.combine(state.parameters, static), jax.random.fold_in(state.key, state.count)
        carry = state.carry
        if plan.stateful is not True:
            carry = algorithm.init(network, key=key, batch=batch.weight.shape[0])
        if plan.stateful == "epoch":
            ended = (state.count - 1) % cast(int, plan.epoch) == 0
            carry = jax.tree.map(lambda new, old: jnp.where(ended, new, old), carry, state.carry)
        for_weights, for_states = jax.random.split(jax.random.fold_in(key, 1))  # the key itself is the algorithm's
        states = network.fresh_states(carry.states, for_states)
        state = state._replace(carry=Carry(states, carry.memory))
        drawn = eqx.partition(network.randomized(for_weights), eqx.is_inexact_array)[1]
        asked, asking, last, size = batch, loss, None, plan.steps(batch.length)
        if plan.intermediate is not None:
            asked, asking = plan.intermediate.apply(state.intermediate, batch, size, loss)
            last = ends(batch)
        state, (answers, losses, norms) = windows(state, (drawn, asking, last), asked)
        if plan.intermediate is not None and last is not None:
            answer = jax.tree.map(lambda leaf: jax.vmap(lambda one, at: one[at], (1, 0))(leaf, last // size), answers)
            renew = state.count % plan.renewal == 0 if plan.renewal else jnp.asarray(False)
            memory = plan.intermediate.observe(state.intermediate, batch, answer, renew)
            state = state._replace(intermediate=memory)
        figures = {"loss": jnp.sum(losses), "gradient_norm": jnp.mean(norms)}
        return state if plan.stateful else state._replace(carry=None), figures

    everywhere = cast(Any, devices.replicated)
    where = State(everywhere, everywhere, devices.spread, everywhere, everywhere, everywhere), everywhere
    return jax.jit(update, donate_argnums=0, out_shardings=where)


def initial_state(
    network: Network,
    algorithm: Algorithm,
    optimizer: optax.GradientTransformation,
    seed: int,
    plan: Plan,
    batch: int,
    devices: Devices,
) -> State:
    """The state before the first step, in buffers of its own; the carry is of `batch` sequences."""
    parameters, static = eqx.partition(network, eqx.is_inexact_array)
    parameters, key = devices.copy((jax.device_get(parameters), jax.random.key(seed)))
    carry = None
    if plan.stateful:
        begin = lambda p, k: algorithm.init(eqx.combine(p, static), key=jax.random.fold_in(k, 0), batch=batch)  # noqa: E731
        carry = devices.copy(jax.jit(begin)(parameters, key), spread=True)
    memory = plan.intermediate.init(network.output_size) if plan.intermediate else None
    rest = devices.copy((optimizer.init(parameters), jnp.uint32(0), memory))
    return State(parameters, rest[0], carry, key, *rest[1:])


def restore_state(path: str | os.PathLike, state: State, devices: Devices) -> tuple[State, PyTree]:
    """The state in a checkpoint, and the best parameters if there are any; `state` says what they must look like."""
    like = state._asdict()
    if any(name.startswith("best.") for name in checkpoints.read_header(path)["arrays"]):
        like["best"] = state.parameters
    tree, _ = checkpoints.load(path, like)
    best, carry = tree.pop("best", None), devices.copy(tree.pop("carry"), spread=True)
    return State(**devices.copy(tree), carry=carry), devices.copy(best)
