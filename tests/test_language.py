"""Language models: their modules, tasks, perplexity and training, against loops written out here."""

import csv
import itertools
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import onward as ow
from onward import dynamic_evaluation
from onward.checkpoint import load_network
from onward.cli import main
from onward.data.text import Corpus
from onward.modules import MixtureOfSoftmaxes, Tied
from onward.reproduce import language
from onward.reproduce.language import PTB300, Alpha, LanguageSettings
from onward.tasks.language import LanguageModel

WORDS = 7


class Little(LanguageModel):
    """A text of 100, 31 and 23 words, in which a word is often followed by the next in the vocabulary."""

    name = "little"
    primary = "perplexity"

    def corpus(self):
        rng = np.random.default_rng(0)
        parts = [np.cumsum(rng.integers(0, 2, size)) % WORDS for size in (100, 31, 23)]
        return Corpus(*(part.astype(np.int32) for part in parts), tuple("abcdefg"))


def model(**options):
    options = {"units": 5, "tied": True, "key": jax.random.key(1)} | options
    return ow.networks.language_model(WORDS, **options)


def nats(net, text):
    """Losses of all tokens of a text but the first, read as one piece."""
    logits = np.asarray(net.unroll(jnp.asarray(text[:-1])), np.float64)
    return np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, text[1:, None], -1)[:, 0]


def test_batches_go_on_where_the_last_one_ended():
    task = Little(length=6)
    text = task.corpus().train
    assert task.batches(3) == 5  # (100 - 1) // 3 = 33 tokens a stream
    batches = [task.train_batch(0, step, 3) for step in range(6)]
    for stream in range(3):
        read = np.concatenate([batch.input[stream] for batch in batches[:5]])
        asked = np.concatenate([batch.target[stream] for batch in batches[:5]])
        np.testing.assert_array_equal(read, text[33 * stream : 33 * stream + 30])
        np.testing.assert_array_equal(asked, text[33 * stream + 1 : 33 * stream + 31])
    np.testing.assert_array_equal(batches[5].input, batches[0].input)
    assert np.allclose(batches[0].weight.sum(axis=1), 1)
    with pytest.raises(ValueError, match=r"`batch_size` is 50, but the text has only 16 sequences of 6"):
        task.train_batch(0, 0, 50)
    with pytest.raises(ValueError, match="`length` must be below the text's 100 tokens, got 100"):
        Little(length=100)


@pytest.mark.parametrize("streams", [1, 3])
def test_perplexity_is_that_of_every_token_but_the_first(streams):
    task = Little(length=8, streams=streams)
    net, text = model(layers=2), task.corpus().test
    each = -(-22 // streams)
    losses = np.concatenate([nats(net, text[start : start + each + 1]) for start in range(0, 22, each)])
    assert len(losses) == 22
    values = ow.evaluate(net, task, "test")
    assert values["perplexity"] == pytest.approx(np.exp(losses.mean()), rel=1e-5)
    assert values["loss"] == pytest.approx(losses.mean(), rel=1e-5)


def test_bits_per_character():
    task = Little(length=8, streams=1)
    task.unit = "character"
    net = model()
    expected = nats(net, task.corpus().validation).mean() / np.log(2)
    assert ow.evaluate(net, task, "validation")["bits_per_character"] == pytest.approx(expected, rel=1e-5)


def test_training_carries_states_until_the_epoch_ends():
    """Two epochs of `train` against a loop of plain JAX: states live on from batch to batch, and end with the epoch."""
    task, net, rate = Little(length=11), model(), 0.3
    trained = ow.train(net, task, algorithm=ow.BPTT(), optimizer=optax.sgd(rate), epochs=2, batch_size=3)
    assert trained.step == 6
    losses = [event["loss"] for event in trained.history if event["event"] == "train"]

    def value(net, states, batch):
        def one(states, words, targets):
            def step(states, word):
                states, logits = net.effective().step(states, word)
                return states, jax.nn.log_softmax(logits)

            states, scores = jax.lax.scan(step, states, words)
            return -jnp.mean(jnp.take_along_axis(scores, targets[:, None], axis=-1)), states

        each, states = jax.vmap(one)(states, batch.input, batch.target)
        return jnp.mean(each), states

    grad = eqx.filter_jit(eqx.filter_value_and_grad(value, has_aux=True))
    for number in range(6):
        if number % 3 == 0:
            states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), net.initial_state())
        (loss, states), gradient = grad(net, states, task.train_batch(0, number, 3))
        assert losses[number] == pytest.approx(float(loss), rel=1e-5)
        net = eqx.apply_updates(net, jax.tree.map(lambda g: -rate * g, gradient))


