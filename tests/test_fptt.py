"""FPTT: both variants number by number against plain NumPy, windows, the anchor, resets and intermediate losses."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import onward as ow
from onward.batches import Devices
from onward.optimizers import anchor, settle
from onward.update import Plan, initial_state, make_update

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(60, 3, 3))


def slope(w, t):
    """The gradient of a loss that differs from update to update."""
    return MAPS[t] @ w + np.cos(w)


def by_hand(variant, alpha, beta, lmbda, linear, eta, steps):
    """Formulas (1) to (6) in plain NumPy, under gradient descent."""
    w, old, lam, trace = np.ones(3), np.ones(3), np.zeros(3), []
    for t in range(steps):
        a = alpha(t) if callable(alpha) else alpha
        if variant == "running":
            w = w - eta * (slope(w, t) - linear * lam + lmbda * a * (w - old))
            lam = lam - a * (w - old)
            old = (1 - beta) * old + beta * w - beta / a * lam
        else:
            w = w - eta * (slope(w, t) - lam / 2 + a * (w - old))
            lam = slope(w, t)
            old = (old + w) / 2 - lam / (2 * a)
        trace.append((w, old))
    return trace


@pytest.mark.parametrize(
    ("finish", "variant", "beta", "lmbda", "linear"),
    [
        (True, "running", 0.5, 1.0, 1.0),
        (False, "running", 0.5, 1.0, 1.0),
        (True, "running", 0.3, 2.0, 0.5),
        (False, "running", 0.3, 2.0, 0.5),
        (True, "paper", 0.5, 1.0, 1.0),
    ],
)
@pytest.mark.parametrize("rising", [False, True])
def test_both_variants_follow_the_formulas(finish, variant, beta, lmbda, linear, rising):
    alpha = (lambda t: 0.1 + t / 50) if rising else 0.3
    expected = by_hand(variant, alpha, beta, lmbda, linear, 0.05, 40)
    optimizer = optax.chain(ow.fptt(alpha, beta, lmbda, linear, variant), optax.sgd(0.05))
    update = jax.jit(optimizer.update)
    with jax.enable_x64(True):
        w = jnp.ones(3, jnp.float64)
        state = optimizer.init(w)
        for t, (parameters, wbar) in enumerate(expected):
            updates, state = update(jnp.asarray(slope(np.asarray(w), t)), state, w)
            w = optax.apply_updates(w, updates)
            if finish:
                w, state = jax.jit(settle)(w, state, jnp.asarray(slope(np.asarray(w), t)))
            np.testing.assert_allclose(w, parameters, rtol=1e-5 if rising else 1e-12, atol=1e-7 if rising else 0)
            np.testing.assert_allclose(anchor(w, state), wbar, rtol=1e-5 if rising else 1e-12, atol=1e-6)


def test_the_constant_of_the_linear_term_matters():
    found = [by_hand("running", 0.3, 0.5, 1.0, linear, 0.05, 60)[-1][0] for linear in (1.0, 0.5)]
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_alpha_of_zero_trains_plainly():
    for alpha in (0.0, lambda t: 0.0 * t):
        plain, pulled = optax.sgd(0.1), optax.chain(ow.fptt(alpha), optax.sgd(0.1))
        a = b = jnp.ones(3)
        state, other = plain.init(a), pulled.init(b)
        for t in range(20):
            gradient = jnp.asarray(slope(np.asarray(a), t), jnp.float32)
            updates, state = plain.update(gradient, state, a)
            a = optax.apply_updates(a, updates)
            updates, other = pulled.update(gradient, other, b)
            b, other = settle(optax.apply_updates(b, updates), other)
            np.testing.assert_array_equal(a, b)
        assert np.isfinite(np.asarray(anchor(b, other))).all()


@pytest.mark.parametrize("alpha", [0.0, 1.0, 100.0, 1e4])
def test_updates_vanish_as_alpha_grows(alpha):
    """The minimum of a window's regularised loss |w - 5|^2 / 2, from 1: 4 / (1 + alpha) away, and 4 without a pull."""
    optimizer, start = ow.fptt(alpha), jnp.ones(3)
    state, w = optimizer.init(start), start
    descend = jax.jit(lambda w: w - optimizer.update(w - 5, state, w)[0] / (2 * (1 + alpha)))
    for _ in range(60):
        w = descend(w)
    np.testing.assert_allclose(w - start, 4 / (1 + alpha), rtol=1e-2)


