"""Bad input: one clear sentence that names the argument and the remedy, or the documented behaviour."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from onward._known_faults import warn_of_faults
from tests.claims import INPUT, OUTPUT, cut, distance, network, sample, total, windowed

NET = network("GRU x 1")
pytestmark = pytest.mark.usefixtures("unchecked")


def grad(window, net=NET, loss=ow.losses.squared_error, algorithm=None):
    return ow.value_and_grad(net, loss, window, algorithm=algorithm or ow.RTRL())


def with_field(name, change, **options):
    window = sample(**options)
    return eqx.tree_at(lambda w: getattr(w, name), window, change(getattr(window, name)))


def first_nan(leaf):
    return leaf.at[(0,) * leaf.ndim].set(jnp.nan)


@pytest.mark.parametrize(
    ("window", "kind", "message"),
    [
        (with_field("input", lambda x: x[:, :4]), ValueError, r"`input` has shape \(2, 4, 3\) but `weight` \(2, 9\)"),
        (with_field("target", lambda x: x[:1]), ValueError, r"`target` has shape \(1, 9, 2\) but `weight` \(2, 9\)"),
        (with_field("input", lambda x: x[..., :2]), ValueError, r"the network reads 3 features.*shape \(2, 9, 3\)"),
        (with_field("target", lambda x: x[..., :1]), ValueError, r"`target` \(1,\); give the target the shape of one"),
        (with_field("weight", lambda x: x[0, 0]), ValueError, r"`weight` must have shape \[time\] or \[batch, time\]"),
        (with_field("weight", lambda x: x.astype(int)), TypeError, r"`weight` must be floating.*\.astype\(float\)"),
        (with_field("input", lambda x: x.astype(int)), TypeError, r"`input` has dtype int64, but node '0_gru'.*astype"),
        (with_field("input", lambda x: x + 1j), TypeError, r"`input` has dtype complex128.*needs floating-point"),
        (with_field("input", first_nan), ValueError, "`input` holds NaN or infinite values; replace them"),
        (with_field("target", first_nan), ValueError, "`target` holds NaN or infinite values; replace them"),
        (with_field("weight", lambda x: x / 0), ValueError, "`weight` holds NaN or infinite values; replace them"),
        (cut(sample(), 0, 0), ValueError, r"the window is empty: `weight` has shape \(2, 0\); give it at least one"),
        (cut(sample(batch=None), 3, 3), ValueError, r"the window is empty: `weight` has shape \(0,\)"),
    ],
)
def test_a_bad_sample_is_refused(window, kind, message):
    with pytest.raises(kind, match=message):
        grad(window)


def test_arrays_of_numpy_and_lists_of_windows_are_told_apart():
    window = sample()
    value, _ = grad(jax.tree.map(np.asarray, window))
    assert value == grad(window)[0]
    with pytest.raises(TypeError, match=r"`sample` must be an onward\.Sample"):
        grad([window])
    with pytest.raises(TypeError, match="`loss` must be a function of one step's output and target, got 'mse'"):
        grad(window, loss="mse")
    with pytest.raises(TypeError, match=r"`network` must be an onward\.Network"):
        grad(window, net=NET.nodes["0_gru"])
    with pytest.raises(TypeError, match=r"`algorithm` must be an instance such as onward.RTRL\(\)"):
        grad(window, algorithm=ow.RTRL)
    with pytest.raises(TypeError, match=r"`algorithm` must be an instance.*'rtrl'"):
        grad(window, algorithm="rtrl")


def test_a_loss_must_return_a_scalar():
    with pytest.raises(ValueError, match=r"`loss` must return a scalar for one step, but returned shape \(2,\)"):
        grad(sample(), loss=lambda output, target: output - target)


def test_labels():
    window = with_field("target", lambda x: jnp.zeros(x.shape[:2], int))
    assert np.isfinite(grad(window, loss=ow.losses.cross_entropy)[0])
    for label in (-1, OUTPUT):
        value, _ = grad(eqx.tree_at(lambda w: w.target, window, jnp.full((2, 9), label)), loss=ow.losses.cross_entropy)
        assert np.isnan(value)
    with pytest.raises(TypeError, match=r"`target` must hold integer class labels, got dtype float64; .*astype\(int\)"):
        grad(with_field("target", lambda x: x[..., 0]), loss=ow.losses.cross_entropy)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ow.SnAp(0), "`n`"),
        (lambda: ow.NthOrder(-1), "`n` must be an integer that is not negative, got -1"),
        (lambda: ow.NthOrder(1.5), "`n` must be an integer that is not negative, got 1.5"),
        (lambda: ow.RTRL(decay=1.5), "`decay`"),
        (lambda: ow.RTRL(decay=float("nan")), "`decay`"),
        (lambda: ow.EProp(depth="deep"), "`depth` must be 'spatial' or 'traces', got 'deep'"),
        (lambda: ow.BPTT(checkpoint=0), "`checkpoint` must be None, 'sqrt' or a positive integer, got 0"),
        (lambda: ow.BPTT(checkpoint="log"), "`checkpoint` must be None, 'sqrt' or a positive integer, got 'log'"),
        (lambda: ow.RTRL().init(NET, batch=0), "`batch` must be None or a positive integer, got 0"),
        (lambda: ow.cells.LRU(3, 4, r_min=0.9, r_max=0.1, key=jax.random.key(0)), "`r_min` and `r_max`"),
        (lambda: ow.cells.LRU(3, 4, max_phase=-1.0, key=jax.random.key(0)), "`max_phase` must be positive, got -1.0"),
        (lambda: ow.cells.LeakyRNN(3, 4, leak=1.0, key=jax.random.key(0)), r"`leak` must be in \[0, 1\), got 1.0"),
        (lambda: ow.cells.IndRNN(3, 4, activation="sin", key=jax.random.key(0)), "`activation` must be 'relu' or"),
        (lambda: ow.cells.GRU(0, 4, key=jax.random.key(0)), "`input_size` must be a positive integer, got 0"),
        (lambda: ow.cells.LSTM(3, 4.0, key=jax.random.key(0)), "`hidden_size` must be a positive integer, got 4.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("nodes", "inputs", "output", "message"),
    [
        (("a",), {"a": ("b",)}, "a", "node 'a' reads 'b', which is not a node; known: input, a"),
        (("a",), {}, "a", "node 'a' has no entry in `inputs`"),
        (("a",), {"a": "input"}, "a", r"`inputs\['a'\]` must be a tuple of names"),
        (("a",), {"a": ("input",), "z": ("a",)}, "a", "`inputs` names 'z', which is not a node; known: a"),
        (("a",), {"a": ("input",)}, "z", "`output` is 'z', which is not a node; known: a"),
        (("a", "b"), {"a": ("b",), "b": ("a",)}, "a", "the nodes a, b form a cycle"),
        (("input",), {"input": ("input",)}, "input", "a node cannot be called 'input'"),
        (("a",), {"a": ("input", "input")}, "a", r"has input_size 3 but reads input \+ input of shape \(6,\)"),
    ],
)
def test_a_graph_that_is_none_is_refused(nodes, inputs, output, message):
    cell = NET.nodes["0_gru"]
    with pytest.raises(ValueError, match=message):
        ow.Network(dict.fromkeys(nodes, cell), inputs, output, input_size=INPUT)


def test_stacks_that_do_not_fit_are_refused():
    cell, linear = NET.nodes["0_gru"], eqx.nn.Linear(7, 2, key=jax.random.key(0))
    with pytest.raises(ValueError, match="needs at least one layer"):
        ow.stack()
    with pytest.raises(ValueError, match=r"node 'readout' \(Linear\) cannot read 0_gru of shape \(4,\)"):
        ow.stack(cell, readout=linear)
    with pytest.raises(ValueError, match=r"node '1_int' is a int, which is not callable"):
        ow.stack(cell, 3)


def test_a_carry_of_another_batch_is_refused():
    window = sample(batch=3)
    with pytest.raises(ValueError, match=r"does not fit a batch of 3; make it with algorithm.init\(network, batch"):
        ow.RTRL().run(NET, ow.losses.squared_error, ow.RTRL().init(NET, batch=2), window)


@pytest.mark.parametrize(
    ("algorithm", "made_by", "net", "message"),
    [
        (ow.RTRL(), ow.BPTT(), NET, "`carry` does not hold the memory of RTRL; make it with algorithm.init"),
        (ow.BPTT(), ow.SnAp(1), NET, "`carry` does not hold the memory of BPTT"),
        (ow.UORO(), ow.RTRL(), NET, "`carry` does not hold the memory of UORO"),
        (ow.RTRL(), ow.RTRL(), network("RNN x 1"), "`carry` does not hold the states of this network"),
    ],
)
def test_a_carry_of_something_else_is_refused(algorithm, made_by, net, message):
    """RTRL on BPTT's carry would be truncated in silence."""
    carry = made_by.init(net, batch=2)
    with pytest.raises(ValueError, match=message):
        algorithm.run(NET, ow.losses.squared_error, carry, sample())


