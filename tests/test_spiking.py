"""Spiking cells, and the diagonal cells of online learning, against independent NumPy loops.

Finite differences cannot check a spiking network: its loss is a staircase, flat nearly everywhere, and the surrogate
derivative belongs to the model. What can be checked is that every rule follows the same surrogate: e-prop against
Bellec's formulas, RTRL against plain autodiff of the unrolled network.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from onward.cells.surrogates import SURROGATES
from tests.claims import autodiff, distance, run, windowed
from tests.reference import spiking_traces

KEYS = jax.random.split(jax.random.key(0), 6)
INPUT, UNITS, OUTPUT, TIME = 3, 6, 2, 24
WINDOWS = (1, 1, 11, 11)
FIELDS = {"cell": ("weight_ih", "weight_hh", "bias"), "readout": ("weight", "bias")}
FAST = {"tau_m": 5.0, "dampening": 1.0}
BY_UNIT = {"tau_m": np.linspace(2, 8, UNITS), "tau_a": [4.0, 6.0, 8.0, 10.0, 12.0, 14.0], "beta": [0.0, 0.5] * 3}
SPIKING = {
    "LIF": ("LIF", FAST),
    "LIF refractory": ("LIF", FAST | {"refractory": 2}),
    "LIF to zero": ("LIF", FAST | {"reset": "zero"}),
    "ALIF": ("ALIF", FAST | {"tau_a": 10.0, "beta": 0.5}),
    "ALIF refractory": ("ALIF", FAST | {"tau_a": 10.0, "beta": 0.5, "refractory": 2}),
    "ALIF by unit": ("ALIF", BY_UNIT | {"threshold": 0.7, "dampening": 0.5, "reset": "zero", "refractory": 1}),
}
DIAGONAL = {
    "RTU": ("RTU", {"r_min": 0.5, "activation": "tanh"}),
    "RTU nonlinear": ("RTU", {"r_min": 0.5, "form": "nonlinear", "activation": "tanh"}),
    "ElementwiseLSTM": ("ElementwiseLSTM", {"forget_bias": 1.0}),
}


@functools.cache
def network(name):
    kind, options = (SPIKING | DIAGONAL)[name]
    cell = getattr(ow.cells, kind)(INPUT, UNITS, key=KEYS[0], **options)
    if "bias" in vars(cell):
        moved = cell.bias + 0.1 * jax.random.normal(KEYS[4], cell.bias.shape)
        cell = eqx.tree_at(lambda cell: cell.bias, cell, moved)
    return ow.stack(cell, readout=eqx.nn.Linear(cell.output_size, OUTPUT, key=KEYS[1]))


def cell_of(net):
    return next(iter(net.nodes.values()))


@functools.cache
def data():
    weights = np.random.default_rng(1).uniform(0.5, 1.5, TIME)
    weights[3] = 0
    draw = [
        np.asarray(jax.random.normal(key, (TIME, size))) for key, size in zip(KEYS[2:4], (INPUT, OUTPUT), strict=True)
    ]
    return *draw, weights


def window():
    return ow.Sample(*map(jnp.asarray, data()))


def arrays(node, fields):
    return {name: np.asarray(getattr(node, name), float) for name in fields}


def constants(cell):
    each = lambda name, default: np.broadcast_to(getattr(cell, name, default), (UNITS,))  # noqa: E731
    own = cell.threshold, cell.refractory, cell.dampening, cell.reset
    return spiking_traces.Constants(each("tau_m", None), each("tau_a", 1.0), each("beta", 0.0), *own)


@functools.cache
def bellec(name, mistake=None):
    net = network(name)
    cell, readout = cell_of(net), net.nodes["readout"]
    parameters = arrays(cell, FIELDS["cell"]), arrays(readout, FIELDS["readout"])
    return spiking_traces.gradients(*parameters, *data(), WINDOWS, constants(cell), mistake)


@functools.cache
def eprop(name):
    gradients, _ = windowed(ow.EProp(), network(name), window(), np.cumsum(WINDOWS))
    return [(arrays(cell_of(g), FIELDS["cell"]), arrays(g.nodes["readout"], FIELDS["readout"])) for g in gradients]


# E-prop is Bellec's


@pytest.mark.parametrize("name", SPIKING)
def test_eprop_is_bellecs(name):
    expected, spikes = bellec(name)
    assert 0.05 < spikes.mean() < 0.5
    assert np.mean(spikes.any(axis=0)) > 0.7
    for at, (mine, theirs) in enumerate(zip(eprop(name), expected, strict=True)):
        for one, other in zip(mine, theirs, strict=True):
            for field in one:
                assert at == 0 or np.abs(other[field]).max() > 1e-4, f"{field} gets no gradient: the test sees nothing"
                np.testing.assert_allclose(one[field], other[field], rtol=1e-9, atol=1e-12, err_msg=field)


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("LIF", "alpha"),
        ("LIF refractory", "silence"),
        ("LIF to zero", "alpha"),
        ("ALIF", "beta"),
        ("ALIF", "psi"),
        ("ALIF refractory", "silence"),
        ("ALIF by unit", "beta"),
    ],
)
def test_another_rule_is_seen(name, mistake):
    """The control of the test above: one term of the formulas changed, with the same spikes."""
    wrong, spikes = bellec(name, mistake)
    np.testing.assert_array_equal(spikes, bellec(name)[1])
    assert distance([mine for mine, _ in eprop(name)], [theirs for theirs, _ in wrong]) > 1e-2


# Forward dynamics


@pytest.mark.parametrize("name", SPIKING)
def test_spikes_and_states_are_numpys(name):
    net = network(name)
    cell = cell_of(net)
    layer = spiking_traces.Layer(arrays(cell, FIELDS["cell"]), constants(cell))
    state, fired = net.initial_state(), []
    step = eqx.filter_jit(lambda net, state, x: net.step(state, x))
    for x in data()[0]:
        state, output = step(net, state, x)
        layer.step(x)
        (membrane,) = state.values()
        np.testing.assert_allclose(membrane.voltage, layer.v, rtol=1e-12, atol=1e-14)
        if membrane.adaptation is not None:
            np.testing.assert_allclose(membrane.adaptation, layer.a, rtol=1e-12)
        np.testing.assert_array_equal(cell.emit(membrane), layer.z)
        np.testing.assert_allclose(output, net.nodes["readout"](jnp.asarray(layer.z)), rtol=1e-12)
        fired.append(layer.z.copy())
    fired = np.stack(fired)
    assert 0.05 < fired.mean() < 0.5
    for silence in range(1, cell.refractory + 1):
        assert not np.any(fired[:-silence] * fired[silence:])


@pytest.mark.parametrize("name", DIAGONAL)
def test_diagonal_states_are_numpys(name):
    net = network(name)
    cell, inputs = cell_of(net), data()[0]
    emitted = eqx.filter_jit(lambda net, x: net.unroll(x))(ow.stack(cell), jnp.asarray(inputs))
    c, expected = np.zeros(UNITS, complex), []
    for x in inputs:
        ih = np.asarray(cell.weight_ih) @ x
        if name == "ElementwiseLSTM":
            hh, bias = np.asarray(cell.weight_hh), np.asarray(cell.bias)
            f = 1 / (1 + np.exp(-(ih[:, 0] + hh[:, 0] * c.real + bias[:, 0])))
            c = f * c.real + (1 - f) * np.tanh(ih[:, 1] + hh[:, 1] * c.real + bias[:, 1])
            expected.append(c)
            continue
        eigenvalue = np.exp(-np.exp(cell.nu) + 1j * np.exp(cell.theta))
        c = eigenvalue * c + np.sqrt(1 - np.abs(eigenvalue) ** 2) * (ih[:, 0] + 1j * ih[:, 1])
        bounded = np.tanh(c.real) + 1j * np.tanh(c.imag)
        c = bounded if cell.form == "nonlinear" else c
        expected.append(np.concatenate([bounded.real, bounded.imag]))
    np.testing.assert_allclose(emitted, np.stack(expected), rtol=1e-10, atol=1e-12)


def test_a_leak_of_each_unit():
    leaks = [0.0, 0.5, 0.9, 0.2]
    cell, same = (ow.cells.LeakyRNN(2, 4, leak=leak, key=KEYS[0]) for leak in (leaks, [0.5] * 4))
    state, x = jnp.arange(4.0), jnp.ones(2)
    new = np.tanh(np.asarray(cell.weight_hh) @ np.arange(4) + np.asarray(cell.weight_ih) @ np.ones(2))
    expected = np.asarray(leaks) * np.arange(4) + (1 - np.asarray(leaks)) * new
    np.testing.assert_allclose(cell.transition(state, state, x), expected, rtol=1e-12)
    scalar = ow.cells.LeakyRNN(2, 4, leak=0.5, key=KEYS[0])
    np.testing.assert_array_equal(same.transition(state, state, x), scalar.transition(state, state, x))
    ow.stack(cell)


@pytest.mark.parametrize(("kind", "inputs"), [("LIF", 1), ("LIF", 20), ("ALIF", 1), ("ALIF", 20)])
def test_new_networks_fire(kind, inputs):
    """With all options left out, for standard normal inputs."""
    cell = getattr(ow.cells, kind)(inputs, 64, key=KEYS[0])
    emitted = eqx.filter_jit(lambda net, x: net.unroll(x))(ow.stack(cell), jax.random.normal(KEYS[1], (400, inputs)))
    for part in (emitted[:50], emitted[200:]):
        assert 0.02 < part.mean() < 0.5
    assert np.mean(np.any(emitted, axis=0)) > 0.7


# Surrogate derivatives

FORMULAS = {
    "triangle": lambda u: np.where(np.abs(u) < 1, 1 - np.abs(u), 0),
    "fast-sigmoid": lambda u: (1 + np.abs(u)) ** -2.0,
    "sigmoid": lambda u: np.cosh(u / 2) ** -2.0,
    "arctan": lambda u: 1 / (1 + np.pi**2 * u**2),
    "gaussian": lambda u: np.exp(-0.5 * u * u),
    "boxcar": lambda u: np.where((u > -0.5) & (u < 0.5), 1.0, 0.0),
    "mine": lambda u: 1 / (1 + u**2),
}


def bump(u):
    return 1 / (1 + u**2)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_derivative_of_a_spike(name):
    """By voltage and by adaptation, in forward and in reverse mode, inside `vmap` and `scan`."""
    options = {"surrogate": bump if name == "mine" else name, "dampening": 0.4, "width": 0.5, "threshold": 0.8}
    cell = ow.cells.ALIF(1, 9, beta=0.3, key=KEYS[0], **options)
    state = cell.initial_state()._replace(voltage=jnp.linspace(-0.11, 2.3, 9), adaptation=jnp.linspace(0.1, 1.1, 9))
    barrier = 0.8 + 0.3 * np.linspace(0.1, 1.1, 9)
    u = (np.linspace(-0.11, 2.3, 9) - barrier) / 0.8
    expected = 0.4 / 0.8 * FORMULAS[name](u / 0.5)
    assert np.sum(expected > 1e-2) >= 2

    spikes, pull = jax.vjp(cell.emit, state)
    np.testing.assert_array_equal(spikes, u > 0)
    assert spikes.dtype == state.voltage.dtype
    (pulled,) = pull(jnp.ones(9))
    np.testing.assert_allclose(pulled.voltage, expected, rtol=1e-12)
    np.testing.assert_allclose(pulled.adaptation, -0.3 * expected, rtol=1e-12)

    pushed = jax.jvp(cell.emit, (state,), (jax.tree.map(jnp.ones_like, state),))[1]
    np.testing.assert_allclose(pushed, 0.7 * expected, rtol=1e-12)

    def scanned(voltage):
        return jax.lax.scan(lambda _, v: (None, cell.emit(state._replace(voltage=v))), None, voltage[None])[1].sum()

    batch = jnp.stack([state.voltage, state.voltage[::-1]])
    slopes = jax.vmap(jax.grad(scanned))(batch)
    np.testing.assert_allclose(slopes[0], expected, rtol=1e-12)


def test_the_named_surrogates_are_those_with_a_formula():
    assert set(SURROGATES) == set(FORMULAS) - {"mine"}
    for g in SURROGATES.values():
        assert g(jnp.zeros(())) == 1


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_what_passes_through_the_reset(reset):
    """At a fixed emission: the leak alone, or with `reset_gradient` what the spike takes as well."""
    alpha, voltage = np.exp(-1 / 5), jnp.array([0.2, 0.9, 1.4])
    fired, psi = np.array([0, 0, 1]), 0.5 * np.array([0.2, 0.9, 0.6])
    stopped = alpha * (1 - fired) if reset == "zero" else np.full(3, alpha)
    passed = stopped - (alpha * voltage if reset == "zero" else 1) * psi
    for option, expected in ((False, stopped), (True, passed)):
        options = {"reset": reset, "reset_gradient": option, "dampening": 0.5, "refractory": 2}
        cell = ow.cells.LIF(1, 3, tau_m=5.0, key=KEYS[0], **options)
        state = cell.initial_state()._replace(voltage=voltage)
        jacobian = jax.jacobian(lambda s, c=cell: c.transition(s, jnp.zeros(3), jnp.zeros(1)))(state)
        np.testing.assert_allclose(jacobian.voltage.voltage, np.diag(expected), rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(jacobian.clock.voltage, 0)
        np.testing.assert_array_equal(jacobian.clock.clock, 0)


# RTRL is BPTT


@pytest.mark.parametrize("name", ["LIF refractory", "ALIF", "ALIF by unit", *DIAGONAL])
def test_rtrl_is_autodiff(name):
    """Window by window, so that what is carried over their edges counts: the last window's losses through all steps."""
    net, edges = network(name), (8, 16, 24)
    gradients, _ = windowed(ow.RTRL(), net, window(), edges)
    truncated, _ = windowed(ow.BPTT(), net, window(), edges)
    last = eqx.tree_at(lambda w: w.weight, window(), jnp.where(jnp.arange(TIME) < edges[-2], 0, window().weight))
    expected = autodiff(net, last)[1]
    assert distance(gradients[-1], expected) <= 1e-9
    assert distance(truncated[-1], expected) > 1e-4
    assert distance(jax.tree.map(lambda *leaves: sum(leaves), *gradients), autodiff(net, window())[1]) <= 1e-9


