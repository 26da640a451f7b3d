"""Memoryless modules beyond Equinox's: what language models share, and a gate on what a cell emits."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from onward.cells.base import positive_sizes, uniform


class Tied(eqx.Module):
    """An affine map with the weight of another node of the network, such as the embedding that it reads words by.

        y = W x + bias,   W [outputs, inputs] the `weight` of node `source`      (1)

    The weight is the network's once: its gradient is the sum of what comes from both places, with every algorithm.
    `Network.effective` puts an `eqx.nn.Linear` in its place; it may be part of another module.

    **Raises.** `ValueError` where the network has no such node, or it no `weight` of this shape.
    **Source.** Press and Wolf 2017, arXiv:1608.05859; Inan, Khosravi and Socher 2017, arXiv:1611.01462.
    """

    bias: Float[Array, " outputs"]
    source: str = eqx.field(static=True)
    inputs: int = eqx.field(static=True)

    def __init__(self, source: str, inputs: int, outputs: int):
        positive_sizes(inputs=inputs, outputs=outputs)
        self.source, self.inputs, self.bias = source, inputs, jnp.zeros(outputs)

    def resolved(self, nodes: dict[str, Any]) -> eqx.nn.Linear:
        """The map, given the network's nodes."""
        if self.source not in nodes:
            raise ValueError(
                f"a tied map takes its weight from node {self.source!r}, which the network does not have; known: "
                f"{', '.join(nodes)}"
            )
        weight = getattr(nodes[self.source], "weight", None)
        shape, found = (len(self.bias), self.inputs), None if weight is None else weight.shape
        if weight is None or found != shape:
            kind = type(nodes[self.source]).__name__
            raise ValueError(
                f"a tied map wants a `weight` of shape {shape}, but that of node {self.source!r} ({kind}) is {found}"
            )
        linear = eqx.filter_eval_shape(eqx.nn.Linear, self.inputs, len(self.bias), key=jax.random.key(0))
        return eqx.tree_at(lambda m: (m.weight, m.bias), linear, (weight, self.bias))

    def __call__(self, input: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        raise ValueError(f"a tied map needs the weight of node {self.source!r}; call `network.effective()` first")


class MixtureOfSoftmaxes(eqx.Module):
    """Several softmaxes mixed, whose logarithm one matrix of low rank could not give.

        log sum_k pi_k softmax(decoder(tanh(latent_k x + b_k))),   pi = softmax(prior x)      (1)

    The result is a vector of log-probabilities, which `losses.cross_entropy` takes like any logits.

    **Shapes.** Input [`inputs`], between [`softmaxes`, `size`], output as `decoder` gives it: a map from [size], an
    `eqx.nn.Linear` or a `Tied` one.
    **Source.** Yang, Dai, Salakhutdinov and Cohen 2018, arXiv:1711.03953, eq. 1.
    """

    prior: eqx.nn.Linear
    latent: eqx.nn.Linear
    decoder: Any
    size: int = eqx.field(static=True)

    def __init__(self, inputs: int, size: int, softmaxes: int, decoder: Any, *, key: Array):
        positive_sizes(inputs=inputs, size=size, softmaxes=softmaxes)
        first, second = jax.random.split(key)
        self.prior = eqx.nn.Linear(inputs, softmaxes, use_bias=False, key=first)
        self.latent = eqx.nn.Linear(inputs, softmaxes * size, key=second)
        self.decoder, self.size = decoder, size

    def __call__(self, input: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        latent = jnp.tanh(self.latent(input)).reshape(-1, self.size)
        parts = jax.nn.log_softmax(jax.vmap(self.decoder)(latent))
        return jax.nn.logsumexp(parts + jax.nn.log_softmax(self.prior(input))[:, None], axis=0)


class OutputGate(eqx.Module):
    """A gate on what a cell emits, which reads the cell and its input at the same step: the eLSTM's.

        h = sigmoid(gate [c; x]) c      (1)

    In a network the node reads the cell first, e.g. `{"cell": ("input",), "gate": ("cell", "input")}`.

    **Shapes.** Input [c; x], [`size` + `inputs`]; output h [`size`].
    **Raises.** `ValueError` if a size is not a positive integer.
    **Source.** Irie, Gopalakrishnan and Schmidhuber 2024, section 3, arXiv:2305.19044.
    **Example.**

        >>> import jax, onward as ow
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> nodes = {"cell": ow.cells.ElementwiseLSTM(3, 4, key=keys[0]), "gate": OutputGate(4, 3, key=keys[1])}
        >>> net = ow.Network(nodes, {"cell": ("input",), "gate": ("cell", "input")}, "gate")
        >>> net.unroll(jax.numpy.ones((5, 3))).shape
        (5, 4)
    """

    gate: eqx.nn.Linear
    size: int = eqx.field(static=True)

    def __init__(self, size: int, inputs: int, *, key: Array):
        positive_sizes(size=size, inputs=inputs)
        self.gate, self.size = eqx.nn.Linear(size + inputs, size, key=key), size

    def __call__(self, input: Float[Array, " together"]) -> Float[Array, " size"]:
        return jax.nn.sigmoid(self.gate(input)) * input[: self.size]


class Feedback(eqx.Module):
    """Matrices by which errors reach cells from the output, for `EProp` with random or adaptive feedback.

    A node beside the network, on no path to its output, which holds them as parameters; `onward.with_feedback` adds it.

    **Shapes.** `matrices`: by name of a cell, [emission, output].
    """

    matrices: dict[str, Float[Array, "emission output"]]

    def __call__(self, output: Any) -> Any:
        return output


def embedding(vocabulary: int, size: int, *, key: Array) -> eqx.nn.Embedding:
    """A vector for each token, entries uniform in +-0.1 as language models start theirs."""
    positive_sizes(vocabulary=vocabulary, size=size)
    return eqx.nn.Embedding(weight=uniform(key, (vocabulary, size), 0.1))


def resolve(nodes: dict[str, Any]) -> dict[str, Any]:
    """The nodes with every `Tied` map given its weight."""
    tied = lambda node: isinstance(node, Tied)  # noqa: E731
    return jax.tree.map(lambda leaf: leaf.resolved(nodes) if tied(leaf) else leaf, nodes, is_leaf=tied)