def test_inputs_of_unroll_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"`input` has shape \(5, 2\), but the network reads 3 .* shape \(5, 3\)"):
        NET.unroll(jnp.ones((5, 2)))
    with pytest.raises(ValueError, match=r"`input` has shape \(2, 5, 3\), but the network reads 3 features"):
        NET.unroll(jnp.ones((2, 5, 3)))
    with pytest.raises(TypeError, match=r"`input` has dtype int64, but node '0_gru' \(GRU\) needs floating"):
        NET.unroll(jnp.ones((5, 3), int))
    assert NET.unroll(jnp.ones((0, 3))).shape == (0, OUTPUT)


def test_a_window_that_does_not_divide_the_length_leaves_a_shorter_one():
    """Documented in `onward.train`; with frozen parameters the sum is that of the whole sequence."""
    window = sample(length=7)
    gradients, _ = windowed(ow.RTRL(), NET, window, (3, 6, 7))
    assert distance(total(gradients), grad(window)[1]) <= 1e-12
    assert ow.training.updates_per_batch(7, 3) == 3


def test_a_jaxlib_that_computes_wrongly_is_warned_of():
    with pytest.warns(
        RuntimeWarning, match=r"jaxlib 0\.10\.2 computes some sums wrongly .* pip install 'jax!=0\.10\.2'"
    ):
        warn_of_faults("0.10.2", "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_faults("0.10.2", "--xla_cpu_experimental_ynn_fusion_type=-reduce")
        warn_of_faults("0.10.1", "")
