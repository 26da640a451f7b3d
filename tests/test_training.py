"""The training loop: what it computes, what it records, how it stops, and what it refuses."""

import json
import math
import os
import signal
import subprocess
import sys
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental.compilation_cache import compilation_cache

import onward as ow
from onward import checkpoint as checkpoints
from onward.metrics import read_events
from onward.tasks import DelayedXOR
from onward.training import evaluate, updates_per_batch

TASK = DelayedXOR(delay=1, presentation=3, evaluation_size=10)
KEYS = jax.random.split(jax.random.key(0), 2)
NET = ow.stack(ow.cells.RNN(2, 3, key=KEYS[0]), readout=eqx.nn.Linear(3, 2, key=KEYS[1]))
SGD = optax.sgd(0.1)


@pytest.fixture(autouse=True, scope="module")
def compile_once(tmp_path_factory):
    """Most tests run the same few programs: compile each once."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def train(source=TASK, *, network=NET, **options):
    defaults = {"algorithm": ow.BPTT(), "optimizer": SGD, "batch_size": 4}
    if source is TASK and "epochs" not in options:
        defaults["steps"] = 3
    return ow.train(network, source, **defaults | options)


def samples(count, batch=4, every_step=False):
    found = [TASK.train_batch(0, step, batch) for step in range(count)]
    for sample in found if every_step else []:
        sample.weight[...] = 0.5
    return found


def parameters(network):
    return jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(parameters(a), parameters(b), strict=True))


def events(trained, kind):
    return [event for event in trained.history if event["event"] == kind]


def by_hand(batches, algorithm, optimizer, window, stateful):
    """What `train` should do, without any of its machinery."""
    params, static = eqx.partition(NET, eqx.is_inexact_array)
    memory = optimizer.init(params)
    carry, losses = algorithm.init(NET, batch=4), []

    @jax.jit
    def learn(params, memory, carry, piece):
        carry, estimate = algorithm.run(eqx.combine(params, static), TASK.loss, carry, piece)
        updates, memory = optimizer.update(estimate.gradient, memory, params)
        return optax.apply_updates(params, updates), memory, carry, estimate.loss

    for batch in batches:
        carry = carry if stateful else algorithm.init(NET, batch=4)
        losses.append(0.0)
        for start in range(0, batch.length, window or batch.length):
            stop = start + (window or batch.length)
            piece = jax.tree.map(lambda leaf, a=start, b=stop: jnp.asarray(leaf[:, a:b]), batch)
            params, memory, carry, loss = learn(params, memory, carry, piece)
            losses[-1] += float(loss)
    return eqx.combine(params, static), losses


# What is computed


@pytest.mark.parametrize(
    ("algorithm", "window", "stateful"),
    [(ow.BPTT(), None, False), (ow.BPTT(), None, True), (ow.SnAp(), 1, True), (ow.RTRL(), 2, False)],
)
def test_it_does_what_a_loop_by_hand_does(algorithm, window, stateful):
    rate = optax.linear_schedule(0.5, 0.0, 7)  # changes within a batch: the schedule sees updates
    optimizer = optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(rate, momentum=0.9))
    batches = samples(2, every_step=True)
    expected, losses = by_hand(batches, algorithm, optimizer, window, stateful)
    found = train(batches, algorithm=algorithm, optimizer=optimizer, window=window, stateful=stateful, loss=TASK.loss)
    for ours, theirs in zip(parameters(found.network), parameters(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)  # the schedule counts in float32
    np.testing.assert_allclose([event["loss"] for event in events(found, "train")], losses, rtol=1e-6)
    other = train(batches, algorithm=algorithm, optimizer=optimizer, window=4, stateful=stateful, loss=TASK.loss)
    assert not np.allclose(parameters(other.network)[0], parameters(expected)[0], rtol=1e-5)


def test_updates_in_a_batch_are_counted():
    assert [updates_per_batch(5, window) for window in (None, 1, 2, 5)] == [1, 5, 3, 1]
    seen = []
    rate = lambda count: jax.debug.callback(lambda c: seen.append(int(c)), count) or 0.1  # noqa: E731
    train(window=2, optimizer=optax.sgd(rate), steps=2)
    jax.effects_barrier()
    assert sorted(seen) == list(range(2 * updates_per_batch(TASK.length, 2)))


def test_it_learns_with_updates_at_the_end_and_with_updates_at_every_step():
    net = ow.stack(ow.cells.GRU(2, 12, key=KEYS[0]), readout=eqx.nn.Linear(12, 2, key=KEYS[1]))
    for algorithm, window in ((ow.BPTT(), None), (ow.SnAp(), 1)):
        optimizer = ow.optimizers.adamw(net, 1e-2, clip=1.0)
        found = train(network=net, algorithm=algorithm, window=window, optimizer=optimizer, steps=200, batch_size=32)
        losses = [event["loss"] for event in events(found, "train")]
        assert np.mean(losses[:10]) > 0.6
        assert np.mean(losses[-10:]) < 0.1
        assert evaluate(found.network, TASK, "test", 10)["accuracy"] == 1.0


def test_the_callers_network_is_left_alone():
    before = [np.array(leaf) for leaf in parameters(NET)]
    train()
    assert all(np.array_equal(a, b) for a, b in zip(before, parameters(NET), strict=True))


def test_there_is_one_compilation_per_shape():
    traces = []

    def loss(output, target):
        traces.append(1)
        return ow.losses.cross_entropy(output, target)

    def count(source, **options):
        traces.clear()
        train(source, loss=loss, **options)
        return len(traces)

    once = count(samples(1))
    assert once > 0
    assert count(samples(5)) == once
    assert count([*samples(2), *samples(2, batch=2), *samples(2)]) == 2 * once
    assert count(TASK, steps=4, window=1) <= once


def test_a_complex_parameter_goes_downhill():
    class Rotation(eqx.Module):
        weight: jax.Array

        def __call__(self, x):
            return jnp.stack([jnp.real(self.weight * (x[0] + 1j)), jnp.imag(self.weight * (x[0] + 1j))])

    net = ow.stack(ow.cells.CumulativeMean(2), Rotation(jnp.asarray(0.3 - 0.8j)))
    batch = ow.Sample(np.ones((1, 3, 2)), np.ones((1, 3, 2)), np.ones((1, 3)))
    found = train([batch], network=net, loss=ow.losses.squared_error, optimizer=optax.sgd(0.05), steps=50)
    losses = [event["loss"] for event in events(found, "train")]
    assert losses[-1] < 1e-3 * losses[0]


def test_reduce_on_plateau_gets_the_loss():
    optimizer = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=1, factor=1e-30, rtol=1.0))
    found = train(optimizer=optimizer, steps=6)
    assert events(found, "train")[-1]["gradient_norm"] > 0
    assert same(found.network, train(optimizer=optimizer, steps=3).network)  # the rate is as good as 0


# Where batches come from


def test_lists_functions_and_iterators_are_sources():
    loss = ow.losses.cross_entropy
    whole = train(steps=3)
    for source in (samples(3), lambda: iter(samples(3)), iter(samples(3))):
        found = train(source, loss=loss)
        assert found.step == 3
        assert same(found.network, whole.network)
    twice = train(samples(3), loss=loss, epochs=2)
    assert [event["epoch"] for event in events(twice, "train")] == [0, 0, 0, 1, 1, 1]
    assert same(twice.network, train(lambda: samples(3), loss=loss, steps=6).network)
    assert train(iter(samples(3)), loss=loss, steps=7).step == 3
    with pytest.raises(ValueError, match="`source` yields no batches"):
        train([], loss=loss)


def test_epochs_of_a_task_are_of_its_examples():
    class Small(DelayedXOR):
        train_size = 10

    found = train(Small(delay=1, presentation=3), epochs=1.5)
    assert found.step == 4  # 15 examples in batches of 4
    assert [event["epoch"] for event in events(found, "train")] == [0.4, 0.8, 1.2, 1.6]


def test_a_buffer_that_the_source_uses_again_is_copied():
    def stream():
        buffer = samples(1)[0]
        for sample in samples(4):
            for into, leaf in zip(jax.tree.leaves(buffer), jax.tree.leaves(sample), strict=True):
                into[...] = leaf
            yield buffer

    assert same(train(stream, loss=ow.losses.cross_entropy).network, train(steps=4).network)


def spoil(what):
    sample = samples(1)[0]
    if what == "a tuple":
        return (sample.input, sample.target)
    if what == "no batch axis":
        return jax.tree.map(lambda leaf: leaf[0], sample)
    changes = {
        "NaN in the input": ("input", np.where(sample.input == 0, np.nan, sample.input)),
        "NaN in the weight": ("weight", np.where(sample.weight == 0, np.inf, sample.weight)),
        "integers": ("input", sample.input.astype(int)),
        "features": ("input", sample.input[..., :1]),
        "length": ("target", sample.target[:, 1:]),
        "empty": ("weight", sample.weight[:, :0]),
    }
    name, value = changes[what]
    return eqx.tree_at(lambda s: getattr(s, name), sample, value)


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("a tuple", TypeError, "must be an onward.Sample"),
        ("no batch axis", ValueError, "give every leaf a batch axis"),
        ("NaN in the input", ValueError, "`input` holds NaN"),
        ("NaN in the weight", ValueError, "`weight` holds NaN"),
        ("integers", TypeError, "`input` has dtype int64"),
        ("features", ValueError, "the network reads 2 features"),
        ("length", ValueError, "`target` has shape"),
        ("empty", ValueError, "the window is empty"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_bad_batch_is_named(what, kind, message):
    for good in (0, 1):
        with pytest.raises(kind, match=f"^training batch {good}:? .*{message}"):
            train([*samples(good), spoil(what)], loss=ow.losses.cross_entropy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "`window` must be at least 1, got 0"),
        ({"window": 6}, "`window` is 6 but the sequences have 5 steps; choose 1 to 5, or None"),
        ({"window": 1.5}, "`window` must be an integer"),
        ({"steps": 0}, "`steps` must be at least 1"),
        ({"batch_size": -1}, "`batch_size` must be at least 1"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"steps": None}, "`steps` and `epochs` are both None"),
        ({"steps": 3, "epochs": 1}, "`steps` or `epochs`, not both"),
        ({"epochs": 1}, "`epochs` is 1, but this task is generated without end"),
        ({"patience": 2}, "`patience` counts validations"),
        ({"resume": True}, "`resume` is True without a `checkpoint`"),
        ({"checkpoint_every": 0}, "`checkpoint_every` must be at least 1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_arguments_that_make_no_sense_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        train(**options)


@pytest.mark.usefixtures("unchecked")
def test_objects_of_another_kind_are_named():
    for name, value in {"network": 3, "algorithm": ow.RTRL, "optimizer": 0.1}.items():
        with pytest.raises(TypeError, match=f"`{name}` must be"):
            train(**{name: value})
    with pytest.raises(ValueError, match="`loss` is None"):
        train(samples(1))
    with pytest.raises(ValueError, match="nothing to validate on"):
        train(samples(1), loss=ow.losses.cross_entropy, validate_every=1)


# What is measured


def test_evaluation_is_over_every_example_once():
    outputs = [jax.vmap(NET.unroll)(batch.input) for batch in TASK.evaluation("test", 3)]
    targets = [batch.target for batch in TASK.evaluation("test", 3)]
    log = np.asarray(jax.nn.log_softmax(jnp.concatenate(outputs)[:, -1]))
    answers = np.concatenate(targets)[:, -1]
    expected = {"loss": -np.mean(log[np.arange(10), answers]), "accuracy": np.mean(np.argmax(log, 1) == answers)}
    for batch_size in (3, 10, 64):
        found = evaluate(NET, TASK, "test", batch_size)
        assert found.keys() == expected.keys()
        assert all(math.isclose(found[name], expected[name], rel_tol=1e-9) for name in expected)
    doubled = evaluate(NET, TASK, "test", 4, lambda o, t: 2 * ow.losses.cross_entropy(o, t))
    assert math.isclose(doubled["loss"], 2 * expected["loss"], rel_tol=1e-9)


def test_the_best_on_validation_is_kept_and_patience_ends_the_run(tmp_path):
    rate = lambda count: jnp.where(count < 20, 0.5, -0.5)  # downhill, then uphill  # noqa: E731
    options = {"optimizer": optax.sgd(rate), "validation": samples(1), "validate_every": 5, "batch_size": 4}
    options |= {"loss": TASK.loss, "checkpoint": tmp_path / "a"}
    found = train(samples(1) * 20, epochs=5, patience=3, **options)
    seen = events(found, "validation")
    best = min(range(len(seen)), key=lambda i: seen[i]["loss"])
    assert seen[best]["step"] == 20
    assert found.stopped == "patience"
    assert found.step == seen[best]["step"] + 3 * 5
    assert [event["best"] for event in seen] == [True] * 4 + [False] * 3
    assert not same(found.best, found.network)
    assert same(found.best, train(samples(1) * 20, epochs=1, **options | {"checkpoint": None}).network)
    assert same(found.best, checkpoints.load_network(tmp_path / "a", NET))
    assert same(found.network, checkpoints.load_network(tmp_path / "a", NET, best=False))
    again = train(samples(1) * 20, epochs=5, patience=3, resume=True, **options)
    assert again.stopped == "patience"
    assert again.step == found.step
    unkept = train(samples(1) * 20, epochs=2, keep_best=False, **options)
    assert same(unkept.best, unkept.network)


def test_a_task_is_judged_by_its_own_measure():
    found = train(steps=5, validate_every=2)
    assert [event["step"] for event in events(found, "validation")] == [2, 4, 5]
    assert events(found, "validation")[-1]["accuracy"] == evaluate(found.network, TASK, "validation")["accuracy"]
    backwards = DelayedXOR(delay=1, presentation=3, evaluation_size=64)
    backwards.higher_is_better = False
    marks = [event["accuracy"] for event in events(train(backwards, steps=30, validate_every=3), "validation")]
    seen = [event["best"] for event in events(train(backwards, steps=30, validate_every=3), "validation")]
    assert seen == [mark < min(marks[:i], default=2) for i, mark in enumerate(marks)]


def test_alignment_is_with_the_gradient_of_the_whole_batch_before_the_update():
    found = train(algorithm=ow.SpatialBP(), steps=4, align_every=2, window=1)
    seen = events(found, "alignment")
    assert [event["step"] for event in seen] == [1, 3]
    network = train(algorithm=ow.SpatialBP(), steps=2, window=1).network
    for event, net, step in zip(seen, (NET, network), (0, 2), strict=True):
        batch = TASK.train_batch(0, step, 4)
        ours, exact = (
            jax.flatten_util.ravel_pytree(ow.value_and_grad(net, TASK.loss, batch, algorithm=algorithm)[1])[0]
            for algorithm in (ow.SpatialBP(), ow.BPTT())
        )
        norms = jnp.linalg.norm(ours), jnp.linalg.norm(exact)
        assert math.isclose(event["cosine"], ours @ exact / (norms[0] * norms[1]), rel_tol=1e-9)
        assert math.isclose(event["norm_ratio"], norms[0] / norms[1], rel_tol=1e-9)
        assert event["cosine"] < 0.999
    assert same(found.network, train(algorithm=ow.SpatialBP(), steps=4, window=1).network)


def test_alignment_sees_what_windows_cut_off():
    """Of truncated BPTT, against autodiff through states that are held at the windows' edges."""
    batch = TASK.train_batch(0, 0, 4)

    def held(network, size):
        def one(sample):
            states, total = network.initial_state(), 0.0
            for start in range(0, sample.length, size):
                states = jax.tree.map(jax.lax.stop_gradient, states)
                for t in range(start, min(start + size, sample.length)):
                    states, output = network.step(states, sample.input[t])
                    total += sample.weight[t] * TASK.loss(output, sample.target[t])
            return total

        return jnp.mean(jax.vmap(one)(batch))

    gradients = [jax.flatten_util.ravel_pytree(eqx.filter_grad(held)(NET, size))[0] for size in (2, batch.length)]
    ours, exact = gradients
    norms = jnp.linalg.norm(ours), jnp.linalg.norm(exact)
    cut, whole = (events(train(steps=1, align_every=1, window=size), "alignment")[0] for size in (2, None))
    assert math.isclose(cut["cosine"], ours @ exact / (norms[0] * norms[1]), rel_tol=1e-5)
    assert math.isclose(cut["norm_ratio"], norms[0] / norms[1], rel_tol=1e-5)
    assert cut["cosine"] < 0.999
    assert math.isclose(whole["cosine"], 1.0, rel_tol=1e-6)