@pytest.mark.parametrize("algorithm", [ow.BPTT(), ow.RTRL()], ids=["BPTT", "RTRL"])
def test_tied_weights_get_the_gradient_of_both_places(algorithm):
    keys = jax.random.split(jax.random.key(0), 3)
    embed = ow.modules.embedding(WORDS, 3, key=keys[0])
    mixture = MixtureOfSoftmaxes(4, 3, 2, Tied("embed", 3, WORDS), key=keys[1])
    net = ow.Network(
        {"embed": embed, "gru": ow.cells.GRU(3, 4, key=keys[2]), "out": mixture},
        {"embed": ("input",), "gru": ("embed",), "out": ("gru",)},
        "out",
    )
    assert net.output_size == WORDS
    words = jnp.asarray([0, 3, 3, 6, 2, 1])
    sample = ow.Sample(words[:-1], words[1:], jnp.ones(5))
    _, gradient = ow.value_and_grad(net, ow.losses.cross_entropy, sample, algorithm=algorithm)

    def total(weight):
        cell, prior, latent = net.nodes["gru"], mixture.prior, mixture.latent
        state, loss = jnp.zeros(4), 0.0
        for word, target in itertools.pairwise(words):
            state = cell.transition(state, state, weight[word])
            logits = jnp.tanh(latent.weight @ state + latent.bias).reshape(2, 3) @ weight.T
            parts = jnp.exp(logits) / jnp.exp(logits).sum(axis=1, keepdims=True)
            share = jnp.exp(prior.weight @ state) / jnp.exp(prior.weight @ state).sum()
            loss -= jnp.log((share @ parts)[target])
        return loss

    expected = jax.grad(total)(embed.weight)
    np.testing.assert_allclose(gradient.nodes["embed"].weight, expected, rtol=1e-4, atol=1e-6)


def test_algorithms_that_look_back_or_run_backwards_serve_texts():
    """An embedding, and dropout that is drawn: `NthOrder` remembers integers, `ReversibleBPTT` passes masks through."""
    keys = jax.random.split(jax.random.key(0), 3)
    below = ow.modules.embedding(WORDS, 3, key=keys[0]), ow.cells.LockedDropout(3, 0.4)
    net = ow.stack(*below, ow.cells.LRU(3, 3, r_min=0.5, key=keys[1]), readout=eqx.nn.Linear(6, WORDS, key=keys[2]))
    words = jnp.asarray([[0, 3, 3, 6, 2, 1], [5, 5, 1, 0, 2, 4]])
    window = ow.Sample(words[:, :-1], words[:, 1:], jnp.ones((2, 5)))

    @eqx.filter_jit
    def gradient(algorithm):
        carry = algorithm.init(net, batch=2)
        carry = ow.Carry(net.fresh_states(carry.states, jax.random.key(4)), carry.memory)
        return jax.tree.leaves(algorithm.run(net, ow.losses.cross_entropy, carry, window)[1].gradient)

    expected = gradient(ow.BPTT())
    for algorithm in (ow.NthOrder(8), ow.ReversibleBPTT(chunk=2)):
        for a, b in zip(gradient(algorithm), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(gradient(ow.NthOrder(1)), expected, strict=True))


def test_modules_say_what_is_wrong(unchecked):
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="`rate` must be at least 0 and below 1"):
            ow.cells.LockedDropout(3, rate)
    with pytest.raises(ValueError, match="`batches` is empty"):
        dynamic_evaluation.mean_square(model(), [], ow.losses.cross_entropy)
    for lazy in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="`lazy` must be None or a positive number of steps"):
            ow.RTRL(lazy=lazy)


