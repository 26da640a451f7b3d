"""PyTorch's layers as cells and back: the same bits, the same outputs, the same gradients."""

import builtins
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from onward.interop import from_torch, gradient_from_torch, to_torch

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed; `pip install torch`")
KINDS = ("RNN", "GRU", "LSTM")
TIME, BATCH, INPUT, UNITS = 6, 3, 2, 4
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def module(kind, layers=1, dtype="float64", **options):
    torch.manual_seed(layers)
    return getattr(torch.nn, kind)(INPUT, UNITS, num_layers=layers, dtype=getattr(torch, dtype), **options)


def sample(dtype="float64"):
    rng = np.random.default_rng(0)
    shape = (BATCH, TIME)
    weight = rng.uniform(0, 1, shape)
    weight[0, 2] = 0
    arrays = rng.normal(size=(*shape, INPUT)), rng.normal(size=(*shape, UNITS)), weight
    return ow.Sample(*(jnp.asarray(array.astype(dtype)) for array in arrays))


def torch_loss(lstm, window):
    """PyTorch's outputs and the loss that `ow.value_and_grad` documents."""
    inputs, target, weight = (torch.from_numpy(np.array(leaf)) for leaf in (window.input, window.target, window.weight))
    outputs = lstm(inputs if lstm.batch_first else inputs.transpose(0, 1))[0]
    outputs = outputs if lstm.batch_first else outputs.transpose(0, 1)
    return outputs, (weight[..., None] * (outputs - target) ** 2).sum((1, 2)).mean()


def as_network(built):
    return built if isinstance(built, ow.Network) else ow.stack(built)


def assert_close(actual, expected, tolerance):
    actual, expected = jax.tree.leaves_with_path(actual), jax.tree.leaves(expected)
    assert len(actual) == len(expected) > 0
    for (path, a), b in zip(actual, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert np.linalg.norm(b) > 1e-4, f"{path} has no gradient: the test sees nothing"
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b), path


def refuse_torch(monkeypatch):
    real = builtins.__import__

    def fake(name, *args, **kwargs):
        if name == "torch":
            raise ImportError("No module named 'torch'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fake)


def runner(network, algorithm):
    return jax.jit(lambda carry, part: algorithm.run(network, ow.losses.squared_error, carry, part))


@needs_torch
@pytest.mark.parametrize(
    ("kind", "layers", "dtype"),
    [(kind, *row) for kind in KINDS for row in ((1, "float32"), (2, "float64"))]
    + [("RNN", 1, "float64"), ("GRU", 3, "float32"), ("LSTM", 2, "float32")],
)
def test_outputs_and_gradients_are_pytorchs(kind, layers, dtype):
    source, window = module(kind, layers, dtype, batch_first=layers == 2), sample(dtype)
    network = as_network(from_torch(source))
    outputs, loss = torch_loss(source, window)
    loss.backward()
    expected = as_network(gradient_from_torch(source))
    _, ours = runner(network, ow.BPTT())(ow.BPTT().init(network, batch=BATCH), window)
    assert ours.output.dtype == ours.loss.dtype == dtype
    np.testing.assert_allclose(ours.output, outputs.detach().numpy(), rtol=0, atol=TOLERANCE[dtype])
    assert abs(float(ours.loss) - loss.item()) <= TOLERANCE[dtype] * loss.item()
    assert_close(ours.gradient.nodes, expected.nodes, TOLERANCE[dtype])


@needs_torch
@pytest.mark.parametrize(("kind", "layers"), [("RNN", 1), ("GRU", 2), ("LSTM", 1)])
def test_rtrl_is_pytorchs_autograd_window_by_window(kind, layers):
    """Each window's RTRL gradient is the derivative of that window's loss through the whole past."""
    source, window = module(kind, layers), sample()
    network, algorithm = as_network(from_torch(source)), ow.RTRL()
    run = runner(network, algorithm)
    carry = algorithm.init(network, batch=BATCH)
    for start, stop in ((0, 2), (2, 4), (4, 6)):
        carry, estimate = run(carry, jax.tree.map(lambda leaf, at=slice(start, stop): leaf[:, at], window))
        chosen = (np.arange(TIME) >= start) & (np.arange(TIME) < stop)
        only = ow.Sample(window.input, window.target, window.weight * chosen)
        source.zero_grad()
        torch_loss(source, only)[1].backward()
        expected = as_network(gradient_from_torch(source))
        assert_close(estimate.gradient.nodes, expected.nodes, 1e-10)
    if kind == "GRU":
        for name in network.nodes:  # the reset gate's own weights, where others are off
            ours, theirs = (tree.nodes[name].weight_hh[:, 0] for tree in (estimate.gradient, expected))
            assert np.linalg.norm(theirs) > 1e-4
            np.testing.assert_allclose(ours, theirs, rtol=1e-8)


@needs_torch
@pytest.mark.parametrize(("layers", "dtype"), [(1, "float16"), (1, "float64"), (2, "float32")])
@pytest.mark.parametrize("kind", KINDS)
def test_round_trips_are_bit_exact(kind, layers, dtype):
    source = module(kind, layers, dtype)
    state = torch.get_rng_state()
    built = from_torch(source)
    back = to_torch(built, batch_first=True)
    assert torch.equal(torch.get_rng_state(), state), "no random numbers are used"
    assert type(back) is type(source)
    assert (back.num_layers, back.batch_first) == (layers, True)
    for (name, old), (same, new) in zip(source.named_parameters(), back.named_parameters(), strict=True):
        assert (name, old.dtype) == (same, new.dtype)
        assert torch.equal(old, new)
        assert new.requires_grad
    again = from_torch(back)
    assert jax.tree.structure(again) == jax.tree.structure(built)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(built), strict=True))


