"""UORO, KF-RTRL and OK: the numbers of independent loops, right in the mean, and of the variance that is claimed."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import onward as ow
from onward.algorithms import kf_rtrl, ok
from onward.algorithms.kronecker import products
from tests.claims import cut, distance, flat, network, run, sample, windowed
from tests.reference import stochastic

STEPS = 7
ALL = [ow.UORO(), ow.UORO(chunk=2), ow.KFRTRL(), ow.OK(2)]
every = pytest.mark.parametrize("algorithm", ALL, ids=str)


def key_chain(key, steps):
    """The key that each step draws with, by what `Random` says of itself."""
    for _ in range(steps):
        key, now = jax.random.split(key)
        yield now


def leaky_layer():
    """A network of one leaky tanh layer, its window, and what the loops take: weights, leak, readout, sample."""
    keys = jax.random.split(jax.random.key(3), 3)
    cell = ow.cells.LeakyRNN(2, 4, leak=0.7, key=keys[0])
    cell = eqx.tree_at(lambda c: c.bias, cell, jnp.asarray([0.1, -0.2, 0.3, 0.05]))
    net = ow.stack(cell, readout=eqx.nn.Linear(4, 3, key=keys[1]))
    rng = np.random.default_rng(0)
    window = ow.Sample(
        *(jnp.asarray(rng.normal(size=(STEPS, n))) for n in (2, 3)), jnp.asarray(rng.uniform(size=STEPS))
    )
    readout = net.nodes[net.output]
    layer = np.concatenate([cell.weight_ih, cell.weight_hh, cell.bias[:, None]], axis=1)
    of_sample = [np.asarray(part) for part in (window.input, window.target, window.weight)]
    return net, window, (layer, 0.7, (np.asarray(readout.weight), np.asarray(readout.bias)), of_sample)


def step_by_step(algorithm, net, window, key=None):
    """The layer's gradients [U W b] after every step."""
    carry, found = algorithm.init(net, key=key), []
    for step in range(STEPS):
        carry, estimate = run(algorithm, net, carry, cut(window, step, step + 1))
        own = estimate.gradient.nodes["0_leakyrnn"]
        found.append(np.concatenate([own.weight_ih, own.weight_hh, own.bias[:, None]], axis=1))
    return np.stack(found)


def test_snap_is_a_numpy_loop_too():
    net, window, arguments = leaky_layer()
    found = step_by_step(ow.SnAp(1), net, window)
    np.testing.assert_allclose(found, stochastic.snap(*arguments), rtol=1e-10, atol=1e-13)
    assert np.abs(found - stochastic.snap(*arguments, mistake="emission")).max() > 1e-2


@pytest.mark.parametrize("name", ["uoro", "kf_rtrl"])
def test_the_numbers_are_those_of_a_numpy_loop(name):
    """Step by step on a leaky tanh layer, with the same random signs."""
    net, window, arguments = leaky_layer()
    algorithm, count = {"uoro": (ow.UORO(), 4), "kf_rtrl": (ow.KFRTRL(), 2)}[name]
    key = jax.random.key(4)
    signs = [jax.random.rademacher(each, (count,)) for each in key_chain(key, STEPS)]
    expected = getattr(stochastic, name)(*arguments, [np.asarray(s, float) for s in signs])
    found = step_by_step(algorithm, net, window, key)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)
    other = getattr(stochastic, name)(*arguments, [-np.asarray(s, float) * (-1) ** i for i, s in enumerate(signs)])
    assert np.abs(other - expected).max() > 1e-3, "the signs do not matter: the comparison sees nothing"


def six_steps(begins):
    """A sequence, and where an episode begins in it, if one does (-1: nowhere, but it may); then every step asks."""
    window = sample(length=6, batch=1)
    if begins is None:
        return window
    weight = window.weight if begins < 0 else jnp.ones_like(window.weight)
    return ow.Sample(window.input, window.target, weight, jnp.arange(6)[None] == begins)


@functools.cache
def exact(name, begins=None):
    return windowed(ow.RTRL(), network(name), six_steps(begins), (3, 6))[0][1]