def test_tied_maps_say_what_is_wrong(unchecked):
    with pytest.raises(ValueError, match="from node 'words', which the network does not have; known: a"):
        Tied("words", 3, WORDS).resolved({"a": None})
    with pytest.raises(ValueError, match=r"shape \(7, 3\), but that of node 'e' \(Embedding\) is \(7, 4\)"):
        Tied("e", 3, WORDS).resolved({"e": ow.modules.embedding(WORDS, 4, key=jax.random.key(0))})
    with pytest.raises(ValueError, match=r"call `network.effective\(\)` first"):
        Tied("e", 3, WORDS)(jnp.ones(3))


def test_locked_dropout_keeps_its_mask_through_a_sequence():
    net = ow.stack(ow.cells.LockedDropout(200, 0.25))
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), net.initial_state())
    unroll = jax.vmap(net.unroll)
    inputs = jnp.ones((4, 3, 200))
    np.testing.assert_array_equal(unroll(inputs, states), 1)  # whole, where nobody draws
    drawn = np.asarray(unroll(inputs, net.fresh_states(states, jax.random.key(0))))
    np.testing.assert_allclose(np.unique(drawn), [0, 1 / 0.75])
    np.testing.assert_array_equal(drawn, drawn[:, :1].repeat(3, axis=1))
    assert all((drawn[i, 0] != drawn[j, 0]).any() for i in range(4) for j in range(i))
    assert (drawn == 0).mean() == pytest.approx(0.25, abs=0.05)


def test_dropped_weights_learn_nothing_and_are_whole_in_evaluation():
    cell = ow.cells.LSTM(3, 20, key=jax.random.key(0))
    net = ow.stack(ow.cells.WeightDrop(cell, 0.4))
    assert ow.is_recurrent(net).nodes["0_weightdrop"].cell.weight_hh
    sample = ow.Sample(jnp.ones((5, 3)), jnp.ones((5, 20)), jnp.ones(5))
    np.testing.assert_array_equal(net.unroll(sample.input), ow.stack(cell).unroll(sample.input))
    drawn = net.randomized(jax.random.key(1))
    used = np.asarray(drawn.nodes["0_weightdrop"].masked().weight_hh)
    dropped = used == 0
    assert dropped.mean() == pytest.approx(0.4, abs=0.05)
    np.testing.assert_allclose(used[~dropped], np.asarray(cell.weight_hh)[~dropped] / 0.6, rtol=1e-6)
    for algorithm in (ow.BPTT(), ow.SnAp(1)):
        _, gradient = ow.value_and_grad(drawn, ow.losses.squared_error, sample, algorithm=algorithm)
        inner = ow.stack(drawn.nodes["0_weightdrop"].masked())
        _, expected = ow.value_and_grad(inner, ow.losses.squared_error, sample, algorithm=algorithm)
        expected = np.where(dropped, 0, np.asarray(expected.nodes["0_lstm"].weight_hh) / 0.6)
        found = np.asarray(gradient.nodes["0_weightdrop"].cell.weight_hh)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)
        assert (found[~dropped] != 0).any()