@pytest.mark.parametrize(("linear", "limit"), [(1.0, 5 / 3), (0.5, 5 / 2)])
def test_how_large_alpha_may_be_under_gradient_descent(linear, limit):
    """docs/fptt.md: the recursion is stable while alpha eta stays below the limit, and not above."""
    sizes = []
    for share in (0.95, 1.05):
        optimizer = ow.fptt(1.0, linear=linear)
        w, update = jnp.zeros(2), jax.jit(optimizer.update)
        state = optimizer.init(w)
        for _ in range(400):
            direction, state = update(jnp.asarray([1.0, -2.0]), state, w)
            w = w - share * limit * direction
        sizes.append(float(jnp.abs(direction).max()))
    assert sizes[0] < 3
    assert not sizes[1] < 100


def test_works_inside_jit_scan_and_multi_transform():
    parameters = {"a": jnp.ones(3), "b": jnp.ones(3)}
    parts = {"pulled": optax.chain(ow.fptt(0.4, reset=7), optax.adam(0.01)), "free": optax.adam(0.01)}
    mixed = optax.multi_transform(parts, {"a": "pulled", "b": "free"})

    def loss(tree, t):
        return sum(jnp.sum((leaf - jnp.cos(t)) ** 2) for leaf in tree.values())

    def body(state, t):
        tree, memory = state
        updates, memory = mixed.update(jax.grad(loss)(tree, t), memory, tree)
        return settle(optax.apply_updates(tree, updates), memory), tree["a"]

    (scanned, memory), _ = jax.jit(lambda s: jax.lax.scan(body, s, jnp.arange(20.0)))(
        (parameters, mixed.init(parameters))
    )
    for name, part in {"a": parts["pulled"], "b": parts["free"]}.items():
        w, state = parameters[name], part.init(parameters[name])
        for t in range(20):
            updates, state = part.update(jax.grad(lambda w, t=t: loss({"w": w}, t * 1.0))(w), state, w)
            w, state = settle(optax.apply_updates(w, updates), state)
        np.testing.assert_allclose(scanned[name], w, rtol=1e-5)
    held = anchor(scanned, memory)
    assert not np.array_equal(held["a"], scanned["a"])
    np.testing.assert_array_equal(held["b"], scanned["b"])


def test_a_reset_puts_the_anchor_in_place():
    optimizer = optax.chain(ow.fptt(0.4, reset=5), optax.sgd(0.1))
    w = jnp.ones(3)
    state = optimizer.init(w)
    for t in range(10):
        updates, state = optimizer.update(jnp.asarray(slope(np.asarray(w), t), jnp.float32), state, w)
        before = optax.apply_updates(w, updates)
        wbar = anchor(before, state)
        w, state = settle(before, state)
        due = t % 5 == 4
        np.testing.assert_array_equal(w, wbar if due else before)
        assert bool(jnp.all(state[0].estimate == 0)) == due


def test_bad_arguments_and_a_missing_gradient_are_named():
    for arguments, message in (
        ({"alpha": -1.0}, "`alpha` must be 0 or above"),
        ({"alpha": 0.5, "beta": 0.0}, "`beta` must be above 0"),
        ({"alpha": 0.5, "linear": -1.0}, "`linear` must be 0 or above"),
        ({"alpha": 0.5, "variant": "paper", "linear": 0.5}, "has constants of its own"),
        ({"alpha": 0.5, "reset": 0}, "`reset` must be"),
    ):
        with pytest.raises(ValueError, match=message):
            ow.fptt(**arguments)
    optimizer = ow.fptt(0.5, variant="paper")
    w = jnp.ones(2)
    _, state = optimizer.update(w, optimizer.init(w), w)
    with pytest.raises(ValueError, match="needs that of the window at the new parameters"):
        settle(w, state)
    with pytest.raises(Exception, match="call settle after every update"):
        optimizer.update(w, state, w)
    with pytest.raises(ValueError, match="needs the parameters"):
        optimizer.update(w, state)


