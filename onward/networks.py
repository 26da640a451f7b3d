"""Ready-made networks: the blocks of linear recurrent units that the comparisons use, and a stack of one cell."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from onward import modules
from onward.cells import LRU, LSTM, Cell, CumulativeMean, LockedDropout, Sparse, WeightDrop
from onward.cells.base import positive_sizes
from onward.network import INPUT, Network


def lru_blocks(
    input_size: int,
    output_size: int,
    *,
    width: int = 32,
    units: int = 32,
    layers: int = 4,
    expansion: int = 4,
    r_min: float = 0.9,
    r_max: float = 1.0,
    max_phase: float = 6.28,
    pooling: bool = True,
    embed: bool = False,
    key: Array,
) -> Network:
    """Blocks of linear recurrent units, as in the MNIST98 experiment of the forward-propagation-of-errors post.

        encoder -> layers x [LRU -> Re(C h) -> layer norm -> MLP with one ReLU layer] -> readout -> cumulative mean

    There are no skip connections. `encoder` and `readout` are affine; C is complex, so that Re(C h) is one linear map
    from the real and imaginary parts that an LRU emits, without a bias.

    **Shapes.** Input [time, input_size]; between blocks [width]; LRU with `units` complex units, emission [2 units];
    MLP width -> expansion * width -> width; output [time, output_size].
    **Arguments.** `r_min`, `r_max`, `max_phase`: the ring of initial eigenvalues, see `LRU`. `pooling`: end with a
    straight-through cumulative mean, for tasks that ask for one answer about the whole sequence. `embed`: the input is
    one integer a step, below `input_size`, and the encoder an embedding.
    **Raises.** `ValueError` if a size is not a positive integer or the ring makes no sense.
    **Departures.** The post does not say how the maps start: here all biases at 0 and weights with variance 1 / inputs
    (both parts of C with 1 / units, as in the LRU paper). With biases that vary, four blocks without skips drown the
    input, and training stays at chance for hundreds of steps.
    **Source.** Zucchet, Pourcel and Ernoult 2026, "Forward propagation of errors through time"; Orvieto et al. 2023,
    arXiv:2303.06349.
    **Example.**

        >>> import jax
        >>> net = lru_blocks(1, 10, layers=2, key=jax.random.key(0))
        >>> net.recurrent_names
        ('lru_1', 'lru_2', 'pool')
    """
    positive_sizes(width=width, units=units, layers=layers, expansion=expansion)
    keys = iter(jax.random.split(key, 2 + 3 * layers))
    encoder = modules.embedding if embed else _linear
    nodes: dict[str, Any] = {"encoder": encoder(input_size, width, key=next(keys))}
    for index in range(1, layers + 1):
        ring = {"r_min": r_min, "r_max": r_max, "max_phase": max_phase}
        nodes[f"lru_{index}"] = LRU(width, units, **ring, key=next(keys))
        nodes[f"mix_{index}"] = _real_part(units, width, next(keys))
        nodes[f"norm_{index}"] = eqx.nn.LayerNorm(width)
        nodes[f"mlp_{index}"] = _mlp(width, expansion * width, next(keys))
    nodes["readout"] = _linear(width, output_size, key=next(keys))
    if pooling:
        nodes["pool"] = CumulativeMean(output_size)
    return _chain(nodes)


def cell_stack(
    cell: Callable[..., Cell],
    input_size: int,
    output_size: int,
    *,
    units: int = 128,
    layers: int = 1,
    density: float = 1.0,
    pooling: bool = False,
    key: Array,
    **options: Any,
) -> Network:
    """Layers of one kind of cell, each reading the emission of the one below, and an affine readout.

    **Arguments.** `cell`: a cell class such as `onward.cells.GRU`, called as `cell(input_size, units, key=key,
    **options)`. `density`: share of recurrent connections that there are, see `onward.cells.Sparse`. `pooling`: end
    with a straight-through cumulative mean.
    **Raises.** `ValueError` if a size is not a positive integer.
    **Example.**

        >>> import jax, onward as ow
        >>> net = cell_stack(ow.cells.GRU, 3, 2, units=8, layers=2, key=jax.random.key(0))
        >>> net.unroll(jax.numpy.ones((5, 3))).shape
        (5, 2)
    """
    positive_sizes(units=units, layers=layers)
    keys = iter(jax.random.split(key, layers + 1))
    nodes: dict[str, Any] = {}
    name, size = cell.__name__.lower(), input_size
    for index in range(1, layers + 1):
        node = cell(size, units, key=next(keys), **options)
        nodes[f"{name}_{index}"] = node if density == 1 else Sparse(node, density, seed=index)
        size = node.output_size
    nodes["readout"] = eqx.nn.Linear(size, output_size, key=next(keys))
    if pooling:
        nodes["pool"] = CumulativeMean(output_size)
    return _chain(nodes)


def language_model(
    vocabulary: int,
    *,
    cell: Callable[..., Cell] = LSTM,
    size: int | None = None,
    units: int = 256,
    layers: int = 1,
    tied: bool = False,
    dropout: float = 0.0,
    weight_drop: float = 0.0,
    softmaxes: int = 1,
    key: Array,
    **options: Any,
) -> Network:
    """Tokens in, logits of the next token out: an embedding, layers of one kind of cell, and a map to the vocabulary.

        embedding -> layers x [dropout -> cell with weight drop] -> dropout -> one softmax, or a mixture of several

    Where the map to the vocabulary is tied and the last layer not of the embedding's size, a linear map goes between.

    **Shapes.** Input [time], integers; embedding [vocabulary, size]; output [time, vocabulary].
    **Arguments.** `cell`: a cell class, called as `cell(inputs, units, key=key, **options)`. `size`: of the embedding,
    by default `units`. `tied`: the map to the vocabulary has the embedding's weights. `dropout`: rate of locked dropout
    before each layer and after the last; `weight_drop`: rate at which recurrent weights are dropped; both in training
    alone. `softmaxes`: how many are mixed.
    **Raises.** `ValueError` if a size is not a positive integer or a rate not in [0, 1).
    **Source.** Merity, Keskar and Socher 2018, arXiv:1708.02182, and Yang et al. 2018, arXiv:1711.03953, in small.
    **Example.**

        >>> import jax
        >>> net = language_model(50, units=8, layers=2, tied=True, dropout=0.2, key=jax.random.key(0))
        >>> net.unroll(jax.numpy.arange(6)).shape
        (6, 50)
    """
    size = units if size is None else size
    positive_sizes(vocabulary=vocabulary, size=size, units=units, layers=layers, softmaxes=softmaxes)
    keys = iter(jax.random.split(key, layers + 4))
    nodes: dict[str, Any] = {"embedding": modules.embedding(vocabulary, size, key=next(keys))}
    width = size
    for index in range(1, layers + 1):
        if dropout:
            nodes[f"dropout_{index}"] = LockedDropout(width, dropout)
        node = cell(width, units, key=next(keys), **options)
        nodes[f"{cell.__name__.lower()}_{index}"] = WeightDrop(node, weight_drop) if weight_drop else node
        width = node.output_size
    if dropout:
        nodes["dropout"] = LockedDropout(width, dropout)
    if softmaxes == 1 and tied and width != size:
        nodes["narrow"] = _linear(width, size, key=next(keys), bias=False)
        width = size
    inner = width if softmaxes == 1 else size
    decoder = modules.Tied("embedding", size, vocabulary) if tied else _linear(inner, vocabulary, key=next(keys))
    if softmaxes > 1:
        decoder = modules.MixtureOfSoftmaxes(width, size, softmaxes, decoder, key=next(keys))
    nodes["readout"] = decoder
    return _chain(nodes)


def _linear(inputs: int, outputs: int, *, key: Array, bias: bool = True) -> eqx.nn.Linear:
    """A linear map with weights of variance 1 / inputs and biases of 0, so that depth does not drown the input."""
    module = eqx.nn.Linear(inputs, outputs, use_bias=bias, key=key)
    weight = jax.random.normal(key, (outputs, inputs)) / math.sqrt(inputs)
    module = eqx.tree_at(lambda linear: linear.weight, module, weight)
    return eqx.tree_at(lambda linear: linear.bias, module, jnp.zeros(outputs)) if bias else module


def _mlp(width: int, hidden: int, key: Array) -> eqx.nn.MLP:
    first, second = jax.random.split(key)
    module = eqx.nn.MLP(width, width, hidden, 1, key=key)
    layers = _linear(width, hidden, key=first), _linear(hidden, width, key=second)
    return eqx.tree_at(lambda mlp: mlp.layers, module, layers)


def _real_part(units: int, width: int, key: Array) -> eqx.nn.Linear:
    """h -> Re(C h) on the real and imaginary parts of h: [2 units] -> [width]; both parts of C of variance 1/units."""
    module = _linear(2 * units, width, key=key, bias=False)
    return eqx.tree_at(lambda linear: linear.weight, module, math.sqrt(2) * module.weight)


def _chain(nodes: dict[str, Any]) -> Network:
    names = list(nodes)
    inputs = {name: (parent,) for name, parent in zip(names, [INPUT, *names], strict=False)}
    return Network(nodes, inputs, names[-1])
