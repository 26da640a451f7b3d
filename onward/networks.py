"""Ready-made networks: the blocks of linear recurrent units that the comparisons use, and a stack of one cell."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from onward.cells import LRU, Cell, CumulativeMean
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
    key: Array,
) -> Network:
    """Blocks of linear recurrent units, as in the MNIST98 experiment of the forward-propagation-of-errors post.

        encoder -> layers x [LRU -> Re(C h) -> layer norm -> MLP with one ReLU layer] -> readout -> cumulative mean

    There are no skip connections. `encoder` and `readout` are affine; C is complex, so that Re(C h) is one linear map
    from the real and imaginary parts that an LRU emits, without a bias.

    **Shapes.** Input [time, input_size]; between blocks [width]; LRU with `units` complex units, emission [2 units];
    MLP width -> expansion * width -> width; output [time, output_size].
    **Arguments.** `r_min`, `r_max`, `max_phase`: the ring of initial eigenvalues, see `LRU`. `pooling`: end with a
    straight-through cumulative mean, for tasks that ask for one answer about the whole sequence.
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
    nodes: dict[str, Any] = {"encoder": _linear(input_size, width, next(keys))}
    for index in range(1, layers + 1):
        ring = {"r_min": r_min, "r_max": r_max, "max_phase": max_phase}
        nodes[f"lru_{index}"] = LRU(width, units, **ring, key=next(keys))
        nodes[f"mix_{index}"] = _real_part(units, width, next(keys))
        nodes[f"norm_{index}"] = eqx.nn.LayerNorm(width)
        nodes[f"mlp_{index}"] = _mlp(width, expansion * width, next(keys))
    nodes["readout"] = _linear(width, output_size, next(keys))
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
    pooling: bool = False,
    key: Array,
    **options: Any,
) -> Network:
    """Layers of one kind of cell, each reading the emission of the one below, and an affine readout.

    **Arguments.** `cell`: a cell class such as `onward.cells.GRU`, called as `cell(input_size, units, key=key,
    **options)`. `pooling`: end with a straight-through cumulative mean.
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
        nodes[f"{name}_{index}"] = node
        size = node.output_size
    nodes["readout"] = eqx.nn.Linear(size, output_size, key=next(keys))
    if pooling:
        nodes["pool"] = CumulativeMean(output_size)
    return _chain(nodes)


def _linear(inputs: int, outputs: int, key: Array, *, bias: bool = True) -> eqx.nn.Linear:
    """A linear map with weights of variance 1 / inputs and biases of 0, so that depth does not drown the input."""
    module = eqx.nn.Linear(inputs, outputs, use_bias=bias, key=key)
    weight = jax.random.normal(key, (outputs, inputs)) / math.sqrt(inputs)
    module = eqx.tree_at(lambda linear: linear.weight, module, weight)
    return eqx.tree_at(lambda linear: linear.bias, module, jnp.zeros(outputs)) if bias else module


def _mlp(width: int, hidden: int, key: Array) -> eqx.nn.MLP:
    first, second = jax.random.split(key)
    module = eqx.nn.MLP(width, width, hidden, 1, key=key)
    layers = _linear(width, hidden, first), _linear(hidden, width, second)
    return eqx.tree_at(lambda mlp: mlp.layers, module, layers)


def _real_part(units: int, width: int, key: Array) -> eqx.nn.Linear:
    """h -> Re(C h) on the real and imaginary parts of h: [2 units] -> [width]; both parts of C of variance 1/units."""
    module = _linear(2 * units, width, key, bias=False)
    return eqx.tree_at(lambda linear: linear.weight, module, math.sqrt(2) * module.weight)


def _chain(nodes: dict[str, Any]) -> Network:
    names = list(nodes)
    inputs = {name: (parent,) for name, parent in zip(names, [INPUT, *names], strict=False)}
    return Network(nodes, inputs, names[-1])
