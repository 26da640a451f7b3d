"""What every algorithm has in common: the interface, checks of a window, batches, parameters and their pullback."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree, UInt32

from onward.integers import is_integer
from onward.network import Network, check_input
from onward.sample import Estimate, Sample


class Carry(eqx.Module):
    """What an algorithm takes from one window to the next; a pytree of arrays, so it can be saved and restored.

    `states`: the state of every cell. `memory`: what this algorithm needs besides (influences, traces, a history).
    With a batch, every leaf has a leading batch axis.
    """

    states: dict[str, PyTree]
    memory: PyTree


class Random(NamedTuple):
    """What a stochastic algorithm carries: the data of a PRNG key, which is another at every draw, and its memory."""

    key: UInt32[Array, "*batch 2"]
    memory: PyTree

    def draw(self, count: int) -> tuple[Array, Array]:
        """For every sequence of a batch: the next key's data, and `count` keys [batch, count] to draw with now."""
        each = jax.vmap(lambda data: jax.random.split(jax.random.wrap_key_data(data), count + 1))(self.key)
        return jax.random.key_data(each[:, 0]), each[:, 1:]


class Algorithm(eqx.Module):
    """Turns a window of the stream into one gradient estimate and carries what it needs to the next window.

    **Class attributes.** `kind`: "offline" (needs the whole window before it says anything), "online" (constant
    memory in the length; may be asked after every step) or "multi-pass". `pass_count`: forward passes over the window.
    `memory`: how memory grows with the window's length T. `source`: where it is from. `summary`: one line.
    `stochastic`: whether it draws at random, so that `init` needs a key; its mean over keys is then BPTT's gradient.
    `episodes`: whether episodes may begin inside a window (`Sample.reset`).
    """

    kind: ClassVar[Literal["offline", "online", "multi-pass"]]
    pass_count: ClassVar[str] = "1"
    stochastic: ClassVar[bool] = False
    episodes: ClassVar[bool] = True
    memory: ClassVar[str]
    source: ClassVar[str]
    summary: ClassVar[str]

    @abc.abstractmethod
    def init_memory(self, network: Network) -> PyTree:
        """Memory of one sequence before its first step; `network` is in effective parameters."""

    @abc.abstractmethod
    def run_window(
        self, network: Network, loss: Callable, carry: Carry, window: Sample
    ) -> tuple[Carry, dict[str, PyTree], Array, PyTree]:
        """One window of a batch, `network` in effective parameters: carry, gradients by node, loss, output."""

    @abc.abstractmethod
    def exact_nodes(self, network: Network) -> frozenset[str]:
        """Names of the nodes whose parameters get BPTT's gradient, by theory, over any window from a fresh carry."""

    def check(self, network: Network) -> None:
        """Raise a `ValueError` if this algorithm cannot serve `network`."""
        del network

    def exact_on(self, network: Network) -> bool:
        """Whether the whole gradient is BPTT's on this network, by theory."""
        return frozenset(parameter_names(network)) <= self.exact_nodes(network)

    def init(self, network: Network, key: Array | None = None, batch: int | None = None) -> Carry:
        """The carry before the first step: initial states and no influence yet.

        **Arguments.** `key`: a PRNG key, needed by stochastic algorithms only, whose memory is then a `Random`.
        `batch`: the number of parallel sequences; None for one sequence without a batch axis.
        """
        if batch is not None and not is_integer(batch, 1):
            raise ValueError(f"`batch` must be None or a positive integer, got {batch!r}")
        if self.stochastic and key is None:
            raise ValueError(f"{type(self).__name__} draws at random; give it a key, such as key=jax.random.key(0)")
        self.check(network)
        network = network.effective()
        carry = Carry(network.initial_state(), self.init_memory(network))
        if batch is not None:
            carry = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape)), carry)
        if key is None or not self.stochastic:
            return carry
        key = key if batch is None else jax.random.split(key, batch)
        return Carry(carry.states, Random(jax.random.key_data(key), carry.memory))

    def run(self, network: Network, loss: Callable, carry: Carry, window: Sample) -> tuple[Carry, Estimate]:
        """One window: the gradient of the sum over time of `weight * loss(output, target)`.

        **Shapes.** A batch (`window.weight` [batch, time]) has a leading axis on every leaf of window and carry, and
        gives the mean over the batch of gradient and loss.
        **Raises.** `ValueError` or `TypeError` where window, network and carry do not fit together.
        """
        check_window(network, window)
        self.check(network)
        if window.reset is not None and not self.episodes:
            raise ValueError(
                f"{type(self).__name__} cannot cross the beginning of an episode inside a window (`reset`); cut the "
                "sequence there, or use BPTT or RTRL"
            )
        if not window.batched:
            carry, window = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (carry, window))
            carry, estimate = self.run(network, loss, carry, window)
            return jax.tree.map(lambda leaf: leaf[0], carry), eqx.tree_at(
                lambda e: e.output, estimate, jax.tree.map(lambda leaf: leaf[0], estimate.output)
            )
        _check_carry(self, network, carry, window)
        natural, static = eqx.partition(network, eqx.is_inexact_array)

        def effective_nodes(natural):
            return node_parameters(eqx.combine(natural, static).effective())

        parameters, pullback = jax.vjp(effective_nodes, natural)
        carry, gradients, value, output = self.run_window(network.effective(), loss, carry, window)
        full = {name: gradients.get(name, _zeros(parameters[name])) for name in parameters}
        return carry, Estimate(pullback(full)[0], value, output, {})


