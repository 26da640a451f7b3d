"""Unbiased online recurrent optimization."""

from typing import ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from onward.algorithms.base import Algorithm, Carry, Random, node_parameters, parameter_names, remembering_descendants
from onward.algorithms.windows import in_chunks, sum_gradients, window_gradients
from onward.integers import is_integer
from onward.network import Network
from onward.unroll import Rule, Window, contract

RULE = Rule()


class Pair(NamedTuple):
    """The influence of all parameters on all states, as the product of one vector of each."""

    states: dict[str, PyTree]
    parameters: dict[str, PyTree]


class UORO(Algorithm):
    """Unbiased online recurrent optimization: the influence as one product of two vectors, right in the mean.

    With nu a vector of random signs, drawn anew at every step, and (a, b) the estimate a b^T of the influence:

        a_t      = r_0 J_{t-1} a_{t-1} + r_1 nu                                                       (1)
        b_t      = b_{t-1} / r_0 + (nu^T M_t) / r_1                                                   (2)
        r_0^2    = |b_{t-1}| / |J_{t-1} a_{t-1}|,   r_1^2 = |nu^T M_t| / |nu|                         (3)
        gradient = sum_t (e_t J_{t-1} a_{t-1}) b_{t-1} + e_t M_t                                      (4)

    a holds the states of all cells and b all parameters, so that depth, and any graph, is treated as one layer is.

    **Shapes.** N states, P parameters: a [N], b [P].
    **Exactness.** Unbiased: its mean over keys is RTRL's gradient, for every network. The variance grows with N and
    with the length of what is remembered. Exact for parameters above the top cell.
    **Cost.** Memory O(P + chunk N), none in T; time O(P) a step, about twice that of BPTT.
    **Arguments.** `chunk`: how many steps share one draw; errors inside are then exact (backpropagated), which takes
    variance away. 1 is the algorithm as published. Raises `ValueError` unless it is a positive integer.
    **Departures.** The sources let the loss of a step see M_t through (1) and (2), with noise; in (4) it is exact.
    A factor of (3) that would be 0 or infinite is 1.
    **Source.** Tallec and Ollivier 2018, eqs 14-17, arXiv:1702.05043.
    **Example.**

        >>> import jax, onward as ow
        >>> net = ow.stack(ow.cells.GRU(1, 2, key=jax.random.key(0)))
        >>> carry = ow.UORO().init(net, key=jax.random.key(1), batch=8)
        >>> carry.memory.memory.states["0_gru"].shape
        (8, 2)
    """

    chunk: int = eqx.field(static=True, default=1)
    kind: ClassVar[Literal["offline", "online", "multi-pass"]] = "online"
    memory: ClassVar[str] = "O(1)"
    source: ClassVar[str] = "Tallec and Ollivier 2018"
    summary: ClassVar[str] = "influence as one random product of two vectors; unbiased"
    stochastic: ClassVar[bool] = True

    def __check_init__(self):
        if not is_integer(self.chunk, 1):
            raise ValueError(f"`chunk` must be a positive number of steps, got {self.chunk!r}; 1 is as published")

    def init_memory(self, network: Network) -> Pair:
        states = _remembered(network, network.initial_state())
        return jax.tree.map(jnp.zeros_like, Pair(states, _influential(network)))

    def exact_nodes(self, network: Network) -> frozenset[str]:
        return frozenset(name for name, above in remembering_descendants(network).items() if not above)

    def run_window(self, network, loss, carry, window):
        if not _influential(network):
            gradients, _, states, value, output = window_gradients(network, RULE, loss, carry.states, window, {})
            return Carry(states, carry.memory), gradients, value, output
        run = lambda carry, chunk: _chunk(network, loss, carry, chunk)  # noqa: E731
        return in_chunks(run, carry, window, min(self.chunk, window.length))


def _chunk(network, loss, carry, window):
    (states, parameters), (key, keys) = carry.memory.memory, carry.memory.draw(1)
    linear = Window(network, RULE, carry.states, window.input, window.reset)
    gradients, errors, value = sum_gradients(network, linear, loss, window, {})
    seen = jax.vmap(_dot)(_remembered(network, errors), states)
    gradients |= {
        name: jax.tree.map(lambda g, b: g + jnp.tensordot(seen, b, axes=1), gradients[name], parameters[name])
        for name in parameters
    }
    moved = _push(network, carry.states, (window.input, window.reset), states)
    if window.reset is not None:  # what an episode began after has influence no more: a is 0 already, and b adds noise
        going_on = 1 - jnp.any(window.reset, axis=1)
        parameters = jax.tree.map(lambda b: b * going_on.reshape(-1, *[1] * (b.ndim - 1)), parameters)
    signs = jax.vmap(lambda key, like: random_signs(key[0], like))(keys, states)
    pair = jax.vmap(_mix)(moved, parameters, signs, _pull(network, linear, signs))
    return Carry(linear.final, Random(key, pair)), gradients, value, linear.output


def random_signs(key: Array, like: PyTree) -> PyTree:
    """A tree of -1 and 1 in the shape of `like`, leaf after leaf in its order, from one draw."""
    leaves, tree = jax.tree.flatten(like)
    signs = jax.random.rademacher(key, (sum(leaf.size for leaf in leaves),))
    ends = [sum(leaf.size for leaf in leaves[: i + 1]) for i in range(len(leaves) - 1)]
    parts = zip(jnp.split(signs, ends), leaves, strict=True)
    return jax.tree.unflatten(tree, [part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in parts])


def balance(numerator: Array, denominator: Array) -> Array:
    """The square root of a ratio of norms, by which the variance is least; 1 where there is none."""
    fine = (numerator > 0) & (denominator > 0)
    return jnp.where(fine, jnp.sqrt(jnp.where(fine, numerator, 1) / jnp.where(fine, denominator, 1)), 1)


def _mix(moved, parameters, signs, pulled):
    """Equations (1) to (3) for one sequence."""
    kept = balance(_norm(parameters), _norm(moved))
    new = balance(_norm(pulled), _norm(signs))
    return Pair(
        jax.tree.map(lambda a, nu: kept * a + new * nu, moved, signs),
        jax.tree.map(lambda b, m: b / kept + m / new, parameters, pulled),
    )


def _push(network, states, stream, direction):
    """J a: the derivative of the states after the window along `direction` in those before it."""

    def final(remembered, states, stream):
        def step(states, at):
            input, reset = at
            states = network.begin(states, reset)
            held = {n: s if n in remembered else lax.stop_gradient(s) for n, s in states.items()}
            return network.step(held, input)[0], None

        return _remembered(network, lax.scan(step, states | remembered, stream)[0])

    def one(states, stream, direction):
        return jax.jvp(lambda s: final(s, states, stream), (_remembered(network, states),), (direction,))[1]

    return jax.vmap(one)(states, stream, direction)


def _pull(network, linear, signs):
    """nu^T M of the window for every sequence, by node."""
    taps = linear.sweep(None, signs).taps
    one = lambda node: jax.vmap(lambda record, taps: contract(node, record, taps), in_axes=1)  # noqa: E731
    return {name: one(network.nodes[name])(linear.nodes[name].record, taps[name]) for name in _influential(network)}


def _influential(network):
    """Parameters of the nodes that a cell with a memory depends on."""
    above, parameters = remembering_descendants(network), node_parameters(network)
    return {name: parameters[name] for name in parameter_names(network) if above[name]}


def _remembered(network, states):
    return {name: state for name, state in states.items() if RULE.remembers(network.nodes[name])}


def _dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def _norm(tree):
    return jnp.sqrt(sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)), jnp.zeros(())))
