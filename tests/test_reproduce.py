"""Studies: what their files hold, that they go on where they stopped, and what the small forms find."""

import csv
import inspect
import json
import signal
from dataclasses import dataclass, replace
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onward.cli import main
from onward.cli.config import ReproduceConfig
from onward.data import load_series
from onward.reproduce import STUDIES, complexity, load, streams_river
from onward.reproduce.adding import METHODS, AddingSettings, AddingStudy, AddingWindows, WindowSettings
from onward.reproduce.gradient_quality import GradientQuality, Settings
from onward.reproduce.images import AuxiliaryLoss, ImageSettings
from onward.reproduce.mnist98 import Mnist98Table, Passes, PassesSettings, TableSettings, Training
from onward.reproduce.streams import Streams
from onward.reproduce.study import Study, panels, run
from onward.tasks import Adding as AddingTask
from onward.tasks import DelayedXOR

SECOND = "FPTT, alpha 0.5"
SMALL = {"seeds": 1, "steps": 6, "batch_size": 4, "units": 4, "windows": 3, "judged": 2, "evaluated": 8}
TINY = Training(steps=2, layers=1, units=4, warmup=0, aligned=1)


@dataclass(frozen=True)
class Squares:
    """Numbers to square."""

    numbers: tuple[float, ...] = (1.0, 2.0, 3.0)


class Squaring(Study):
    """A study whose answer is known, and which counts its measurements."""

    name = "squaring"
    summary = "What is a square?"
    full = Squares()
    quick = Squares((2.0,))
    measured = 0
    breaks_at = None

    def points(self, settings, seed):
        return [{"kind": "square", "x": x, "seed": seed} for x in settings.numbers]

    def measure(self, settings, point, earlier):
        if point["x"] == self.breaks_at:
            raise KeyboardInterrupt
        self.measured += 1
        return {"y": point["x"] ** 2, "before": len(earlier)}

    def draw(self, rows):
        return {"squares": panels(1, 1)[0]}

    def describe(self, rows):
        return f"the largest is {max(row['y'] for row in rows):g}"


def start(study, folder, **options):
    return run(study, folder, **{"quick": False, "seed": 5, "resume": False, "say": lambda line: None} | options)


