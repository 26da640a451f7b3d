"""SnAp(n) on sparse networks: against an independent program, its pattern, and sparse cells themselves."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import onward as ow
from onward.algorithms.pattern import pattern
from tests.claims import autodiff, distance, gradient_of, network, sample, windowed
from tests.reference import dense_influence
from tests.reference.steps import Layer

FIELDS = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
EDGES = (2, 5, 9)
KEY = jax.random.key(0)


def arrays(node, fields=FIELDS):
    node = node.cell if isinstance(node, ow.cells.Sparse) else node
    return {name: np.asarray(getattr(node, name)) for name in fields}


@functools.cache
def independent(n):
    """The gradients of `network("sparse")`, whose absent weights are 0, by dense matrices and masks."""
    below, above, readout = network("sparse").nodes.values()
    layers = [Layer("gru", arrays(below)), Layer("rnn", arrays(above))]
    window, lengths = sample(batch=None), np.diff((0, *EDGES))
    data = (np.asarray(leaf) for leaf in (window.input, window.target, window.weight))
    return dense_influence.whole_network(layers, arrays(readout, ("weight", "bias")), *data, lengths, reach=n)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_numbers_are_those_of_masked_real_time_recurrent_learning(n):
    net, others = network("sparse"), {2: 3, 3: 2, 5: 3}
    gradients, _ = windowed(ow.SnAp(n), net, sample(batch=None), EDGES)
    for at, gradient in enumerate(gradients):
        for name, node in gradient.nodes.items():
            mine = arrays(node, ("weight", "bias") if name == "readout" else FIELDS)
            place = list(net.nodes).index(name)
            theirs = independent(n)[at][place]
            for field, value in theirs.items():
                present = arrays(net.nodes[name], (field,))[field] != 0
                assert at == 0 or np.abs(value[present]).max() > 1e-4, f"{field} gets no gradient: nothing is seen"
                np.testing.assert_allclose(mine[field], np.where(present, value, 0), rtol=1e-9, atol=1e-12)
    last = arrays(gradients[-1].nodes["0_sparse"])["bias_ih"]
    assert np.linalg.norm(last - independent(others[n])[-1][0]["bias_ih"]) > 1e-4 * np.linalg.norm(last)


def test_influence_is_stored_on_the_pattern_alone():
    net = network("sparse")
    kept = ow.SnAp(2).init(net).memory.kept
    # A unit of the GRU reaches its successor and above at most both halves, its own and its successor's: 2 + 4. It has
    # 3 gates of 3 inputs, 1 connection and 2 biases. The RNN's reach their successors, with 2 + 1 + 2 parameters.
    assert {name: leaf.shape for name, leaf in kept.items()} == {"0_sparse": (4, 6, 18), "1_sparse": (4, 2, 5)}
    everything = ow.SnAp(5).init(net).memory.kept
    assert {name: leaf.shape for name, leaf in everything.items()} == {"0_sparse": (4, 8, 18), "1_sparse": (4, 4, 5)}


def test_cost_falls_with_the_connections():
    """Numbers that are carried and operations of a step, by the share of connections; RTRL's do not fall."""
    keys, found = jax.random.split(KEY), {}
    window = ow.Sample(jnp.ones((1, 1, 2)), jnp.ones((1, 1, 1)), jnp.ones((1, 1)))
    for algorithm in (ow.SnAp(2), ow.RTRL()):
        for density in (0.5, 0.0625):
            cell = ow.cells.Sparse(ow.cells.RNN(2, 32, key=keys[0]), density)
            net = ow.stack(cell, readout=eqx.nn.Linear(32, 1, key=keys[1]))
            carry = algorithm.init(net, batch=1)
            step = jax.jit(lambda c, n=net, a=algorithm: a.run(n, ow.losses.squared_error, c, window))
            compiled = step.lower(carry).compile()
            size = sum(leaf.size for leaf in jax.tree.leaves(carry.memory))
            found.setdefault(str(algorithm), []).append((size, compiled.cost_analysis()["flops"]))
    (sparse, dense) = (np.asarray(list(rows), float) for rows in found.values())
    assert (sparse[1] < sparse[0] / 8).all(), sparse
    assert (dense[1] > dense[0] / 1.1).all(), dense


