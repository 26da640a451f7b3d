"""The tasks of the e-prop papers: what is asked, read off the spikes alone; rates, curves and what can be learnt."""

import itertools

import equinox as eqx
import jax
import numpy as np
import optax
import pytest

import onward as ow
from onward.tasks import EvidenceAccumulation, PatternGeneration, StoreRecall, make

SHORT_EVIDENCE = {"cues": 3, "cue_length": 20, "gap": 10, "delay": 50, "recall": 20, "rate": 200}
SHORT_STORE = {"symbol": 20, "max_delay": 2, "pairs": 1, "rate": 200}


def groups(batch, neurons):
    """Spikes of a batch counted over the neurons of each population: `[batch, time, group]`."""
    assert set(np.unique(batch.input)) <= {0, 1}
    return batch.input.reshape(*batch.input.shape[:2], -1, neurons).sum(axis=-1)


# Evidence accumulation


@pytest.mark.parametrize(
    "options", [{"rate": 400}, SHORT_EVIDENCE, {**SHORT_EVIDENCE, "cues": 1, "gap": 0, "delay": 0, "recall": 1}]
)
def test_evidence_accumulation_asks_for_the_side_with_more_cues(options):
    made = EvidenceAccumulation(**options)
    cues, cue, gap, recall = (made.options[k] for k in ("cues", "cue_length", "gap", "recall"))
    assert made.length == cues * (gap + cue) + made.options["delay"] + recall
    assert made.input_size == 40
    batch = made.train_batch(0, 0, 60)
    left, right, asks, _ = np.moveaxis(groups(batch, 10), -1, 0)
    during = np.add.outer(gap + np.arange(cues) * (gap + cue), np.arange(cue))
    shown = [side[:, during].sum(axis=-1) > 0 for side in (left, right)]
    assert (shown[0] ^ shown[1]).all()  # one side a cue
    for side in (left, right):  # and silence else
        side[:, during] = 0
        assert not side.any()
    answer = shown[1].sum(axis=1) > shown[0].sum(axis=1)
    np.testing.assert_array_equal(batch.target, np.repeat(answer[:, None], made.length, axis=1))
    assert not asks[:, :-recall].any()
    assert asks[:, -recall:].any()
    asked = np.arange(made.length) >= made.length - recall
    np.testing.assert_array_equal(batch.weight, np.tile(np.float32(asked / recall), (60, 1)))


def test_evidence_accumulation_is_as_published_by_default():
    made = make("evidence-accumulation")
    assert (made.length, made.input_size, made.output_size) == (2250, 40, 2)
    batch = made.train_batch(0, 0, 16)
    left, right, asks, noise = np.moveaxis(groups(batch, 10), -1, 0)
    rates = [(left + right).sum() / (16 * 10 * 0.7), asks[:, -150:].mean() * 100, noise.mean() * 100]  # in Hz
    assert rates == pytest.approx([40, 40, 10], rel=0.06)
    assert (left + right)[:, :50].sum() == (left + right)[:, -1200:].sum() == 0


def test_evidence_accumulation_is_balanced_and_biased_as_asked():
    options = {"cue_length": 1, "gap": 0, "delay": 0, "recall": 1, "neurons": 1, "rate": 1000}
    for bias, chance in ((0.5, 0.5), (0.7, 0.7), (1, 1)):
        batch = EvidenceAccumulation(bias=bias, **options).train_batch(0, 0, 4000)
        left, right = batch.input[:, :7, 0].sum(axis=1), batch.input[:, :7, 1].sum(axis=1)
        assert (left + right == 7).all()
        assert batch.target.mean() == pytest.approx(0.5, abs=0.03)
        # Given the likely side, 7 independent cues: pairs of cues agree with chance p^2 + (1 - p)^2.
        agree = np.mean([a == b for a, b in itertools.combinations(batch.input[:, :7, 1].T, 2)])
        assert agree == pytest.approx(chance**2 + (1 - chance) ** 2, abs=0.02)


@pytest.mark.usefixtures("unchecked")
def test_evidence_accumulation_refuses_ties_and_impossible_rates():
    for even in (2, 4, 10):
        with pytest.raises(ValueError, match=rf"`cues` must be odd, got {even}; an even number can end in a tie"):
            make("evidence-accumulation", cues=even)
    with pytest.raises(ValueError, match=r"`cues` must be at least 1, got -1; ."):
        make("evidence-accumulation", cues=-1)
    for option, value, limits in (
        ("rate", 0, "from 1 to 1000"),
        ("background", -1, "from 0 to 1000"),
        ("background", float("nan"), "from 0 to 1000"),
        ("bias", 0.2, "from 0.5 to 1"),
    ):
        with pytest.raises(ValueError, match=rf"`{option}` must be {limits}, got {value}; ."):
            make("evidence-accumulation", **{option: value})
    for value in (True, "40", None):
        with pytest.raises(ValueError, match=r"`rate` must be a number, got .+; ."):
            make("evidence-accumulation", rate=value)


