"""The command line: what it does, and that every mistake gets one sentence."""

import io
import json
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

import onward as ow
from onward import checkpoint, diagnostics
from onward.cli import main, session
from onward.cli.config import CompareConfig, NetworkConfig, TrainConfig
from onward.cli.errors import UsageError
from onward.cli.options import parse_run
from onward.cli.registry import ALGORITHMS, CELLS, build_network, make_algorithm, make_task
from onward.tasks import TASKS

TASK = "delayed-xor:delay=1,presentation=3,evaluation_size=32"
SMALL = [
    *("--task", TASK, "--network.kind", "stack", "--network.cell", "lru:r_min=0.5", "--network.layers", "1"),
    *("--network.units", "3", "--batch-size", "8", "--align-every", "5"),
]


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def finished(tmp_path_factory):
    """The folder of a small run of `train` that is done; made once."""
    folder = tmp_path_factory.getbasetemp() / "finished"
    if not folder.exists():
        assert run("train", *SMALL, "--algorithm", "snap1@2", "--steps", 12, "--out", folder) == 0
    return folder


CHEAP = "--network.kind stack --network.cell rnn --network.units 3 --network.layers 1"  # of mistakes found late
MISTAKES = {
    "": "give a command",
    "trian": "did you mean train",
    "compare --stepz 3": "did you mean --steps",
    "compare --steps three": "--steps",
    "compare --steps": "--steps",
    "compare --batch-size -3": "--batch-size must be at least 1, got -3",
    "compare --steps 0": "--steps must be at least 1, got 0",
    "compare --seed -1": "--seed must be at least 0",
    "compare --seed 4294967296": "--seed must be at most 4294967295",
    "compare --batch-size 99999999999999999999999": "--batch-size must be at most",
    "compare --steps 99999999999999999999999": "--steps must be at most",
    "compare --epochs 1e300": "--epochs 1e+300 is more than",
    "compare --out=": "--out is given an empty value",
    "train --task mnist98:validation=0 --patience 3": "--patience 3",
    f"train --task copy:symbols=999999999999 {CHEAP} --steps 1": "do not fit in memory",
    "compare --steps 3 --epochs 2": "give one of them",
    "compare --preset huge": "demo",
    "compare --algorithms": "at least one",
    "compare --algorithms bptt bppt": "did you mean bptt",
    "compare --algorithms bptt bptt": "twice",
    "compare --algorithms snap1 snap:n=1": "--algorithms has 'snap:n=1' twice (as 'snap1')",
    "compare --algorithms bptt bptt:checkpoint=none": "twice",
    "compare --algorithms snap:1,n=1": "has the option 'n' twice",
    "compare --algorithms rtrl:decay=1,decay=0.5": "has the option 'decay' twice",
    "compare --algorithms rtrl:decay=none": "decay must be a number, got None; write decay=1.0",
    "compare --algorithms rtrl:decay=true": "decay must be a number, got True",
    "compare --algorithms bptt:checkpoint=true": "`checkpoint` must be",
    "compare --algorithms bptt:checkpoint=": "write for example bptt:checkpoint=5",
    "compare --algorithms nth-order": "n",
    "compare --algorithms nth-order:-2": "negative",
    "compare --algorithms rtrl:decay=2": "decay",
    "compare --algorithms rtrl:decay=x": "decay",
    "compare --algorithms rtrl:speed=2": "its options are decay",
    "compare --algorithms snap1@0": "positive number of steps",
    "compare --algorithms snap1@all": "positive number of steps",
    "compare --task mnist": "did you mean mnist98 or smnist or psmnist",
    "compare --task copy:length=0": "length",
    "compare --task copy:size=3": "length",
    "compare --task copy@3": "only algorithms",
    "compare --task copy --epochs 2": "--steps",
    f"compare --task copy:length=2,delay=2 {CHEAP} --algorithms snap1@99": "longer than the",
    "compare --network.layers 0": "--network.layers must be at least 1",
    "compare --network.r-min 2": "r_min",
    "compare --network.kind stack --network.cell gruu": "did you mean gru",
    "compare --network.kind stack --network.cell lru:r_min=x": "r_min must be a number, got 'x'",
    "compare --network.kind stack --network.cell gru:leak=1": "it takes none",
    "compare --optimizer.learning-rate 0": "above 0",
    "compare --optimizer.learning-rate nan": "above 0",
    "compare --optimizer.clip -1": "--optimizer.clip",
    "compare --optimizer.fptt -1": "--optimizer.fptt",
    "train --network.dropout 1": "below 1",
    "train --network.density 0.5": "--network.density is for",
    "train --network.kind stack --network.density 2": "share in (0, 1]",
    "compare --algorithms snap:0": "`n` must be a positive number",
    "train --task copy --network.tied --network.kind stack": "are for texts",
    f"train {CHEAP} --losses-on-the-way": "mnist98 does not ask at the end only",
    "train --optimizer.fptt-linear 0.5": "give --optimizer.fptt too",
    "compare --memory-fraction 2": "--memory-fraction",
    "compare --steps 10 --optimizer.warmup 11": "--optimizer.warmup",
    "compare --config nowhere.toml": "no configuration file",
    "compare --resume": "--out",
    "compare --resume --out nowhere": "no run to resume",
    "train --resume --out nowhere": "no run to resume",
    "train --algorithm": "--algorithm",
    f"train --out /dev/null/x --task copy {CHEAP} --steps 1": "cannot be written",
    "train --batch-size 8 --devices 3": "--devices",
    "gradients --window 0": "--window must be at least 1",
    "gradients --task copy:length=2,delay=2 --window 99": "--window 99 is longer than the 6 steps",
    "gradients --keys 1": "--keys must be at least 2",
    "gradients --train -1": "--train must be at least 0",
    "gradients --groups layers": "--groups",
    "gradients --algorithms": "at least one",
    "gradients --algorithms bptt@7": "leave the @ out",
    "gradients --algorithms uoro uoro:chunk=1": "twice",
    "gradients --checkpoint nowhere.safetensors": "no checkpoint",
    "gradients --steps 3": "--steps",
    "gradients --preset full": "immediate",
    "compare --optimizer.name sgd": "rmsprop",
    "evaluate": "CHECKPOINT",
    "evaluate nowhere.safetensors": "no checkpoint",
    "evaluate nowhere.safetensors --batch-size 0": "--batch-size",
    "list pets": "algorithms",
}