@pytest.mark.parametrize("name", DIAGONAL)
def test_the_influence_of_a_diagonal_cell_is_compressed(name):
    net = network(name)
    (node,) = net.recurrent_names
    components = len(jax.tree.leaves(cell_of(net).initial_state()))
    influence = ow.RTRL().init(net).memory[node][node]
    for leaf, parameter in zip(jax.tree.leaves(influence), jax.tree.leaves(cell_of(net)), strict=True):
        assert leaf.size == components * parameter.size


def test_an_output_gate_above_the_elementwise_lstm():
    cell, gate = ow.cells.ElementwiseLSTM(INPUT, UNITS, key=KEYS[0]), ow.modules.OutputGate(UNITS, INPUT, key=KEYS[1])
    net = ow.Network({"cell": cell, "gate": gate}, {"cell": ("input",), "gate": ("cell", "input")}, "gate")
    inputs = jnp.asarray(data()[0])
    c = ow.stack(cell).unroll(inputs)
    weight, bias = np.asarray(gate.gate.weight), np.asarray(gate.gate.bias)
    opened = 1 / (1 + np.exp(-(np.concatenate([c, inputs], axis=1) @ weight.T + bias)))
    np.testing.assert_allclose(net.unroll(inputs), opened * c, rtol=1e-12)
    sample = ow.Sample(inputs, jnp.zeros((TIME, UNITS)), jnp.ones(TIME))
    carry, summed = ow.RTRL().init(net), 0
    for start in (0, 8, 16):
        carry, estimate = run(ow.RTRL(), net, carry, jax.tree.map(lambda leaf, s=start: leaf[s : s + 8], sample))
        summed = estimate.gradient if start == 0 else jax.tree.map(jnp.add, summed, estimate.gradient)
    assert distance(summed, autodiff(net, sample)[1]) <= 1e-9


