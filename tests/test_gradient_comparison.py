"""Gradients side by side: the numbers against plain recomputation, what is declined, and `onward gradients`."""

import csv
import re
import tomllib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onward as ow
from onward import diagnostics
from onward.checkpoint import load_network
from onward.cli import main
from onward.cli.config import CompareConfig, GradientsConfig, NetworkConfig
from onward.cli.options import parse_run
from onward.cli.registry import build_network, make_task
from onward.gradient_comparison import QUANTITIES
from onward.gradient_report import FIGURES, brief
from tests.claims import flat, network, sample

KEYS, ENDS = 4, (4, 8, 9)
ALGORITHMS = [ow.RTRL(), ow.EProp(), ow.UORO(), ow.BPTT()]
RTRL, EPROP, UORO, BPTT = range(4)


@pytest.fixture(scope="module")
def problem():
    """A GRU layer and a readout; two sequences of 9 steps, in windows of 4, 4 and 1, the second without a loss."""
    net, batch = network("GRU x 1"), sample(9)
    weight = batch.weight.at[:, 4:8].set(0.0)
    return net, ow.Sample(batch.input, batch.target, weight)


@pytest.fixture(scope="module")
def found(problem):
    net, batch = problem
    key = jax.random.key(5)
    return ow.compare_gradients(
        net, ow.losses.squared_error, batch, ALGORITHMS, window=4, key=key, keys=KEYS, groups="arrays"
    )


def by_group(gradient):
    """The whole gradient and each array of it, as vectors in the order of the tree."""
    return [flat(gradient), *(np.ravel(leaf) for leaf in jax.tree.leaves(gradient))]


@pytest.fixture(scope="module")
def exact(problem):
    """[windows][groups] by JAX's own differentiation of each window's losses through the unrolled network."""
    net, batch = problem
    parameters, static = eqx.partition(net, eqx.is_inexact_array)

    @jax.jit
    @jax.grad
    def gradient(parameters, weight):
        outputs = jax.vmap(eqx.combine(parameters, static).unroll)(batch.input)
        each = jnp.sum((outputs - batch.target) ** 2, axis=-1)
        return jnp.mean(jnp.sum(weight * each, axis=1))

    steps, found = np.arange(9), []
    for begin, end in zip((0, *ENDS), ENDS, strict=False):
        mask = (steps >= begin) & (steps < end)
        found.append(by_group(gradient(parameters, batch.weight * mask)))
    return found


def gradients(problem, algorithm, key=None):
    """[windows][groups] of an algorithm, by the public interface of windows."""
    net, batch = problem
    run, carry, found = eqx.filter_jit(algorithm.run), algorithm.init(net, key, 2), []
    for begin, end in zip((0, *ENDS), ENDS, strict=False):
        carry, estimate = run(net, ow.losses.squared_error, carry, jax.tree.map(lambda a: a[:, begin:end], batch))  # noqa: B023
        found.append(by_group(estimate.gradient))
    return found


@pytest.mark.parametrize("place", [EPROP, UORO], ids=["EProp", "UORO"])
def test_the_numbers_are_those_of_numpy(place, problem, found, exact):
    keys = [None] if place == EPROP else list(jax.random.split(jax.random.key(5), KEYS))
    draws = [gradients(problem, ALGORITHMS[place], key) for key in keys]
    for window in (0, 2):
        for group, g in enumerate(exact[window]):
            h, length = np.stack([draw[window][group] for draw in draws]), np.linalg.norm(g)
            norms = np.linalg.norm(h, axis=1)
            spread = np.sqrt(h.var(axis=0, ddof=1).sum()) if len(keys) > 1 else 0.0
            expected = {
                "cosine": np.mean(h @ g / (norms * length)),
                "norm_ratio": np.mean(norms) / length,
                "bias": np.linalg.norm(h.mean(axis=0) - g) / length,
                "deviation": spread / length,
            }
            assert found.exact_norm[window, group] == pytest.approx(length, rel=1e-9)
            for name, value in expected.items():
                np.testing.assert_allclose(getattr(found, name)[place, window, group], value, rtol=1e-7, atol=1e-9)


def test_over_all_windows(found):
    """The mean cosine, and the rest as if all windows were one vector; the window without a loss does not count."""
    assert np.isnan(found.cosine[:, 1]).all()
    assert np.isnan(found.bias[:, 1]).all()
    np.testing.assert_allclose(found.overall("cosine"), found.cosine[:, [0, 2]].mean(axis=1))
    length = found.exact_norm
    for name in ("norm_ratio", "bias", "deviation"):
        values = getattr(found, name)
        pooled = sum((values[:, w] * length[w]) ** 2 for w in (0, 2)) / (length[0] ** 2 + length[2] ** 2)
        np.testing.assert_allclose(found.overall(name), np.sqrt(pooled))
    np.testing.assert_allclose(found.noise, found.overall("deviation") / 2)