def test_validation_that_can_be_read_once_is_refused():
    batches = [TASK.train_batch(0, 0, 4)]
    with pytest.raises(TypeError, match="`validation` is an iterator, which can be read only once; give a list"):
        train(validation=iter(batches), validate_every=1)
    assert len(events(train(steps=2, validation=batches, validate_every=1), "validation")) == 2


def test_events_go_to_the_file_the_callback_and_the_history(tmp_path):
    heard = []
    found = train(steps=3, validate_every=2, log=tmp_path / "deep" / "log", on_event=heard.append)
    assert found.history == heard == read_events(tmp_path / "deep" / "log")
    kinds = ["start", "train", "train", "validation", "train", "validation", "end"]
    assert [event["event"] for event in heard] == kinds
    assert all(math.isfinite(event["gradient_norm"]) for event in events(found, "train"))
    seconds = [event["seconds"] for event in heard if "seconds" in event]
    assert seconds == sorted(seconds)
    assert heard[-1]["stopped"] == found.stopped == "finished"
    train(steps=1, log=tmp_path / "deep" / "log")  # a new run starts the file anew
    assert [event["event"] for event in read_events(tmp_path / "deep" / "log")] == ["start", "train", "end"]


def test_numbers_that_json_cannot_say_are_null(tmp_path):
    recorder = ow.metrics.Recorder(tmp_path / "log")
    recorder.write("validation", 1, loss=np.float32("nan"), accuracy=np.float64(0.5), best=np.bool_(True), other=None)
    recorder.close()
    line = '{"event": "validation", "step": 1, "loss": null, "accuracy": 0.5, "best": true, "other": null}\n'
    assert (tmp_path / "log").read_text() == line


