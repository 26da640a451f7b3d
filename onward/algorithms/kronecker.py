"""The influence as a few Kronecker products: what `KFRTRL` and `OK` have in common.

Weights W that act on a vector v, and so enter a step through the product z = W v alone, have the immediate derivative
B v^T, where B = d s_t / d z. Their influence on the states is kept as a sum of r such products, and a step adds one:

    S_t      = sum_i A_i u_i^T    of    (J A_1, u_1) ... (J A_r, u_r), (B_t, v_t),   r + 1 reduced to r      (1)
    gradient = sum_t sum_i (e_t J_{t-1} A_i) u_i^T + e_t M_t                                                (2)

The reduction is random and unbiased; how it is done is what the algorithms differ in. v ends with a 1, for biases.
A cell's weights on its inputs and on its own emissions are one product where only the sum of the two enters, and two
where it is not so (GRU). States are those of all cells, so that depth, and any graph, is treated as one layer is.
Parameters that do not act as a product (diagonal recurrences, norms, embeddings, MLPs) keep their exact influence.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from onward.algorithms.base import Carry, Random, parameter_names, remembering_descendants
from onward.algorithms.sensitivity import (
    Influence,
    add_carried,
    advance,
    blocks,
    init_influence,
    of_sources,
    sweep_rows,
)
from onward.algorithms.windows import sum_gradients
from onward.cells.base import Cell, FactoredCell, summed_leaves
from onward.jacobian import as_matrix
from onward.network import Network
from onward.sample import Sample
from onward.unroll import Rule, Window

RULE = Rule()
Reduce = Callable[[Array, Array, Array], tuple[Array, Array]]


class Product(NamedTuple):
    """Weights of a node that act by one product; of a cell those on its `read` input, its `emission`, or "both"."""

    node: str
    part: str

    @property
    def name(self) -> str:
        return f"{self.node}.{self.part}"


class Products(NamedTuple):
    """`left` A and `right` u by product, and the influence of all other parameters.

    **Shapes.** left [r, rows, outputs], rows being the components of all cells above; right [r, vector].
    """

    left: dict[str, Float[Array, "..."]]
    right: dict[str, Float[Array, "..."]]
    exact: Influence


def products(network: Network) -> tuple[Product, ...]:
    """All products of weights that a cell with a memory depends on."""
    above, found = remembering_descendants(network), []
    for name in parameter_names(network):
        if above[name] and _acts_by_products(network.nodes[name]):
            found += [Product(name, part) for part in _parts(network.nodes[name])]
    return tuple(found)


def init_products(network: Network, rank: int) -> Products:
    """No influence yet."""
    found, states = products(network), network.initial_state()
    left, right = {}, {}
    for product in found:
        node = network.nodes[product.node]
        rows = sum(as_matrix(states[cell]).size for cell in _cells(network, product.node))
        size = _vector_size(network, product)
        dtype = jax.tree.leaves(eqx.filter(node, eqx.is_inexact_array))[0].dtype
        outputs = jax.eval_shape(lambda v, n=node, p=product: _act(n, p.part, v), jax.ShapeDtypeStruct((size,), dtype))
        left[product.name] = jnp.zeros((rank, rows, outputs.size), dtype)
        right[product.name] = jnp.zeros((rank, size), dtype)
    return Products(left, right, of_sources(init_influence(network, RULE), {product.node for product in found}, False))


def run_step(
    network: Network, loss: Callable, carry: Carry, window: Sample, reduce: Reduce
) -> tuple[Carry, dict[str, PyTree], Array, PyTree]:
    """Equations (1) and (2) for a window of one step; `reduce(key, left, right)` takes one product away."""
    left, right, exact = carry.memory.memory
    found = [Product(*name.rsplit(".", 1)) for name in left]
    key, keys = carry.memory.draw(len(found))
    linear = Window(network, RULE, carry.states, window.input)
    gradients, errors, value = sum_gradients(network, linear, loss, window, {})
    gradients = add_carried(network, RULE, gradients, errors, exact)
    rows = {cell: sweep_rows(linear, cell) for cell in {c for product in found for c in _cells(network, product.node)}}
    new_left, new_right = {}, {}
    for number, product in enumerate(found):
        node, name = product.node, product.name
        more = _gradient(network, product, errors, left[name], right[name])
        gradients[node] = jax.tree.map(jnp.add, gradients[node], more)
        vector = _vector(network.nodes[node], product.part, linear.nodes[node].record)
        vectors = jnp.concatenate([right[name], vector[:, None]], axis=1)
        terms = _terms(network, product, rows, left[name])
        new_left[name], new_right[name] = jax.vmap(reduce)(keys[:, number], terms, vectors)
    moved = {cell: advance(network, RULE, linear, exact, cell) for cell in exact}
    return Carry(linear.final, Random(key, Products(new_left, new_right, moved))), gradients, value, linear.output


def _gradient(network, product, errors, left, right):
    """The carried part of equation (2), summed over the batch."""
    flat = jnp.concatenate([_flat(as_matrix(errors[c], 1), 1) for c in _cells(network, product.node)], axis=1)
    outputs = jnp.einsum("bn,brno->bro", flat, left)
    parameters, rest = eqx.partition(network.nodes[product.node], eqx.is_inexact_array)
    act = lambda p: jax.vmap(jax.vmap(lambda v: _act(eqx.combine(p, rest), product.part, v)))(right)  # noqa: E731
    return jax.vjp(act, parameters)[1](outputs)[0]


def _terms(network, product, rows, left):
    """J A_i for all i, and B: [batch, r + 1, rows, outputs]."""
    cells = _cells(network, product.node)
    starts = np.cumsum([rows[cell][0][cell].shape[1] for cell in cells])[:-1]
    held = dict(zip(cells, jnp.split(left, starts, axis=2), strict=True))
    moved, new = [], []
    for cell in cells:
        states, taps = rows[cell]
        parts = [jnp.einsum("brn,bino->biro", _flat(states[c], 2), held[c]) for c in cells if c in states]
        moved.append(sum(parts[1:], parts[0]))
        new.append(_outputs(network.nodes[product.node], product.part, taps[product.node]))
    return jnp.concatenate([jnp.concatenate(moved, axis=2), jnp.concatenate(new, axis=1)[:, None]], axis=1)


def _outputs(node, part, taps):
    """What errors say about the outputs of a product: [batch, rows, outputs] of [1, batch, rows, ...]."""
    if isinstance(node, Cell):
        taps = taps.recurrent if part == "emission" else taps.drive
    return jnp.concatenate([_flat(leaf[0], 2) for leaf in jax.tree.leaves(taps)], axis=-1)


def _vector(node, part, record):
    """v of each sequence [batch, vector], from the record of a window of one step."""
    read, parts = record.read[0], []
    if part in ("read", "both"):
        parts.append(read)
    if part in ("emission", "both"):
        parts.append(jax.vmap(node.emit)(jax.tree.map(lambda leaf: leaf[0], record.before)))
    return jnp.concatenate([*parts, jnp.ones((len(read), 1), read.dtype)], axis=1)


def _vector_size(network, product):
    node = network.nodes[product.node]
    if not isinstance(node, Cell):
        return node.in_features + 1
    sizes = {"read": node.input_size, "emission": node.output_size, "both": node.input_size + node.output_size}
    return sizes[product.part] + 1


def _act(node, part, vector):
    """W v: the outputs of a product, linear in `vector`, whose last entry multiplies the biases."""
    body, scale = vector[:-1], vector[-1]

    def homogeneous(function, at):
        shift = jax.tree.map(lambda leaf: (scale - 1) * leaf, function(jnp.zeros_like(at)))
        return ravel_pytree(jax.tree.map(jnp.add, function(at), shift))[0]

    if not isinstance(node, FactoredCell):
        return homogeneous(node, body)
    if part == "both":
        read, emission = jnp.split(body, [node.input_size])
        return homogeneous(node.project, read) + homogeneous(node.recur, emission)
    return homogeneous(node.recur if part == "emission" else node.project, body)


def _parts(node):
    if not isinstance(node, Cell):
        return ("read",)
    same = summed_leaves(node)
    return ("both",) if same is not None and all(jax.tree.leaves(same)) else ("read", "emission")


def _acts_by_products(node):
    """Whether all parameters of a node enter a step by products with its input and, of a cell, its emission."""
    if isinstance(node, eqx.nn.Linear):
        return True
    if not isinstance(node, FactoredCell):
        return False

    def within(cell):
        state = _filled(cell.initial_state(), 3)
        shapes = jax.eval_shape(lambda: (cell.recur(cell.emit(state)), cell.project(jnp.zeros(cell.input_size))))
        return ravel_pytree((cell.update(state, *_filled(shapes, 4)), cell.emit(state)))[0]

    def bilinear(filled, act, size):
        x, y = np.random.default_rng(5).normal(size=(2, size))
        of = lambda cell, vector: ravel_pytree(act(cell, jnp.asarray(vector)))[0]  # noqa: E731
        both = eqx.combine(jax.tree.map(jnp.add, *(eqx.filter(cell, eqx.is_inexact_array) for cell in filled)), node)
        added = of(filled[0], x + y) + of(filled[0], 0 * x), of(both, x)
        alone = of(filled[0], x) + of(filled[0], y), of(filled[0], x) + of(filled[1], x)
        return all(jnp.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(added, alone, strict=True))

    with jax.ensure_compile_time_eval():  # also where the network itself is under trace
        filled = [_filled(node, seed) for seed in (1, 2)]
        acts = (lambda cell, x: cell.project(x), node.input_size), (lambda cell, x: cell.recur(x), node.output_size)
        alone = bool(jnp.all(within(filled[0]) == within(filled[1])))
        return alone and all(bilinear(filled, *act) for act in acts)


def _filled(tree, seed):
    """The same tree with numbers of our own in its arrays, so that a program under trace can be tried."""
    rng = np.random.default_rng(seed)

    def fill(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)
        return jnp.ones(leaf.shape, leaf.dtype)

    is_shape = lambda leaf: eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
    arrays, rest = eqx.partition(tree, is_shape)
    return eqx.combine(jax.tree.map(fill, arrays), rest)


def _cells(network, source):
    """Cells that hold the influence of a node, in the network's order."""
    return tuple(cell for cell, sources in blocks(network, RULE).items() if source in sources)


def _flat(array, axes):
    return array.reshape(*array.shape[:axes], -1)