@pytest.mark.parametrize("algorithm", [ow.RTRL(), ow.RTRL(lazy=2)], ids=["RTRL", "RTRL-lazy"])
def test_influence_outlives_the_masks_it_was_made_with(algorithm):
    """Two windows with masks of their own, and one loss at the end: the gradient is that of both."""
    keys = jax.random.split(jax.random.key(0), 6)
    net = ow.stack(
        ow.cells.LockedDropout(3, 0.5),
        ow.cells.WeightDrop(ow.cells.GRU(3, 4, key=keys[0]), 0.5),
        ow.cells.WeightDrop(ow.cells.LSTM(4, 3, key=keys[1]), 0.5),
    )
    sample = ow.Sample(jax.random.normal(keys[2], (2, 3, 3)), jnp.ones((2, 3, 3)), jnp.zeros((2, 3)).at[:, -1].set(1.0))
    start = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), net.initial_state())
    masks = [(keys[3], keys[4]), (keys[4], keys[5])]

    def value(net):
        total, states = 0.0, start
        for index, (weights, drops) in enumerate(masks):
            now, states = net.randomized(weights), net.fresh_states(states, drops)
            for step in range(3):
                states, output = jax.vmap(now.step)(states, sample.input[:, step])
                weight = sample.weight[:, step] * index
                total += jnp.mean(weight * jnp.sum((output - 1) ** 2, axis=-1))
        return total

    @eqx.filter_jit
    def step_of(net, carry, weights, window):
        return algorithm.run(net.randomized(weights), ow.losses.squared_error, carry, window)

    expected = eqx.filter_jit(eqx.filter_grad(value))(net)
    fresh = eqx.filter_jit(net.fresh_states)
    carry = eqx.filter_jit(algorithm.init)(net, batch=2)
    for index, (weights, drops) in enumerate(masks):
        carry = ow.Carry(fresh(carry.states, drops), carry.memory)
        weighed = eqx.tree_at(lambda s: s.weight, sample, sample.weight * index)
        for step in range(3):
            window = jax.tree.map(lambda leaf, step=step: leaf[:, step : step + 1], weighed)
            carry, estimate = step_of(net, carry, weights, window)
    for a, b in zip(jax.tree.leaves(estimate.gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", ["LRU", "AntisymmetricRNN"])
def test_only_matrices_of_recurrent_weights_drop(kind):
    with pytest.raises(ValueError, match=f"{kind} has no recurrent matrix `weight_hh` of its own"):
        ow.cells.WeightDrop(getattr(ow.cells, kind)(3, 4, key=jax.random.key(0)), 0.5)


def test_tokens_beyond_the_vocabulary_are_named():
    net = ow.networks.language_model(4, units=3, key=jax.random.key(0))
    with pytest.raises(ValueError, match="`input` holds integers from 0 to 6, but the network's embedding has 4 rows"):
        ow.evaluate(net, Little(length=6))
    real = ow.Sample(np.ones((1, 2), np.float32), np.ones((1, 2), int), np.ones((1, 2), np.float32))
    with pytest.raises(TypeError, match="embeddings read it"):
        ow.train(net, [real], algorithm=ow.BPTT(), optimizer=optax.sgd(0.1), loss=ow.losses.cross_entropy)


def test_states_restart_with_the_task_whatever_renews_the_losses_on_the_way():
    same = {"algorithm": ow.BPTT(), "optimizer": optax.sgd(0.1), "batch_size": 3, "steps": 3}
    losses = [
        [e["loss"] for e in ow.train(model(), Little(length=11), stateful=s, **more, **same).history if "loss" in e]
        for s, more in (("epoch", {}), (True, {}), (False, {}))
    ]
    assert losses[0] == losses[1]
    assert losses[0][1:] != losses[2][1:]
    renewed = {"intermediate": ow.IntermediateLosses(epoch=1)}
    of_way = [
        [e["loss"] for e in ow.train(model(), Little(length=11), stateful=s, **renewed, **same).history if "loss" in e]
        for s in (True, "epoch")
    ]
    assert of_way[0] == of_way[1]


def test_what_stateful_cannot_be_is_refused(unchecked):
    for wrong in (1, np.True_, "batch"):
        with pytest.raises(ValueError, match="`stateful` must be True, False"):
            ow.train(model(), Little(length=11), algorithm=ow.BPTT(), optimizer=optax.sgd(0.1), steps=1, stateful=wrong)


def test_training_draws_dropout_anew_and_goes_on_to_the_same_bits(tmp_path):
    task = Little(length=11)
    net = model(dropout=0.3, weight_drop=0.3)
    still = {"algorithm": ow.BPTT(), "optimizer": optax.sgd(0.0), "batch_size": 3}
    fixed = [e["loss"] for e in ow.train(net, task, steps=6, **still).history if e["event"] == "train"]
    plain = [e["loss"] for e in ow.train(model(), task, steps=6, **still).history if e["event"] == "train"]
    assert all(abs(fixed[i] - fixed[i + 3]) > 1e-4 for i in range(3))  # the same batches, other masks
    np.testing.assert_allclose(plain[:3], plain[3:], rtol=1e-6)

    moving = still | {"optimizer": optax.adam(0.01)}
    whole = ow.train(net, task, steps=5, **moving).network
    ow.train(net, task, steps=2, checkpoint=tmp_path / "run", **moving)
    rest = ow.train(net, task, steps=5, checkpoint=tmp_path / "run", resume=True, **moving).network
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(rest), strict=True):
        np.testing.assert_array_equal(a, b)


def test_dynamic_evaluation_learns_after_it_was_judged():
    task, net = Little(length=6), model()
    batches = [task.train_batch(0, step, 4) for step in range(3)]
    squares = dynamic_evaluation.mean_square(net, batches, task.loss)
    rate, decay, eps = 0.01, 0.02, 1e-5
    optimizer = dynamic_evaluation.optimizer(net, squares, rate, decay, eps)
    found = dynamic_evaluation.evaluate(net, Little(length=6, streams=1), "test", optimizer=optimizer)["perplexity"]

    arrays, static = eqx.partition(net, eqx.is_inexact_array)
    start, rebuild = jax.flatten_util.ravel_pytree(arrays)
    root = np.sqrt(np.asarray(jax.flatten_util.ravel_pytree(squares)[0]))
    text, now, states, losses = task.corpus().test, np.asarray(start), None, []
    for begin in range(0, 22, 6):
        words = jnp.asarray(text[begin : begin + 7])

        def value(flat, words=words, states=states):
            net = eqx.combine(rebuild(flat), static).effective()
            states = net.initial_state() if states is None else states
            states, logits = jax.lax.scan(lambda s, word: net.step(s, word), states, words[:-1])
            each = -jnp.take_along_axis(jax.nn.log_softmax(logits), words[1:, None], axis=-1)[:, 0]
            return jnp.sum(each) / 6, (each, states)

        (_, (each, states)), gradient = jax.value_and_grad(value, has_aux=True)(jnp.asarray(now))
        losses.extend(np.asarray(each))
        pull = np.minimum(decay * root / root.mean(), 1)
        now = now - rate * np.asarray(gradient) / (root + eps) + pull * (np.asarray(start) - now)
    assert len(losses) == 22
    assert found == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)
    assert abs(found - ow.evaluate(net, Little(length=6, streams=1))["perplexity"]) > 1e-2
    with pytest.raises(ValueError, match="needs a text"):
        dynamic_evaluation.evaluate(net, ow.tasks.make("adding"), optimizer=optimizer)