def test_what_is_exact_is_seen_and_what_is_not(found):
    assert found.groups[:2] == ("whole network", "0_gru.weight_ih")
    assert found.overall("bias")[RTRL].max() < 1e-9
    assert found.overall("cosine")[RTRL].min() > 1 - 1e-12
    assert found.bias[BPTT, 0].max() < 1e-9  # the first window has no past
    assert found.bias[BPTT, 2, 0] > 1e-3  # the last one's is cut off
    assert found.bias[EPROP, 0, 0] > 1e-3
    assert found.deviation[UORO, 2, 0] > 0.01
    assert not found.deviation[[RTRL, EPROP, BPTT]][:, [0, 2]].any()
    assert (found.overall("bias") < 3 * found.noise)[UORO, 0]
    assert (found.seconds > 0).all()
    assert (found.memory > 0).all()


def test_one_sequence_is_a_batch_of_one(problem):
    net, batch = problem
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    of = lambda s: ow.compare_gradients(net, ow.losses.squared_error, s, [ow.SnAp(1)])  # noqa: E731
    found = of(one)
    assert (found.groups, list(found.ends)) == (("whole network", "0_gru", "readout"), [9])
    np.testing.assert_array_equal(found.bias, of(jax.tree.map(lambda leaf: leaf[None], one)).bias)


def test_what_cannot_be_run_is_declined(problem):
    """RTRL for its carry, before anything is compiled; e-prop for a cell whose units mix. The others are run."""
    keys = jax.random.split(jax.random.key(0), 2)
    net = ow.stack(ow.cells.RevGRU(3, 8, key=keys[0]), readout=eqx.nn.Linear(16, 2, key=keys[1]))
    algorithms = [ow.RTRL(), ow.EProp(), ow.SpatialBP()]
    budget = diagnostics.carry_bytes(net, ow.RTRL(), 2) - 1
    found = ow.compare_gradients(net, ow.losses.squared_error, problem[1], algorithms, budget=budget)
    assert re.fullmatch(r"what it carries .* alone is \S+ GB, and \S+ GB may be used", found.declined[0])
    assert "unit_local = False" in found.declined[1]
    assert found.declined[2] == ""
    assert np.isnan(found.cosine[:2]).all()
    assert np.isfinite(found.cosine[2, 0]).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"algorithms": []}, "`algorithms` is empty"),
        ({"window": 0}, "`window` is 0; choose 1 to the 9 steps"),
        ({"window": 10}, "`window` is 10"),
        ({"keys": 1}, "`keys` must be an integer of at least 2"),
        ({"groups": "layers"}, "`groups` must be"),
        ({"algorithms": [ow.UORO()]}, "give a `key`"),
        ({"algorithms": [ow.UORO]}, "must be an instance"),
        ({"sample": 3}, "must be an onward.Sample"),
    ],
)
def test_a_mistake_names_the_argument(changes, says, problem, unchecked):
    net, batch = problem
    arguments = {"sample": batch, "algorithms": [ow.SnAp(1)]} | changes
    with pytest.raises((ValueError, TypeError), match=says):
        ow.compare_gradients(net, ow.losses.squared_error, **arguments)


TINY = ["--preset", "quick", "--task", "copy:length=2,symbols=2,delay=3", "--window", "3"]


