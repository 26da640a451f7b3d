"""What is measured beside the training loss: a network on a split, and a gradient beside BPTT's."""

from collections.abc import Callable, Iterable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from onward.algorithms import BPTT, Algorithm
from onward.algorithms.windows import in_chunks
from onward.batches import Checker, Devices, fill
from onward.network import Network
from onward.sample import Sample
from onward.tasks.base import Split, Task
from onward.unroll import Rule, Window, step_losses


def evaluate(
    network: Network, task: Task, split: Split = "test", batch_size: int = 256, loss: Callable | None = None
) -> dict[str, float]:
    """Loss and the task's metrics over a whole split.

    "loss" is the mean over sequences of the sum over time of weight times loss; for a task whose batches go on where
    the last one ended, with their states, the mean over all weights. Memory is bounded by the batch; the devices share
    each batch, and a short last one is filled up, so that all have one shape.
    **Raises.** `ValueError` or `TypeError` where the split's samples do not fit the network.
    **Example.**

        >>> import jax, onward as ow
        >>> task = ow.tasks.make("delayed-xor", evaluation_size=8)
        >>> net = ow.stack(ow.cells.GRU(2, 2, key=jax.random.key(0)))
        >>> sorted(evaluate(net, task, "validation", batch_size=8))
        ['accuracy', 'loss']
    """
    return over_batches(network, task.evaluation(split, batch_size), loss or task.loss, task)


def over_batches(network: Network, samples: Iterable[Sample], loss: Callable, task: Task | None) -> dict[str, float]:
    """As `evaluate`, over any batches; without a task the loss alone."""
    check, devices, size, states = Checker(network), None, 0, None
    total, seen, sums = 0.0, 0.0, {}
    stateful, by_loss = (task.stateful, task.judged_by == "loss") if task is not None else (False, False)
    for number, sample in enumerate(samples):
        sample = check(f"evaluation batch {number}", sample)
        count = len(sample.weight)
        if devices is None:
            size = -(-count // len(jax.devices())) * len(jax.devices())
            devices = Devices(size)
            arrays, static = eqx.partition(network, eqx.is_array)
            network = eqx.combine(jax.device_put(arrays, devices.replicated), static)
        judged = task.loss if task is not None and by_loss else None
        output, losses, states = _forward(network, loss, judged, states, devices.put(fill(sample, size)))
        output, losses = devices.copy((output, losses))
        states = states if stateful else None
        total += float(np.sum(losses[:count]))
        seen += float(np.sum(sample.weight)) if stateful else count
        if task is not None:
            output = jax.tree.map(lambda leaf: np.asarray(leaf)[:count], output)  # noqa: B023 (used at once)
            for name, value in task.metrics(output, sample.target, sample.weight).items():
                sums[name] = sums.get(name, 0.0) + value
    if not seen:
        raise ValueError("there is nothing to evaluate on: no batch was given; give at least one")
    return {"loss": total / seen} | ({} if task is None else task.summarise(sums))


@eqx.filter_jit
def _forward(network, loss, judged, states, batch):
    """Outputs [batch, time, ...], or what the loss `judged` says of them, losses [batch], and the states at the end."""
    network = network.effective()
    size = batch.weight.shape[0]
    if states is None:
        states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *leaf.shape)), network.initial_state())
    # The rule is of no account, since nothing is swept back; node by node is faster than step by step.
    linear = Window(network, Rule(time="none", depth="spatial"), states, batch.input, batch.reset)
    output, losses = linear.output, step_losses(loss, linear.output, batch.target, batch.weight)
    if judged is not None:
        output = step_losses(judged, output, batch.target, jnp.ones_like(batch.weight))
    return output, jnp.sum(losses, axis=1), linear.final


def judge(
    network: Network, task: Task | None, validation: Iterable[Sample] | None, loss: Callable, batch_size: int
) -> tuple[Mapping[str, float], float]:
    """What validation says of a network, and one number of it that is the higher the better."""
    if validation is not None:
        values = over_batches(network, validation, loss, None)
        return values, -values["loss"]
    assert task is not None
    values = evaluate(network, task, "validation", batch_size, loss)
    return values, values[task.primary] if task.higher_is_better else -values[task.primary]


def make_alignment(
    static: PyTree, algorithm: Algorithm, loss: Callable, steps: Callable[[int], int]
) -> Callable[[PyTree, Sample, Array], dict[str, Array]]:
    """A compiled function `(parameters, batch, key)`: the algorithm's gradient of a batch beside BPTT's of it, whole.

    The algorithm's is the sum over windows of `steps(length)` steps, at the same parameters. "cosine" of the angle
    between them, and "norm_ratio", the algorithm's norm by BPTT's; NaN where a norm is zero.
    """

    def gradient(algorithm, parameters, batch, key, size):
        network = eqx.combine(parameters, static)

        def run(carry, window):
            carry, estimate = algorithm.run(network, loss, carry, window)
            return carry, estimate.gradient, estimate.loss, estimate.output

        carry = algorithm.init(network, key=key, batch=batch.weight.shape[0])
        return jax.tree.leaves(in_chunks(run, carry, batch, size)[1])

    def compare(parameters, batch, key):
        # What an online algorithm carries makes its sum over windows that of the whole.
        size = batch.length if algorithm.kind == "online" else steps(batch.length)
        found = gradient(algorithm, parameters, batch, key, size)
        exact = gradient(BPTT(), parameters, batch, key, batch.length)
        inner = lambda a, b: sum(jnp.real(jnp.vdot(x, y)) for x, y in zip(a, b, strict=True))  # noqa: E731
        ours, theirs = jnp.sqrt(inner(found, found)), jnp.sqrt(inner(exact, exact))
        return {"cosine": inner(found, exact) / (ours * theirs), "norm_ratio": ours / theirs}

    return jax.jit(compare)
