"""The note "Exact iterative BPTT": its equations in NumPy, half of the cross terms, and the study."""

import csv
import functools
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from onward.cli import main
from onward.reproduce import iterative_bptt_parts
from onward.reproduce.iterative_bptt import IterativeBPTT
from onward.reproduce.iterative_bptt_chaos import lyapunov
from onward.reproduce.iterative_bptt_parts import ConcatenatingRNN
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


# The study


def test_one_loop_or_two_is_the_same_network():
    """What the theorem is tried on: its numbers are an RNN's, and only the name of its state makes cross terms."""
    cell = ow.cells.RNN(3, 4, key=jax.random.key(1))
    gradients, inputs = {}, jnp.asarray(DATA.normal(size=(5, 3)))
    window = ow.Sample(inputs, jnp.ones((5, 4)), jnp.ones(5))
    for loops in (1, 2):
        layer = ConcatenatingRNN(3, 4, loops=loops, key=jax.random.key(0))
        rows = jnp.concatenate([cell.weight_hh, cell.weight_ih, (cell.bias_ih + cell.bias_hh)[:, None]], axis=1)
        weight = jnp.swapaxes(rows.reshape(loops, 4 // loops, -1), 0, 1)
        net = ow.stack(eqx.tree_at(lambda one: one.weight, layer, weight))
        np.testing.assert_allclose(net.unroll(inputs), ow.stack(cell).unroll(inputs), rtol=1e-12)
        half = ow.RTRL(cross_terms="directional")
        exact, gradients[loops] = (
            ow.value_and_grad(net, ow.losses.squared_error, window, algorithm=a)[1] for a in (ow.RTRL(), half)
        )
        assert half.exact_on(net) == (loops == 1)
        assert (distance(gradients[loops], exact) < 1e-12) == (loops == 1)


def test_lyapunov_exponents_that_are_known():
    cell = ow.cells.RNN(1, 3, key=jax.random.key(0))
    where = lambda cell: (cell.weight_hh, cell.bias_ih, cell.bias_hh)  # noqa: E731
    for weight, exponent in ((0.5 * jnp.eye(3), np.log(0.5)), (jnp.diag(jnp.array([0.2, 0.9, 0.4])), np.log(0.9))):
        still = eqx.tree_at(where, cell, (weight, jnp.zeros(3), jnp.zeros(3)))
        state, found = lyapunov(still, jnp.array([0.1, -0.2, 0.3]))
        assert np.isclose(found, exponent, atol=1e-3)
        assert np.abs(state).max() < 1e-6


def test_the_study_tries_what_the_note_says(tmp_path, monkeypatch):
    tiny = replace(
        IterativeBPTT.quick,
        cells=("RNN, two loops",),
        units=4,
        length=6,
        rates=(0.0, 0.05),
        spans=(6,),
        counts=(4, 64),
        batches=3,
        judged=1,
        gains=(3.0,),
        stream=20,
    )
    monkeypatch.setattr(IterativeBPTT, "quick", tiny)
    few = {"naive BPTT": (ow.BPTT(), None), "RTRL": (ow.RTRL(), 1)}
    monkeypatch.setattr(iterative_bptt_parts, "stepwise", lambda look_back: few)
    monkeypatch.setattr(iterative_bptt_parts, "learners", lambda look_back: {"BPTT": few["naive BPTT"]})
    assert main(["reproduce", "iterative-bptt", "--quick", "--out", str(tmp_path)]) == 0
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))

    def numbers(part, *names):
        return [[float(row[name]) for name in names] for row in rows if row["part"] == part]

    (still, at_rest), (moving, drift) = numbers("exactness", "error", "drift")
    assert max(still, at_rest, moving) < 1e-12
    assert drift > 1e-3
    for error, kept, dropped in numbers("cross-terms", "error", "kept", "dropped"):
        assert min(error, kept, dropped) > 1e-2
    (short,), (long,), (first,), (last,) = numbers("cost", "memory")
    assert long > 3 * short
    assert last == first
    ((loss,),) = numbers("learning", "loss")
    assert 0 < loss < 5
    (exponent, growth, cosine), (_, faded, turned) = numbers("chaos", "lyapunov", "growth", "cosine")
    assert exponent > 0.05
    assert growth > faded + 0.05
    assert turned < 0.999 < 0.999999 < cosine
    for name in ("gradients", "cost-and-memory", "chaos"):
        assert (tmp_path / f"{name}.png").exists()
    assert "## Chaos" in (tmp_path / "findings.md").read_text()
