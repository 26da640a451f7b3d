"""What the study of deep e-prop measures of a gradient: agreement with BPTT's, cost, and what changing weights do."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from onward import cells
from onward.algorithms import BPTT, RTRL, Algorithm, EProp, SpatialBP
from onward.algorithms.feedback import with_feedback
from onward.network import Network, stack
from onward.reproduce.study import Row
from onward.sample import Sample
from onward.tasks import Task, make

# With what options, and by how much input weights are more than usual, lest five layers drown what the tasks show.
CELLS: dict[str, tuple[Callable[..., Any], dict[str, Any], float]] = {
    "leaky": (cells.LeakyRNN, {}, 3.0),
    "GRU": (cells.GRU, {}, 3.0),
    "LSTM": (cells.LSTM, {}, 3.0),
    "LRU": (cells.LRU, {"r_min": 0.5, "max_phase": 0.6}, 1.0),
    "ALIF": (cells.ALIF, {"beta": 0.3, "tau_a": 50.0, "dampening": 1.0}, 3.0),
}
ALGORITHMS: dict[str, Algorithm] = {
    "BPTT": BPTT(),
    "RTRL": RTRL(),
    "traces": EProp(depth="traces"),
    "spatial": EProp(),
    "adaptive": EProp(feedback="adaptive"),
    "immediate": SpatialBP(),
}
LENGTH = 98  # of MNIST98, which has one
ONLINE = 4  # sequences side by side where parameters change at every step


@dataclass(frozen=True)
class Settings:
    """Networks of `units` in each layer, Adam at `rate`; all cells on all tasks.

    Gradients: the first task by `depths` and, at `depth`, by T; the other tasks at `depth`. Of `costed` cells also what
    a gradient costs by depth, and RTRL. Learning: the same for `steps` batches; tasks in `gently` at a second rate too;
    the first task with the cells `repeated` from `seeds` seeds. Immediate derivatives learn by RMSprop, as claimed
    for them. Online: MNIST98 with an update after every step, cells `followed`, at `rates`, by SGD. `length`: T of copy
    and delayed XOR, `lengths`: others. `fed`: cells that also learn the first task by RTRL and by adaptive feedback.
    """

    tasks: tuple[str, ...] = ("copy", "delayed-xor", "mnist98")
    cells: tuple[str, ...] = ("leaky", "GRU", "LSTM", "LRU", "ALIF")
    depths: tuple[int, ...] = (1, 2, 3, 4, 5)
    depth: int = 3
    costed: tuple[str, ...] = ("leaky",)
    gently: tuple[tuple[str, float], ...] = (("mnist98", 1e-3),)
    seeds: int = 3
    repeated: tuple[str, ...] = ("LRU", "ALIF")
    length: int = 20
    lengths: tuple[int, ...] = (40, 80)
    fed: tuple[str, ...] = ("leaky", "GRU", "LSTM", "LRU", "ALIF")
    followed: tuple[str, ...] = ("leaky",)
    online: tuple[str, ...] = ("spatial", "traces", "RTRL")
    rates: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2)
    units: int = 16
    batch_size: int = 32
    repetitions: int = 3
    steps: int = 400
    rate: float = 1e-2
    judged: int = 10
    evaluated: int = 1000
    runs: int = 5


def build(settings: Settings, point: Row, seed: int) -> Network:
    """Layers of one cell, after each of LRUs, which are linear, a tanh layer; a readout; pooled for MNIST98."""
    task = task_of(point["task"], point["T"], settings)
    keys = iter(jax.random.split(jax.random.key(seed), 2 * point["depth"] + 1))
    make_cell, options, gain = CELLS[point["cell"]]
    layers, size = [], task.input_size
    for _ in range(point["depth"]):
        cell = make_cell(size, settings.units, key=next(keys), **options)
        if gain != 1:
            cell = eqx.tree_at(lambda c: c.weight_ih, cell, gain * cell.weight_ih)
        layers, size = [*layers, cell], cell.output_size
        if point["cell"] == "LRU":
            layers.append(eqx.nn.MLP(size, settings.units, 1, 0, final_activation=jnp.tanh, key=next(keys)))
            size = settings.units
    layers.append(eqx.nn.Linear(size, task.output_size, key=next(keys)))
    network = stack(*layers, *([cells.CumulativeMean(task.output_size)] if task.name == "mnist98" else []))
    return with_feedback(network, seed=seed) if point["algorithm"] == "adaptive" else network


@functools.cache
def task_of(name: str, length: int, settings: Settings) -> Task:
    if name == "mnist98":
        return make(name, validation=settings.evaluated)
    sizes = {"copy": {"length": 3, "symbols": 4}, "delayed-xor": {"presentation": 5}}[name]
    return make(name, delay=length - 6, evaluation_size=settings.evaluated, **sizes)


def compare(settings: Settings, point: Row) -> Row:
    """Agreement with BPTT's gradient, at initial weights and in the mean over networks; what the gradient costs."""
    networks = [(build(settings, point, point["seed"] + i), point["seed"] + i) for i in range(settings.repetitions)]
    network, batch = networks[0][0], batch_of(settings, point, point["seed"])
    found = agreement(settings, point, networks)
    if point["algorithm"] == "BPTT":
        found["activity"] = _activity(network, batch)
    if point["cell"] in settings.costed and (point["task"], point["T"]) == (settings.tasks[0], settings.length):
        gradient = _compiled(settings, *_place(point), point["algorithm"], timed=True)
        plan: Any = gradient.memory_analysis()
        parameters = eqx.filter(network, eqx.is_inexact_array)
        seconds = _time(settings.runs, lambda: gradient(parameters, batch))
        found["microseconds"] = seconds / (settings.batch_size * point["T"]) * 1e6
        found["memory"] = plan.temp_size_in_bytes + plan.output_size_in_bytes
    return found


