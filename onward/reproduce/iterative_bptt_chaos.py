"""Gradients of a chaotic network: how they explode, and what learning makes of them with and without decay."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, PyTree

from onward import cells
from onward.algorithms import BPTT, RTRL, Algorithm
from onward.cells import Cell
from onward.losses import squared_error
from onward.network import Network, stack
from onward.reproduce.gradient_quality import compare
from onward.reproduce.iterative_bptt_parts import learn, only_last
from onward.reproduce.study import Row, Study
from onward.sample import Sample

PERIOD = 20  # steps of the sine that the network is to make
PIECE = 5  # steps between two looks at the influence


def chaos(study: Study, settings: Any, point: Row) -> Row:
    """A tanh network left to itself, whose recurrent weights have a standard deviation of gain / sqrt(N).

    `lyapunov`: its largest exponent; `growth`: of the logarithm of the influence's norm, a step, over the second half
    of the steps; `curve`: log10 of the norms; `cosine`: of the last step's gradient with BPTT's; `loss`: in the last
    quarter of a stream on which it learns, at every step, to make a sine.
    """
    size, length = settings.chaotic_units, settings.chaotic_length
    keys = jax.random.split(jax.random.key(point["seed"]), 4)
    layer = cells.RNN(1, size, key=keys[0])
    weight = point["gain"] / np.sqrt(size) * jax.random.normal(keys[1], (size, size))
    where = lambda cell: (cell.weight_hh, cell.bias_ih, cell.bias_hh)  # noqa: E731
    layer = eqx.tree_at(where, layer, (weight, jnp.zeros(size), jnp.zeros(size)))
    network = stack(layer, readout=eqx.nn.Linear(size, 1, key=keys[2]))
    (name,) = network.recurrent_names
    state, exponent = lyapunov(layer, jax.random.normal(keys[3], (size,)))
    algorithm = RTRL(decay=point["decay"])
    start = lambda a: eqx.tree_at(lambda carry: carry.states, a.init(network), {name: state})  # noqa: E731
    stream = _sine(settings.stream)
    sample = only_last(jax.tree.map(lambda leaf: leaf[:length], stream))
    gradient, norms = _influence(network, algorithm, sample, start(algorithm))
    exact = eqx.filter_jit(BPTT().run)(network, squared_error, start(BPTT()), sample)[1].gradient
    half = np.log(norms)[len(norms) // 2 :]
    losses = learn(network, algorithm, stream, jnp.asarray(settings.stream_rate), start(algorithm))[2]
    return {
        "lyapunov": float(exponent),
        "growth": float(np.polyfit(PIECE * np.arange(len(half)), half, 1)[0]),
        "cosine": compare(gradient.nodes[name], exact.nodes[name])["cosine"],
        "loss": float(np.mean(losses[-len(losses) // 4 :])),
        "curve": " ".join(f"{value:.4g}" for value in np.log10(norms)),
    }


def _sine(length: int) -> Sample:
    """No input, and a sine to make."""
    target = jnp.sin(2 * jnp.pi / PERIOD * jnp.arange(length))[:, None]
    return Sample(jnp.zeros_like(target), target, jnp.ones(length))


@eqx.filter_jit
def lyapunov(cell: Cell, state: Array, transient: int = 500, measured: int = 2000) -> tuple[Array, Array]:
    """A state after so many steps without input, and the mean growth of a small difference, a step, since the first."""

    def step(state):
        return cell.transition(state, cell.emit(state), jnp.zeros(cell.input_size))

    def along(pair, _):
        state, difference = jax.jvp(step, pair[:1], pair[1:])
        size = jnp.linalg.norm(difference)
        return (state, difference / size), jnp.log(size)

    (state, _), sizes = lax.scan(along, (state, state), length=transient + measured)
    return state, jnp.mean(sizes[transient:])


@eqx.filter_jit
def _influence(network: Network, algorithm: Algorithm, sample: Sample, carry: PyTree) -> tuple[PyTree, Array]:
    """The gradient of the last piece of a sample, and the norm of the influence after each."""
    pieces = jax.tree.map(lambda leaf: leaf.reshape(-1, PIECE, *leaf.shape[1:]), sample)

    def advance(carry, piece):
        carry, estimate = algorithm.run(network, squared_error, carry, piece)
        return carry, (estimate.gradient, optax.tree.norm(carry.memory))

    gradients, norms = lax.scan(advance, carry, pieces)[1]
    return jax.tree.map(lambda leaf: leaf[-1], gradients), norms
