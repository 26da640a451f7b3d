"""The note "Exact iterative BPTT": its equations in NumPy, half of the cross terms, and the study."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from tests.claims import cut, distance, run, sample, total, windowed
from tests.claims import network as claimed
from tests.reference import iterative
from tests.reference.steps import Layer

FIELDS = {
    "RNN": ("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
    "GRU": ("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
    "LSTM": ("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
    "Linear": ("weight", "bias"),
}
KEPT = {"all": lambda k, at: True, "directional": lambda k, at: at >= k, "reversed": lambda k, at: at <= k}
DATA = np.random.default_rng(3)
INPUTS, TARGETS, WEIGHTS = DATA.normal(size=(6, 2)), DATA.normal(size=(6, 2)), DATA.uniform(0.5, 1.5, 6)


@functools.cache
def network(kind):
    """One layer of three units and a readout, with weights large enough to matter."""
    rng = np.random.default_rng(1)
    shapes = eqx.filter_eval_shape(
        lambda key: ow.stack(getattr(ow.cells, kind)(2, 3, key=key), readout=eqx.nn.Linear(3, 2, key=key)),
        jax.random.key(0),
    )
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(-0.9, 0.9, leaf.shape)), shapes)


def arrays(node):
    return {name: np.asarray(getattr(node, name)) for name in FIELDS[type(node).__name__]}


def ours(kind, algorithm, rate=0.0):
    """Gradients at each step, parameters following eq. 3, and the parameters after the last step."""
    net, gradients = network(kind), []
    carry = algorithm.init(net)
    for at in range(len(WEIGHTS)):
        step = ow.Sample(*(jnp.asarray(array[at : at + 1]) for array in (INPUTS, TARGETS, WEIGHTS)))
        carry, estimate = run(algorithm, net, carry, step)
        net = eqx.apply_updates(net, jax.tree.map(lambda g: -rate * g, estimate.gradient))
        gradients.append(tuple(map(arrays, estimate.gradient.nodes.values())))
    return gradients, tuple(map(arrays, net.nodes.values()))


@functools.cache
def notes(kind, rate=0.0, decay=1.0, cross_terms="all"):
    layer, readout = network(kind).nodes.values()
    layer = Layer(kind.lower(), arrays(layer))
    return iterative.learn(layer, arrays(readout), INPUTS, TARGETS, WEIGHTS, rate, decay, KEPT[cross_terms])


def assert_same(mine, theirs):
    for one, other in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


# Equations 3 and 4


@pytest.mark.parametrize(("kind", "decay"), [("RNN", 1.0), ("GRU", 1.0), ("LSTM", 1.0), ("LSTM", 0.8)])
def test_parameters_that_change_at_every_step_follow_the_note(kind, decay):
    """Every gradient on the way and the parameters at its end, by eqs 3 to 5."""
    mine = ours(kind, ow.RTRL(decay=decay), rate=0.1)
    assert_same(mine, notes(kind, rate=0.1, decay=decay))
    for other in (notes(kind, decay=decay), notes(kind, rate=0.1, decay=0.9)):
        assert distance(mine[0][-1], other[0][-1]) > 1e-3


@pytest.mark.parametrize("cross_terms", ["directional", "reversed"])
def test_dropped_blocks_number_by_number(cross_terms):
    mine = ours("LSTM", ow.RTRL(cross_terms=cross_terms), rate=0.1)
    assert_same(mine, notes("LSTM", rate=0.1, cross_terms=cross_terms))
    for other in KEPT.keys() - {cross_terms}:
        assert distance(mine[0][-1], notes("LSTM", rate=0.1, cross_terms=other)[0][-1]) > 1e-3, other


# Half of the cross terms


def test_half_of_the_cross_terms_in_windows_and_lazily():
    """In a graph: cut in any way, and with the influence postponed."""
    net, window = claimed("dag"), cut(sample(), 0, 5)
    half = ow.RTRL(cross_terms="directional")
    steps, carry = windowed(half, net, window, range(1, 6))
    whole, carried = windowed(half, net, window, (5,))
    assert distance(total(steps), whole[0]) < 1e-11
    assert distance(carry.memory, carried.memory) < 1e-11
    lazy, _ = windowed(ow.RTRL(cross_terms="directional", lazy=2), net, window, range(1, 6))
    assert distance(lazy, steps) < 1e-11


def test_a_cell_with_one_component_has_no_cross_terms():
    """An LSTM's two components make it biased, and with it everything that it reads."""
    for cross_terms in ("directional", "reversed"):
        half = ow.RTRL(cross_terms=cross_terms)
        assert half.exact_on(claimed("RNN x 1"))
        assert half.exact_on(claimed("GRU x 2"))
        assert not half.exact_on(claimed("LSTM x 1"))
        assert half.exact_nodes(claimed("dag")) == {"out"}


def test_another_direction_is_refused(unchecked):
    with pytest.raises(ValueError, match="`cross_terms` must be 'all', 'directional' or 'reversed', got 'half'"):
        ow.RTRL(cross_terms="half")