# What makes no sense


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("LIF", {"tau_m": 0.0}, "`tau_m` must be a positive, finite number of steps, got 0.0"),
        ("LIF", {"tau_m": [5.0, -1.0]}, "`tau_m` must be a positive, finite number of steps"),
        ("LIF", {"tau_m": [5.0, 5.0, 5.0]}, r"`tau_m` must be one number or one for each of 2 units, got shape \(3,\)"),
        ("LIF", {"threshold": 0.0}, "`threshold` must be positive and finite, got 0.0"),
        ("LIF", {"dampening": -1.0}, "`dampening` must be positive and finite, got -1.0"),
        ("LIF", {"width": float("nan")}, "`width` must be positive and finite, got nan"),
        ("LIF", {"reset": "half"}, "`reset` must be 'subtract' or 'zero', got 'half'"),
        ("LIF", {"refractory": -1}, "`refractory` must be a number of steps, an integer from 0, got -1"),
        ("LIF", {"refractory": 1.5}, "`refractory` must be a number of steps, an integer from 0, got 1.5"),
        ("LIF", {"surrogate": "square"}, "`surrogate` must be one of 'triangle', .* or a function .*, got 'square'"),
        ("ALIF", {"tau_a": float("inf")}, "`tau_a` must be a positive, finite number of steps, got inf"),
        ("ALIF", {"beta": -0.1}, "`beta` must be finite and not negative, got -0.1"),
        ("LeakyRNN", {"leak": [0.5, 1.0]}, r"`leak` must be in \[0, 1\), got \[0.5, 1.0\]"),
        ("LeakyRNN", {"leak": [0.5] * 3}, r"`leak` must be one number or one for each of 2 units, got shape \(3,\)"),
        ("RTU", {"form": "complex"}, "`form` must be 'linear' or 'nonlinear', got 'complex'"),
        ("RTU", {"activation": "sin"}, "`activation` must be 'relu', 'tanh' or 'identity', got 'sin'"),
        ("RTU", {"r_min": 0.9, "r_max": 0.1}, "`r_min` and `r_max` must satisfy"),
        ("RTU", {"max_phase": 0.0}, "`max_phase` must be positive, got 0.0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_options_that_make_no_sense_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(ow.cells, kind)(3, 2, key=KEYS[0], **options)


def test_an_output_gate_without_a_size_is_refused():
    with pytest.raises(ValueError, match="`inputs` must be a positive integer, got 0"):
        ow.modules.OutputGate(3, 0, key=KEYS[0])
