"""The guide's code, the example, and a plain cell of one's own against an independent reference."""

import importlib.util
import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from onward.cells.base import summed_leaves
from tests import claims
from tests.reference import dense_influence, steps
from tests.reference.steps import Layer, sigmoid

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("own_cell", ROOT / "examples" / "own_cell.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def distance(one, other):
    one, other = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return np.linalg.norm(one - other) / np.linalg.norm(other)


def test_the_guides_program_shows_what_it_says():
    """Its code blocks, run one after the other."""
    text, guide = (ROOT / "docs" / "bring-your-own-cell.md").read_text(), {"__name__": "guide"}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "bring-your-own-cell.md", "exec"), guide)

    gradients = guide["gradients"]
    exact = gradients[ow.BPTT()]
    assert distance(gradients[ow.RTRL()], exact) < 1e-12
    for algorithm in (ow.NthOrder(3), ow.SpatialBP(), ow.SnAp(1), ow.EProp()):
        assert not algorithm.exact_on(guide["net"])
        assert 1e-3 < distance(gradients[algorithm], exact) < 1
    assert guide["message"] in " ".join(text.replace("\n> ", " ").split())
    assert "declares `unit_local = False`" in guide["refusal"]
    assert distance(guide["by_rtrl"], guide["by_bptt"]) < 1e-12
    assert distance(guide["dense_rtrl"], guide["dense_bptt"]) < 1e-12
    assert distance(guide["factored_gradient"], gradients[ow.SnAp(1)]) < 1e-12


@pytest.mark.parametrize(("rule", "algorithm"), [("snap", ow.SnAp(1)), ("eprop", ow.EProp())])
def test_a_plain_cell_against_the_reference(example, rule, algorithm, monkeypatch):
    """The path that cells take which are not factored; windows of 1, 3 and the rest."""

    def minimal_gated_unit(p, state, emission, x):
        drive, recurrent = p["weight_ih"] @ x + p["bias"], p["weight_hh"] @ emission
        gate = sigmoid(drive[:, 0] + recurrent[:, 0])
        return (1 - gate) * state + gate * np.tanh(drive[:, 1] + gate * recurrent[:, 1])

    monkeypatch.setitem(steps.STEPS, "mgu", minimal_gated_unit)
    net, windows, rng = example.network(example.MinimalGatedUnit, units=4), (1, 3, 3), np.random.default_rng(0)
    data = rng.normal(size=(7, 1)), rng.normal(size=(7, 1)), np.ones(7)
    cell, readout = net.nodes.values()
    layer = Layer("mgu", {name: np.asarray(getattr(cell, name)) for name in ("weight_ih", "weight_hh", "bias")})
    last = {name: np.asarray(getattr(readout, name)) for name in ("weight", "bias")}
    expected = dense_influence.by_layer([layer], last, *data, windows, rule)
    wrong = dense_influence.by_layer([layer], last, *data, windows, {"snap": "eprop", "eprop": "snap"}[rule])
    run = jax.jit(lambda carry, part: algorithm.run(net, ow.losses.squared_error, carry, part))
    carry, start, differs = algorithm.init(net), 0, []
    for length, (theirs, _), (others, _) in zip(windows, expected, wrong, strict=True):
        part = ow.Sample(*(jnp.asarray(array[start : start + length]) for array in data))
        carry, estimate = run(carry, part)
        ours = next(iter(estimate.gradient.nodes.values()))
        for name in theirs:
            np.testing.assert_allclose(getattr(ours, name), theirs[name], rtol=1e-9, atol=1e-12)
            differs.append(np.abs(theirs[name] - others[name]).max())
        start += length
    assert max(differs) > 1e-2


def test_the_example_runs(example, capsys):
    """All of it but some rows of the table, which take most of the time; the guide's program has all algorithms."""
    rows = example.main(steps=2, names=("RTRL()", "EProp()"))
    printed = capsys.readouterr().out
    assert all(name in printed for name in rows)
    assert "breaks the unit-local contract" in printed
    for name, (cosine, before, after) in rows.items():
        assert np.isfinite([before, after]).all()
        assert (abs(cosine - 1) < 1e-12) == (name == "RTRL()")


def test_the_cell_is_under_thirty_lines_and_the_same_in_both(example):
    def code(path):
        found = re.search(r"class MinimalGatedUnit\(.*?(?=\n\n\n|```)", path.read_text(), re.DOTALL)
        assert found is not None
        return [line for line in found.group().splitlines() if '"""' not in line and line]

    listing = code(ROOT / "docs" / "bring-your-own-cell.md")
    assert listing == code(Path(example.__file__))
    assert len(listing) < 30


class Switched(ow.cells.RNN):
    """Its drives have the same error, but are not only added: the input also switches, which has no gradient."""

    def update(self, state, recurrent, drive):
        return jnp.tanh(recurrent + drive) * jnp.where(drive > 0, 1.0, 0.5)


@pytest.mark.parametrize(("kind", "summed"), [(ow.cells.RNN, True), (Switched, None)])
def test_drives_are_only_merged_where_their_sum_is_all_that_counts(kind, summed):
    cell = kind(3, 4, key=jax.random.key(0))
    assert summed_leaves(cell) == summed
    net = ow.stack(cell, readout=eqx.nn.Linear(4, 2, key=jax.random.key(1)))
    window = claims.sample()
    expected_value, expected = claims.autodiff(net, window)
    for algorithm in (ow.BPTT(), ow.RTRL()):
        value, gradient = claims.gradient_of(algorithm, net, window)
        assert np.isclose(value, expected_value, rtol=1e-12)
        assert claims.distance(gradient, expected) <= 1e-9