@functools.cache
def second_gradient(algorithm, name, keys, begins=None):
    """Key -> the second window's gradient, the mean of `keys` sequences; both windows run the same compiled loop."""
    net, window = network(name), six_steps(begins)
    many = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (keys, *leaf.shape[1:])), window)
    windows = jax.tree.map(lambda *pair: jnp.stack(pair), cut(many, 0, 3), cut(many, 3, 6))

    def step(carry, window):
        carry, estimate = algorithm.run(net, ow.losses.squared_error, carry, window)
        return carry, estimate.gradient

    @jax.jit
    def mean(key):
        _, gradients = jax.lax.scan(step, algorithm.init(net, key=key, batch=keys), windows)
        return jax.tree.map(lambda leaf: leaf[1], gradients)

    return mean


def errors(algorithm, name, keys=64, repetitions=64, program=second_gradient, begins=None):
    """Distance of the second window's mean gradient to RTRL's: of `keys` sequences, and of all repetitions."""
    mean = program(algorithm, name, keys, begins)
    means = [mean(jax.random.key(seed)) for seed in range(repetitions)]
    average = jax.tree.map(lambda *leaves: sum(leaves) / repetitions, *means)
    few = np.sqrt(np.mean([distance(one, exact(name, begins)) ** 2 for one in means]))
    return few, distance(average, exact(name, begins))


@pytest.mark.parametrize("name", ["RNN x 1", "dag"])
@every
def test_the_mean_over_keys_approaches_rtrl(algorithm, name):
    """At the rate of 1 / sqrt(keys): 64 times as many keys, an eighth of the error."""
    few, many = errors(algorithm, name)
    assert few > 1e-4
    assert few / 20 < many < few / 3


def test_chunks_stay_whole_where_episodes_may_begin():
    """Errors inside them are exact, and no influence is left of what an episode began after."""
    chunks, single = ow.UORO(chunk=3), ow.UORO()
    key = jax.random.key(0)
    nowhere, plain, steps = (
        second_gradient(algorithm, "RNN x 1", 4, begins)(key)
        for algorithm, begins in ((chunks, -1), (chunks, None), (single, None))
    )
    np.testing.assert_array_equal(flat(nowhere), flat(plain))
    assert distance(nowhere, steps) > 1e-3
    assert errors(chunks, "RNN x 1", repetitions=1, begins=3)[0] < 1e-12  # the whole window is one chunk of one episode
    few, many = errors(chunks, "RNN x 1", begins=5)
    assert few > 1e-4
    assert few / 20 < many < few / 3


@pytest.mark.parametrize("algorithm", [ow.UORO(), ow.KFRTRL(), ow.OK(1)], ids=str)
def test_without_random_signs_there_is_a_bias(algorithm, monkeypatch):
    """The control of the test above: signs that are always 1."""
    monkeypatch.setattr(jax.random, "rademacher", lambda key, shape, dtype=int: jnp.ones(shape, dtype))
    few, many = errors(algorithm, "RNN x 1", repetitions=2, program=second_gradient.__wrapped__)
    assert many == pytest.approx(few, rel=1e-6)
    assert many > 1e-2


def test_variance_falls_with_what_is_paid_for_it():
    found = {str(a): errors(a, "RNN x 1", repetitions=16)[0] for a in (*ALL, ow.OK(1))}
    assert found["UORO(chunk=2)"] < found["UORO()"]
    assert found["OK(rank=2)"] < found["OK(rank=1)"] < found["KFRTRL()"] < found["UORO()"]


def test_ok_is_rtrl_while_its_rank_lasts():
    net, window = network("GRU x 1"), sample(length=4)
    expected, _ = windowed(ow.RTRL(), net, window, (2, 4))
    for rank, same in ((4, True), (2, False)):
        found, _ = windowed(ow.OK(rank), net, window, (2, 4))
        assert (distance(found[1], expected[1]) <= 1e-9) == same