@needs_torch
def test_layout_by_hand():
    source = module("LSTM")
    cell = from_torch(source)
    for unit in range(UNITS):
        for gate in range(4):
            row = gate * UNITS + unit
            assert np.array_equal(cell.weight_hh[unit, gate], source.weight_hh_l0[row].detach())
            assert np.array_equal(cell.weight_ih[unit, gate], source.weight_ih_l0[row].detach())
            assert cell.bias_ih[unit, gate] == source.bias_ih_l0[row].item()
            assert cell.bias_hh[unit, gate] == source.bias_hh_l0[row].item()


@needs_torch
def test_gradients_travel_both_ways():
    source, window = module("GRU", 2), sample()
    network = from_torch(source)
    value, gradient = ow.value_and_grad(network, ow.losses.squared_error, window, algorithm=ow.BPTT())
    assert abs(float(value) - torch_loss(source, window)[1].item()) < 1e-12
    torch_loss(source, window)[1].backward()
    assert jax.tree.structure(gradient_from_torch(source)) == jax.tree.structure(gradient)
    for parameter, ours in zip(source.parameters(), to_torch(gradient).parameters(), strict=True):
        assert torch.allclose(parameter.grad, ours, rtol=1e-8, atol=1e-12)
    first = to_torch(gradient.nodes["0_gru"])  # one layer of it
    assert torch.allclose(first.weight_hh_l0, source.weight_hh_l0.grad, rtol=1e-8, atol=1e-12)


@needs_torch
def test_cells_of_a_network_with_a_readout():
    built = from_torch(module("RNN", 2))
    network = ow.stack(*built.nodes.values(), readout=eqx.nn.Linear(UNITS, 1, key=jax.random.key(0)))
    with pytest.raises(ValueError, match="node 'readout' \\(Linear\\) has no place"):
        to_torch(network)
    back = to_torch([network.nodes[name] for name in network.recurrent_names])
    assert jax.tree.all(jax.tree.map(np.array_equal, from_torch(back), built))


@needs_torch
def test_values_are_copied():
    source = module("RNN")
    cell = from_torch(source)
    before = np.array(cell.bias_hh), np.array(cell.weight_hh)
    back = to_torch(cell)
    with torch.no_grad():
        for parameter in [*source.parameters(), *back.parameters()]:
            parameter.add_(1)
    assert np.array_equal(cell.bias_hh, before[0])
    assert np.array_equal(cell.weight_hh, before[1])


@needs_torch
def test_missing_biases_are_zeros():
    source, window = module("LSTM", dtype="float32", bias=False), sample("float32")
    cell = from_torch(source)
    assert cell.bias_ih.shape == cell.bias_hh.shape == (UNITS, 4)
    assert cell.bias_ih.dtype == "float32"
    assert not np.any(cell.bias_ih)
    assert not np.any(cell.bias_hh)
    outputs, loss = torch_loss(source, window)
    loss.backward()
    assert not np.any(gradient_from_torch(source).bias_ih)
    back = to_torch(cell)
    np.testing.assert_allclose(torch_loss(back, window)[0].detach(), outputs.detach(), atol=1e-6)


