"""What the study of the note "Exact iterative BPTT" measures, a function for each part."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, PyTree

from onward import cells
from onward.algorithms import BPTT, RTRL, Algorithm, NthOrder
from onward.cells import Cell
from onward.evaluation import evaluate
from onward.gradients import value_and_grad
from onward.losses import squared_error
from onward.network import Network, stack
from onward.reproduce.gradient_quality import compare
from onward.reproduce.study import Row, Study, clock, record
from onward.sample import Sample
from onward.tasks import Copy

OPEN = 2.0  # added to the bias of forget gates
TURNS, MOST = 128, 2048  # windows that are timed together, and steps of theirs


class ConcatenatingRNN(Cell):
    """Tanh loops that read all their outputs concatenated with the input, the kind of recurrence the note is about.

        R^k_t = tanh(W^k [R^1_{t-1}; ...; R^K_{t-1}; x_t; 1])      (1)

    With K = 1 the plain RNN of N units; with K > 1 the same network, number by number, of which we say K loops.

    **Shapes.** N / K units of K components: `weight` [N / K, K, N + I + 1]; state R^1 ... R^K; emission [N].
    """

    weight: Float[Array, "units loops reads"]
    input_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    recurrent: ClassVar[tuple[str, ...]] = ("weight",)

    def __init__(self, input_size: int, hidden_size: int, *, loops: int = 1, key: Array):
        self.input_size, self.output_size = input_size, hidden_size
        scale = np.concatenate([np.full(hidden_size, hidden_size), np.full(input_size, input_size), [np.inf]]) ** -0.5
        weight = scale * jax.random.normal(key, (loops, hidden_size // loops, scale.size))
        self.weight = jnp.swapaxes(weight, 0, 1)

    def initial_state(self):
        return tuple(jnp.zeros(self.weight.shape[0], self.weight.dtype) for _ in range(self.weight.shape[1]))

    def emit(self, state):
        return jnp.concatenate(state)

    def transition(self, state, emission, input):
        read = jnp.concatenate([emission, input, jnp.ones(1, input.dtype)])
        return tuple(jnp.tanh(self.weight[:, k] @ read) for k in range(self.weight.shape[1]))


CELLS: dict[str, Callable[..., Cell]] = {
    "RNN, one loop": ConcatenatingRNN,
    "RNN, two loops": functools.partial(ConcatenatingRNN, loops=2),
    "GRU": cells.GRU,
    "LSTM": cells.LSTM,
    "ALIF": functools.partial(cells.ALIF, tau_m=5.0, tau_a=20.0, beta=0.5, dampening=1.0),
}


def stepwise(look_back: int) -> dict[str, tuple[Algorithm, int | None]]:
    """What gives a gradient at every step: the algorithm and its window, None for the whole past at each step."""
    return {
        "naive BPTT": (BPTT(), None),
        "RTRL": (RTRL(), 1),
        f"order {look_back}": (NthOrder(look_back), 1),
        f"truncated BPTT, {look_back}": (BPTT(), look_back),
    }


def learners(look_back: int) -> dict[str, tuple[Algorithm, int | None]]:
    """What is trained, and the steps between updates, None for one update a sequence."""
    _, *online = stepwise(look_back).items()
    half = RTRL(cross_terms="directional"), RTRL(cross_terms="reversed")
    return {"BPTT": (BPTT(), None)} | {f"RTRL, {one.cross_terms}": (one, 1) for one in half} | dict(online)


def exactness(study: Study, settings: Any, point: Row) -> Row:
    """`error`: of all steps' gradients, to autodiff along the parameters as they moved; `drift`: of the last step's

    gradient, to BPTT's at the parameters of that moment, as if they had always been so.
    """
    network, sample = _problem(settings, point["cell"], settings.length, point["seed"])
    moved, gradients, _ = learn(network, RTRL(), sample, jnp.asarray(point["rate"]), RTRL().init(network))
    summed = jax.tree.map(lambda leaf: leaf.sum(axis=0), gradients)
    last, now = (jax.tree.map(lambda leaf: leaf[-1], tree) for tree in (gradients, moved))
    frozen = value_and_grad(eqx.combine(now, network), squared_error, only_last(sample), algorithm=BPTT())[1]
    return {
        "error": compare(summed, _along(network, moved, sample))["relative_error"],
        "drift": compare(last, frozen)["relative_error"],
    }


def cross_terms(study: Study, settings: Any, point: Row) -> Row:
    """The gradient of the layer by the losses of `steps` steps with half of the cross terms, beside BPTT's.

    `kept`, `dropped`: Frobenius norms of these parts of the Jacobian dR_t / dR_{t-1}, as shares of all of it.
    """
    network, sample = _problem(settings, point["cell"], settings.length, point["seed"])
    asked = jnp.arange(settings.length) < point["steps"]
    sample = eqx.tree_at(lambda s: s.weight, sample, sample.weight * asked)
    algorithm = RTRL(cross_terms=point["method"])
    half, exact = (value_and_grad(network, squared_error, sample, algorithm=a)[1] for a in (algorithm, BPTT()))
    (name,) = network.recurrent_names
    found = compare(half.nodes[name], exact.nodes[name])
    later, earlier = _block_shares(network, sample.input)
    kept, dropped = (later, earlier) if point["method"] == "directional" else (earlier, later)
    shares = {"kept": float(kept), "dropped": float(dropped)}
    return {"error": found["relative_error"], "cosine": found["cosine"], **shares}


def cost(study: Study, settings: Any, point: Row) -> Row:
    """Time and memory of one step's gradient, the `steps`-th of the sequence, in float32.

    Measured over several steps that follow it; or, where each goes through the whole past, over as many pasts.
    """
    algorithm, window = stepwise(settings.look_back)[point["method"]]
    count = point["steps"]
    turns, span = (TURNS, window) if window else (max(1, MOST // count), count)
    with jax.enable_x64(False):
        network, sample = _problem(settings, point["cell"], count + turns * span, point["seed"])
        past, rest = (jax.tree.map(lambda leaf, at=at: leaf[at], sample) for at in np.s_[:count, count:])
        windows = jax.tree.map(lambda leaf: leaf.reshape(turns, span, *leaf.shape[1:]), rest)
        windows = eqx.tree_at(lambda s: s.weight, windows, windows.weight.at[:, : span - (window or 1)].set(0))
        parameters, static = eqx.partition(network, eqx.is_inexact_array)

        def run(parameters, carry, window):
            carry, estimate = algorithm.run(eqx.combine(parameters, static), squared_error, carry, window)
            return carry, estimate.gradient

        def run_each(parameters, carry, windows):
            def one(carry, each):
                after, gradient = run(parameters, carry, each)
                return after if window else carry, gradient

            return lax.scan(one, carry, windows)

        carry = algorithm.init(network)
        if window:
            carry, _ = jax.jit(run)(parameters, carry, past)
        seconds, memory = clock(run_each, parameters, carry, windows, runs=settings.runs)
        memory += sum(leaf.nbytes for leaf in jax.tree.leaves(carry))
    return {"microseconds": seconds / turns / (window or 1) * 1e6, "memory": memory}


def learning(study: Study, settings: Any, point: Row) -> Row:
    """Test accuracy on a symbol that must be kept for longer than `look_back` steps, in float32.

    Of an LSTM whose forget gates start open.
    """
    algorithm, window = learners(settings.look_back)[point["method"]]
    with jax.enable_x64(False):
        task = Copy(length=1, symbols=4, delay=settings.delay, evaluation_size=512)
        keys = jax.random.split(jax.random.key(point["seed"]))
        layer = cells.LSTM(task.input_size, settings.memory_units, key=keys[0])
        layer = eqx.tree_at(lambda cell: cell.bias_ih, layer, layer.bias_ih.at[:, 1].add(OPEN))
        network = stack(layer, readout=eqx.nn.Linear(layer.output_size, task.output_size, key=keys[1]))
        trained = study.train(
            network,
            task,
            algorithm=algorithm,
            optimizer=optax.adam(point["rate"]),
            steps=settings.batches,
            batch_size=settings.batch_size,
            window=window,
            validate_every=max(1, settings.batches // settings.judged),
            keep_best=False,
            seed=point["seed"],
        )
        recorded = record(trained, "accuracy")
        found = evaluate(trained.network, task, "test")
    return {
        "accuracy": found["accuracy"],
        "loss": found["loss"],
        "microseconds": recorded["batch_seconds"] * 1e6,
        "curve": recorded["curve"],
    }


def _problem(settings: Any, cell: str, length: int, seed: int) -> tuple[Network, Sample]:
    """A layer with a readout, and one sequence with a loss at every step."""
    keys = jax.random.split(jax.random.key(seed))
    layer = CELLS[cell](settings.inputs, settings.units, key=keys[0])
    network = stack(layer, readout=eqx.nn.Linear(layer.output_size, 1, key=keys[1]))
    rng = np.random.default_rng(seed)
    arrays = rng.normal(size=(length, settings.inputs)), rng.normal(size=(length, 1)), np.ones(length)
    return network, Sample(*map(jnp.asarray, arrays))


def only_last(sample: Sample) -> Sample:
    """The same with a loss at the last step alone."""
    return eqx.tree_at(lambda s: s.weight, sample, jnp.zeros_like(sample.weight).at[-1].set(1))


@eqx.filter_jit
def learn(network: Network, algorithm: Algorithm, sample: Sample, rate: Array, carry: PyTree):
    """An update after every step, eq. 3: the parameters at each step, the gradients and the losses, [time, ...]."""
    parameters, static = eqx.partition(network, eqx.is_inexact_array)

    def step(state, inputs):
        parameters, carry = state
        window = jax.tree.map(lambda leaf: leaf[None], inputs)
        carry, estimate = algorithm.run(eqx.combine(parameters, static), squared_error, carry, window)
        updated = jax.tree.map(lambda p, g: p - rate * g, parameters, estimate.gradient)
        return (updated, carry), (parameters, estimate.gradient, estimate.loss)

    return lax.scan(step, (parameters, carry), sample)[1]


@eqx.filter_jit
def _along(network: Network, moved: PyTree, sample: Sample) -> PyTree:
    """Derivative of the loss by a common shift of the parameters of all steps, as the note's eq. 8 has it."""

    def loss(shift):
        def step(state, inputs):
            parameters, one = inputs
            shifted = eqx.combine(jax.tree.map(jnp.add, parameters, shift), network)
            state, output = shifted.step(state, one.input)
            return state, one.weight * squared_error(output, one.target)

        return jnp.sum(lax.scan(step, network.initial_state(), (moved, sample))[1])

    return jax.grad(loss)(jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), moved))


@eqx.filter_jit
def _block_shares(network: Network, inputs: Array) -> tuple[Array, Array]:
    """Norms of dR^k_t / dR^l_{t-1} over l > k and over l < k, as shares of that of the whole Jacobian."""
    (cell,) = (network.nodes[name] for name in network.recurrent_names)

    def step(state, x):
        advance = lambda state: cell.transition(state, cell.emit(state), x)  # noqa: E731
        blocks = jax.tree.leaves(jax.jacrev(lambda s: jax.tree.leaves(advance(s)))(state))
        count = len(jax.tree.leaves(state))
        squares = jnp.stack([jnp.sum(block**2) for block in blocks]).reshape(count, count)
        return advance(state), squares

    squares = lax.scan(step, cell.initial_state(), inputs)[1].sum(axis=0)
    whole = squares.sum()
    return jnp.sqrt(jnp.triu(squares, 1).sum() / whole), jnp.sqrt(jnp.tril(squares, -1).sum() / whole)
