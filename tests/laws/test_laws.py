"""Laws of every algorithm: windows, causality, memory, compilation, batches, saved carries."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from tests.claims import (
    BY_ID,
    CLAIMS,
    TRACED,
    cut,
    distance,
    flat,
    gradient_of,
    network,
    run,
    sample,
    start,
    total,
    windowed,
)

every = pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
LAW = [(c, c.laws_on[0]) for c in CLAIMS]
LAW += [(c, "LRU blocks") for c in CLAIMS if c.id in ("RTRL", "SnAp-1", "EProp-traces", "NthOrder-2")]


@pytest.mark.parametrize(("claim", "name"), LAW, ids=[f"{claim.id}-{name}" for claim, name in LAW])
def test_window_law(claim, name):
    """With frozen parameters the summed gradient does not depend on how the sequence is cut."""
    net, window = network(name), sample()
    whole = windowed(claim.algorithm, net, window, (9,))[0][0]
    threes = total(windowed(claim.algorithm, net, window, (3, 6, 9))[0])
    if not claim.window_law:
        assert distance(threes, whole) > 1e-3
        return
    ones = total(windowed(claim.algorithm, net, window, range(1, 10))[0])
    assert max(distance(threes, whole), distance(ones, whole)) <= 1e-11


POSTPONED = ("RTRL-lazy",)  # what they carry depends on the windows; see `test_postponed_influence`


@pytest.mark.parametrize(
    "claim", [c for c in CLAIMS if c.algorithm.kind == "online" and c.id not in POSTPONED], ids=lambda c: c.id
)
def test_step_by_step_is_the_window(claim):
    """Windows of one step, the recursion of the textbooks, leave the same carry as one window."""
    net, window = network(claim.laws_on[0]), sample()
    _, steps = windowed(claim.algorithm, net, window, range(1, 10))
    _, whole = windowed(claim.algorithm, net, window, (9,))
    assert jax.tree.structure(steps) == jax.tree.structure(whole)
    for a, b in zip(jax.tree.leaves(steps), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(("name", "decay"), [("RNN x 1", 1.0), ("dag", 0.8)])
def test_postponed_influence(name, decay):
    """Kept lazily, the influence gives the same gradients where parameters change at every step and windows differ."""
    window = sample(length=12)
    edges = (1, 2, 3, 4, 5, 8, 9, 12)  # a log that is filled, and logs that a longer window cuts short
    step = eqx.filter_jit(lambda net, found: eqx.apply_updates(net, jax.tree.map(lambda g: -0.1 * g, found)))
    found = []
    for algorithm in (ow.RTRL(decay=decay), ow.RTRL(decay=decay, lazy=3)):
        net, begin, gradients = network(name), 0, []
        carry = start(algorithm, net, 2)
        for stop in edges:
            carry, estimate = run(algorithm, net, carry, cut(window, begin, stop))
            net = step(net, estimate.gradient)
            gradients.append(estimate.gradient)
            begin = stop
        found.append((gradients, carry.memory))
    for plain, lazy in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(flat(lazy), flat(plain), rtol=1e-10, atol=1e-14)
    postponed = found[1][1]
    assert int(postponed.count[0]) == 0
    assert distance(postponed.influence, found[0][1]) <= 1e-12
    fixed = windowed(ow.RTRL(decay=decay), network(name), window, edges)[0]
    assert distance(found[1][0][-1], fixed[-1]) > 1e-3  # the parameters did change


@every
def test_causality(claim):
    """The gradient and the carry of a window do not depend on what comes after it."""
    net, window = network(claim.laws_on[0]), sample()
    changed = jax.tree.map(lambda leaf: leaf.at[:, 3:].add(1.0), window)
    first = windowed(claim.algorithm, net, window, (3,))
    second = windowed(claim.algorithm, net, changed, (3,))
    np.testing.assert_array_equal(flat(first), flat(second))


@every
def test_losses_of_weight_zero_do_not_count(claim):
    net, window = network(claim.laws_on[0]), sample()
    silent = eqx.tree_at(lambda w: w.weight, window, jnp.zeros_like(window.weight))
    (gradient,), _ = windowed(claim.algorithm, net, silent, (9,))
    np.testing.assert_array_equal(flat(gradient), 0)


@pytest.mark.parametrize("claim", [c for c in CLAIMS if not c.algorithm.stochastic], ids=lambda c: c.id)
def test_batch_is_the_mean_of_its_sequences(claim):
    net, window = network(claim.laws_on[0]), sample()
    value, gradient = gradient_of(claim.algorithm, net, window)
    twice = [
        gradient_of(claim.algorithm, net, jax.tree.map(lambda leaf, i=i: leaf[jnp.array([i, i])], window))
        for i in range(2)
    ]
    assert np.isclose(value, np.mean([v for v, _ in twice]), rtol=1e-12)
    assert distance(gradient, jax.tree.map(lambda a, b: (a + b) / 2, *[g for _, g in twice])) <= 1e-11
    assert distance(twice[0][1], twice[1][1]) > 1e-3


@pytest.mark.parametrize("claim", [BY_ID[name] for name in ("BPTT", "RTRL", "EProp", "SnAp-2")], ids=lambda c: c.id)
def test_a_batch_of_one_is_no_batch(claim):
    """And so the gradient of a batch is the mean, not the sum."""
    net, window = network("RNN x 1"), sample(batch=1)
    value, gradient = gradient_of(claim.algorithm, net, window)
    single = gradient_of(claim.algorithm, net, jax.tree.map(lambda leaf: leaf[0], window))
    copies = gradient_of(claim.algorithm, net, jax.tree.map(lambda leaf: leaf[jnp.array([0, 0])], window))
    for other in (single, copies):
        assert np.isclose(value, other[0], rtol=1e-12)
        assert distance(gradient, other[1]) <= 1e-11


@every
def test_saved_carry_gives_the_same_bits(claim, tmp_path):
    net, window = network(claim.laws_on[0]), sample()
    _, carry = windowed(claim.algorithm, net, window, (3,))
    leaves, tree = jax.tree.flatten(carry)
    np.savez(tmp_path / "carry.npz", *leaves)
    with np.load(tmp_path / "carry.npz") as file:
        restored = jax.tree.unflatten(tree, [jnp.asarray(file[name]) for name in file.files])
    after = [run(claim.algorithm, net, c, cut(window, 3, 6)) for c in (carry, restored)]
    np.testing.assert_array_equal(flat(after[0]), flat(after[1]))


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.id in ("BPTT", "RTRL")], ids=lambda c: c.id)
def test_jit_is_no_jit(claim):
    net, window = network("RNN x 1"), sample(length=2)
    carry = claim.algorithm.init(net, batch=2)
    compiled = run(claim.algorithm, net, carry, window)
    with jax.disable_jit():
        plain = claim.algorithm.run(net, ow.losses.squared_error, carry, window)
    np.testing.assert_allclose(flat(compiled), flat(plain), rtol=1e-10, atol=1e-13)


@every
def test_one_compilation_per_shape(claim):
    """Parameters, carries and windows of the same shapes are never traced again."""
    net, counts = network(claim.laws_on[1]), []
    carry = start(claim.algorithm, net, 2)
    for seed in range(3):
        carry, estimate = run(claim.algorithm, net, carry, sample(seed=seed))
        net = eqx.apply_updates(net, jax.tree.map(lambda g: -0.01 * g, estimate.gradient))
        counts.append(TRACED[claim.algorithm])
    assert counts[0] == counts[2] > 0


def test_unrolling_traces_once():
    traced = []
    net = network("GRU x 2")
    net = ow.stack(net.nodes[net.recurrent_names[0]], lambda x: traced.append(x.shape) or 2 * x)
    inputs = sample().input[0]
    outputs = [net.unroll(inputs + shift) for shift in (0, 1, 0)]
    first = len(traced)
    np.testing.assert_array_equal(outputs[0], outputs[2])
    assert np.abs(outputs[1] - outputs[0]).max() > 1e-3
    other = eqx.tree_at(lambda n: n.nodes, net, jax.tree.map(lambda a: a + 0.1 if eqx.is_array(a) else a, net.nodes))
    assert np.abs(other.unroll(inputs) - outputs[0]).max() > 1e-3
    assert len(traced) == first
    net.unroll(inputs[:3])
    assert len(traced) > first


def temporary(algorithm, net, length):
    """Bytes that a compiled window of `length` steps needs besides what goes in and out."""
    parameters, static = eqx.partition(net, eqx.is_inexact_array)

    def work(parameters, carry, window):
        carry, estimate = algorithm.run(eqx.combine(parameters, static), ow.losses.squared_error, carry, window)
        return carry, estimate.gradient, estimate.loss

    shapes = jax.eval_shape(lambda: sample(8, None))
    window = jax.tree.map(lambda s: jax.ShapeDtypeStruct((length, *s.shape[1:]), s.dtype), shapes)
    compiled = jax.jit(work).lower(parameters, algorithm.init(net, jax.random.key(0)), window).compile()
    return compiled.memory_analysis().temp_size_in_bytes


FLAT = [(c, c.laws_on[1]) for c in CLAIMS] + [(c, "LRU blocks") for c in CLAIMS if c.id in ("RTRL", "SnAp-1")]


@pytest.mark.parametrize(("claim", "name"), FLAT, ids=[f"{claim.id}-{name}" for claim, name in FLAT])
def test_compiled_memory_is_flat_in_time(claim, name):
    short, long = (temporary(claim.algorithm, network(name), length) for length in (1_000, 100_000))
    if claim.memory == "flat":
        assert long == short
    elif claim.memory == "bounded":
        assert long < 3 * short
    else:
        assert long > 5 * short


@every
def test_memory_is_as_the_list_says(claim):
    growth = {"flat": ("O(1)", "O(n)"), "bounded": ("O(log T)",), "grows": ("O(T)",)}[claim.memory]
    assert any(word in claim.algorithm.memory for word in growth)


def test_checkpoints_save_memory():
    net = network("RNN x 1")
    plain, checkpointed = (temporary(ow.BPTT(checkpoint=c), net, 10_000) for c in (None, "sqrt"))
    assert checkpointed < plain / 10


def test_one_segment_of_forward_errors_needs_no_memory_in_time():
    net = network("LRU x 2")
    short, long = (temporary(ow.ForwardErrors(segments=None), net, length) for length in (1_000, 100_000))
    assert long == short


@pytest.mark.parametrize("name", sorted({name for claim in CLAIMS for name in (*claim.exact, *claim.biased)}))
def test_networks_are_alive(name):
    """States move, are not saturated, and differ between steps: otherwise every comparison above is vacuous."""
    net, window = network(name), sample(length=20)
    state = net.initial_state()
    values = []
    step = eqx.filter_jit(lambda n, s, x: n.step(s, x))
    for x in window.input[0]:
        state, output = step(net, state, x)
        values.append(flat([net.nodes[k].emit(state[k]) for k in net.recurrent_names]))
        assert np.all(np.isfinite(output))
    values = np.stack(values)
    assert np.mean(np.std(values, axis=0) > 1e-2) > 0.7, name
    assert np.mean(np.abs(values) > 0.99) < 0.3, name


def test_float32_has_its_digits():
    """Where all else is tested in float64. At this size jaxlib 0.10.2 gave an influence that was wrong by a third."""
    keys = jax.random.split(jax.random.key(0), 5)
    layers = ow.cells.LRU(3, 32, key=keys[0]), eqx.nn.Linear(64, 32, key=keys[1]), eqx.nn.LayerNorm(32)
    net = ow.stack(*layers, ow.cells.LRU(32, 32, key=keys[2]), readout=eqx.nn.Linear(64, 2, key=keys[3]))
    window = sample(length=7, batch=16)

    def influence(dtype):
        cast = lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf  # noqa: E731
        mine, data = jax.tree.map(cast, (net, window))
        carry, _ = run(ow.RTRL(), mine, ow.RTRL().init(mine, batch=16), data)
        assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {jnp.dtype(dtype)}
        return carry.memory

    assert distance(influence(jnp.float32), influence(jnp.float64)) < 1e-5