def run(*words):
    return main(["gradients", *map(str, words)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the command leaves behind for a tiny network on a tiny task."""
    folder = tmp_path_factory.mktemp("gradients") / "out"
    assert run(*TINY, "--algorithms", "spatialbp", "uoro", "rtrl", "--out", folder) == 0
    return folder


def test_the_command_leaves_a_report(folder, capsys):
    names = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    assert {path.name for path in folder.iterdir()} == names | {"report.html", "gradients.csv", "config.toml"}
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == len(FIGURES)
    for address in re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page):
        assert address.startswith(("#", "data:")), address
    for text in ("SpatialBP", "unbiased", "exact", "in 3 windows of 3 steps"):
        assert text in page, text
    config = tomllib.loads((folder / "config.toml").read_text())
    assert (config["window"], config["network"]["units"]) == (3, 3)
    assert run(*TINY, "--out", folder) == 2
    assert "finished run" in capsys.readouterr().err


def test_the_table_holds_every_number(folder):
    with (folder / "gradients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (3 + 1) * 3  # algorithms, windows and all of them, groups and all of them
    whole = {row["algorithm"]: row for row in rows if row["window"] == "all" and row["group"] == "whole network"}
    assert float(whole["RTRL"]["bias"]) < 1e-5
    assert float(whole["SpatialBP"]["bias"]) > 1e-3
    assert float(whole["UORO"]["deviation"]) > 1e-3
    assert all(float(row[name]) > 0 for row in whole.values() for name in ("seconds_per_step", "memory_bytes"))
    first = next(row for row in rows if row["window"] == "0")
    assert all(first[name] == "nan" for name in QUANTITIES)  # nothing is asked for before the cue
    assert {row["last_step"] for row in rows} == {"3", "6", "7"}


def test_the_weights_of_a_checkpoint(tmp_path, capsys):
    """The network and the task come from the checkpoint; training on top of it changes the numbers, as it should."""
    words = ["--task", TINY[3], "--network.kind", "stack", "--network.layers", "1", "--network.units", "3"]
    trained = tmp_path / "trained"
    assert main(["train", *words, "--batch-size", "2", "--steps", "2", "--out", str(trained)]) == 0
    numbers = []
    for name, more in (("a", []), ("b", ["--train", "2"])):
        options = ["--window", 7, "--batch-size", 2, "--algorithms", "spatialbp", "--out", tmp_path / name]
        assert run("--checkpoint", trained, *options, *more) == 0
        with (tmp_path / name / "gradients.csv").open() as file:
            numbers.append([float(row["cosine"]) for row in csv.DictReader(file)])
    assert tomllib.loads((tmp_path / "a" / "config.toml").read_text())["network"]["units"] == 3
    task = make_task(TINY[3])
    net = build_network(task, NetworkConfig(kind="stack", layers=1, units=3), 0)
    net = load_network(trained / "checkpoint.safetensors", net)
    found = ow.compare_gradients(net, task.loss, task.train_batch(0, 2, 2), [ow.SpatialBP()])
    np.testing.assert_allclose(numbers[0][: len(found.groups)], found.cosine[0, 0], rtol=1e-6)
    assert not np.allclose(numbers[0], numbers[1], rtol=1e-4)
    assert "weights after 4 batches" in " ".join(capsys.readouterr().out.split())
    assert run("--checkpoint", trained, "--network.units", 4, "--out", tmp_path / "c") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_that_can_be_run_is_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(diagnostics, "available_memory", lambda: 1000)
    assert run(*TINY, "--algorithms", "rtrl", "--out", tmp_path) == 2
    assert re.search(r"RTRL: what it carries .* GB may be used\. Choose .* --force\.\n$", capsys.readouterr().err)


def test_a_preset_is_the_same_problem_for_both_commands():
    compare, gradients = (
        parse_run(kind, command, ["--preset", "immediate"])
        for kind, command in ((CompareConfig, "compare"), (GradientsConfig, "gradients"))
    )
    assert (compare.task, compare.network) == (gradients.task, gradients.network)
    assert compare.optimizer.name == "rmsprop"
    assert [name.partition("@")[0] for name in compare.algorithms] == list(gradients.algorithms)


def test_rmsprop_divides_by_the_root_mean_square():
    net = network("GRU x 1")
    parameters = eqx.filter(net, eqx.is_inexact_array)
    optimizer = ow.optimizers.rmsprop(net, 0.1, weight_decay=0.5, recurrent_factor=0.25, decay=0.9, eps=1e-3)
    state, mean = optimizer.init(parameters), 0.0
    for value in (2.0, -1.0):
        gradient = jax.tree.map(lambda leaf: jnp.full_like(leaf, value), parameters)  # noqa: B023 (used at once)
        updates, state = optimizer.update(gradient, state, parameters)
        mean = 0.9 * mean + 0.1 * value**2
        step = value / (np.sqrt(mean) + 1e-3)
        weight = parameters.nodes["readout"].weight
        np.testing.assert_allclose(updates.nodes["readout"].weight, -0.1 * (step + 0.5 * weight))
        np.testing.assert_allclose(updates.nodes["0_gru"].weight_hh, -0.1 * 0.25 * step)
    with pytest.raises(ValueError, match="clip"):
        ow.optimizers.rmsprop(net, 0.1, clip=0.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4e-6, "4 µs"), (3e-8, "30 ns"), (np.nan, "–")]
)
def test_a_short_time(seconds, text):
    assert brief(seconds) == text
