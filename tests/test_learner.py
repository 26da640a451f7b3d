"""The learner of streams, against loops written out: windows, horizons, episodes, missing values, guards, restarts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import onward as ow
from onward.checkpoint import CheckpointError
from onward.limits import limit_norms
from onward.normalisation import Statistics, denormalise, no_statistics, normalise, observe
from onward.packing import LARGEST, Packing
from tests.claims import run

T = 13
FEATURES = 3


def net(outputs=1, kind=ow.cells.GRU, units=4, **options):
    keys = jax.random.split(jax.random.key(0))
    cell = kind(FEATURES, units, key=keys[0], **options)
    return ow.stack(cell, readout=eqx.nn.Linear(cell.output_size, outputs, key=keys[1]))


def stream(outputs=1, seed=0, length=T):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(length, FEATURES)), rng.normal(size=(length, outputs))


def one_by_one(learner, xs, ys, resets=None, state=None):
    """Predictions, each made before its sample was learnt, and the last state."""
    state, outputs = state or learner.init(), []
    for t in range(len(xs)):
        reset = None if resets is None else resets[t]
        outputs.append(learner.predict(state, xs[t], reset=reset))
        state = learner.learn(state, xs[t], ys[t], reset=reset)
    return np.stack(outputs), state


@eqx.filter_jit
def step(network, states, x):
    return network.step(states, x)


def by_hand(network, algorithm, optimizer, xs, ys, window, horizon=0):
    """The learner's contract in plain code: windows of `algorithm.run`, an update after each, and forecasts from states
    that are up to date."""
    memory = optimizer.init(eqx.filter(network, eqx.is_inexact_array))
    carry, states, outputs = algorithm.init(network), network.initial_state(), []
    for t in range(len(xs)):
        states, output = step(network, states, xs[t])
        outputs.append(output)
        known = t + 1 - horizon
        if known > 0 and known % window == 0:
            past = slice(known - window, known)
            piece = ow.Sample(xs[past], ys[past.start + horizon : past.stop + horizon], np.ones(window))
            carry, estimate = run(algorithm, network, carry, piece)
            updates, memory = optimizer.update(estimate.gradient, memory)
            network = eqx.apply_updates(network, updates)
            if horizon == 0:
                states = carry.states
    return np.stack(outputs), network


def parameters(network):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))])


CONTRACT = [(ow.RTRL(), 1, 0), (ow.BPTT(), 3, 0), (ow.RTRL(), 1, 2), (ow.BPTT(), 4, 3)]


@pytest.mark.parametrize(("algorithm", "window", "horizon"), CONTRACT, ids=str)
def test_windows_and_horizons_are_those_of_a_loop_by_hand(algorithm, window, horizon):
    xs, ys = stream()
    network, optimizer = net(), optax.adam(0.05)
    learner = ow.Learner(network, ow.losses.squared_error, algorithm, optimizer, window, horizon=horizon)
    outputs, state = one_by_one(learner, xs, ys)
    expected, taught = by_hand(network, algorithm, optimizer, xs, ys, window, horizon)
    np.testing.assert_allclose(outputs, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(parameters(learner.network_of(state)), parameters(taught), rtol=1e-9, atol=1e-12)
    assert np.abs(parameters(taught) - parameters(network)).max() > 0.01  # it did learn


CASES = {
    "plain": {},
    "windows": {"window": 4},
    "horizon": {"horizon": 2, "window": 3},
    "horizons": {"horizon": (1, 3), "window": 2, "normalize": True},
    "normalised": {"normalize": True, "memory": 5},
    "refused": {"window": 4},
}


@pytest.mark.parametrize("name", CASES)
def test_a_chunk_is_its_samples_one_by_one(name):
    options = CASES[name]
    outputs = 2 if name == "horizons" else 1
    xs, ys = stream()
    xs[3, 1], xs[8, 2], ys[6], ys[10] = np.nan, np.nan, np.nan, np.nan
    if name == "refused":
        ys[2] = 1e200
    resets = np.arange(T) == 8
    learner = ow.Learner(net(outputs), ow.losses.squared_error, ow.EProp(), optax.adam(0.05), **options)
    single, last = one_by_one(learner, xs, ys, resets)
    state, parts = learner.init(), []
    for start, stop in ((0, 5), (5, 13)):  # the first chunk leaves windows unfinished
        cut = slice(start, stop)
        state, output = learner.run(state, ow.Sample(xs[cut], ys[cut], np.ones(stop - start), resets[cut]))
        parts.append(output)
    np.testing.assert_allclose(np.concatenate(parts), single, rtol=1e-9, atol=1e-12)
    for a, b in zip(state.arrays, last.arrays, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert int(learner.unpack(state).samples) == T
    assert int(learner.unpack(state).refused) == (name == "refused")


def test_chunks_of_any_length_compile_no_program_for_each_place():
    xs, ys = stream(length=300)
    learner = ow.Learner(net(), ow.losses.squared_error, ow.EProp(), optax.sgd(0.1), 8)
    state, start, compiled = learner.init(), 0, []
    listen = lambda event, *_, **__: compiled.append(event) if event.endswith("backend_compile_duration") else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)
    for length in (13, 13, 13, 16, 8, 13, 13, 13, 13):
        stop = start + length
        state, output = learner.run(state, ow.Sample(xs[start:stop], ys[start:stop], np.ones(length)))
        assert len(output) == length
        start = stop
    assert 2 <= len(compiled) < 16


def test_the_count_of_samples_never_overflows():
    xs, ys = stream()
    learner = ow.Learner(net(), ow.losses.squared_error, ow.EProp(), optax.sgd(0.1), 3, horizon=1)
    known = learner.unpack(learner.init())
    turn = 2**30 // 3 * 3
    states = [learner.pack(known._replace(samples=jnp.int32(count))) for count in (6, turn + 6)]
    a, b = (one_by_one(learner, xs, ys, state=state) for state in states)
    np.testing.assert_array_equal(a[0], b[0])
    assert int(learner.unpack(a[1]).samples) == int(learner.unpack(b[1]).samples) == 6 + T


def test_looking_ahead_teaches_nothing():
    xs, ys = stream()
    learner = ow.Learner(net(2), ow.losses.squared_error, ow.RTRL(), optax.adam(0.1), horizon=(0, 2), normalize=True)
    _, state = one_by_one(learner, xs[:8], ys[:8])
    ahead = learner.look(learner.look(state, xs[8]), xs[9])
    before, after = learner.unpack(state), learner.unpack(ahead)
    for name in ("parameters", "optimizer", "carry", "waiting", "inputs", "targets", "samples"):
        assert eqx.tree_equal(getattr(before, name), getattr(after, name)), name
    network, states = learner.network_of(state), before.live
    xs = jnp.asarray(xs)[:, None]
    scaled = [np.clip(normalise(observe(before.inputs, x, 10_000), x), -10, 10)[0] for x in xs[8:11]]
    states = jax.tree.map(lambda leaf: leaf[0], states)
    for x in scaled:
        states, output = network.step(states, x)
    wide = jax.tree.map(lambda leaf: jnp.concatenate([leaf[0]] * 2), before.targets)
    np.testing.assert_allclose(learner.predict(ahead, xs[10, 0]), denormalise(wide, output), rtol=1e-9)


def test_parallel_streams_share_a_network():
    """The mean gradient of two streams, each with states, statistics and episodes of its own."""
    xs, ys = (np.stack(parts) for parts in zip(stream(seed=1), stream(seed=2), strict=True))
    resets = np.zeros((2, T), bool)
    resets[1, 5] = True
    weights = np.ones((2, T))
    make = lambda **o: ow.Learner(net(), ow.losses.squared_error, ow.RTRL(), optax.sgd(0.1), normalize=True, **o)  # noqa: E731
    both = make(batch=2)
    outputs = both.run(both.init(), ow.Sample(xs, ys, weights, resets))[1]
    assert outputs.shape == (2, T, 1)
    frozen = ow.Learner(net(), ow.losses.squared_error, ow.RTRL(), optax.sgd(0.0), normalize=True)
    alone = np.stack([frozen.run(frozen.init(), ow.Sample(xs[i], ys[i], weights[i], resets[i]))[1] for i in range(2)])
    np.testing.assert_allclose(outputs[:, 0], alone[:, 0], rtol=1e-9)  # before the first update
    assert np.abs(outputs - alone).max() > 1e-2
    doubled = np.stack([xs[0], xs[0]]), np.stack([ys[0], ys[0]]), weights, np.zeros((2, T), bool)
    twins, single = both.run(both.init(), ow.Sample(*doubled))[1], make()
    np.testing.assert_allclose(twins[1], single.run(single.init(), ow.Sample(xs[0], ys[0], weights[0]))[1], rtol=1e-9)


def test_an_episode_begins_with_nothing_but_what_was_learnt():
    xs, ys = stream()
    learner = ow.Learner(net(), ow.losses.squared_error, ow.RTRL(), optax.sgd(0.1), horizon=2)
    _, state = one_by_one(learner, xs, ys)
    fresh = learner.unpack(learner.init())._replace(parameters=learner.unpack(state).parameters)
    again, anew = (one_by_one(learner, xs, ys, np.arange(T) == 0, s)[0] for s in (state, learner.pack(fresh)))
    # The samples that waited at the boundary had targets in the episode that was over, and taught nothing.
    np.testing.assert_allclose(again, anew, rtol=1e-9)
    assert np.abs(one_by_one(learner, xs, ys, None, state)[0] - anew).max() > 1e-3


def test_no_target_is_taken_across_the_beginning_of_an_episode():
    xs, ys = stream()
    learner = ow.Learner(net(), ow.losses.squared_error, ow.RTRL(), optax.sgd(0.1), horizon=3)
    resets = np.arange(T) == 6
    changed = ys.copy()
    changed[6:9] += 5.0  # what would have been the targets of steps 3 to 5, and is that of none
    states = [one_by_one(learner, xs, y, resets)[1] for y in (ys, changed)]
    np.testing.assert_array_equal(*(parameters(learner.network_of(state)) for state in states))
    later = ys.copy()
    later[9] += 5.0
    assert np.any(parameters(learner.network_of(one_by_one(learner, xs, later, resets)[1])) != 0)
    np.testing.assert_raises(
        AssertionError,
        np.testing.assert_array_equal,
        *(parameters(learner.network_of(one_by_one(learner, xs, y, resets)[1])) for y in (ys, later)),
    )


@pytest.mark.parametrize("normalize", [False, True])
def test_a_missing_feature_knows_nothing_of_the_episode_before(normalize):
    xs, ys = stream()
    xs[-1, 1] = 9.0
    learner = ow.Learner(net(), ow.losses.squared_error, ow.RTRL(), optax.sgd(0.1), normalize=normalize)
    _, state = one_by_one(learner, xs, ys)
    mean = learner.unpack(state).inputs.mean[0, 1] if normalize else 0.0
    answers = [learner.predict(state, [0.3, value, 0.2], reset=True) for value in (np.nan, mean, xs[-1, 1])]
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-12)
    assert np.abs(answers[0] - answers[2]) > 1e-3
    ends = [learner.learn(state, [0.3, value, 0.2], ys[0], reset=True) for value in (np.nan, mean)]
    np.testing.assert_allclose(*(parameters(learner.network_of(end)) for end in ends), rtol=1e-9)


def test_a_target_that_is_known_in_part_and_not_shaped_as_the_output_is_missing():
    xs, ys = stream(2)
    likelihood = lambda out, y: jnp.sum(0.5 * ((y - out[:2]) * jnp.exp(-out[2:])) ** 2 + out[2:])  # noqa: E731
    learner = ow.Learner(net(4), likelihood, ow.RTRL(), optax.adam(0.1), target=np.zeros(2))
    _, state = one_by_one(learner, xs[:4], ys[:4])
    part, zero = (parameters(learner.network_of(learner.learn(state, xs[4], [y, 1.0]))) for y in (np.nan, 0.0))
    np.testing.assert_array_equal(part, parameters(learner.network_of(state)))
    assert np.abs(part - zero).max() > 1e-3


@pytest.mark.parametrize("horizon", [0, 1])
def test_a_tied_map_is_served_as_by_a_loop(horizon):
    network, optimizer = ow.networks.language_model(5, units=3, tied=True, key=jax.random.key(0)), optax.sgd(0.5)
    learner = ow.Learner(network, ow.losses.cross_entropy, ow.BPTT(), optimizer, horizon=horizon)
    state, carry, states = learner.init(), ow.BPTT().init(network), network.initial_state()
    memory = optimizer.init(eqx.filter(network, eqx.is_inexact_array))
    for t in range(8):
        states, output = network.effective().step(states, t % 5)
        np.testing.assert_allclose(learner.predict(state, t % 5), output, rtol=1e-9)
        state = learner.learn(state, t % 5, t % 5)
        if t >= horizon:
            piece = ow.Sample(np.array([(t - horizon) % 5]), np.array([t % 5]), np.ones(1))
            carry, estimate = ow.BPTT().run(network, ow.losses.cross_entropy, carry, piece)
            network = eqx.apply_updates(network, optimizer.update(estimate.gradient, memory)[0])
            states = states if horizon else carry.states


def test_a_chunk_without_targets_teaches_nothing():
    xs, _ = stream()
    learner = ow.Learner(net(), ow.losses.squared_error, ow.RTRL(), optax.adam(0.1))
    state, outputs = learner.run(learner.init(), ow.Sample(xs, None, np.ones(T)))
    assert outputs.shape == (T, 1)
    np.testing.assert_array_equal(parameters(learner.network_of(state)), parameters(learner.network))


def test_missing_values():
    xs, ys = stream()
    learner = ow.Learner(net(2), ow.losses.squared_error, ow.RTRL(), optax.adam(0.1))
    ys = np.concatenate([ys, ys], axis=1)
    _, state = one_by_one(learner, xs[:4], ys[:4])
    same = lambda a, b: np.array_equal(parameters(learner.network_of(a)), parameters(learner.network_of(b)))  # noqa: E731
    assert same(learner.learn(state, xs[4]), state)  # no target, no update, not even from momentum
    assert same(learner.learn(state, xs[4], [np.nan, np.nan]), state)
    moved = learner.learn(state, xs[4])
    assert int(learner.unpack(moved).samples) == 5
    assert not np.array_equal(moved.arrays[0], state.arrays[0])  # but time went on
    partly, whole = (learner.learn(state, xs[4], y) for y in ([0.3, np.nan], [0.3, 0.2]))
    before = learner.unpack(state).optimizer[0].mu.nodes["readout"].weight
    after = learner.unpack(partly).optimizer[0].mu.nodes["readout"].weight
    np.testing.assert_allclose(after[1], 0.9 * before[1], rtol=1e-9)  # no gradient for the output without a target
    assert np.abs(after[0] - 0.9 * before[0]).max() > 1e-4
    assert not same(partly, whole)
    gap = xs[4].copy()
    gap[1] = np.nan
    filled = xs[4].copy()
    filled[1] = xs[3, 1]
    np.testing.assert_array_equal(learner.predict(state, gap), learner.predict(state, filled))
    first, start = np.array([0.5, np.inf, 0.1]), learner.init()
    np.testing.assert_array_equal(learner.predict(start, first), learner.predict(start, [0.5, 0.0, 0.1]))


def test_labels_that_are_negative_are_missing():
    xs, _ = stream()
    learner = ow.Learner(net(3), ow.losses.cross_entropy, ow.EProp(), optax.sgd(0.5), normalize=True)
    state = learner.learn(learner.init(), xs[0], 2)
    assert np.argmax(learner.predict(state, xs[0])) == 2
    np.testing.assert_array_equal(
        parameters(learner.network_of(learner.learn(state, xs[1], -1))), parameters(learner.network_of(state))
    )


def test_what_is_not_finite_is_refused_and_forgotten():
    """A loss that overflows leaves parameters alone, counts, and leaves no influence behind."""
    xs, ys = stream()
    learner = ow.Learner(net(), ow.losses.squared_error, ow.RTRL(), optax.adam(0.1))
    _, state = one_by_one(learner, xs[:5], ys[:5])
    assert int(learner.unpack(learner.learn(state, xs[5], [1e80])).refused) == 0  # large, and no overflow anywhere
    bad = learner.learn(state, xs[5], [1e200])
    known, before = learner.unpack(bad), learner.unpack(state)
    assert int(known.refused) == 1
    np.testing.assert_array_equal(parameters(learner.network_of(bad)), parameters(learner.network_of(state)))
    for a, b in zip(jax.tree.leaves(known.optimizer), jax.tree.leaves(before.optimizer), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(known.carry.memory))
    after = learner.learn(bad, xs[6], ys[6])
    assert int(learner.unpack(after).refused) == 1
    assert all(np.isfinite(leaf).all() for leaf in after.arrays)
    assert not np.array_equal(parameters(learner.network_of(after)), parameters(learner.network_of(bad)))


def test_statistics_are_the_streams_mean_and_deviation():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=(50, 2))
    values[7, 0] = np.nan
    statistics = no_statistics(jnp.zeros(2))
    for value in values:
        statistics = observe(statistics, jnp.asarray(value), 1000)
    np.testing.assert_allclose(statistics.mean, np.nanmean(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.variance, np.nanvar(values, axis=0), rtol=1e-12)
    np.testing.assert_array_equal(statistics.count, [49, 50])
    first = jnp.asarray(values[0])
    np.testing.assert_allclose(denormalise(statistics, normalise(statistics, first)), first, rtol=1e-12)
    short = no_statistics(jnp.zeros(1))
    for value in [0.0] * 100 + [1.0] * 100:
        short = observe(short, jnp.asarray([value]), 10)
    assert short.mean[0] > 0.99  # it forgets
    huge = observe(no_statistics(jnp.zeros(1, jnp.float32)), jnp.asarray([3e38], jnp.float32), 10)
    assert all(np.isfinite(leaf).all() for leaf in huge)  # where the square of the value is not
    constant = Statistics(jnp.ones(1), jnp.asarray([5.0]), jnp.zeros(1))
    assert normalise(constant, jnp.asarray([5.5]))[0] == 0.5  # what never varied is not scaled


def test_predictions_come_in_the_targets_units():
    xs, ys = stream(length=200)
    learner = ow.Learner(net(), ow.losses.squared_error, ow.EProp(), optax.adam(0.02), normalize=True)
    state, outputs = learner.run(learner.init(), ow.Sample(1e4 * xs, 1e5 + 300 * ys, np.ones(200)))
    assert np.abs(outputs[1:] - 1e5).max() < 3000
    assert np.abs(np.asarray(learner.predict(state, 1e4 * xs[0])) - 1e5).max() < 1500


def test_a_restart_goes_on_to_the_same_bits(tmp_path):
    xs, ys = stream()
    make = lambda: ow.Learner(net(), ow.losses.squared_error, ow.UORO(), optax.adam(0.05), 2, horizon=1, normalize=True)  # noqa: E731
    learner = make()
    _, half = one_by_one(learner, xs[:6], ys[:6])
    learner.save(tmp_path / "state", half, config={"target": "load"})
    expected, last = one_by_one(learner, xs[6:], ys[6:], state=half)
    other = make()
    state, header = other.load(tmp_path / "state")
    found, end = one_by_one(other, xs[6:], ys[6:], state=state)
    assert header["config"] == {"target": "load"}
    assert header["step"] == 6
    np.testing.assert_array_equal(found, expected)
    for a, b in zip(end.arrays, last.arrays, strict=True):
        np.testing.assert_array_equal(a, b)
    smaller = ow.Learner(net(units=3), ow.losses.squared_error, ow.UORO(), optax.adam(0.05))
    with pytest.raises(CheckpointError, match="does not fit"):
        smaller.load(tmp_path / "state")
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:200])
    with pytest.raises(CheckpointError):
        make().load(tmp_path / "state")


def test_one_compilation_however_long_the_stream():
    count = 0

    def loss(output, target):
        nonlocal count
        count += 1
        return ow.losses.squared_error(output, target)

    xs, ys = stream()
    learner = ow.Learner(net(), loss, ow.EProp(), optax.sgd(0.1))
    state = learner.learn(learner.init(), xs[0], ys[0])
    first = count
    others = (xs[1].tolist(), ys[1].tolist()), (jnp.asarray(xs[2]), ys[2]), (xs[3], None), (xs[4].astype(int), ys[4])
    for x, y in others:
        state = learner.learn(state, x, y, reset=False, weight=1.0)
    assert count == first


def test_packing_keeps_what_is_large_apart():
    tree = {"a": jnp.arange(3.0), "b": jnp.ones((2, 2), int), "c": jnp.zeros(LARGEST + 1), "d": jnp.float64(7.0)}
    packing = Packing(tree)
    arrays = packing.pack(tree)
    assert [array.shape for array in arrays] == [(4,), (4,), (LARGEST + 1,)]
    for a, b in zip(jax.tree.leaves(packing.unpack(arrays)), jax.tree.leaves(tree), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


BAD = [
    (lambda s: s.predict(s.init(), [0.0]), ValueError, r"`x` must have shape \(3,\), got \(1,\)"),
    (lambda s: s.learn(s.init(), [0.0] * 3, [1.0, 2.0]), ValueError, r"`y` must have shape \(1,\), got \(2,\)"),
    (lambda s: s.predict(s.init(), ["a", "b", "c"]), TypeError, "`x` must hold numbers of type float64"),
    (lambda s: s.predict(s.init(), [[0.0], [1.0, 2.0]]), ValueError, "`x` is ragged"),
    (lambda s: s.learn(s.init(), [0.0] * 3, [1.0], reset=0.5), TypeError, "`reset` must hold numbers of type bool"),
    (lambda s: s.run(s.init(), "chunk"), TypeError, "`chunk` must be an onward.Sample"),
    (
        lambda s: s.run(s.init(), ow.Sample(np.ones((0, 3)), np.ones((0, 1)), np.ones(0))),
        ValueError,
        "at least one step",
    ),
    (lambda s: s.run(s.init(), ow.Sample(np.ones((2, 3)), np.ones((3, 1)), np.ones(2))), ValueError, "`chunk.target`"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_bad_samples_get_one_sentence(call, error, words):
    with pytest.raises(error, match=words):
        call(ow.Learner(net(), ow.losses.squared_error, ow.EProp(), optax.sgd(0.1)))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"window": 0}, "`window` must be a positive integer, got 0"),
        ({"horizon": -1}, "`horizon` must be an integer of 0 or more"),
        ({"horizon": (1, 1)}, "several different ones"),
        ({"horizon": (1, 2)}, "cannot be shared among"),
        ({"batch": 0}, "`batch` must be a positive integer"),
        ({"memory": 1.5}, "`memory` must be a positive integer"),
        ({"algorithm": ow.ReversibleBPTT()}, "has no inverse"),
        ({"network": ow.stack(lambda x: x)}, "`input_size=`"),
    ],
)
def test_bad_learners_get_one_sentence(arguments, words):
    given = {"network": net(), "loss": ow.losses.squared_error, "algorithm": ow.EProp(), "optimizer": optax.sgd(0.1)}
    with pytest.raises(ValueError, match=words):
        ow.Learner(**(given | arguments))


def test_an_algorithm_without_episodes_says_so():
    learner = ow.Learner(net(kind=ow.cells.LRU), ow.losses.squared_error, ow.ForwardErrors(), optax.sgd(0.1), 4)
    with pytest.raises(ValueError, match="ForwardErrors cannot begin an episode"):
        learner.learn(learner.init(), np.zeros(3), [0.0], reset=True)


def test_weights_are_kept_below_a_multiple_of_their_first_norm():
    weights = {"a": jnp.asarray([3.0, 4.0]), "b": jnp.zeros(3)}
    optimizer = optax.chain(optax.sgd(1.0), limit_norms(2.0))
    state = optimizer.init(weights)
    small, _ = optimizer.update(jax.tree.map(lambda w: 0 * w - 0.5, weights), state, weights)
    np.testing.assert_array_equal(small["a"], [0.5, 0.5])  # within the bound nothing is changed
    for _ in range(3):
        updates, state = optimizer.update(jax.tree.map(lambda w: 0 * w - 7.0, weights), state, weights)
        weights = optax.apply_updates(weights, updates)
    assert float(jnp.linalg.norm(weights["a"])) == pytest.approx(10.0)
    assert float(jnp.linalg.norm(weights["b"])) == pytest.approx(2.0)  # of norm 0 at first, which counts as 1
    with pytest.raises(ValueError, match=r"`factor` must be at least 1, got 0\.5"):
        limit_norms(0.5)
