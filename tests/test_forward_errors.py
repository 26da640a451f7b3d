"""Forward propagation of errors: what its options do, where the published form breaks and segments do not."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from onward.algorithms import forward_errors
from onward.algorithms.error_passes import levels_of
from tests.claims import autodiff, distance, flat, gradient_of, network, sample


def lru(r_min, r_max=1.0, layers=1):
    """A stack of LRU layers in float32, which forgets the faster the smaller the moduli are."""
    keys = jax.random.split(jax.random.key(1), layers + 1)
    cells = [ow.cells.LRU(3 if i == 0 else 16, 8, r_min=r_min, r_max=r_max, key=keys[i]) for i in range(layers)]
    net = ow.stack(*cells, readout=eqx.nn.Linear(16, 2, key=keys[-1]))
    return single(net)


def single(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if eqx.is_inexact_array(leaf) else leaf, tree)


def cosine(a, b):
    a, b = flat(a), flat(b)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("name", ["LRU blocks", "dag"])
def test_one_pass_is_spatial_backpropagation(name):
    net, window = network(name), sample()
    one, spatial = (gradient_of(a, net, window)[1] for a in (ow.ForwardErrors(passes=1), ow.SpatialBP()))
    assert distance(one, spatial) <= 1e-14


def test_more_passes_reach_lower_layers():
    net, window = network("mixed x 3"), sample()
    expected = autodiff(net, window)[1]
    cells = net.recurrent_names[::-1]
    for passes in (1, 2, 3, 4):
        gradient = gradient_of(ow.ForwardErrors(passes=passes), net, window)[1]
        exact = [distance(gradient.nodes[cell], expected.nodes[cell]) <= 1e-9 for cell in cells]
        assert exact == [level < passes for level in (1, 2, 3)]


def test_levels_are_longest_paths_to_the_output():
    assert levels_of(network("dag")) == {"c": 1, "b": 2, "a": 3}
    assert levels_of(network("LRU blocks")) == {"05_lru": 1, "01_lru": 2}


@pytest.mark.parametrize(("name", "length"), [("LRU x 2", 24), ("GRU x 1", 23)])
def test_windows_cut_at_several_levels(name, length, monkeypatch):
    """Chunks of 3 steps and 2 edges a level: three levels, without a remainder and with one."""
    monkeypatch.setattr(forward_errors, "CHUNK", 3)
    monkeypatch.setattr(forward_errors, "MOST_EDGES", 2)
    assert len(forward_errors._auto_sizes(length)) == 3
    net, window = network(name), sample(length)
    value, gradient = gradient_of(ow.ForwardErrors(), net, window)
    expected_value, expected = autodiff(net, window)
    assert np.isclose(value, expected_value, rtol=1e-12)
    assert distance(gradient, expected) <= 1e-9


def test_the_outputs_are_those_of_the_network():
    net, window = network("GRU x 2"), sample(23)
    for algorithm in (ow.ForwardErrors(), ow.ForwardErrors(segments=4)):
        _, estimate = eqx.filter_jit(algorithm.run)(net, ow.losses.squared_error, algorithm.init(net, batch=2), window)
        np.testing.assert_allclose(estimate.output, jax.vmap(net.unroll)(window.input), rtol=1e-12, atol=1e-14)


def test_forgetting_breaks_the_published_form_and_not_segments():
    """float32, moduli from 0.1: one segment loses every digit, segments keep them."""
    net, window = lru(0.1, 0.6), single(sample(300))
    expected = gradient_of(ow.BPTT(), net, window)[1]
    for warmup in ("accumulate", "shoot"):
        published = gradient_of(ow.ForwardErrors(warmup=warmup, segments=None), net, window)[1]
        assert not cosine(published, expected) > 0.9  # or NaN
    assert cosine(gradient_of(ow.ForwardErrors(), net, window)[1], expected) > 0.999999
    assert cosine(gradient_of(ow.ForwardErrors(segments=150), net, window)[1], expected) > 0.999


def test_the_published_form_holds_where_little_is_forgotten():
    net, window = lru(0.99, layers=2), single(sample(98))
    expected = gradient_of(ow.BPTT(), net, window)[1]
    for warmup in ("accumulate", "shoot"):
        assert cosine(gradient_of(ow.ForwardErrors(warmup=warmup, segments=None), net, window)[1], expected) > 0.99999


def test_double_precision_of_the_errors_keeps_more_digits():
    """|lambda| about 0.85 for 98 steps: seven digits are lost, all that float32 has."""
    net, window = lru(0.8, 0.9), single(sample(98))
    expected = gradient_of(ow.BPTT(), net, window)[1]
    found = {p: gradient_of(ow.ForwardErrors(precision=p), net, window)[1] for p in ("float32", "float64")}
    assert distance(found["float64"], expected) < 1e-4
    assert not distance(found["float32"], expected) < 1e-2
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found["float64"]))


def test_double_precision_needs_the_64_bit_mode():
    net = lru(0.9)
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match=r'`precision` is "float64", but .*jax_enable_x64'):
            ow.ForwardErrors(precision="float64").init(net, batch=2)
    finally:
        jax.config.update("jax_enable_x64", True)


def test_the_first_order_inverse_is_right_for_small_time_steps():
    errors = []
    for step in (0.1, 0.01):
        cell = ow.cells.AntisymmetricRNN(3, 4, step=step, damping=0.1, key=jax.random.key(0))
        net, window = ow.stack(cell, readout=eqx.nn.Linear(4, 2, key=jax.random.key(1))), sample(20)
        gradient = gradient_of(ow.ForwardErrors(inverse="first-order"), net, window)[1]
        errors.append(distance(gradient, autodiff(net, window)[1]))
    assert errors[1] < errors[0] / 10
    assert 1e-9 < errors[1] < 1e-2


def test_singular_jacobians_do_no_harm():
    """Rectified units that are off have a Jacobian of zero."""
    net, window = network("IndRNN x 2"), sample(20)
    expected = autodiff(net, window)[1]
    assert distance(gradient_of(ow.ForwardErrors(), net, window)[1], expected) <= 1e-9
    assert not np.isfinite(flat(gradient_of(ow.ForwardErrors(segments=None), net, window)[1])).all()


@pytest.mark.parametrize(("name", "segments"), [("LRU x 2", None), ("GRU x 2", 3), ("side by side", None)])
def test_probing_finds_the_same_start_without_the_product(name, segments):
    net, window = side_by_side() if name == "side by side" else network(name), sample()
    gradient = gradient_of(ow.ForwardErrors(warmup="probe", segments=segments), net, window)[1]
    assert distance(gradient, autodiff(net, window)[1]) <= 1e-9


def test_the_three_warm_ups_are_three_computations():
    """The same gradient, and not the same bits."""
    net, window = network("LRU x 1"), sample()
    found = [
        flat(gradient_of(ow.ForwardErrors(warmup=warmup, segments=None), net, window)[1].nodes["0_lru"])
        for warmup in ("accumulate", "shoot", "probe")
    ]
    for index, one in enumerate(found):
        for other in found[:index]:
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)
            assert not np.array_equal(one, other)


def side_by_side():
    """Two layers at one level, whose blocks have 2 and 4 components."""
    keys = jax.random.split(jax.random.key(0), 3)
    nodes = {"a": ow.cells.LRU(3, 3, r_min=0.8, key=keys[0]), "b": ow.cells.AntisymmetricRNN(3, 4, key=keys[1])}
    nodes["out"] = eqx.nn.Linear(10, 2, key=keys[2])
    return ow.Network(nodes, {"a": ("input",), "b": ("input",), "out": ("a", "b")}, "out")


def test_more_memory_than_bptts_is_reported():
    """A dense layer of 4 units: maps of 4 x 5 numbers, of 3 pieces of 3 steps; the one of 9 steps needs none."""
    net, window = network("GRU x 1"), sample()
    with pytest.warns(
        UserWarning, match=r"3 maps of 4 x 5 numbers for node '0_gru', .* more than the 9 states of BPTT"
    ):
        ow.ForwardErrors(segments=3).run(net, ow.losses.squared_error, ow.ForwardErrors().init(net, batch=2), window)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient_of(ow.ForwardErrors(), net, window)
        gradient_of(ow.ForwardErrors(segments=3), network("LRU x 1"), window)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": "guess"}, "`warmup` must be one of 'accumulate', 'shoot', 'probe', got 'guess'"),
        ({"precision": "float16"}, "`precision` must be one of None, 'float32', 'float64', got 'float16'"),
        ({"inverse": "none"}, "`inverse` must be one of 'exact', 'first-order', got 'none'"),
        ({"passes": 0}, "`passes` must be a positive integer or None, got 0"),
        ({"segments": -1}, "`segments` must be a positive integer or None or 'auto', got -1"),
        ({"segments": "few"}, "`segments` must be a positive integer or None or 'auto', got 'few'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ow.ForwardErrors(**options)