REFUSED = {
    "relu": (lambda: module("RNN", nonlinearity="relu"), ValueError, "nonlinearity='relu'"),
    "bidirectional": (lambda: module("GRU", bidirectional=True), ValueError, "bidirectional=True"),
    "projection": (lambda: module("LSTM", proj_size=2), ValueError, "proj_size=2"),
    "dropout": (lambda: module("LSTM", 2, dropout=0.5), ValueError, "dropout=0.5 between its layers"),
    "bfloat16": (lambda: module("GRU", dtype="bfloat16"), TypeError, "weight_ih_l0` has dtype bfloat16"),
    "linear": (lambda: torch.nn.Linear(2, 2), TypeError, "got Linear"),
    "cell": (lambda: torch.nn.GRUCell(2, 2), TypeError, "got GRUCell"),
}


@needs_torch
@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_counterpart_is_refused(case):
    make, kind, message = REFUSED[case]
    source = make()
    with pytest.raises(kind, match=message):
        from_torch(source)


@needs_torch
def test_dropout_can_be_left_out():
    source = module("GRU", 2, dropout=0.5)
    source.dropout = 0
    assert len(from_torch(source).nodes) == 2


@needs_torch
def test_float64_needs_the_64_bit_mode():
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match=r"is float64, but JAX's 64-bit mode is off.*jax_enable_x64"):
            from_torch(module("GRU"))
        assert from_torch(module("GRU", dtype="float32")).weight_hh.dtype == "float32"


@needs_torch
def test_no_gradient_is_said():
    with pytest.raises(ValueError, match=r"weight_ih_l0` has no gradient.*backward"):
        gradient_from_torch(module("RNN"))


def cell(kind="GRU", inputs=UNITS, hidden=UNITS):
    """A cell of NumPy zeros, made without compiling anything."""
    shapes = eqx.filter_eval_shape(getattr(ow.cells, kind), inputs, hidden, key=jax.random.key(0))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


@needs_torch
def test_what_pytorch_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="got LRU"):
        to_torch(cell("LRU"))
    with pytest.raises(ValueError, match="layer 1 is a RNN above a GRU"):
        to_torch([cell(), cell("RNN")])
    with pytest.raises(ValueError, match="layer 1 has 5 units above 4"):
        to_torch([cell(), cell(hidden=5)])
    with pytest.raises(ValueError, match=r"layer 1 reads 3 inputs.*lowest layer up"):
        to_torch([cell(), cell(inputs=3)])
    with pytest.raises(ValueError, match="empty list"):
        to_torch([])
    graph = ow.Network({"a": cell(), "b": cell()}, {"a": ("input",), "b": ("input",)}, "b")
    with pytest.raises(ValueError, match="is a graph"):
        to_torch(graph)
    lower = ow.Network({"a": cell(), "b": cell()}, {"a": ("input",), "b": ("a",)}, "a")
    with pytest.raises(ValueError, match="gives out node 'a'"):
        to_torch(lower)
    with pytest.raises(ValueError, match=r"`bias_hh` of layer 0 is float32 where weight_hh is float64"):
        to_torch(eqx.tree_at(lambda c: c.bias_hh, cell(), cell().bias_hh.astype("float32")))
    with pytest.raises(ValueError, match=r"`weight_ih` of layer 0 has shape \(1, 4, 3, 4\)"):
        to_torch(jax.tree.map(lambda leaf: leaf[None], cell()))
    with pytest.raises(TypeError, match="dtype bfloat16"):
        to_torch(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), cell()))


def test_missing_pytorch_is_one_sentence(monkeypatch):
    refuse_torch(monkeypatch)
    with pytest.raises(ImportError, match=r"needs PyTorch, which is not installed; run `pip install torch`"):
        from_torch(object())
    with pytest.raises(ImportError, match=r"to_torch needs PyTorch"):
        to_torch(cell())


def test_importing_onward_does_not_import_pytorch():
    code = "import sys, onward; onward.interop.from_torch; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
