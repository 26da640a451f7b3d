"""Errors brought to cells by matrices of their own, in place of the transposed weights between them and the output.

For a cell m with emission a^m, and B_m a matrix [emission, output]:

    error at a^m_t     = B_m (d l_t / d output_t)                  (1)
    gradient of B_m    = sum_t a^m_t (d l_t / d output_t)^T        (2)

(2) is the transpose of the gradient of a linear readout from the cell. A readout and its B that are given the same
updates and the same weight decay come to agree (Kolen and Pollack 1994).
"""

import math
import zlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from onward.cells.base import Cell
from onward.modules import Feedback
from onward.network import Network
from onward.unroll import Errors, Rule, Window, swap

NODE = "feedback"


def with_feedback(network: Network, *, seed: int = 0) -> Network:
    """`network` with matrices that bring errors to its cells, for `EProp(feedback="adaptive")` to learn.

    They are one node more, a `modules.Feedback`, which is on no path to the output: the network computes what it did,
    and other algorithms give them a gradient of zero. They start as those that `EProp(feedback="random", seed=seed)`
    keeps: normal, of variance 1 / emission, which is that of a usual readout.

    **Raises.** `ValueError` if the network has such a node, or its output's size is not known.
    **Example.**

        >>> import equinox as eqx, jax, onward as ow
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> net = ow.stack(ow.cells.GRU(3, 4, key=keys[0]), readout=eqx.nn.Linear(4, 2, key=keys[1]))
        >>> with_feedback(net).nodes["feedback"].matrices["0_gru"].shape
        (4, 2)
    """
    if NODE in network.nodes:
        raise ValueError(f"the network has a node {NODE!r} already; use it as it is, or rename that node")
    if network.output_size is None:
        raise ValueError("matrices need the size of the network's output; build the network with `input_size=`")
    cells = fed_cells(network, Rule(time="within", depth="spatial"))
    matrices = {cell: random_matrix(network, cell, network.output_size, seed) for cell in cells}
    nodes = {**network.nodes, NODE: Feedback({cell: jnp.asarray(matrix) for cell, matrix in matrices.items()})}
    inputs = {**network.inputs, NODE: (network.output,)}
    return Network(nodes, inputs, network.output, input_size=network.input_size)


def fed_cells(network: Network, rule: Rule) -> tuple[str, ...]:
    """Cells that remember, below the output, whose errors are brought to them by a matrix.

    All of them with `rule.depth` "spatial". With "all", in which cells get theirs from the cells above, only those that
    reach the output through nodes that remember nothing.
    """
    reached, cells = {network.output}, []
    for name, parents in reversed(network.edges):
        if name not in reached:
            continue
        node = network.nodes[name]
        remembers = isinstance(node, Cell) and rule.remembers(node)
        if remembers and name != network.output:
            cells.append(name)
        if rule.depth == "spatial" or not remembers:
            reached.update(parents)
    return tuple(reversed(cells))


def random_matrix(network: Network, cell: str, outputs: int, seed: int) -> Float[np.ndarray, "emission output"]:
    """B of a cell: a function of `seed`, the cell's name and the sizes alone."""
    size = network.nodes[cell].output_size
    draw = np.random.default_rng([seed, zlib.crc32(cell.encode())])
    return draw.normal(size=(size, outputs)).astype(jnp.result_type(float)) / math.sqrt(size)


def matrices_of(network: Network) -> Feedback | None:
    """The network's own matrices, if it has any."""
    return next((node for node in network.nodes.values() if isinstance(node, Feedback)), None)


def sweep(network: Network, rule: Rule, linear: Window, at_output: PyTree, *, seed: int, adaptive: bool) -> Errors:
    """Errors swept back through a window, with (1) at the fed cells; with `adaptive`, (2) among the parameters.

    What lies between the output and the cells gets its errors through the weights, as always. With `rule.depth`
    "spatial" a cell hands errors down to memoryless nodes alone, as far as the next cell.
    """
    if getattr(at_output, "ndim", 0) != 3:
        raise ValueError(f"matrices bring errors from one vector, but the output of node {network.output!r} is none")
    cells, error, own = fed_cells(network, rule), swap(at_output), matrices_of(network)

    def matrix(cell):
        return random_matrix(network, cell, error.shape[-1], seed) if own is None else own.matrices[cell]

    signals = {cell: (error @ matrix(cell).T).astype(error.dtype) for cell in cells}
    above = linear.sweep(at_output, {}, closed=cells)
    below = linear.sweep(None, {}, signals=signals, closed=cells if rule.depth == "spatial" else ())
    errors = Errors(*(_sum(one, other) for one, other in zip(above, below, strict=True)))
    if not adaptive or own is None:
        return errors
    found = {cell: jnp.einsum("tbi,tbo->io", linear.nodes[cell].value, error) for cell in cells}
    found = {cell: found.get(cell, jnp.zeros_like(matrix)) for cell, matrix in own.matrices.items()}
    name = next(name for name, node in network.nodes.items() if node is own)
    return errors._replace(parameters=errors.parameters | {name: eqx.tree_at(lambda f: f.matrices, own, found)})


def _sum(one: dict[str, PyTree], other: dict[str, PyTree]) -> dict[str, PyTree]:
    """By name, where a node was reached from above and from cells."""
    return one | other | {name: jax.tree.map(jnp.add, one[name], other[name]) for name in one if name in other}


def check_matrices(network: Network, rule: Rule, *, adaptive: bool) -> None:
    """Raise a `ValueError` where the network's matrices are missing or do not fit."""
    own = matrices_of(network)
    if own is None:
        if adaptive:
            raise ValueError(
                "EProp(feedback='adaptive') learns matrices that are part of the network, and this one has none; give "
                "it some with onward.with_feedback(network), on the command line with --network.feedback"
            )
        return
    for cell in fed_cells(network, rule):
        shape = network.nodes[cell].output_size, network.output_size
        found: Array | None = own.matrices.get(cell)
        if found is None or found.shape != shape:
            raise ValueError(
                f"cell {cell!r} needs a feedback matrix of shape {shape}, but the network's is "
                f"{None if found is None else found.shape}; make the matrices anew with onward.with_feedback(network)"
            )