def agreement(settings: Settings, point: Row, networks: Sequence[tuple[Network, int]]) -> dict[str, Any]:
    """Cosines with BPTT's gradient: of all cells, and of each layer from below; means over networks and batches."""
    whole, layers = [], []
    for network, seed in networks:
        batch, parameters = batch_of(settings, point, seed), eqx.filter(network, eqx.is_inexact_array)
        found, exact = (
            of_cells(_compiled(settings, *_place(point), name, point["algorithm"] == "adaptive")(parameters, batch))
            for name in (point["algorithm"], "BPTT")
        )
        whole.append(cosine(found, exact))
        layers.append([cosine(found[name], exact[name]) for name in found])
    return {"cosine": float(np.mean(whole)), "layers": " ".join(f"{c:.4f}" for c in np.mean(layers, axis=0))}


def of_cells(network: Network) -> dict[str, Any]:
    """What a gradient says of the cells that remember, from below; the same of a network."""
    return {n: network.nodes[n] for n in network.recurrent_names if network.nodes[n].recurrence != "none"}


def cosine(a: Any, b: Any) -> float:
    """Of the angle between two trees of arrays; 0 where one of them is zero."""
    a, b = flat(a), flat(b)
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), np.finfo(float).tiny))


def flat(tree: Any) -> np.ndarray:
    """The arrays of a tree as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(float)


def _place(point):
    return point["task"], point["cell"], point["depth"], point["T"]


def batch_of(settings, point, seed) -> Sample:
    return task_of(point["task"], point["T"], settings).train_batch(seed, 0, settings.batch_size)


@functools.cache
def _compiled(settings, task, cell, depth, length, algorithm, adaptive=False, timed=False):
    """The gradient of a batch, by parameters; `adaptive`: of a network with feedback matrices.

    Only what is `timed` is optimised by the compiler, and makes also what is carried on.
    """
    point = {"task": task, "cell": cell, "depth": depth, "T": length, "algorithm": "adaptive" if adaptive else ""}
    parameters, static = eqx.partition(build(settings, point, 0), eqx.is_inexact_array)
    rule, loss = ALGORITHMS[algorithm], task_of(task, length, settings).loss

    def gradient(parameters, batch):
        network = eqx.combine(parameters, static)
        carry, estimate = rule.run(network, loss, rule.init(network, batch=settings.batch_size), batch)
        return (carry, estimate.gradient) if timed else estimate.gradient

    options: Any = None if timed else {"xla_backend_optimization_level": 0}
    return jax.jit(gradient).lower(parameters, batch_of(settings, point, 0)).compile(options)


def _time(runs: int, work: Callable[[], Any]) -> float:
    """Median seconds, after one run that does not count."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


