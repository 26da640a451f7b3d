"""Algorithms against independent NumPy programs, window by window and number by number, negative controls included."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from tests.reference import dense_influence, finite_differences, gru_traces, lru_traces, williams_zipser
from tests.reference.steps import Layer

INPUT, UNITS, OUTPUT, TIME = 2, 4, 2, 7
WINDOWS = (1, 3, 3)
FIELDS = {
    "RNN": ("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
    "GRU": ("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
    "LSTM": ("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
    "LRU": ("nu", "theta", "gamma_log", "b_real", "b_imag"),
    "Linear": ("weight", "bias"),
}


@functools.cache
def network(*kinds):
    """A stack of layers by class name, with 4, 3, 3 ... units, and a linear readout; weights large enough to matter."""
    rng, layers, size = np.random.default_rng(len(kinds)), [], INPUT
    for depth, kind in enumerate(kinds):
        units = UNITS if depth == 0 else 3
        make = eqx.nn.Linear if kind == "Linear" else getattr(ow.cells, kind)
        shapes = eqx.filter_eval_shape(make, size, units, key=jax.random.key(0))
        layers.append(_fill(shapes, rng))
        size = 2 * units if kind == "LRU" else units
    readout = _fill(eqx.filter_eval_shape(eqx.nn.Linear, size, OUTPUT, key=jax.random.key(0)), rng)
    return ow.stack(*layers, readout=readout)


def _fill(shapes, rng):
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(-0.9, 0.9, leaf.shape)), shapes)


@functools.cache
def data():
    """Inputs, targets and weights of one sequence, a step without loss among them."""
    rng = np.random.default_rng(5)
    weights = rng.uniform(0.5, 1.5, TIME)
    weights[2] = 0
    return rng.normal(size=(TIME, INPUT)), rng.normal(size=(TIME, OUTPUT)), weights


def arrays(node):
    return {name: np.asarray(getattr(node, name), float) for name in FIELDS[type(node).__name__]}


def layers(net):
    *below, _ = net.nodes.values()
    return [Layer(type(node).__name__.lower(), arrays(node)) for node in below]


def readout(net):
    return arrays(net.nodes["readout"])


def ours(net, algorithm, windows=WINDOWS):
    """Per window the gradients by node, as dicts of NumPy arrays."""
    window = ow.Sample(*map(jnp.asarray, data()))
    run = jax.jit(lambda carry, part: algorithm.run(net, ow.losses.squared_error, carry, part))
    carry, results, start = algorithm.init(net), [], 0
    for length in windows:
        carry, estimate = run(carry, jax.tree.map(lambda leaf, at=slice(start, start + length): leaf[at], window))
        results.append([arrays(node) for node in estimate.gradient.nodes.values()])
        start += length
    return results


def assert_same(actual, expected, rtol):
    """Every number of every window; `expected` must not be trivial after the first step."""
    assert len(actual) == len(expected) == len(WINDOWS)
    for window, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert len(one) == len(other)
        for node, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            assert mine.keys() == theirs.keys()
            for name in mine:
                size = np.abs(theirs[name]).max()
                assert window == 0 or size > 1e-4, f"{name} of layer {node} gets no gradient: the test sees nothing"
                np.testing.assert_allclose(
                    mine[name], theirs[name], rtol=rtol, atol=rtol * max(size, 1e-3), err_msg=f"{name} of layer {node}"
                )


def distance(actual, expected):
    """Largest relative difference of any parameter in any window after the first."""
    pairs = [
        (one[name], other[name])
        for mine, theirs in zip(actual[1:], expected[1:], strict=True)
        for one, other in zip(mine, theirs, strict=True)
        for name in one
    ]
    return max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs)


@functools.cache
def dense(kinds, rule, depth="spatial"):
    net = network(*kinds)
    return dense_influence.by_layer(layers(net), readout(net), *data(), WINDOWS, rule, depth)


@functools.cache
def whole(kinds, **options):
    net = network(*kinds)
    return dense_influence.whole_network(layers(net), readout(net), *data(), WINDOWS, **options)


# One tanh layer: Williams and Zipser's recursion


@pytest.mark.parametrize("decay", [1.0, 0.8])
def test_rtrl_is_williams_and_zipsers(decay):
    net = network("RNN")
    reference = functools.partial(williams_zipser.gradients, arrays(net.nodes["0_rnn"]), readout(net), *data(), WINDOWS)
    actual = ours(net, ow.RTRL(decay=decay))
    assert_same(actual, reference(decay=decay), 1e-9)
    assert distance(actual, reference(decay=0.9)) > 1e-2
    assert distance(actual, reference(decay=decay, own_unit_only=True)) > 1e-2


def test_snap_keeps_the_units_own_entries():
    net = network("RNN")
    reference = functools.partial(williams_zipser.gradients, arrays(net.nodes["0_rnn"]), readout(net), *data(), WINDOWS)
    actual = ours(net, ow.SnAp(1))
    assert_same(actual, reference(own_unit_only=True), 1e-9)
    assert distance(actual, reference()) > 1e-2
    assert distance(actual, dense(("RNN",), "eprop")) > 1e-2


def test_eprop_of_a_tanh_layer_has_no_memory():
    """At a fixed emission the new state does not depend on the old one, so only the present step is left."""
    actual = ours(network("RNN"), ow.EProp())
    assert_same(actual, dense(("RNN",), "eprop"), 1e-9)
    assert_same(actual, whole(("RNN",), look_back=0), 1e-9)
    assert distance(actual, dense(("RNN",), "snap")) > 1e-2


# One GRU layer: derivatives by hand


@pytest.mark.parametrize(("rule", "algorithm"), [("snap", ow.SnAp(1)), ("eprop", ow.EProp())])
def test_gru_traces_by_hand(rule, algorithm):
    net = network("GRU")
    reference = functools.partial(gru_traces.gradients, arrays(net.nodes["0_gru"]), readout(net), *data(), WINDOWS)
    actual = ours(net, algorithm)
    assert_same(actual, reference(rule), 1e-9)
    assert_same(actual, dense(("GRU",), rule), 1e-9)
    assert distance(actual, reference(rule, reset_coupling=False)) > 0.1
    assert distance(actual, reference({"snap": "eprop", "eprop": "snap"}[rule])) > 1e-2
    assert distance(actual, dense(("GRU",), "full")) > 1e-2


def test_a_batch_is_the_mean_of_its_sequences():
    net = network("GRU")
    inputs, targets, weights = data()
    flipped = inputs[::-1], targets, weights[::-1]
    batch = ow.Sample(*(jnp.stack([a, b]) for a, b in zip(data(), flipped, strict=True)))
    _, gradient = ow.value_and_grad(net, ow.losses.squared_error, batch, algorithm=ow.SnAp(1))
    each = [
        gru_traces.gradients(arrays(net.nodes["0_gru"]), readout(net), *one, (TIME,), "snap")[0]
        for one in (data(), flipped)
    ]
    for node, mine in enumerate(map(arrays, gradient.nodes.values())):
        for name in mine:
            np.testing.assert_allclose(mine[name], (each[0][node][name] + each[1][node][name]) / 2, rtol=1e-9)


# One LSTM layer: two state components


@pytest.mark.parametrize(("rule", "algorithm"), [("snap", ow.SnAp(1)), ("eprop", ow.EProp())])
def test_lstm_traces(rule, algorithm):
    actual = ours(network("LSTM"), algorithm)
    assert_same(actual, dense(("LSTM",), rule), 1e-9)
    assert distance(actual, dense(("LSTM",), {"snap": "eprop", "eprop": "snap"}[rule])) > 1e-2
    assert distance(actual, dense(("LSTM",), "full")) > 1e-2


# One LRU layer: complex traces


@pytest.mark.parametrize("algorithm", [ow.RTRL(), ow.SnAp(1), ow.EProp()], ids=lambda a: type(a).__name__)
def test_lru_in_complex_numbers(algorithm):
    net = network("LRU")
    reference = functools.partial(lru_traces.gradients, arrays(net.nodes["0_lru"]), readout(net), *data(), WINDOWS)
    actual = ours(net, algorithm)
    assert_same(actual, reference(), 1e-9)
    assert distance(actual, reference(inner_exponential=False)) > 0.1


# Deep networks: a GRU, a linear map, a GRU, a readout

DEEP = ("GRU", "Linear", "GRU")


@pytest.mark.parametrize(
    ("algorithm", "rule", "depth", "others"),
    [
        (ow.SnAp(1), "snap", "spatial", [("full", "spatial"), ("snap", "traces"), ("eprop", "spatial")]),
        (ow.EProp(), "eprop", "spatial", [("snap", "spatial"), ("eprop", "traces")]),
        (ow.EProp(depth="traces"), "eprop", "traces", [("eprop", "spatial"), ("snap", "traces"), ("full", "traces")]),
        (ow.RTRL(), "full", "traces", [("full", "spatial"), ("snap", "traces")]),
    ],
    ids=["SnAp", "EProp", "EProp-traces", "RTRL"],
)
def test_deep_rules(algorithm, rule, depth, others):
    actual = ours(network(*DEEP), algorithm)
    assert_same(actual, dense(DEEP, rule, depth), 1e-9)
    for other in others:
        assert distance(actual, dense(DEEP, *other)) > 1e-3, other


def test_a_fixed_look_back():
    actual = ours(network(*DEEP), ow.NthOrder(2))
    assert_same(actual, whole(DEEP, look_back=2), 1e-9)
    assert distance(actual, whole(DEEP, look_back=1)) > 1e-3
    assert distance(actual, whole(DEEP, look_back=3)) > 1e-3


# BPTT and RTRL from losses alone


@pytest.mark.parametrize("kinds", [DEEP, ("LSTM", "LSTM"), ("LRU", "Linear", "LRU")], ids=" ".join)
def test_bptt_by_finite_differences(kinds):
    net = network(*kinds)
    reference = finite_differences.gradients(layers(net), readout(net), *data(), WINDOWS, truncated=True)
    assert_same(ours(net, ow.BPTT()), reference, 1e-6)


def test_rtrl_by_finite_differences():
    net = network(*DEEP)
    reference = functools.partial(finite_differences.gradients, layers(net), readout(net), *data(), WINDOWS)
    assert_same(whole(DEEP), reference(truncated=False), 1e-6)
    assert distance(whole(DEEP), reference(truncated=True)) > 1e-3


# The references against each other


def test_references_agree():
    """The whole-network recursion knows no layers; with nothing cut, the recursion by layers must equal it."""
    for kinds in (DEEP, ("LSTM",), ("LRU", "Linear", "LRU")):
        assert_same(dense(kinds, "full", "traces"), whole(kinds), 1e-10)
    net = network("RNN")
    by_hand = williams_zipser.gradients(arrays(net.nodes["0_rnn"]), readout(net), *data(), WINDOWS, decay=0.8)
    assert_same(by_hand, whole(("RNN",), decay=0.8), 1e-10)
    net = network("LRU")
    by_hand = lru_traces.gradients(arrays(net.nodes["0_lru"]), readout(net), *data(), WINDOWS)
    for rule in ("full", "snap", "eprop"):  # a diagonal layer: nothing to cut
        assert_same(by_hand, dense(("LRU",), rule), 1e-10)


def test_outputs_are_numpys():
    """The forward passes that all of the above rests on."""
    from tests.reference.steps import network_step

    for kinds in (DEEP, ("LSTM", "LSTM"), ("LRU", "Linear", "LRU")):
        net = network(*kinds)
        states = [np.zeros(layer.size) for layer in layers(net)]
        outputs = []
        for x in data()[0]:
            states, emitted = network_step(layers(net), [layer.parameters for layer in layers(net)], states, x)
            outputs.append(readout(net)["weight"] @ emitted + readout(net)["bias"])
        np.testing.assert_allclose(net.unroll(jnp.asarray(data()[0])), np.stack(outputs), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("size", [1.0, 1e4], ids=["small", "large"])
def test_cross_entropy_and_its_gradient_are_numpys(size):
    """Of large scores as well, whose exponentials overflow."""
    scores = size * np.random.default_rng(0).normal(size=9)
    for label in range(9):
        value, gradient = jax.value_and_grad(ow.losses.cross_entropy)(jnp.asarray(scores), label)
        odds = np.exp(scores - scores.max())
        expected = np.log(odds.sum()) + scores.max() - scores[label]
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(gradient, odds / odds.sum() - np.eye(9)[label], rtol=1e-12, atol=1e-15)
