"""Equal to BPTT where exact, different where biased; BPTT itself against autodiff and finite differences."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from tests import claims
from tests.claims import BY_ID, CLAIMS, autodiff, distance, flat, gradient_of, network, reference, sample, windowed

EXACT = [(c, name) for c in CLAIMS for name in c.exact]
BIASED = [(c, name) for c in CLAIMS for name in c.biased]


def ids(rows):
    return [f"{claim.id}-{name.replace(' ', '_')}" for claim, name in rows]


@pytest.mark.parametrize(("claim", "name"), EXACT, ids=ids(EXACT))
def test_exact_gradient_is_bptts(claim, name):
    net, window = network(name), sample()
    assert claim.algorithm.exact_on(net) or "NthOrder" in claim.id
    value, gradient = gradient_of(claim.algorithm, net, window)
    expected_value, expected = reference(name)
    assert np.isclose(value, expected_value, rtol=1e-12)
    assert distance(gradient, expected) <= 1e-9
    for node in net.nodes:
        if flat(expected.nodes[node]).size:
            assert np.linalg.norm(flat(expected.nodes[node])) > 1e-8, f"{node} gets no gradient: the test sees nothing"
            assert distance(gradient.nodes[node], expected.nodes[node]) <= 1e-9


@pytest.mark.parametrize(("claim", "name"), BIASED, ids=ids(BIASED))
def test_biased_gradient_differs(claim, name):
    net, window = network(name), sample()
    assert not claim.algorithm.exact_on(net)
    _, gradient = gradient_of(claim.algorithm, net, window)
    assert distance(gradient, reference(name)[1]) > 1e-3


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_nodes_declared_exact_are_and_the_rest_are_not(claim):
    """`exact_nodes` is the theory; here it is held against the numbers, node by node."""
    for name in claim.nodes_on:
        net, window = network(name), sample()
        exact = claim.algorithm.exact_nodes(net)
        _, gradient = gradient_of(claim.algorithm, net, window)
        expected = reference(name)[1]
        for node in net.nodes:
            if not flat(expected.nodes[node]).any() or (claim.id == "NthOrder-20"):
                continue
            error = distance(gradient.nodes[node], expected.nodes[node])
            assert (error <= 1e-9) == (node in exact), (name, node, error)


@pytest.mark.parametrize("terminal", [False, True], ids=["per-step", "terminal"])
@pytest.mark.parametrize("name", ["LSTM x 2", "mixed x 3", "dag", "wide dag"])
def test_rtrl_gives_bptts_gradient_of_each_window(name, terminal):
    """Window by window: the gradient of a window's losses by the parameters, through all of the past."""
    net, window, edges = network(name), sample(terminal=terminal), (3, 6, 9)
    gradients, _ = windowed(ow.RTRL(), net, window, edges)
    start = 0
    for gradient, stop in zip(gradients, edges, strict=True):
        inside = (jnp.arange(9) >= start) & (jnp.arange(9) < stop)
        masked = eqx.tree_at(lambda w: w.weight, window, window.weight * inside)
        expected = autodiff(net, masked)[1]
        if np.linalg.norm(flat(expected)) == 0:
            assert np.linalg.norm(flat(gradient)) == 0
        else:
            assert distance(gradient, expected) <= 1e-9
        start = stop


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "LRU"])
def test_drives_made_inside_the_loop(kind):
    """Of one input, whose drive is made in each step: BPTT is autodiff, RTRL is BPTT, below another cell as well."""
    keys = jax.random.split(jax.random.key(0), 4)
    below = getattr(ow.cells, kind)(1, 8, key=keys[0])
    above = ow.cells.RNN(below.output_size, 3, key=keys[1])
    net = ow.stack(below, above, readout=eqx.nn.Linear(3, 2, key=keys[2]))
    whole = sample()
    window = ow.Sample(whole.input[..., :1], whole.target, whole.weight)
    expected = autodiff(net, window)[1]
    assert np.linalg.norm(flat(expected.nodes[net.recurrent_names[0]])) > 1e-6
    for algorithm in (ow.BPTT(), ow.RTRL()):
        gradient = gradient_of(algorithm, net, window)[1]
        for node in (name for name in net.nodes if flat(expected.nodes[name]).size):
            assert distance(gradient.nodes[node], expected.nodes[node]) <= 1e-9


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.id != "EProp-adaptive"], ids=lambda c: c.id)
def test_a_network_that_remembers_nothing_is_served_exactly(claim):
    keys = jax.random.split(jax.random.key(0))
    net = ow.stack(eqx.nn.Linear(claims.INPUT, 4, key=keys[0]), jnp.tanh, eqx.nn.Linear(4, claims.OUTPUT, key=keys[1]))
    assert claim.algorithm.exact_on(net)
    assert distance(gradient_of(claim.algorithm, net, sample())[1], autodiff(net, sample())[1]) <= 1e-10