# Store and recall


@pytest.mark.parametrize("options", [{"rate": 400}, {"symbol": 5, "rate": 1000, "min_delay": 1, "max_delay": 3}])
def test_store_recall_asks_for_the_bit_of_the_last_store(options):
    made = StoreRecall(**options)
    symbol, pairs, low, high = (made.options[k] for k in ("symbol", "pairs", "min_delay", "max_delay"))
    assert made.length == pairs * (high + 2) * symbol
    assert made.input_size == 100
    batch = made.train_batch(0, 0, 100)
    fires = groups(batch, 25).reshape(100, -1, symbol, 4).sum(axis=2) > 0
    asked = batch.weight.reshape(100, -1, symbol) > 0
    delays, answers, ignored = [], [], set()
    for row, target, recall in zip(fires, batch.target.reshape(100, -1, symbol), asked, strict=True):
        bit, stored = None, None
        for count, (zero, one, store, recalled) in enumerate(row.tolist()):
            assert (zero ^ one) != recalled  # a bit, or a recall
            assert recall[count].all() if recalled else not recall[count].any()
            if store:
                assert bit is None
                bit, stored = int(one), count
            elif recalled:
                assert set(target[count].tolist()) == {bit}
                delays.append(count - stored - 1)
                answers.append(bit)
                bit = None
            elif bit is not None:
                ignored.add((bit, int(one)))
        assert bit is None
    assert len(answers) == 100 * pairs
    assert set(delays) == set(range(low, high + 1))
    assert np.mean(answers) == pytest.approx(0.5, abs=0.12)
    assert ignored == {(0, 0), (0, 1), (1, 0), (1, 1)}
    np.testing.assert_allclose(batch.weight[batch.weight > 0], 1 / (pairs * symbol), rtol=1e-6)


def test_store_recall_is_as_published_by_default():
    made = make("store-recall")
    assert (made.length, made.input_size, made.output_size) == (2400, 100, 2)
    fired = groups(made.train_batch(0, 0, 8), 25)
    recall = made.train_batch(0, 0, 8).weight > 0
    assert fired[..., :2].sum(axis=-1)[~recall].mean() / 25 * 1000 == pytest.approx(50, rel=0.05)
    assert fired[..., 3][recall].mean() / 25 * 1000 == pytest.approx(50, rel=0.05)


@pytest.mark.usefixtures("unchecked")
def test_store_recall_refuses_a_range_upside_down():
    with pytest.raises(ValueError, match=r"`max_delay` must be at least 3, got 2; it is no less than `min_delay`"):
        make("store-recall", min_delay=3, max_delay=2)


# Both


@pytest.mark.parametrize(("name", "steps"), [("evidence-accumulation", 20), ("store-recall", 20)])
def test_a_decision_is_the_mean_output_while_it_is_asked_for(name, steps):
    made = make(name, **(SHORT_EVIDENCE if name == "evidence-accumulation" else {**SHORT_STORE, "pairs": 2}))
    batch = made.train_batch(0, 0, 6)
    asked = batch.weight > 0
    decisions = float(asked.sum() / steps)
    right = np.eye(2)[batch.target]
    output = np.where(asked[..., None], right, 9 - 9 * right)  # wrong and loud where nobody asks
    assert made.metrics(output, batch.target, batch.weight) == {"correct": decisions, "count": decisions}
    row = np.flatnonzero(asked[2])[:steps]
    output[2, row[1:]] = 0  # one right step is enough
    assert made.metrics(output, batch.target, batch.weight)["correct"] == decisions
    output[2, row[1:3]] = 1 - right[2, row[1:3]]  # outvoted
    assert made.metrics(output, batch.target, batch.weight)["correct"] == decisions - 1
    output[2, row[0]] = np.nan
    assert made.metrics(output, batch.target, batch.weight)["correct"] == decisions - 1
    alone = made.metrics(output[3], batch.target[3], batch.weight[3])
    assert alone["correct"] == alone["count"] == decisions / 6


# Pattern generation


def test_patterns_are_four_sinusoids_of_fixed_frequencies():
    made = make("pattern-generation", outputs=3)
    assert (made.length, made.input_size, made.output_size) == (1000, 20, 3)
    target = made.train_batch(0, 0, 2).target[0]
    spectrum = np.abs(np.fft.rfft(target, axis=0)) / 500  # amplitudes at 0, 1, 2, ... Hz
    assert (spectrum[[1, 2, 3, 5]] > 0.05).all()
    assert (np.delete(spectrum, [1, 2, 3, 5], axis=0) < 1e-6).all()
    assert (spectrum.max(axis=0) / spectrum[[1, 2, 3, 5]].min(axis=0) <= 4).all()  # amplitudes from 1/2 to 2
    np.testing.assert_allclose(np.abs(target).max(axis=0), 1, rtol=1e-6)
    assert len({column.tobytes() for column in target.T}) == 3


