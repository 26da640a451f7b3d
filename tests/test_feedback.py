"""Errors brought to cells by matrices of their own: RFLO by an independent loop, what gets which error, alignment."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import onward as ow
from onward.algorithms.feedback import fed_cells, random_matrix
from onward.cli.config import NetworkConfig
from onward.cli.registry import build_network, make_algorithm, make_task
from onward.unroll import Rule
from tests.claims import autodiff, distance, flat, gradient_of, network, run, sample, windowed
from tests.reference import rflo

RANDOM, ADAPTIVE = ow.EProp(feedback="random"), ow.EProp(feedback="adaptive")
SPATIAL, ALL = Rule(time="within", depth="spatial"), Rule(time="within", depth="all")


def with_matrices(net, **matrices):
    """The network with these feedback matrices."""
    return eqx.tree_at(lambda n: n.nodes["feedback"].matrices, ow.with_feedback(net), matrices)


def as_dicts(tree, nodes):
    fields = {"weight_ih", "weight_hh", "bias", "weight"}
    return [{k: np.asarray(v) for k, v in vars(tree.nodes[n]).items() if k in fields} for n in nodes]


@pytest.mark.parametrize("depth", [1, 2])
def test_rflo_is_murrays(depth):
    keys = jax.random.split(jax.random.key(1), depth + 1)
    leaks = [0.6, 0.3][:depth]
    cells = [ow.cells.LeakyRNN(3 if i == 0 else 4, 4, leak=leaks[i], key=keys[i]) for i in range(depth)]
    net = ow.stack(*cells, readout=eqx.nn.Linear(4, 2, key=keys[-1]))
    window, edges = sample(batch=None), (1, 4, 9)
    window = eqx.tree_at(lambda w: w.weight, window, window.weight.at[0].set(1.0))
    ours = [as_dicts(gradient, net.nodes) for gradient in windowed(RANDOM, net, window, edges)[0]]
    *layers, readout = as_dicts(net, net.nodes)
    matrices = [random_matrix(net, name, 2, 0) for name in net.recurrent_names]

    def reference(matrices, mistake=None):
        inputs, targets, weights = (np.asarray(leaf) for leaf in (window.input, window.target, window.weight))
        windows = np.diff((0, *edges))
        return rflo.gradients(layers, leaks, readout, matrices, inputs, targets, weights, windows, mistake)

    def apart(a, b):
        return max(distance(x[n], y[n]) for x, y in zip(a, b, strict=True) for n in range(depth + 1))

    assert apart(ours, reference(matrices)) <= 1e-12
    assert apart(ours, reference(matrices, "trace")) > 0.1
    assert apart(ours, reference([-matrix for matrix in matrices])) > 0.1
    if depth > 1:
        assert apart(ours, reference(matrices, "one B")) > 0.1


def test_transposed_weights_are_symmetric_feedback():
    net, window = network("LRU x 1"), sample()
    assert distance(gradient_of(RANDOM, net, window)[1], autodiff(net, window)[1]) > 0.1
    same = with_matrices(net, **{"0_lru": net.nodes["readout"].weight.T})
    assert distance(gradient_of(RANDOM, same, window)[1], autodiff(same, window)[1]) <= 1e-9


def test_with_traces_only_the_direct_errors_are_replaced():
    """Of the graph in which `out` reads c and a, and c reads a and b through `mix`."""
    net, window = network("dag"), sample()
    weight = net.nodes["out"].weight
    same = with_matrices(net, a=weight[:, 3:].T, b=jnp.ones((4, 2)), c=weight[:, :3].T)
    algorithms = ow.EProp(depth="traces", feedback="random"), ow.EProp(depth="traces"), RANDOM
    traces, symmetric, spatial = (gradient_of(algorithm, same, window)[1] for algorithm in algorithms)
    assert distance(traces, symmetric) <= 1e-12
    assert distance(spatial.nodes["b"], symmetric.nodes["b"]) > 0.1
    assert fed_cells(net, ALL) == ("a", "c")
    assert fed_cells(net, SPATIAL) == ("a", "b", "c")


def test_a_map_below_a_cell_learns_by_what_the_cells_step_makes_of_its_signal():
    net, window = network("LRU x 2"), sample(batch=None)
    gradient = gradient_of(RANDOM, net, window)[1].nodes["1_mlp"]
    effective, expected = net.effective(), jax.tree.map(jnp.zeros_like, eqx.filter(net.nodes["1_mlp"], eqx.is_array))
    lower, upper, matrix = effective.nodes["0_lru"], effective.nodes["2_lru"], random_matrix(net, "2_lru", 2, 0)
    states = effective.initial_state()
    for x, target, weight in zip(window.input, window.target, window.weight, strict=True):
        before = states
        states, output = effective.step(states, x)
        signal = matrix @ (2 * weight * (output - target))
        read = lower.emit(states["0_lru"])

        def emitted(mlp, state=before["2_lru"], read=read):
            return upper.emit(upper.transition(state, upper.emit(state), mlp(read)))

        _, pull = eqx.filter_vjp(emitted, net.nodes["1_mlp"])
        expected = eqx.apply_updates(expected, pull(signal)[0])
    assert np.linalg.norm(flat(expected)) > 1e-2
    assert distance(gradient, expected) <= 1e-12


def test_matrices_depend_on_seed_name_and_sizes_alone():
    first, second = network("GRU x 2"), network("GRU x 2", seed=3)
    matrix = random_matrix(first, "0_gru", 2, 0)
    np.testing.assert_array_equal(matrix, random_matrix(second, "0_gru", 2, 0))
    assert distance(matrix, random_matrix(first, "0_gru", 2, 1)) > 0.1
    assert distance(matrix[:3], random_matrix(first, "2_gru", 2, 0)) > 0.1
    window = sample()
    seeded, kept = ow.EProp(feedback="random", seed=4), ow.with_feedback(first, seed=4)
    mine, theirs = gradient_of(seeded, first, window)[1], gradient_of(RANDOM, kept, window)[1]
    assert all(distance(mine.nodes[name], theirs.nodes[name]) <= 1e-12 for name in first.nodes)
    assert not flat(theirs.nodes["feedback"]).any()


def test_the_matrices_change_nothing_but_what_they_are_for():
    net, window = network("RNN x 1"), sample()
    more = ow.with_feedback(net)
    np.testing.assert_array_equal(net.unroll(window.input[0]), more.unroll(window.input[0]))
    for algorithm in (ow.BPTT(), ow.RTRL(), ow.EProp()):
        plain, other = (gradient_of(algorithm, each, window)[1] for each in (net, more))
        assert not flat(other.nodes["feedback"]).any()
        assert all(distance(other.nodes[name], plain.nodes[name]) <= 1e-12 for name in net.nodes)


def test_adaptive_matrices_align_with_the_readout():
    """Kolen and Pollack: with the same updates and decay, the difference shrinks by the same factor at every update."""
    net, window, decay = ow.with_feedback(network("RNN x 1")), sample(length=12), 0.2
    optimizer = optax.chain(optax.add_decayed_weights(decay), optax.sgd(0.1))
    state = optimizer.init(eqx.filter(net, eqx.is_inexact_array))
    carry = ADAPTIVE.init(net, batch=2)

    def difference(net):
        return net.nodes["readout"].weight.T - net.nodes["feedback"].matrices["0_rnn"]

    start = difference(net)
    for step in range(12):
        piece = jax.tree.map(lambda leaf, at=step: leaf[:, at : at + 1], window)
        carry, estimate = run(ADAPTIVE, net, carry, piece)
        updates, state = optimizer.update(estimate.gradient, state, eqx.filter(net, eqx.is_inexact_array))
        net = eqx.apply_updates(net, updates)
    np.testing.assert_allclose(difference(net), start * (1 - 0.1 * decay) ** 12, rtol=1e-10)
    assert distance(net.nodes["readout"].weight, network("RNN x 1").nodes["readout"].weight) > 0.1


def test_a_network_with_matrices_trains_and_resumes(tmp_path):
    task = ow.tasks.make("copy", length=2, symbols=2, delay=1, evaluation_size=4)
    cell = ow.cells.RNN(task.input_size, 3, key=jax.random.key(0))
    net = ow.with_feedback(ow.stack(cell, readout=eqx.nn.Linear(3, 2, key=jax.random.key(1))))
    options = {"algorithm": ADAPTIVE, "optimizer": ow.optimizers.adamw(net, 1e-2), "batch_size": 4, "window": 2}
    whole = ow.train(net, task, steps=4, **options).network
    for steps in (2, 4):
        part = ow.train(net, task, steps=steps, checkpoint=tmp_path / "c.safetensors", resume=True, **options).network
    np.testing.assert_array_equal(flat(eqx.filter(part, eqx.is_array)), flat(eqx.filter(whole, eqx.is_array)))
    assert distance(whole.nodes["feedback"].matrices, net.nodes["feedback"].matrices) > 1e-3


def test_a_cell_that_is_the_output_keeps_its_error_and_pooling_is_no_cell_to_feed():
    cells = [ow.cells.LRU(size, 3, key=jax.random.key(size)) for size in (3, 6)]
    window = sample()
    window = eqx.tree_at(lambda w: w.target, window, jnp.ones((*window.weight.shape, 6)))
    bare = ow.stack(*cells)
    assert RANDOM.exact_nodes(bare) == {"1_lru"}
    expected = autodiff(bare, window)[1]
    found = gradient_of(RANDOM, bare, window)[1]
    assert distance(found.nodes["1_lru"], expected.nodes["1_lru"]) <= 1e-9
    assert distance(found.nodes["0_lru"], expected.nodes["0_lru"]) > 0.1
    pooled = ow.stack(*cells, eqx.nn.Linear(6, 2, key=jax.random.key(0)), ow.cells.CumulativeMean(2))
    assert fed_cells(pooled, SPATIAL) == ("0_lru", "1_lru")
    assert RANDOM.exact_nodes(pooled) == {"2_linear", "3_cumulativemean"}


def test_mistakes_are_named():
    net = network("RNN x 1")
    with pytest.raises(ValueError, match=r"has none; give it some with onward\.with_feedback\(network\)"):
        ADAPTIVE.init(net)
    with pytest.raises(ValueError, match="a node 'feedback' already"):
        ow.with_feedback(ow.with_feedback(net))
    with pytest.raises(ValueError, match=r"needs a feedback matrix of shape \(4, 2\), but the network's is None"):
        RANDOM.init(with_matrices(net, other=jnp.ones((4, 2))))
    with pytest.raises(ValueError, match="`seed` must be an integer of at least 0, got -1"):
        ow.EProp(seed=-1)


def test_an_unknown_feedback_is_named(unchecked):
    with pytest.raises(ValueError, match="`feedback` must be 'symmetric', 'random' or 'adaptive', got 'fixed'"):
        ow.EProp(feedback="fixed")  # pyright: ignore[reportArgumentType]


def test_the_command_line_has_both():
    assert make_algorithm("rflo@1").algorithm == RANDOM
    assert make_algorithm("rflo:traces,seed=2").algorithm == ow.EProp(depth="traces", feedback="random", seed=2)
    assert make_algorithm("rflo").label == "EProp(feedback=random)"
    task = make_task("copy:length=2,delay=1")
    made = build_network(task, NetworkConfig(kind="stack", layers=2, units=2, feedback=True), 0)
    assert list(made.nodes["feedback"].matrices) == ["gru_1", "gru_2"]