def test_a_resumed_log_says_each_step_once(tmp_path):
    log = tmp_path / "log"
    lines = [{"event": kind, "step": step} for kind, step in [("train", 1), ("train", 2), ("end", 2), ("train", 3)]]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"event": "tra')
    recorder = ow.metrics.Recorder(log, resumed=2)
    recorder.write("train", 3)
    recorder.close()
    assert read_events(log) == recorder.history == [lines[0], lines[1], lines[3]]
    assert list(tmp_path.iterdir()) == [log]


def test_tensorboard_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        train(tensorboard=tmp_path)
    calls = []
    writer = types.SimpleNamespace(
        add_scalar=lambda *args: calls.append(args), flush=lambda: None, close=lambda: calls.append("closed")
    )
    fake = types.SimpleNamespace(SummaryWriter=lambda directory, purge_step: writer)
    monkeypatch.setitem(sys.modules, "tensorboardX", fake)
    found = train(steps=2, tensorboard=tmp_path)
    losses = [("train/loss", event["loss"], event["step"]) for event in events(found, "train")]
    assert [call for call in calls if call[0] == "train/loss"] == losses
    assert calls[-1] == "closed"


def test_tensorboard_writes_event_files(tmp_path):
    pytest.importorskip("tensorboardX")
    train(steps=2, tensorboard=tmp_path)
    assert any("tfevents" in file.name for file in tmp_path.iterdir())