def a_network(outputs=1, inputs=2, key=0):
    keys = jax.random.split(jax.random.key(key))
    return ow.stack(ow.cells.GRU(inputs, 6, key=keys[0]), readout=eqx.nn.Linear(6, outputs, key=keys[1]))


@pytest.mark.parametrize(("count", "steps"), [(1, 10), (3, 3), (10, 1), ("sqrt", 3), (4, 2)])
def test_windows_per_sequence(count, steps):
    assert Plan(windows_per_sequence=count).steps(10) == steps
    assert ow.training.updates_per_batch(10, None, count) == -(-10 // steps)
    task, seen = ow.tasks.Adding(length=10, evaluation_size=4), []
    runs = [
        ow.train(a_network(), task, algorithm=ow.BPTT(), optimizer=optax.sgd(0.1), steps=2, batch_size=4, **options)
        for options in ({"windows_per_sequence": count}, {"window": steps})
    ]
    seen = [jax.tree.leaves(eqx.filter(run.network, eqx.is_array)) for run in runs]
    for a, b in zip(*seen, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_default_with_fptt_is_the_root_of_the_length():
    task = ow.tasks.Adding(length=10, evaluation_size=4)
    options = {"algorithm": ow.BPTT(), "optimizer": optax.chain(ow.fptt(0.5), optax.sgd(0.1))}
    options |= {"steps": 1, "batch_size": 4, "intermediate": ow.IntermediateLosses()}
    runs = [ow.train(a_network(), task, windows_per_sequence=k, **options) for k in (None, 3, 1)]
    w, same, differs = (run.network.nodes["readout"].weight for run in runs)
    np.testing.assert_array_equal(w, same)
    assert not np.array_equal(w, differs)


@pytest.mark.parametrize("variant", ["running", "paper"])
def test_training_by_windows_is_the_loop_written_out(variant):
    """`train` against a loop with Optax and `value_and_grad` of each window, carry and all."""
    task = ow.tasks.Adding(length=7, evaluation_size=4)
    optimizer = optax.chain(ow.fptt(0.5, variant=variant), optax.clip_by_global_norm(1.0), optax.sgd(0.3))
    net, algorithm = a_network(), ow.BPTT()
    trained = ow.train(net, task, algorithm=algorithm, optimizer=optimizer, steps=3, batch_size=4, window=3)
    parameters, static = eqx.partition(net, eqx.is_inexact_array)
    state = optimizer.init(parameters)
    find = jax.jit(lambda p, carry, piece: algorithm.run(eqx.combine(p, static), task.loss, carry, piece))
    for step in range(3):
        batch, carry = task.train_batch(0, step, 4), algorithm.init(net, batch=4)
        for start in (0, 3, 6):
            piece = jax.tree.map(lambda leaf, start=start: jnp.asarray(leaf)[:, start : start + 3], batch)
            before = carry
            carry, estimate = find(parameters, before, piece)
            updates, state = jax.jit(optimizer.update)(estimate.gradient, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
            parameters, state = jax.jit(settle)(parameters, state, find(parameters, before, piece)[1].gradient)
    found = jax.tree.leaves(eqx.filter(trained.network, eqx.is_inexact_array))
    for a, b in zip(found, jax.tree.leaves(parameters), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_intermediate_losses_follow_their_formula():
    """beta, weights, targets and the renewal of Q against a plain loop."""
    batch, time, classes, window = 5, 7, 3, 3
    labels = RNG.integers(classes, size=batch)
    sample = ow.Sample(
        jnp.zeros((batch, time, 1)), jnp.asarray(np.repeat(labels[:, None], time, 1)), jnp.ones((batch, time))
    )
    asked = ow.IntermediateLosses()
    memory = asked.init(classes)
    answers = RNG.normal(size=(batch, classes)).astype(np.float32)
    memory = asked.observe(memory, sample, jnp.asarray(answers), jnp.asarray(True))
    softmax = np.exp(answers) / np.exp(answers).sum(1, keepdims=True)
    q = np.full((classes, classes), 1 / 3)
    for label in set(labels):
        q[label] = softmax[labels == label].mean(0)
    np.testing.assert_allclose(memory["q"], q, rtol=1e-5)
    assert float(memory["count"].sum()) == 0
    found, loss = asked.apply(memory, sample, window, ow.losses.cross_entropy)
    output = RNG.normal(size=classes).astype(np.float32)
    logs = output - np.log(np.exp(output).sum())
    for n in range(batch):
        for t in range(time):
            beta = (t + 1) / time
            expected = -beta * logs[labels[n]] - (1 - beta) * np.sum(q[labels[n]] * logs)
            np.testing.assert_allclose(loss(jnp.asarray(output), found.target[n, t]), expected, rtol=1e-5)
        np.testing.assert_array_equal(found.weight[n], [0, 0, 1, 0, 0, 1, 1])
    lengths = np.array([0, 7, 2, 4, 6])  # sequences that end before the batch does, and one that is not there
    shorter = ow.Sample(
        sample.input,
        jnp.where(np.arange(time) < lengths[:, None], sample.target, -9),
        jnp.asarray((np.arange(1, time + 1) == lengths[:, None]) * 2.0),
        jnp.asarray(np.arange(time) == 1)[None].repeat(batch, 0),
    )
    found, loss = asked.apply(memory, shorter, window, ow.losses.cross_entropy)
    expected = [0] * 7, [0, 0, 2, 0, 0, 2, 2], [0, 2, 0, 0, 0, 0, 0], [0, 0, 2, 2, 0, 0, 0], [0, 0, 2, 0, 0, 2, 0]
    np.testing.assert_array_equal(found.weight, expected)
    np.testing.assert_array_equal(found.reset, shorter.reset)
    expected = -0.75 * logs[labels[3]] - 0.25 * np.sum(q[labels[3]] * logs)
    np.testing.assert_allclose(loss(jnp.asarray(output), found.target[3, 2]), expected, rtol=1e-5)
    expected = -logs[labels[3]]
    np.testing.assert_allclose(loss(jnp.asarray(output), found.target[3, 3]), expected, rtol=1e-5)
    again = asked.observe(asked.init(classes), shorter, jnp.asarray(answers), jnp.asarray(False))
    there = np.eye(classes)[labels][1:]
    np.testing.assert_allclose(again["sum"], there.T @ softmax[1:], rtol=1e-5)
    np.testing.assert_array_equal(again["count"], there.sum(0))
    every = ow.IntermediateLosses("every").apply(memory, sample, window, ow.losses.cross_entropy)[0].weight[0]
    np.testing.assert_allclose(every, [1 / 3] * 6 + [1], rtol=1e-6)
    three = ow.IntermediateLosses(3).apply(memory, sample, time, ow.losses.cross_entropy)[0].weight[0]
    np.testing.assert_allclose(three, [0, 0, 1 / 3, 0, 1 / 3, 0, 1 / 3], rtol=1e-6)


def test_intermediate_losses_say_what_is_wrong(unchecked):
    with pytest.raises(ValueError, match="`points` must be"):
        ow.IntermediateLosses(points=0)
    with pytest.raises(ValueError, match="`epoch` must be None or"):
        ow.IntermediateLosses(epoch=0)
    with pytest.raises(ValueError, match="build the network with `input_size=`"):
        ow.IntermediateLosses().init(None)
    task = ow.tasks.Adding(length=6, evaluation_size=4)
    wrong: tuple[dict[str, Any], ...] = (
        {"window": 2, "windows_per_sequence": 2},
        {"windows_per_sequence": 0},
        {"windows_per_sequence": 7},
    )
    messages = "not both", "`windows_per_sequence` must be at least 1", "`windows_per_sequence` is 7 but the sequences"
    for options, message in zip(wrong, messages, strict=True):
        with pytest.raises(ValueError, match=message):
            ow.train(a_network(), task, algorithm=ow.BPTT(), optimizer=optax.sgd(0.1), steps=1, batch_size=4, **options)


def test_intermediate_losses_of_real_targets_are_weighted():
    task = ow.tasks.Adding(length=6, evaluation_size=4)
    batch = jax.tree.map(jnp.asarray, task.train_batch(0, 0, 4))
    found, loss = ow.IntermediateLosses().apply(None, batch, 2, task.loss)
    assert loss is task.loss
    np.testing.assert_allclose(found.weight[0], [0, 1 / 3, 0, 2 / 3, 0, 1], rtol=1e-6)
    np.testing.assert_array_equal(found.target, batch.target)


def test_q_is_of_each_sequences_own_end():
    """Of short sequences among long ones Q has what the network said at their end, in whichever window that was."""
    net, lengths, labels = a_network(2, 1), np.array([7, 2, 3, 5]), np.array([0, 1, 1, 0])
    steps = np.arange(7)
    ends = (steps == lengths[:, None] - 1).astype(np.float32)
    batch = ow.Sample(np.float32(RNG.normal(size=(4, 7, 1))), np.repeat(labels[:, None], 7, 1), ends)
    outputs = np.asarray(jax.vmap(net.unroll)(batch.input))[np.arange(4), lengths - 1]
    softmax = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    expected = [softmax[labels == label].mean(0) for label in (0, 1)]
    static, devices, still = eqx.partition(net, eqx.is_inexact_array)[1], Devices(4), optax.sgd(0.0)
    for window in (3, None):
        plan = Plan(window, intermediate=ow.IntermediateLosses(), renewal=1)
        update = make_update(static, ow.BPTT(), still, ow.losses.cross_entropy, plan, devices)
        start = initial_state(net, ow.BPTT(), still, 0, plan, 4, devices)
        after, _ = update(start, devices.put(jax.tree.map(jnp.asarray, batch)))
        np.testing.assert_allclose(after.intermediate["q"], expected, rtol=1e-5)


def test_intermediate_losses_train_and_resume_to_the_same_bits(tmp_path):
    """Without FPTT too; Q is renewed at epochs' ends and is in the checkpoint."""
    task = ow.tasks.DelayedXOR(evaluation_size=4)
    options = {"algorithm": ow.BPTT(), "batch_size": 4, "window": 5, "intermediate": ow.IntermediateLosses(epoch=2)}
    options |= {"optimizer": optax.adam(0.01)}
    net = a_network(2, task.input_size)
    whole = ow.train(net, task, steps=6, **options)
    path = tmp_path / "run"
    ow.train(net, task, steps=3, checkpoint=path, **options)
    resumed = ow.train(net, task, steps=6, checkpoint=path, resume=True, **options)
    plain = ow.train(net, task, steps=6, **options | {"intermediate": None})
    leaves = [jax.tree.leaves(eqx.filter(run.network, eqx.is_array)) for run in (whole, resumed, plain)]
    for a, b in zip(*leaves[:2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(leaves[0], leaves[2], strict=True))
    names = ow.training.checkpoints.read_header(path)["arrays"]
    assert names["intermediate.q"]["shape"] == [2, 2]


def test_validation_at_the_anchor():
    task = ow.tasks.Adding(length=8, evaluation_size=16)
    optimizer = optax.chain(ow.fptt(0.5), optax.adam(0.05))
    common = {"algorithm": ow.BPTT(), "optimizer": optimizer, "steps": 4, "batch_size": 4, "validate_every": 4}
    here, there = (ow.train(a_network(), task, at_anchor=at, **common) for at in (False, True))
    losses = [[e["loss"] for e in run.history if e["event"] == "validation"][-1] for run in (here, there)]
    assert losses[0] != losses[1]
    assert np.isclose(ow.evaluate(there.best, task, "validation")["loss"], losses[1], rtol=1e-5)
    np.testing.assert_array_equal(here.network.nodes["readout"].weight, there.network.nodes["readout"].weight)


@pytest.mark.parametrize("linear", [1.0, 0.5])
def test_what_the_regulariser_does_on_average(linear):
    """(4) of docs/fptt.md: under a constant gradient the direction becomes g / (1 + (2 linear - 1) alpha eta)."""
    alpha, eta, gradient = 0.5, 0.6, jnp.asarray([1.0, -2.0])
    optimizer = ow.fptt(alpha, linear=linear)
    w = jnp.zeros(2)
    state, update = optimizer.init(w), jax.jit(optimizer.update)
    for _ in range(60):
        direction, state = update(gradient, state, w)
        w = w - eta * direction
    np.testing.assert_allclose(direction, gradient / (1 + (2 * linear - 1) * alpha * eta), rtol=1e-5)