def table(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_study_writes_table_figures_text_and_settings(tmp_path):
    assert start(Squaring(), tmp_path / "new") == "the largest is 9"
    rows = table(tmp_path / "new")
    assert [(r["kind"], r["x"], r["y"], r["seed"], r["before"]) for r in rows] == [
        ("square", "1", "1", "5", "0"),
        ("square", "2", "4", "5", "1"),
        ("square", "3", "9", "5", "2"),
    ]
    config = json.loads((tmp_path / "new/config.json").read_text())
    assert config["settings"] == {"numbers": [1.0, 2.0, 3.0]}
    assert (config["seed"], config["quick"], config["versions"]["jax"]) == (5, False, jax.__version__)
    assert "the largest is 9" in (tmp_path / "new/findings.md").read_text()
    assert (tmp_path / "new/squares.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "new/squares.pdf").read_bytes().startswith(b"%PDF")


def test_the_factor_of_recurrent_parameters_is_an_option(tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("onward.cli.reproduce.run_study", lambda study, folder, **options: asked.append(options) or "")
    assert main(["reproduce", "mnist98-table", "--recurrent-factor", "0.25", "--out", str(tmp_path)]) == 0
    assert asked[0]["settings"] == replace(Mnist98Table.full, training=Training(recurrent_factor=0.25))
    assert main(["reproduce", "passes", "--quick", "--out", str(tmp_path)]) == 0
    assert asked[1]["settings"] == Passes.quick
    assert main(["reproduce", "precision", "--recurrent-factor", "1"]) == 2
    assert "is for passes and mnist98-table, and not for precision; leave it out" in capsys.readouterr().err
    assert main(["reproduce", "passes", "--recurrent-factor", "-1"]) == 2
    assert "--recurrent-factor must be at least 0, got -1.0" in capsys.readouterr().err


def test_settings_of_ones_own_are_those_that_are_measured(tmp_path):
    assert start(Squaring(), tmp_path, settings=Squares((5.0,))) == "the largest is 25"
    assert json.loads((tmp_path / "config.json").read_text())["settings"] == {"numbers": [5.0]}


def test_a_stopped_study_goes_on_without_measuring_twice(tmp_path):
    study = Squaring()
    study.breaks_at = 3.0
    with pytest.raises(KeyboardInterrupt):
        start(study, tmp_path)
    assert len(table(tmp_path)) == 2
    study.breaks_at = None
    start(study, tmp_path, resume=True)
    assert study.measured == 3
    start(Squaring(), tmp_path / "whole")
    without_time = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]  # noqa: E731
    assert without_time(table(tmp_path)) == without_time(table(tmp_path / "whole"))


def test_a_stopped_training_goes_on_where_it_was(tmp_path, monkeypatch):
    """Ctrl-C in the second row: no row of a training cut short, and with --resume the numbers of one that was not."""
    settings = replace(AddingStudy.quick, length=7, **SMALL)
    monkeypatch.setattr(AddingStudy, "quick", settings)
    monkeypatch.setattr("onward.reproduce.adding.METHODS", {name: METHODS[name] for name in ("BPTT", SECOND)})
    start(AddingStudy(), tmp_path / "whole", quick=True)

    stopped, made = AddingTask.train_batch, 0

    def interrupted(task, seed, step, batch_size):
        nonlocal made
        made += 1
        if made == 6 + 5:
            signal.raise_signal(signal.SIGINT)
        return stopped(task, seed, step, batch_size)

    monkeypatch.setattr(AddingTask, "train_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(AddingStudy(), tmp_path / "cut", quick=True)
    assert len(table(tmp_path / "cut")) == 1
    made = 100
    start(AddingStudy(), tmp_path / "cut", quick=True, resume=True)
    assert 100 < made < 100 + 6  # some steps of the second row only
    timed = {"seconds", "batch_seconds"}
    without = lambda rows: [{k: v for k, v in row.items() if k not in timed} for row in rows]  # noqa: E731
    assert without(table(tmp_path / "cut")) == without(table(tmp_path / "whole"))
    assert not (tmp_path / "cut/unfinished").exists()


def test_what_a_folder_holds_is_not_overwritten(tmp_path):
    start(Squaring(), tmp_path)
    before = (tmp_path / "results.csv").read_bytes()
    with pytest.raises(ValueError, match="holds a study already; give another --out, or --resume"):
        start(Squaring(), tmp_path)
    with pytest.raises(ValueError, match="another quick"):
        start(Squaring(), tmp_path, resume=True, quick=True)
    with pytest.raises(ValueError, match="another seed"):
        start(Squaring(), tmp_path, resume=True, seed=6)
    assert (tmp_path / "results.csv").read_bytes() == before


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_a_folder_whose_settings_are_lost_is_refused(tmp_path, content):
    start(Squaring(), tmp_path)
    (tmp_path / "config.json").unlink()
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"has no readable config\.json beside its results\.csv; give another --out"):
        start(Squaring(), tmp_path, resume=True)


def test_a_row_that_was_cut_short_is_measured_again(tmp_path):
    start(Squaring(), tmp_path)
    whole = (tmp_path / "results.csv").read_text()
    (tmp_path / "results.csv").write_text(whole[: whole.rindex("square,3") + 12])
    study = Squaring()
    assert start(study, tmp_path, resume=True) == "the largest is 9"
    assert study.measured == 1
    assert [row["y"] for row in table(tmp_path)] == ["1", "4", "9"]


def test_the_command_line_names_every_study():
    assert set(get_args(get_type_hints(ReproduceConfig)["study"])) == set(STUDIES)
    help_text = inspect.getdoc(ReproduceConfig)
    assert help_text is not None
    assert all(f"{name}:" in help_text for name in STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_can_be_loaded_and_has_distinct_points(name):
    study = load(name)
    assert study.name == name
    for settings in (study.quick, study.full):
        points = study.points(settings, 0)
        assert len({tuple(point.items()) for point in points}) == len(points) > 0
        assert len({tuple(point) for point in points}) == 1


def test_gradient_quality_shows_where_the_published_form_fails_and_segments_do_not(tmp_path, monkeypatch, capsys):
    settings = Settings(r_mins=(0.0, 0.99), lengths=(98,), repetitions=1, units=8)
    monkeypatch.setattr(GradientQuality, "quick", settings)
    assert main(["reproduce", "gradient-quality", "--quick", "--out", str(tmp_path)]) == 0
    assert "segments, float32: cosine at least 0.99999 at 2 of 2 points" in " ".join(capsys.readouterr().out.split())
    found = {(r["method"], r["arithmetic"], r["r_min"]): float(r["cosine"]) for r in table(tmp_path)}
    assert min(value for key, value in found.items() if key[0] == "segments") > 0.99999
    assert found["published", "float64", "0.99"] > 0.99999
    fails = ("published", "accumulate", "reversible")
    assert max(value for key, value in found.items() if key[0] in fails and key[2] == "0") < 0.9


def test_passes_end_at_bptts_gradient(tmp_path, monkeypatch):
    monkeypatch.setattr(Passes, "quick", PassesSettings(TINY))
    assert main(["reproduce", "passes", "--quick", "--out", str(tmp_path)]) == 0
    one, two = (float(row["cosine"]) for row in table(tmp_path))
    assert one < 0.999 < 0.99999 < two


def test_the_table_takes_the_rate_that_was_best(tmp_path, monkeypatch):
    monkeypatch.setattr(Mnist98Table, "quick", TableSettings(TINY, 1, (0.9,), (1e-3, 1e-2)))
    losses = {("BPTT", 1e-2): 1.0}
    calls = []

    def train(study, algorithm, window, training, r_min, rate, seed, split):
        name = type(algorithm).__name__
        calls.append((name, window, training.steps, rate, split))
        return {"loss": losses.get((name, rate), 2.0 + rate), "accuracy": 0.5, "cosine": 1.0, "seconds_per_batch": 1.0}

    monkeypatch.setattr("onward.reproduce.mnist98._train", train)
    assert main(["reproduce", "mnist98-table", "--quick", "--out", str(tmp_path)]) == 0
    final = [call for call in calls if call[-1] == "test"]
    assert final == [
        ("SpatialBP", None, 2, 1e-3, "test"),
        ("BPTT", None, 2, 1e-2, "test"),
        ("ForwardErrors", None, 2, 1e-3, "test"),
        ("SnAp", 49, 2, 1e-3, "test"),
        ("ForwardErrors", None, 2, 1e-3, "test"),  # as published
        ("BPTT", None, 2, 1e-3, "test"),  # at the rate of forward errors, whose gradient is the same
    ]
    assert len(calls) == 16
    assert "98.30 %" in (tmp_path / "findings.md").read_text()


def test_complexity_tells_memory_that_grows_from_memory_that_does_not(tmp_path, monkeypatch):
    few = {name: complexity.ALGORITHMS[name] for name in ("BPTT", "RTRL, step by step")}
    monkeypatch.setattr(complexity, "ALGORITHMS", few)
    monkeypatch.setattr(complexity, "CELLS", {"dense": complexity.CELLS["dense"]})
    settings = complexity.Settings(sizes=(16, 32), lengths=(128, 512), size=32, length=128, runs=1)
    monkeypatch.setattr(complexity.Complexity, "quick", settings)
    assert main(["reproduce", "complexity", "--quick", "--out", str(tmp_path)]) == 0
    memory = {(r["algorithm"], r["N"], r["T"]): int(r["memory"]) for r in table(tmp_path)}
    assert memory["BPTT", "32", "512"] > 3 * memory["BPTT", "32", "128"]
    assert memory["RTRL, step by step", "32", "512"] < 1.5 * memory["RTRL, step by step", "32", "128"]
    assert memory["RTRL, step by step", "32", "128"] > 4 * memory["RTRL, step by step", "16", "128"]


def test_complexity_serves_random_algorithms_and_sparse_cells(monkeypatch):
    def traced(work, parameters, carry, sample, runs):
        after, _ = jax.eval_shape(work, parameters, carry, sample)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, carry)
        return 1.0, 0

    monkeypatch.setattr(complexity, "clock", traced)
    for name in ("UORO", "OK(4)", "SnAp(2), a ring"):
        point = {"layer": "dense", "algorithm": name, "N": 4, "T": 6, "seed": 0}
        row = complexity.Complexity().measure(complexity.Settings(), point, [])
        assert row["memory"] > 0, name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("gradient", "invalid"),
        ("passes --quik", "did you mean --quick?"),
        ("passes --resume", "--resume needs --out DIR"),
        ("passes --seed -1", "--seed must be at least 0 and below"),
    ],
)
def test_mistakes_get_one_sentence(capsys, words, message):
    assert main(["reproduce", *words.split()]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_training_that_diverges_is_a_row_and_not_the_end(monkeypatch):
    def diverges(*_, **__):
        raise FloatingPointError("step 3")

    monkeypatch.setattr(Passes, "train", diverges)
    row = Passes().measure(PassesSettings(TINY), {"passes": 1, "seed": 0}, [])
    assert row["accuracy"] == 0.0
    assert np.isnan(row["loss"])


def sizes_of_recurrent_weights(monkeypatch, settings, points):
    """What `adding` would train: the numbers in each point's largest array, the LSTM's recurrent weights."""
    sizes = []

    def train(study, network, *_, **__):
        sizes.append(max(leaf.size for leaf in jax.tree.leaves(network) if hasattr(leaf, "size")))
        raise FloatingPointError("not trained here")

    with monkeypatch.context() as patched:
        patched.setattr(AddingStudy, "train", train)
        for point in points:
            assert AddingStudy().measure(settings, point, ())["curve"] == ""
    return sizes


def test_adding_compares_methods_at_equal_sequences_and_at_equal_updates(tmp_path, monkeypatch):
    monkeypatch.setattr(AddingStudy, "quick", AddingSettings(7, **SMALL))
    assert main(["reproduce", "adding", "--quick", "--out", str(tmp_path)]) == 0
    rows = {row["method"]: row for row in table(tmp_path)}
    assert list(rows) == list(METHODS)
    longer = (9, "BPTT", 1, 2), (9, SECOND, 9, 2)
    settings = AddingSettings(7, **(SMALL | {"seeds": 2}), longer=longer, longer_units=5)
    points = AddingStudy().points(settings, 5)
    seeds = {(point["length"], point["method"]): [] for point in points}
    for point in points:
        seeds[point["length"], point["method"]].append(point["seed"])
    assert seeds[7, "BPTT"] == [5, 6]
    whole = [tuple(point.values()) for point in AddingStudy().points(AddingStudy.full, 0)]
    assert len(set(whole)) == len(whole)
    assert {method for _, method, *_ in whole} == set(METHODS)
    assert {length for length, *_ in whole} == {100, 200, 500, 750, 1000}
    assert seeds[7, "BPTT, as many updates"] == seeds[9, "BPTT"] == [5]
    assert [tuple(point.values()) for point in points[-2:]] == [(9, "BPTT", 1, 5, 2), (9, SECOND, 9, 5, 2)]
    assert sizes_of_recurrent_weights(monkeypatch, settings, (points[0], points[-1])) == [4 * 4**2, 4 * 5**2]
    assert [rows[name]["steps"] for name in ("BPTT", "BPTT, as many updates", "FPTT, alpha 0.5")] == ["6", "18", "6"]
    assert len({row["error"] for row in rows.values()}) == len(rows)  # no two are the same computation
    for name, row in rows.items():
        assert len(row["curve"].split()) == 2
        assert (row["anchor"] != row["error"]) == name.startswith("FPTT")
    assert "always to answer 1 gives 0.1667" in (tmp_path / "findings.md").read_text()
    known = [
        {
            "length": 7,
            "method": name,
            "windows": 3,
            "seed": seed,
            "steps": 6,
            "error": error,
            "median": 0,
            "anchor": 0,
            "batch_seconds": 0,
            "curve": "0.5 0.07 0.3",
        }
        for name, errors in (("BPTT", (0.2, 0.01, 0.1)), (SECOND, (0.2, 0.01, 0.012)))
        for seed, error in enumerate(errors)
    ]
    known += [known[-1] | {"length": 9, "windows": count} for count in (9, 4)]
    found = AddingStudy().describe(known)
    assert f"| 9 | {SECOND}, K = 4 | 6 | 0.0120 | 0.0700 |" in found
    assert f"Learnt, to a tenth of what always to answer 1 gives: length 7, {SECOND} (0.0120); " in found
    assert f"; length 9, {SECOND}, K = 4 (0.0120); length 9, {SECOND}, K = T (0.0120)." in found
    assert "gives: by none." in AddingStudy().describe(known[:3])


def test_one_window_without_the_regulariser_is_bptt(tmp_path, monkeypatch):
    monkeypatch.setattr(AddingStudy, "quick", AddingSettings(7, **SMALL))
    monkeypatch.setattr(AddingWindows, "quick", WindowSettings(7, **SMALL, counts=(1, 7)))
    one = AddingWindows()
    rows = {
        (point["windows"], point["method"]): one.measure(one.quick, point, ()) for point in one.points(one.quick, 0)
    }
    whole = AddingStudy().measure(AddingStudy.quick, AddingStudy().points(AddingStudy.quick, 0)[0], ())
    assert rows[1, "windows, no regulariser"]["error"] == whole["error"]
    assert len({row["error"] for row in rows.values()}) == len(rows)


def test_images_are_learnt_by_every_method(tmp_path, monkeypatch):
    monkeypatch.setattr("onward.reproduce.images.make", lambda name, validation: DelayedXOR(evaluation_size=validation))
    settings = ImageSettings(steps=4, units=4, batch_size=4, windows=3, judged=2, validation=6, tested=6)
    monkeypatch.setattr(AuxiliaryLoss, "quick", settings)
    assert main(["reproduce", "auxiliary-loss", "--quick", "--out", str(tmp_path)]) == 0
    rows = table(tmp_path)
    assert [row["method"] for row in rows] == list(AuxiliaryLoss.methods)
    assert len({row["loss"] for row in rows}) == 4
    assert (tmp_path / "auxiliary-loss.png").exists()
    known = [
        row | {"accuracy": share, "loss": loss, "steps": 4, "batch_seconds": 1}
        for row, share, loss in zip(rows, (0.3, 0.0, 0.4, 0.2), (1.0, float("nan"), 1.0, 1.0), strict=True)
    ]
    order = "windows, no regulariser (40.0%); BPTT (30.0%); FPTT (20.0%); BPTT, auxiliary loss (diverged)"
    text = AuxiliaryLoss().describe(known)
    assert f"from best to worst: {order}." in text
    assert "| BPTT, auxiliary loss | 4 | diverged | " in text


def test_missing_data_are_named_with_the_remedy(tmp_path, monkeypatch, capsys):
    def missing(*_, **__):
        raise FileNotFoundError("train-images is not in /data and could not be fetched: put it there")

    monkeypatch.setattr("onward.reproduce.images.make", missing)
    assert main(["reproduce", "smnist", "--quick", "--out", str(tmp_path)]) == 2
    assert "train-images is not in /data and could not be fetched: put it there" in capsys.readouterr().err


def test_streams_are_forecast_before_they_are_learnt(tmp_path, monkeypatch):
    methods = ("naive", "seasonal naive", "onward stream", "BPTT, GRU, 8 steps")
    small = {"series": (("electricity", 2),), "rows": 80, "units": 2, "chunk": 40, "parts": 3, "methods": methods}
    monkeypatch.setattr(Streams, "quick", replace(Streams.quick, **small))
    assert main(["reproduce", "streams", "--quick", "--out", str(tmp_path)]) == 0
    rows = {(row["horizon"], row["method"]): row for row in table(tmp_path)}
    assert len(rows) == 2 * len(Streams.quick.methods)
    values = load_series("electricity").values[:80, 0].astype(float)
    for ahead in (1, 2):
        expected = np.nanmean(np.abs(values[ahead:] - values[:-ahead]))
        assert float(rows[str(ahead), "naive"]["mae"]) == pytest.approx(expected, rel=1e-6)
        assert len({rows[str(ahead), method]["mae"] for method in Streams.quick.methods}) == len(Streams.quick.methods)
    assert "to seasonal naive" in (tmp_path / "findings.md").read_text()
    assert (tmp_path / "streams.png").exists()


def test_rivers_models_forecast_series_and_pairs():
    pytest.importorskip("river", reason="River is not installed; `pip install river`")
    turns = 2 * np.pi * np.arange(300) / 12
    inputs = np.stack([10 + np.sin(turns), np.sin(turns + 1), np.cos(turns)], axis=1)
    inputs[50] = np.nan
    for name, make in streams_river.MODELS.items():
        made, spent, size = streams_river.follow(make, inputs, 3, 12)
        assert made.shape == (300,)
        error = np.abs(made[150:-3] - inputs[153:, 0]).mean()
        assert error < 0.5 * np.abs(inputs[150:-3, 0] - inputs[153:, 0]).mean(), name
        assert spent > 0 < size