# Several devices

ON_TWO_DEVICES = """
import jax
jax.config.update("jax_enable_x64", True)
from tests.test_training import *
assert len(jax.devices()) == 2
options = {"window": 2, "stateful": True, "validate_every": 2}
for batch_size in (4, 3):  # divided between the two; and on one of them, since it cannot be
    found = train(batch_size=batch_size, steps=3, **options)
    print([event["loss"] for event in found.history if "loss" in event], file=sys.stderr)

# Each device makes the gradient of its own sequences; only sums over the batch go between them.
from onward.batches import Devices
arrays, rest = eqx.partition(NET, eqx.is_array)
gradient = lambda arrays, sample: ow.value_and_grad(
    eqx.combine(arrays, rest), ow.losses.cross_entropy, sample, algorithm=ow.BPTT()
)
put = Devices(4).copy(arrays), Devices(4).put(samples(1)[0])
program = jax.jit(gradient).lower(*put).compile().as_text()
assert "all-reduce" in program
for word in ("all-gather", "all-to-all", "collective-permute"):
    assert word not in program, word
"""


@pytest.mark.slow
def test_devices_share_a_batch():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    command = [sys.executable, "-c", ON_TWO_DEVICES]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"XLA_FLAGS": flags}, timeout=300)
    assert run.returncode == 0, run.stderr
    options = {"window": 2, "stateful": True, "validate_every": 2}
    for batch_size, line in zip((4, 3), run.stderr.splitlines()[-2:], strict=True):
        history = train(batch_size=batch_size, steps=3, **options).history
        np.testing.assert_allclose(json.loads(line), [event["loss"] for event in history if "loss" in event], rtol=1e-9)