def test_the_pattern_goes_with_its_own_seed_and_no_other():
    targets = [
        make("pattern-generation", length=50, neurons=neurons, pattern=pattern).train_batch(seed, step, 1).target
        for neurons, pattern, seed, step in ((4, 0, 0, 0), (2, 0, 5, 7), (4, 1, 0, 0))
    ]
    np.testing.assert_array_equal(targets[0], targets[1])
    assert not np.allclose(targets[0], targets[2])
    held_out = next(make("pattern-generation", length=50).evaluation("test", 2))
    np.testing.assert_array_equal(held_out.target[0], targets[0][0])


@pytest.mark.parametrize(("length", "groups_"), [(1000, 5), (53, 4), (11, 11)])
def test_the_clock_fires_group_after_group(length, groups_):
    made = PatternGeneration(length=length, groups=groups_, rate=1000, neurons=2)
    first, second = made.train_batch(0, 0, 2).input
    np.testing.assert_array_equal(first, second)  # without noise
    active = first.reshape(length, groups_, 2)
    np.testing.assert_array_equal(active.sum(axis=(1, 2)), 2)
    order = active[..., 0].argmax(axis=1)
    assert (np.diff(order) >= 0).all()
    counts = np.bincount(order, minlength=groups_)
    assert counts.max() - counts.min() <= 1
    noisy = PatternGeneration(length=length, groups=groups_, rate=100, neurons=50).train_batch(0, 0, 30).input
    fired = noisy.reshape(30, length, groups_, 50).mean(axis=(0, 3))
    assert fired[np.arange(length), order].mean() == pytest.approx(0.1, rel=0.1)
    assert fired.sum() == pytest.approx(fired[np.arange(length), order].sum())


@pytest.mark.usefixtures("unchecked")
def test_a_sequence_has_room_for_each_population_of_the_clock():
    with pytest.raises(ValueError, match=r"`length` must be at least 30, got 20; ."):
        make("pattern-generation", length=20, groups=30)


def test_pattern_generation_measures_the_error_against_the_spread_of_the_target():
    made = make("pattern-generation", length=100, outputs=3)
    batch = made.train_batch(0, 0, 4)
    assert made.summarise(made.metrics(batch.target, batch.target, batch.weight)) == dict.fromkeys(
        ("mean_squared_error", "normalised_mean_squared_error"), 0.0
    )
    zero = made.summarise(made.metrics(np.zeros_like(batch.target), batch.target, batch.weight))
    assert zero["mean_squared_error"] == pytest.approx(np.mean(batch.target**2.0), rel=1e-6)
    assert zero[made.primary] == pytest.approx(1, rel=1e-6)
    assert not made.higher_is_better
    parts = [made.metrics(np.ones((3, 100, 3)), batch.target[s], batch.weight[s]) for s in (slice(0, 3), slice(1, 4))]
    total = made.summarise({key: parts[0][key] + parts[1][key] for key in parts[0]})
    assert total["mean_squared_error"] == pytest.approx(np.mean((1 - batch.target) ** 2.0), rel=1e-6)
    alone = made.metrics(np.zeros((100, 3)), batch.target[0], batch.weight[0])
    assert alone["count"] == 300


# Learning


@pytest.mark.parametrize(
    ("name", "options", "steps", "bound"),
    [
        ("pattern-generation", {"length": 25, "rate": 1000}, 60, 0.5),
        (
            "evidence-accumulation",
            {**SHORT_EVIDENCE, "cue_length": 4, "gap": 1, "delay": 3, "recall": 4},
            60,
            0.8,
        ),
        ("store-recall", {**SHORT_STORE, "symbol": 3, "max_delay": 1}, 80, 0.8),
    ],
)
def test_a_small_network_learns_more_than_chance(name, options, steps, bound):
    task = make(name, evaluation_size=200, **options)
    keys = jax.random.split(jax.random.key(0))
    cell = ow.cells.GRU(task.input_size, 16, key=keys[0])
    network = ow.stack(cell, readout=eqx.nn.Linear(16, task.output_size, key=keys[1]))
    trained = ow.train(network, task, algorithm=ow.BPTT(), optimizer=optax.adam(1e-2), batch_size=32, steps=steps)
    before, after = (ow.evaluate(net, task, "test")[task.primary] for net in (network, trained.network))
    assert after > bound > before if task.higher_is_better else after < bound < before