def test_nested_traces_of_full_derivatives_are_rtrl():
    """Millidge's closing claim: with full derivatives in place of partials, the traces above are what is exact."""
    assert dataclasses.replace(ow.EProp(depth="traces").rule, time="all") == ow.RTRL().rule
    assert dataclasses.replace(ow.EProp(depth="spatial").rule, time="all") != ow.RTRL().rule


def test_truncated_bptt_misses_what_rtrl_has():
    """The control of the test above: without the carried influence the later windows are wrong."""
    net, window = network("LSTM x 2"), sample()
    rtrl, _ = windowed(ow.RTRL(), net, window, (3, 6, 9))
    truncated, _ = windowed(ow.BPTT(), net, window, (3, 6, 9))
    assert distance(truncated[0], rtrl[0]) <= 1e-9
    assert distance(truncated[2], rtrl[2]) > 1e-3


@pytest.mark.parametrize("name", ["LSTM x 2", "LRU x 1", "dag"])
def test_bptt_against_finite_differences(name):
    net, window = network(name), sample(batch=None)
    _, gradient = ow.value_and_grad(net, ow.losses.squared_error, window, algorithm=ow.BPTT())
    parameters, static = eqx.partition(net, eqx.is_inexact_array)

    @jax.jit
    def value(parameters):
        outputs = eqx.combine(parameters, static).unroll(window.input)
        return jnp.sum(window.weight * jnp.sum((outputs - window.target) ** 2, axis=-1))

    rng, step = np.random.default_rng(1), 1e-5
    for _ in range(3):
        direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), parameters)
        moved = [jax.tree.map(lambda p, d, s=s: p + s * d, parameters, direction) for s in (step, -step)]
        measured = (value(moved[0]) - value(moved[1])) / (2 * step)
        assert np.isclose(measured, flat(gradient) @ flat(direction), rtol=1e-6)


def test_value_and_grad_is_the_window_from_the_initial_state():
    net, window = network("GRU x 2"), sample()
    value, gradient = ow.value_and_grad(net, ow.losses.squared_error, window, algorithm=ow.RTRL())
    expected_value, expected = reference("GRU x 2")
    assert np.isclose(value, expected_value, rtol=1e-12)
    assert distance(gradient, expected) <= 1e-9
    assert jax.tree.structure(gradient) == jax.tree.structure(eqx.filter(net, eqx.is_inexact_array))


def test_zeroth_order_is_spatial_backpropagation():
    net, window = network("dag"), sample()
    both = [gradient_of(a, net, window)[1] for a in (ow.NthOrder(0), ow.SpatialBP())]
    assert distance(*both) <= 1e-12


def test_rows_cover_every_public_algorithm():
    public = {
        name
        for name, value in vars(ow).items()
        if isinstance(value, type) and issubclass(value, ow.Algorithm) and value is not ow.Algorithm
    }
    assert public == {type(claim.algorithm).__name__ for claim in CLAIMS}
    assert len(BY_ID) == len(CLAIMS)
    assert tuple(c for c in claims.CELLS if hasattr(ow.cells, c)) == claims.CELLS