def test_the_pattern_is_that_of_the_jacobian():
    """Through a relu, a norm and a skip, and of cells whose units have two components."""
    keys = jax.random.split(KEY, 8)
    nodes = {
        "a": ow.cells.Sparse(ow.cells.LSTM(2, 3, key=keys[0]), {"weight_hh": np.roll(np.eye(3), 1, axis=0)}),
        "map": eqx.nn.Linear(3, 2, key=keys[1]),
        "relu": eqx.nn.MLP(3, 2, 3, 1, jax.nn.relu, key=keys[2]),
        "b": ow.cells.LRU(2, 2, r_max=0.8, key=keys[3]),
        "c": ow.cells.Sparse(ow.cells.GRU(6, 2, key=keys[4]), {"weight_ih": np.eye(2, 6), "weight_hh": np.eye(2)}),
        "out": eqx.nn.Linear(2, 1, key=keys[5]),
    }
    inputs = {"a": ("input",), "map": ("a",), "relu": ("a",), "b": ("relu",), "c": ("map", "b"), "out": ("c",)}
    net = ow.Network(nodes, inputs, "out")
    found = pattern(net.effective(), 1)
    states = net.effective().initial_state()
    leaves, tree = jax.tree.flatten(states)
    starts = [found.units[name].start for name, state in states.items() for _ in jax.tree.leaves(state)]
    numbers = np.concatenate([start + np.arange(len(leaf)) for start, leaf in zip(starts, leaves, strict=True)])

    def step(vector, x):
        parts = jnp.split(vector, np.cumsum([len(leaf) for leaf in leaves])[:-1])
        return jnp.concatenate(jax.tree.leaves(net.effective().step(jax.tree.unflatten(tree, parts), x)[0]))

    expected, jacobian = np.zeros_like(found.step), jax.jit(jax.jacobian(step))
    for key in jax.random.split(keys[6], 30):
        vector, x = jax.random.normal(key, (len(numbers),)), jax.random.normal(key, (2,))
        np.logical_or.at(expected, np.ix_(numbers, numbers), np.asarray(jacobian(vector, x)) != 0)
    assert not expected.all()
    np.testing.assert_array_equal(found.step, expected)


# Sparse cells


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM", "LeakyRNN", "AntisymmetricRNN", "RevGRU", "LIF", "ALIF"])
def test_absent_weights_are_zero_and_have_no_gradient(kind):
    cell = getattr(ow.cells, kind)(3, 8, key=KEY)
    name = next(n for n in cell.recurrent if getattr(cell, n).ndim > 1)
    sparse = ow.cells.Sparse(cell, 0.25, seed=3)
    net = ow.stack(sparse, readout=eqx.nn.Linear(cell.output_size, 2, key=KEY))
    _, gradient = gradient_of(ow.RTRL(), net, sample(4))
    weight, slope = (np.asarray(getattr(node.nodes["0_sparse"].cell, name)) for node in (net, gradient))
    absent = weight == 0
    assert np.array_equal(absent.reshape(8, -1, 8).sum(axis=2), np.full((8, absent.size // 64), 6))
    assert np.all(slope[absent] == 0)
    assert np.any(slope[~absent] != 0) or kind in ("LIF", "ALIF")
    assert distance(gradient, autodiff(net, sample(4))[1]) <= 1e-9


def test_training_leaves_absent_weights_alone():
    task = ow.tasks.Copy(length=1, delay=1)
    net = ow.networks.cell_stack(ow.cells.GRU, task.input_size, task.output_size, units=6, density=0.4, key=KEY)
    trained = ow.train(net, task, algorithm=ow.SnAp(2), optimizer=optax.adam(1e-2), steps=3, batch_size=4)
    before, after = (n.nodes["gru_1"].cell.weight_hh for n in (net, trained.network))
    np.testing.assert_array_equal(after == 0, before == 0)
    assert not np.array_equal(after, before)


def test_connections_are_a_function_of_the_seed():
    cell = ow.cells.RNN(3, 16, key=KEY)
    one, same, other = (ow.cells.Sparse(cell, 0.2, seed=seed).cell.weight_hh for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.any((one == 0) != (other == 0))


@pytest.mark.parametrize(
    ("connections", "options", "message"),
    [
        (0.0, {}, r"`connections` must be a share in \(0, 1\]"),
        (1.5, {}, r"`connections` must be a share in \(0, 1\]"),
        ({"weight_hh": np.ones((2, 2))}, {}, r"mask of `weight_hh` must have shape \(4, 4\)"),
        ({"bias_hh": np.ones(4)}, {}, "has no matrix `bias_hh`"),
        (0.5, {"parameters": ("weights",)}, "has no matrix `weights`"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_masks_that_do_not_fit_are_refused(connections, options, message):
    with pytest.raises(ValueError, match=message):
        ow.cells.Sparse(ow.cells.RNN(3, 4, key=KEY), connections, **options)


def test_a_diagonal_cell_has_no_recurrent_matrix():
    with pytest.raises(ValueError, match="IndRNN has no recurrent matrices"):
        ow.cells.Sparse(ow.cells.IndRNN(3, 4, key=KEY), 0.5)


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
@pytest.mark.usefixtures("unchecked")
def test_n_is_a_number_of_steps(n):
    with pytest.raises(ValueError, match="`n` must be a positive number of steps"):
        ow.SnAp(n)