@pytest.mark.parametrize("words", MISTAKES, ids=lambda words: words or "nothing")
def test_a_mistake_gets_one_sentence_and_code_2(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*words.split()) == 2
    _, error = capsys.readouterr()
    assert MISTAKES[words] in error
    assert error.startswith("onward")
    assert error.count("\n") == 1
    assert error.rstrip()[-1] in ".?"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps = ", "not a TOML file"),
        ("stepz = 3", "did you mean steps"),
        ("[network]\nlayer = 3", "did you mean network.layers"),
        ("network = 3", "must be a table"),
        ('steps = "3"', "steps must be an integer, got '3'"),
        ("steps = true", "steps must be an integer"),
        ("algorithms = 'bptt'", "must be a list of strings"),
        ("[network]\nkind = 'mlp'", "network.kind must be one of"),
        ("seed = -1", "--seed must be at least 0"),
        ("batch_size = 2\nbatch-size = 3", "'batch-size' twice"),
        ("\ufeffstepz = 3", "did you mean steps"),
    ],
)
def test_a_mistake_in_a_file_names_the_key(text, says, tmp_path, capsys):
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    assert run("compare", "--config", path) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("option", ["--out", "--config", "--task"])
def test_an_empty_value_is_refused(option, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", option, ""]) == 2
    assert (
        capsys.readouterr().err == f"onward train: {option} is given an empty value; give another, or leave it out.\n"
    )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("words", ["--steps 1e3", "--stepz 3", "extra", "--network.kind zebra", "--steps"])
def test_a_mistake_reads_the_same_on_any_terminal(encoding, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    with pytest.raises(UsageError) as found:
        parse_run(TrainConfig, "train", words.split())
    text = str(found.value)
    assert words.split()[0] in text
    assert not re.search(r"--(?![a-z])|[─│]|default|value error", text)
    assert text.count(";") <= 2


def test_options_go_before_the_file_and_that_before_the_preset(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("batch-size = 16\nseed = 4\n[network]\nlayers = 2\n")
    words = ["--preset", "quick", "--config", str(path), "--seed", "5"]
    config = parse_run(CompareConfig, "compare", words)
    assert (config.seed, config.batch_size, config.network.layers, config.network.units) == (5, 16, 2, 8)
    assert config.steps == 20 * 64 // 16
    assert parse_run(CompareConfig, "compare", ["--epochs", "1"]).steps is None
    assert parse_run(CompareConfig, "compare", ["--preset", "demo", "--preset", "full"]).steps == 1_000_000 // 64


@pytest.mark.parametrize("command", ["compare", "gradients", "train", "evaluate", "list"])
def test_help_explains_every_option(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, "--help")
    assert stop.value.code == 0
    text = re.sub(r"[│╭╮╰╯]", " ", capsys.readouterr().out)
    entries = re.split(r"\n\s+(?=--[a-z])", text)[1:]
    for entry in entries:
        assert len(re.findall(r"[a-z]{3,}", entry)) >= 3, entry
        if entry.startswith("--task "):  # where it cannot name them all
            assert "all of them: onward list" in " ".join(entry.split())


def test_overview_names_the_commands(capsys):
    assert run("--help") == 0
    assert run("--version") == 0
    text = capsys.readouterr().out
    assert all(f"  {command}" in text for command in ("compare", "gradients", "train", "evaluate", "list"))


def test_list_has_everything(capsys):
    assert run("list") == 0
    text = capsys.readouterr().out
    for name in (*ALGORITHMS, *CELLS, *TASKS, "lru-blocks", "Williams and Zipser 1989"):
        assert name in text
    assert run("list", "cells") == 0
    assert "Williams" not in capsys.readouterr().out


def test_list_and_help_start_no_device():
    code = (
        "import sys; from onward.cli import main; main(['list']); main(['--help'])\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import jax; jax.config.update('jax_num_cpu_devices', 2)  # raises if the backend runs"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize(
    ("text", "algorithm", "window", "label"),
    [
        ("bptt", ow.BPTT(), None, "BPTT"),
        ("bptt:sqrt", ow.BPTT(checkpoint="sqrt"), None, "BPTT(checkpoint=sqrt)"),
        ("bptt:checkpoint=7@14", ow.BPTT(checkpoint=7), 14, "BPTT(checkpoint=7) @14"),
        ("reversible-bptt:8", ow.ReversibleBPTT(8), None, "ReversibleBPTT(checkpoints=8)"),
        ("SpatialBP", ow.SpatialBP(), None, "SpatialBP"),
        ("snap1", ow.SnAp(1), None, "SnAp(1)"),
        ("snap:n=1@14", ow.SnAp(1), 14, "SnAp(1) @14"),
        ("rtrl:decay=0.9", ow.RTRL(decay=0.9), None, "RTRL(decay=0.9)"),
        ("nth-order:5", ow.NthOrder(5), None, "NthOrder(5)"),
        ("eprop:depth=traces@1", ow.EProp(depth="traces"), 1, "EProp(depth=traces) @1"),
    ],
)
def test_algorithms_by_name(text, algorithm, window, label):
    choice = make_algorithm(text)
    assert (choice.algorithm, choice.window, choice.label) == (algorithm, window, label)


def test_truncated_bptt_is_not_called_exact():
    network = build_network(make_task(TASK), NetworkConfig(kind="stack", layers=1, units=2), 0)
    assert make_algorithm("bptt").exact_on(network, 5)
    assert not make_algorithm("bptt@2").exact_on(network, 5)
    assert not make_algorithm("forward-errors@2").exact_on(network, 5)
    assert make_algorithm("rtrl@2").exact_on(network, 5)
    assert not make_algorithm("snap1").exact_on(network, 5)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_by_name(cell):
    network = build_network(make_task(TASK), NetworkConfig(kind="stack", cell=cell, layers=2, units=3), 0)
    assert network.unroll(np.ones((4, 2))).shape == (4, 2)


def test_train_leaves_everything_that_evaluate_needs(finished, capsys):
    assert sorted(path.name for path in finished.iterdir()) == [
        *("checkpoint.safetensors", "config.toml", "metrics.jsonl", "result.json")
    ]
    config = tomllib.loads((finished / "config.toml").read_text())
    assert (config["steps"], config["algorithm"]) == (12, "snap1@2")
    assert parse_run(TrainConfig, "train", ["--config", str(finished / "config.toml")]).network.units == 3
    capsys.readouterr()
    assert run("evaluate", finished, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    test = json.loads((finished / "result.json").read_text())["test"]
    assert {name: found[name] for name in test} == pytest.approx(test)
    assert run("evaluate", finished / "checkpoint.safetensors", "--which", "last", "--split", "validation") == 0
    assert "accuracy" in capsys.readouterr().out


def test_a_finished_run_is_not_overwritten(finished, capsys):
    assert run("train", *SMALL, "--steps", 12, "--out", finished) == 2
    assert run("train", "--resume", "--out", finished) == 2
    assert capsys.readouterr().err.count("already holds a finished run") == 2


def test_the_files_of_others_are_not_replaced(tmp_path, capsys):
    (tmp_path / "checkpoint.safetensors").write_text("precious")
    assert run("train", *SMALL, "--steps", 2, "--out", tmp_path) == 2
    assert "holds another checkpoint.safetensors" in capsys.readouterr().err
    assert (tmp_path / "checkpoint.safetensors").read_text() == "precious"
    (tmp_path / "bptt").mkdir()
    assert run("compare", *SMALL, "--steps", 2, "--algorithms", "bptt", "--out", tmp_path) == 2
    assert "holds another bptt" in capsys.readouterr().err


def test_a_damaged_log_is_named_and_kept(finished, tmp_path, capsys):
    for name in ("config.toml", "checkpoint.safetensors"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    (tmp_path / "metrics.jsonl").write_text("garbage\n")
    assert run("train", "--resume", "--out", tmp_path) == 2
    assert "metrics.jsonl is damaged: line 1" in capsys.readouterr().err
    assert (tmp_path / "metrics.jsonl").read_text() == "garbage\n"
    (tmp_path / "checkpoint.safetensors").unlink()
    assert run("train", "--resume", "--out", tmp_path) == 2


def test_a_header_that_is_not_the_command_lines_is_refused(tmp_path, capsys):
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, {"parameters": {"w": np.zeros(2)}}, config={"task": 3, "network": "x", "seed": "y"}, step=1)
    assert run("evaluate", path) == 2
    assert "was not written by this command line" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["list", "--help"])
def test_output_that_nobody_takes_is_no_crash(words):
    command = f"{sys.executable} -m onward {words}"
    gone = subprocess.run(["bash", "-c", f"set -o pipefail; {command} | true"], capture_output=True, timeout=120)
    assert (gone.returncode, gone.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_gets_one_sentence():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "onward", "list"], stdout=full, stderr=subprocess.PIPE, timeout=120
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"onward list: reading or writing failed (No space left")
    assert done.stderr.count(b"\n") == 1


def test_two_runs_do_not_share_a_folder(tmp_path, capsys):
    with session.sole_use(tmp_path):
        assert run("train", *SMALL, "--steps", 2, "--out", tmp_path) == 2
    assert "another run is at work" in capsys.readouterr().err
    with session.sole_use(tmp_path):
        pass


def test_a_run_killed_before_its_first_checkpoint_is_resumed(finished, tmp_path):
    (tmp_path / "config.toml").write_text((finished / "config.toml").read_text())
    (tmp_path / "metrics.jsonl").write_text('{"event": "start", "step": 0}\n')
    assert run("train", "--resume", "--out", tmp_path) == 0
    assert losses(tmp_path) == losses(finished)
    assert "resume = false" in (tmp_path / "config.toml").read_text()


@pytest.mark.parametrize("harm", ["truncated", "foreign", "library"])
def test_a_bad_checkpoint_is_refused(harm, finished, tmp_path, capsys):
    path = tmp_path / "checkpoint.safetensors"
    data = (finished / "checkpoint.safetensors").read_bytes()
    if harm == "library":
        checkpoint.save(path, {"parameters": {"w": np.zeros(2)}}, config=None, step=1)
    else:
        path.write_bytes(data[: len(data) // 2] if harm == "truncated" else b"not a checkpoint at all")
    assert run("evaluate", path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error


def test_exact_rtrl_that_does_not_fit_is_declined(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(diagnostics, "available_memory", lambda: 100_000)
    words = [*SMALL, "--steps", 2, "--network.units", 40]
    assert run("train", *words, "--algorithm", "rtrl", "--out", tmp_path / "a") == 2
    out, error = capsys.readouterr()
    assert re.search(r"RTRL is declined: .* GB, and 80% of the 0.0001 GB available may be used; .*--force", error)
    assert "declined" in out
    assert not (tmp_path / "a" / "config.toml").exists()
    assert run("compare", *words, "--algorithms", "rtrl", "bptt", "--out", tmp_path / "b") == 2
    assert "--force" in capsys.readouterr().err


def test_the_carry_of_rtrl_is_known_without_allocating_it():
    with jax.enable_x64(False):
        network = build_network(make_task(TASK), NetworkConfig(kind="stack", cell="rnn", layers=1, units=2000), 0)
        found = diagnostics.carry_bytes(network, ow.RTRL(), batch=64)
    parameters = 2000 * (2000 + 2 + 2)
    assert found == 4 * 64 * (2000 * parameters + 2000)  # 2 TB


def test_estimate_measures_memory_and_time():
    task = make_task(TASK)
    network = build_network(task, NetworkConfig(kind="stack", layers=1, units=3), 0)
    known = {"algorithm": ow.BPTT(), "optimizer": ow.optimizers.adamw(network, 1e-3), "loss": task.loss}
    batch = task.train_batch(0, 0, 8)
    cost = diagnostics.estimate(network, batch, **known, window=2)
    assert not cost.declined
    assert cost.memory > cost.carry > 0
    assert 0 < cost.seconds < 10
    tight = diagnostics.estimate(network, batch, **known, budget=cost.memory - 1)
    assert "a step needs" in tight.declined
    assert tight.seconds is None
    assert diagnostics.available_memory() > 1e6


@pytest.fixture
def compared(tmp_path_factory):
    """The folder of a small comparison; made once."""
    folder = tmp_path_factory.getbasetemp() / "compared"
    if not folder.exists():
        words = [*SMALL, "--steps", 20, "--validate-every", 10, "--out", folder]
        assert run("compare", *words, "--algorithms", "spatialbp", "bptt", "snap1@2") == 0
    return folder


def test_compare_leaves_a_report(compared):
    names = {path.name for path in compared.iterdir()}
    assert names >= {"report.html", "results.json", "metrics.jsonl", "config.toml", "learning.png", "alignment.png"}
    table = json.loads((compared / "results.json").read_text())
    spatial, bptt, snap = table["results"]
    assert [r["status"] for r in table["results"]] == ["finished"] * 3
    assert [r["exact"] for r in table["results"]] == [False, True, True]
    assert bptt["cosine_mean"] == pytest.approx(1, abs=1e-6)
    assert snap["cosine_mean"] == pytest.approx(1, abs=1e-6)  # one LRU layer: exact
    assert spatial["cosine_mean"] < 0.999
    assert all(r["memory"] > 0 and r["seconds_per_epoch"] > 0 for r in table["results"])
    events = [json.loads(line) for line in (compared / "metrics.jsonl").read_text().splitlines()]
    assert {e["algorithm"] for e in events} == {"spatialbp", "bptt", "snap1-w2"}
    first = [e["loss"] for e in events if e["event"] == "train" and e["step"] == 1 and e["algorithm"] != "snap1-w2"]
    assert first[0] == pytest.approx(first[1])  # same weights, same batch


def test_each_algorithm_of_a_comparison_can_be_evaluated(compared, capsys):
    assert run("evaluate", compared) == 2
    assert "choose one" in capsys.readouterr().err
    assert run("evaluate", compared / "bptt") == 0


def test_memory_decides_algorithm_by_algorithm(tmp_path, capsys, monkeypatch):
    words = [*SMALL, "--network.units", 64, "--steps", 2, "--align-every", 0, "--out", tmp_path]
    network = ["--network.cell", "rnn", "--batch-size", 16]
    monkeypatch.setattr(diagnostics, "available_memory", lambda: 20_000_000)
    assert run("compare", *words, *network, "--algorithms", "rtrl", "bptt") == 0
    rtrl, bptt = json.loads((tmp_path / "results.json").read_text())["results"]
    assert (rtrl["status"], bptt["status"]) == ("declined", "finished")
    assert "GB" in rtrl["reason"]
    assert "declined" in (tmp_path / "report.html").read_text()


def in_process(*words, stop=None, log=None, lines=0):
    """Exit code and errors of the command, sent the signal `stop` once the file `log` has so many `lines`."""
    command = [sys.executable, "-m", "onward", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while stop is not None and process.poll() is None:
            if log.exists() and log.read_text().count("\n") >= lines:
                process.send_signal(stop)
                break
            time.sleep(0.02)
        _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def losses(folder):
    events = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {event["step"]: event["loss"] for event in events if event["event"] == "train"}


STOPPED = ["train", *SMALL, "--algorithm", "bptt", "--steps", 1000, "--validate-every", 250]


@pytest.mark.slow
def test_a_run_that_is_stopped_twice_is_resumed_to_the_same_end(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert in_process(*STOPPED, "--out", whole) == (0, "")
    words = [*STOPPED, "--out", cut]
    for name, lines in (("SIGINT", 60), ("SIGTERM", 140)):
        code, error = in_process(*words, stop=getattr(signal, name), log=cut / "metrics.jsonl", lines=lines)
        assert (code, error.count("\n")) == (130, 1)
        words = re.search(r"go on with: onward (.*)", error).group(1).split()
    assert in_process(*words) == (0, "")
    assert losses(cut) == losses(whole)


@pytest.mark.slow
def test_a_stopped_comparison_goes_on_where_it_was(tmp_path):
    words = ["compare", *SMALL, "--steps", 500, "--algorithms", "spatialbp", "bptt", "--out", tmp_path]
    log = tmp_path / "bptt" / "metrics.jsonl"
    assert in_process(*words, stop=signal.SIGINT, log=log, lines=20)[0] == 130
    done = (tmp_path / "spatialbp" / "result.json").read_text()
    assert in_process("compare", "--resume", "--out", tmp_path) == (0, "")
    assert (tmp_path / "spatialbp" / "result.json").read_text() == done
    assert len(json.loads((tmp_path / "results.json").read_text())["results"]) == 2


def test_loss_that_is_not_finite_ends_with_code_1(tmp_path, capsys):
    words = [*SMALL, "--algorithm", "bptt", "--steps", 30, "--optimizer.learning-rate", 1e300]
    assert run("train", *words, "--optimizer.warmup", 0, "--out", tmp_path) == 1
    error = capsys.readouterr().err
    assert "training diverged" in error
    assert "checkpoint" in error


def test_unknown_option_of_resume_is_refused(tmp_path, capsys):
    (tmp_path / "config.toml").write_text("steps = 5\n")
    (tmp_path / "metrics.jsonl").write_text('{"event": "train", "step": 1, "loss": 1.0}\n')
    assert run("train", "--resume", "--out", tmp_path) == 2
    assert "delete the folder" in capsys.readouterr().err
    assert run("train", "--resume", "--out", tmp_path, "--steps", 6) == 2
    assert "--steps differs" in capsys.readouterr().err
    assert run("train", "--out", tmp_path) == 2
    assert "--resume" in capsys.readouterr().err