def test_embeddings_read_integers_and_networks_know_it():
    net = model(softmaxes=3, layers=2, size=4)
    assert net.reads_integers
    assert net.output_size == WORDS
    assert not ow.stack(ow.cells.GRU(2, 3, key=jax.random.key(0))).reads_integers
    np.testing.assert_allclose(np.exp(net.unroll(jnp.arange(5))).sum(axis=-1), 1, rtol=1e-5)
    blocks = ow.networks.lru_blocks(WORDS, WORDS, width=4, units=3, layers=1, embed=True, key=jax.random.key(0))
    assert blocks.unroll(jnp.arange(5)).shape == (5, WORDS)


@pytest.fixture
def registered(monkeypatch):
    """The little text as a task that has a name."""
    monkeypatch.setitem(ow.tasks.TASKS, "little", Little)


@pytest.mark.parametrize("kind", ["stack", "lru-blocks"])
def test_the_command_line_trains_and_judges_texts(kind, registered, tmp_path, capsys):
    run = ["train", "--task", "little:length=6", "--network.kind", kind, "--network.units", "3", "--steps", "3"]
    run += ["--network.layers", "1", "--network.width", "4", "--batch-size", "4", "--out", str(tmp_path)]
    run += ["--algorithm", "snap1@3", "--network.cell", "gru"]
    assert main(run) == 0
    assert "perplexity" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    if kind == "stack":
        like = ow.networks.language_model(WORDS, cell=ow.cells.GRU, units=3, key=jax.random.key(5))
    else:
        sizes = {"width": 4, "units": 3, "layers": 1, "pooling": False, "embed": True}
        like = ow.networks.lru_blocks(WORDS, WORDS, **sizes, key=jax.random.key(5))
    best = load_network(tmp_path / "checkpoint.safetensors", like, best=True)
    assert said["perplexity"] == pytest.approx(ow.evaluate(best, Little(length=6))["perplexity"], rel=1e-5)
    assert abs(said["perplexity"] - ow.evaluate(like, Little(length=6))["perplexity"]) > 1e-3