# How it stops


@pytest.mark.parametrize("options", [{}, {"window": 1, "stateful": True, "algorithm": ow.SnAp()}])
def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(tmp_path, options):
    def interrupt(event):
        if event["event"] == "train" and event["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    files = {"checkpoint": tmp_path / "a", "log": tmp_path / "log"}
    handler = signal.getsignal(signal.SIGINT)
    found = train(steps=6, on_event=interrupt, **files, **options)
    assert signal.getsignal(signal.SIGINT) is handler
    assert found.stopped == "interrupted"
    assert found.step == checkpoints.read_header(tmp_path / "a")["step"] == 3  # one was under way
    assert events(found, "end")[0]["stopped"] == "interrupted"
    rest = train(steps=6, resume=True, **files, **options)
    whole = train(steps=6, **options)
    assert same(rest.network, whole.network)
    strip = lambda run: [(e["step"], e["loss"]) for e in events(run, "train")]  # noqa: E731
    assert strip(rest) == strip(whole)
    assert [event["event"] for event in rest.history].count("end") == 1


def test_ctrl_c_twice_stops_at_once():
    def interrupt(event):
        if event["event"] == "train":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(steps=6, on_event=interrupt)


def test_ctrl_c_ends_the_wait_for_a_stream():
    def stream():
        yield from samples(2)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("still waiting")

    found = train(stream, loss=ow.losses.cross_entropy)
    assert found.stopped == "interrupted"
    assert same(found.network, train(steps=2).network)


@pytest.mark.parametrize("every", [1, 2, 100])
def test_a_loss_that_is_not_finite_is_named_with_the_last_good_checkpoint(tmp_path, every):
    def loss(output, target):
        return ow.losses.cross_entropy(output, target) + jnp.where(target > 100, jnp.nan, 0.0)

    source = samples(8)
    source[4].target[0, -1] = 101
    options = {"loss": loss, "checkpoint": tmp_path / "a", "checkpoint_every": every, "log": tmp_path / "log"}
    kept = {1: 4, 2: 4, 100: 0}[every]
    message = rf"the loss of step 5 is nan; the last good checkpoint is \S*a \(step {kept}\); lower"
    with pytest.raises(FloatingPointError, match=message):
        train(source, **options)
    last = read_events(tmp_path / "log")[-1]
    assert (last["event"], last["step"], last["stopped"]) == ("end", 5, "not finite")
    assert checkpoints.read_header(tmp_path / "a")["step"] == kept
    if kept:
        assert same(checkpoints.load_network(tmp_path / "a", NET), train(source[:kept], loss=loss).network)
    source[4].target[0, -1] = 1
    assert train(source, **options, resume=True).step == 8


@pytest.mark.parametrize("every", [1, 3])
def test_parameters_that_are_not_finite_are_never_saved(tmp_path, every):
    rate = lambda count: jnp.where(count == 3, jnp.inf, 0.1)  # the loss of step 4 is still finite  # noqa: E731
    options = {"checkpoint": tmp_path / "a", "checkpoint_every": every, "optimizer": optax.sgd(rate)}
    with pytest.raises(FloatingPointError, match=r"(the parameters after step 4 are not|the loss of step 5 is)"):
        train(steps=6, **options)
    network = checkpoints.load_network(tmp_path / "a", NET)
    assert all(np.isfinite(leaf).all() for leaf in parameters(network))
    with pytest.raises(FloatingPointError, match="no checkpoint was kept"):
        train(steps=4, optimizer=optax.sgd(rate))


# How it goes on


def test_a_run_in_two_parts_is_the_same_run(tmp_path):
    options = {"loss": TASK.loss, "optimizer": optax.adam(1e-2), "window": 2, "stateful": True}
    whole = train(samples(3), steps=7, **options)
    for source in (samples(3), lambda: iter(samples(3))):
        train(source, steps=4, checkpoint=tmp_path / "a", **options)
        rest = train(source, steps=7, checkpoint=tmp_path / "a", resume=True, **options)
        assert same(rest.network, whole.network)
        assert rest.step == 7


def test_a_checkpoint_of_another_run_is_refused_and_stays(tmp_path):
    path = tmp_path / "a"
    train(checkpoint=path, config={"note": "mine"})
    data = path.read_bytes()
    bigger = ow.stack(ow.cells.RNN(2, 4, key=KEYS[0]), readout=eqx.nn.Linear(4, 2, key=KEYS[1]))
    for options, message in (
        ({"seed": 1}, "`seed` = 0, and this one has 1"),
        ({"batch_size": 8}, "`batch_size` = 4, and this one has 8"),
        ({"window": 2}, "`window` = None, and this one has 2"),
        ({"algorithm": ow.RTRL()}, r"`algorithm` = 'BPTT\(\)', and this one has 'RTRL\(\)'"),
        ({"optimizer": optax.adam(0.1)}, "`optimizer.*not in the file"),
        ({"network": bigger}, r"`parameters\.nodes\.0_rnn\.\w+` is float64 .* in the file and float64 .* here"),
    ):
        with pytest.raises(checkpoints.CheckpointError, match=message):
            train(checkpoint=path, resume=True, **options)
        assert path.read_bytes() == data
    assert checkpoints.read_header(path)["config"] == {"note": "mine"}


def test_resuming_without_a_checkpoint_starts(tmp_path):
    assert train(checkpoint=tmp_path / "a", resume=True).history[0]["event"] == "start"


# The optimizer


def test_adamw_spares_recurrent_parameters():
    gradient = jax.tree.map(jnp.ones_like, eqx.filter(NET, eqx.is_inexact_array))

    def update(**options):
        optimizer = ow.optimizers.adamw(NET, 0.1, **options)
        values = eqx.filter(NET, eqx.is_inexact_array)
        nodes = optimizer.update(gradient, optimizer.init(values), values)[0].nodes
        return nodes["0_rnn"].weight_hh, nodes["0_rnn"].weight_ih

    cell = NET.nodes["0_rnn"]
    adam = -0.1 / (1 + 1e-8)
    recurrent, other = update(weight_decay=0.5, recurrent_factor=0.25)
    np.testing.assert_allclose(recurrent, 0.25 * adam, rtol=1e-9)
    np.testing.assert_allclose(other, adam - 0.1 * 0.5 * cell.weight_ih, rtol=1e-9)
    plain = optax.adamw(0.1, weight_decay=0.0)
    expected = plain.update(gradient, plain.init(gradient), gradient)[0].nodes["0_rnn"].weight_hh
    np.testing.assert_allclose(update(weight_decay=0.0)[0], expected, rtol=1e-12)


def test_adamw_clips_first():
    gradient = jax.tree.map(jnp.ones_like, eqx.filter(NET, eqx.is_inexact_array))
    optimizer = ow.optimizers.adamw(NET, 0.1, clip=1e-6)
    norm = optax.tree.norm(optimizer.update(gradient, optimizer.init(gradient), gradient)[1][1].mu)
    assert math.isclose(norm, 0.1 * 1e-6, rel_tol=1e-6)


@pytest.mark.parametrize("options", [{"weight_decay": -1}, {"recurrent_factor": -1}, {"clip": 0}])
def test_adamw_names_a_number_out_of_range(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
        ow.optimizers.adamw(NET, 0.1, **options)
    with pytest.raises(ValueError, match="`learning_rate`"):
        ow.optimizers.adamw(NET, -0.1)