@pytest.mark.parametrize(
    "values", [(3.0, 2.0, 1.0, 0.5), (9.0, 1.0, 0.2, 0.1), (1.0, 1.0, 1.0, 1.0), (2.0, 0.0, 0.0, 0.0)]
)
def test_ok_mixes_without_bias_and_at_the_least_variance(values):
    """Over all sign patterns: the mean is diag(d), and the variance that of Benzing et al., theorem 1."""
    values, patterns = np.asarray(values), {}
    for seed in itertools.count():
        signs = tuple(np.asarray(jax.random.rademacher(jax.random.key(seed), (4,))))
        if signs not in patterns:
            x = np.asarray(ok._mix(jax.random.key(seed), jnp.asarray(values)))
            patterns[signs] = x @ x.T
        if len(patterns) == 16:
            break
    outer = np.stack(list(patterns.values()))
    np.testing.assert_allclose(outer.mean(axis=0), np.diag(values), atol=1e-12)
    variance = np.mean(np.sum((outer - np.diag(values)) ** 2, axis=(1, 2)))
    kept = next(k for k in range(3) if (3 - k) * values[k] <= values[k:].sum())
    tail = values[kept:]
    np.testing.assert_allclose(variance, tail.sum() ** 2 / (3 - kept) - np.sum(tail**2), atol=1e-12)


@pytest.mark.parametrize("reduce", [kf_rtrl._reduce, ok._reduce], ids=["KFRTRL", "OK"])
def test_reducing_products_keeps_their_mean(reduce):
    rng = np.random.default_rng(0)
    left, right = jnp.asarray(rng.normal(size=(2, 3, 4))), jnp.asarray(rng.normal(size=(2, 5)))
    found = {}
    for seed in range(40):
        signs = tuple(np.asarray(jax.random.rademacher(jax.random.key(seed), (2,))))
        found[signs] = np.einsum("inz,iv->nzv", *reduce(jax.random.key(seed), left, right))
    assert len(found) == 4
    np.testing.assert_allclose(np.mean(list(found.values()), axis=0), np.einsum("inz,iv->nzv", left, right), atol=1e-12)


def test_which_weights_act_by_products():
    keys = iter(jax.random.split(jax.random.key(0), 9))
    dag = {product.name for product in products(network("dag").effective())}
    assert dag == {"a.read", "a.emission", "b.both", "mix.read", "c.both"}
    layers = ow.cells.AntisymmetricRNN(2, 3, key=next(keys)), ow.cells.LRU(3, 3, key=next(keys))
    below = eqx.nn.MLP(6, 3, 4, 1, key=next(keys)), ow.cells.WeightDrop(ow.cells.LSTM(3, 2, key=next(keys)), 0.5)
    net = ow.stack(eqx.nn.LayerNorm(2), *layers, *below, readout=eqx.nn.Linear(2, 1, key=next(keys)))
    assert {product.name for product in products(net.effective())} == {"1_antisymmetricrnn.both", "4_weightdrop.both"}
    carry = ow.KFRTRL().init(net, key=next(keys))
    kept = {source for held in carry.memory.memory.exact.values() for source in held}
    assert kept == {"0_layernorm", "2_lru", "3_mlp"} <= ow.KFRTRL().exact_nodes(net.effective())


@every
def test_a_key_is_the_whole_chance(algorithm):
    net, window = network("RNN x 1"), sample(length=6)
    gradient = lambda key: ow.value_and_grad(net, ow.losses.squared_error, window, algorithm=algorithm, key=key)[1]  # noqa: E731
    first, again, other = (flat(gradient(jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-6


def test_training_draws_anew_and_by_its_seed():
    task = ow.tasks.DelayedXOR(delay=3, presentation=3, evaluation_size=4)
    net = ow.networks.cell_stack(ow.cells.RNN, 2, 2, units=3, layers=1, key=jax.random.key(0))
    options = {"optimizer": optax.sgd(0.1), "steps": 3, "batch_size": 4, "window": 1}
    trained = [ow.train(net, task, algorithm=ow.KFRTRL(), seed=seed, **options) for seed in (0, 0)]
    np.testing.assert_array_equal(flat(trained[0].network), flat(trained[1].network))


def test_what_is_wrong_is_said(unchecked):
    net = network("RNN x 1")
    for algorithm in ALL:
        with pytest.raises(ValueError, match="draws at random; give it a key"):
            algorithm.init(net)
    for chunk in (0, True, 1.5):
        with pytest.raises(ValueError, match="`chunk` must be a positive number of steps"):
            ow.UORO(chunk=chunk)
    for rank in (0, True, 1.5):
        with pytest.raises(ValueError, match="`rank` must be a positive number of Kronecker products"):
            ow.OK(rank)