def node_parameters(network: Network) -> dict[str, PyTree]:
    """name -> the node's inexact arrays."""
    return {name: eqx.filter(node, eqx.is_inexact_array) for name, node in network.nodes.items()}


def parameter_names(network: Network) -> tuple[str, ...]:
    """Names of the nodes that have parameters."""
    return tuple(name for name, tree in node_parameters(network).items() if jax.tree.leaves(tree))


def remembering_descendants(network: Network) -> dict[str, frozenset[str]]:
    """name -> cells that pass gradients through time and depend on it, itself included if it is one."""
    cells = [name for name in network.recurrent_names if network.nodes[name].recurrence != "none"]
    above = {name: frozenset(cell for cell in cells if name in network.ancestors(cell)) for name in network.nodes}
    return {name: frozenset(cell for cell in cells_above) for name, cells_above in above.items()}


def check_window(network: Network, window: Sample) -> None:
    """Raise one clear sentence where a window cannot be run by `network`."""
    weight = jnp.asarray(window.weight)
    if weight.ndim not in (1, 2):
        raise ValueError(f"`weight` must have shape [time] or [batch, time], got {weight.shape}")
    if 0 in weight.shape:
        raise ValueError(f"the window is empty: `weight` has shape {weight.shape}; give it at least one step")
    if not jnp.issubdtype(weight.dtype, jnp.floating):
        raise TypeError(f"`weight` must be floating-point, got dtype {weight.dtype}; convert it with .astype(float)")
    if window.reset is not None and not jnp.issubdtype(jnp.result_type(window.reset), bool):
        raise TypeError(f"`reset` must hold booleans, got dtype {jnp.result_type(window.reset)}")
    for field in ("input", "target", "reset"):
        for leaf in jax.tree.leaves(getattr(window, field)):
            if jnp.shape(leaf)[: weight.ndim] != weight.shape:
                raise ValueError(
                    f"`{field}` has shape {jnp.shape(leaf)} but `weight` {weight.shape}; the first "
                    f"{'axis' if weight.ndim == 1 else 'axes'} ([batch,] time) must agree"
                )
    check_input(network, window.input, weight.shape)


def _check_carry(algorithm, network, carry, window):
    states = jax.eval_shape(network.effective().initial_state)
    memory = jax.tree.structure(carry.memory)
    fits = jax.tree.structure(carry.states) == jax.tree.structure(states)
    if not fits or memory != _memory_structure(algorithm, network):
        what = f"memory of {type(algorithm).__name__}" if fits else "states of this network"
        raise ValueError(f"`carry` does not hold the {what}; make it with algorithm.init(network, batch=...)")
    for leaf in jax.tree.leaves(carry):
        if leaf.ndim == 0 or leaf.shape[0] != window.weight.shape[0]:
            raise ValueError(
                f"the carry (a leaf has shape {leaf.shape}) does not fit a batch of {window.weight.shape[0]}; "
                "make it with algorithm.init(network, batch=...)"
            )


def _memory_structure(algorithm, network):
    memory = jax.eval_shape(lambda: algorithm.init_memory(network.effective()))
    return jax.tree.structure(Random(jnp.zeros(2, jnp.uint32), memory) if algorithm.stochastic else memory)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)