def test_fptt_from_the_command_line_is_that_of_the_library(tmp_path):
    """Windows of sqrt(T), losses on the way and the constants reach the training as they were given."""
    run = [
        "train",
        "--task",
        "delayed-xor:delay=10",
        "--network.kind",
        "stack",
        "--network.layers",
        "1",
        "--steps",
        "4",
    ]
    run += ["--network.units", "3", "--network.cell", "gru", "--batch-size", "4", "--align-every", "0"]
    run += ["--losses-on-the-way", "--optimizer.fptt", "0.4", "--optimizer.fptt-linear", "0.5", "--out", str(tmp_path)]
    run += ["--optimizer.schedule", "constant", "--optimizer.warmup", "0", "--optimizer.weight-decay", "0"]
    assert main([*run, "--optimizer.recurrent-factor", "1", "--optimizer.learning-rate", "0.01"]) == 0
    events = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = [event["loss"] for event in events if event["event"] == "train"]
    task = ow.tasks.make("delayed-xor", delay=10)
    net = ow.networks.cell_stack(
        ow.cells.GRU, task.input_size, task.output_size, units=3, layers=1, key=jax.random.key(0)
    )
    optimizer = optax.chain(ow.fptt(0.4, linear=0.5), optax.clip_by_global_norm(1.0), optax.adam(0.01))
    same = {"algorithm": ow.BPTT(), "optimizer": optimizer, "steps": 4, "batch_size": 4}
    trained = ow.train(net, task, intermediate=ow.IntermediateLosses(), **same)
    expected = [event["loss"] for event in trained.history if event["event"] == "train"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_studies_of_texts(monkeypatch, tmp_path):
    monkeypatch.setattr(language, "make", lambda name, **options: Little(**options))
    settings = LanguageSettings(steps=4, length=6, windows=2, batch_size=3, units=4, judged=2, alphas=(0.5, 0.01))
    monkeypatch.setattr(PTB300, "quick", settings)
    assert main(["reproduce", "ptb300", "--quick", "--out", str(tmp_path)]) == 0
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["BPTT", "windows, no regulariser", "FPTT", "FPTT"]
    assert len({row["perplexity"] for row in rows}) == 4
    assert [row["at_anchor"] == "nan" for row in rows] == [True, True, False, False]
    assert all(len(row["curve"].split()) == 2 for row in rows)
    text = (tmp_path / "findings.md").read_text()
    assert "| ptb | FPTT, alpha 0.5 | 0.8 |" in text
    assert (tmp_path / "ptb300.png").exists()
    numbers = [row | {name: float(row[name]) for name in ("alpha", "perplexity", "epochs")} for row in rows]
    best = min(numbers, key=lambda row: row["perplexity"])
    label = f"FPTT, alpha {best['alpha']:g}" if best["alpha"] else best["method"]
    assert f"From best to worst: {label} ({best['perplexity']:.1f}), " in text
    figures = Alpha().draw(numbers)
    assert set(figures) == {"alpha", "curves"}
    drawn = [[row["alpha"], row["perplexity"]] for row in numbers[:1:-1]]  # the smallest alpha first
    np.testing.assert_array_equal(figures["alpha"].axes[0].lines[-1].get_xydata(), drawn)


def test_published_texts_as_tasks():
    try:
        task = ow.tasks.make("brown", length=300)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert task.output_size == 10_000
    assert task.train_batch(0, 0, 4).input.shape == (4, 300)