@eqx.filter_jit
def _emissions(network, inputs):
    def step(states, x):
        states, _ = network.step(states, x)
        return states, {name: node.emit(states[name]) for name, node in of_cells(network).items()}

    return jax.vmap(lambda x: jax.lax.scan(step, network.initial_state(), x)[1])(inputs)


def _activity(network: Network, batch: Sample) -> float:
    """Mean absolute emission of the quietest layer: of spiking units the share that fires."""
    emissions = _emissions(network.effective(), jnp.asarray(batch.input))
    return min(float(jnp.mean(jnp.abs(each))) for each in emissions.values())


def follow(settings: Settings, point: Row) -> Row:
    """Learn after every step, and then compare the gradient of the last step with one whose past has the same weights.

    `distance`: from the algorithm's own gradient with the last weights in all of the past, by its norm. `bias`: of
    that one from BPTT's.
    """
    learn, judge = _online(settings, *_place(point), point["algorithm"])
    batch = batch_of(settings, point, point["seed"])
    batch = Sample(batch.input[:ONLINE], batch.target[:ONLINE], np.ones_like(batch.weight[:ONLINE]))
    parameters = eqx.filter(build(settings, point, point["seed"]), eqx.is_inexact_array)
    rate = jnp.float32(point["rate"])
    seconds = _time(settings.runs, lambda: learn(parameters, rate, batch))
    stale, fresh, exact = (flat(of_cells(each)) for each in judge(*learn(parameters, rate, batch), batch))
    return {
        "distance": float(np.linalg.norm(stale - fresh) / np.linalg.norm(fresh)),
        "bias": float(np.linalg.norm(fresh - exact) / np.linalg.norm(exact)),
        "cosine": cosine(stale, exact),
        "microseconds": seconds / (ONLINE * point["T"]) * 1e6,
    }


@functools.cache
def _online(settings, task, cell, depth, length, algorithm):
    """Two compiled functions: all steps but the last with an update after each; and the gradients of the last."""
    point = {"task": task, "cell": cell, "depth": depth, "T": length, "algorithm": algorithm}
    static = eqx.partition(build(settings, point, 0), eqx.is_inexact_array)[1]
    rule, loss = ALGORITHMS[algorithm], task_of(task, length, settings).loss
    cut = lambda batch, start, stop: jax.tree.map(lambda leaf: jnp.asarray(leaf)[:, start:stop], batch)  # noqa: E731

    def begin(parameters):
        return rule.init(eqx.combine(parameters, static), batch=ONLINE)

    def run(rule, parameters, carry, window):
        carry, estimate = rule.run(eqx.combine(parameters, static), loss, carry, window)
        return carry, estimate.gradient

    def learn(parameters, rate, batch):
        def step(state, piece):
            parameters, carry = state
            carry, gradient = run(rule, parameters, carry, jax.tree.map(lambda leaf: leaf[:, None], piece))
            return (jax.tree.map(lambda p, g: p - rate * g, parameters, gradient), carry), None

        steps = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), cut(batch, 0, length - 1))
        return jax.lax.scan(step, (parameters, begin(parameters)), steps)[0]

    def judge(parameters, carry, batch):
        last, past = cut(batch, length - 1, length), cut(batch, 0, length - 1)
        stale = run(rule, parameters, carry, last)[1]
        fresh = run(rule, parameters, run(rule, parameters, begin(parameters), past)[0], last)[1]
        only = Sample(batch.input, batch.target, jnp.zeros_like(batch.weight).at[:, -1].set(1.0))
        whole = BPTT()
        start = whole.init(eqx.combine(parameters, static), batch=ONLINE)
        return stale, fresh, run(whole, parameters, start, only)[1]

    return jax.jit(learn), jax.jit(judge)
