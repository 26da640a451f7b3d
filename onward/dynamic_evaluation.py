"""Dynamic evaluation: a network that goes on learning from the text that it is tested on, after it was judged on it."""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from onward.algorithms import BPTT, Algorithm
from onward.network import Network
from onward.sample import Sample
from onward.tasks.base import Split, Task
from onward.unroll import step_losses
from onward.update import Progress, make_descent


def evaluate(
    network: Network,
    task: Task,
    split: Split = "test",
    *,
    optimizer: optax.GradientTransformation,
    algorithm: Algorithm | None = None,
) -> dict[str, float]:
    """The task's metrics of a split, where after every batch the network learns from it, with its states living on.

    Each batch is judged by parameters that have not seen it; `network` itself stays as it is.

    **Arguments.** `task`: a text; its `length` is how often the network learns, its `streams` the pieces that the
    split is read in, 1 as published. `optimizer`: see `optimizer` of this module for the published one. `algorithm`:
    where gradients come from, BPTT by default.
    **Raises.** `ValueError` for a task whose batches do not go on where the last one ended.
    **Source.** Krause, Kahembwe, Murray and Renals 2018, arXiv:1709.07432, section 2.
    """
    if task.judged_by != "loss" or not task.stateful:
        raise ValueError(f"dynamic evaluation needs a text, such as the task 'ptb', and {task.name!r} is none")
    algorithm = BPTT() if algorithm is None else algorithm
    parameters, static = eqx.partition(network, eqx.is_inexact_array)

    descend = make_descent(algorithm, optimizer)

    @jax.jit
    def learn(progress, batch):
        progress, estimate, _ = descend(progress, static, task.loss, batch)
        return progress, step_losses(task.loss, estimate.output, batch.target, jnp.ones_like(batch.weight))

    progress, sums = None, {}
    for batch in task.evaluation(split, 1):
        if progress is None:
            carry = algorithm.init(network, key=jax.random.key(0), batch=len(batch.weight))
            progress = Progress(parameters, optimizer.init(parameters), carry)
        progress, losses = learn(progress, batch)
        for name, value in task.metrics(np.asarray(losses), batch.target, batch.weight).items():
            sums[name] = sums.get(name, 0.0) + value
    return task.summarise(sums)


def optimizer(
    network: Network, mean_square: PyTree, learning_rate: float, decay: float = 0.0, eps: float = 1e-5
) -> optax.GradientTransformation:
    """Steps divided by what gradients were in training, and a pull back to the trained parameters theta_g.

        theta <- theta - eta g / (root + eps) + min(decay root / mean(root), 1) (theta_g - theta),  root = sqrt(MS)  (1)

    **Arguments.** `network`: as trained. `mean_square`: MS, from the function of this name. `learning_rate` eta, about
    1e-4 to 1e-2; `decay`, about 1e-3 to 1e-2.
    **Source.** Krause et al. 2018, eqs. 5 to 7.
    """
    trained = eqx.filter(network, eqx.is_inexact_array)
    root = jax.tree.map(jnp.sqrt, mean_square)
    count = sum(leaf.size for leaf in jax.tree.leaves(root))
    mean = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(root)) / count

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        def move(g, r, now, then):
            return -learning_rate * g / (r + eps) + jnp.minimum(decay * r / mean, 1) * (then - now)

        return jax.tree.map(move, updates, root, params, trained), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def mean_square(network: Network, batches: Iterable[Sample], loss: Any, algorithm: Algorithm | None = None) -> PyTree:
    """The mean over training batches of the squared gradient, by parameter; states live on from batch to batch."""
    algorithm = BPTT() if algorithm is None else algorithm
    parameters, static = eqx.partition(network, eqx.is_inexact_array)

    @jax.jit
    def add(total, carry, batch):
        carry, estimate = algorithm.run(eqx.combine(parameters, static), loss, carry, batch)
        return jax.tree.map(lambda t, g: t + jnp.abs(g) ** 2, total, estimate.gradient), carry

    total, carry, count = jax.tree.map(lambda leaf: jnp.zeros_like(jnp.abs(leaf)), parameters), None, 0
    for batch in batches:
        if carry is None:
            carry = algorithm.init(network, key=jax.random.key(0), batch=len(batch.weight))
        total, carry = add(total, carry, batch)
        count += 1
    if not count:
        raise ValueError("`batches` is empty; give some of the training batches")
    return jax.tree.map(lambda leaf: leaf / count, total)
