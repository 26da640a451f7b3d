"""`onward serve` as a command: it stops gently, goes on where it was, and refuses in a sentence what makes no sense."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

pytest.importorskip("starlette", reason="Starlette and uvicorn are not installed")
pytest.importorskip("uvicorn", reason="Starlette and uvicorn are not installed")
pytest.importorskip("httpx")

import httpx

from onward.cli import main
from onward.records import RecordStream, StreamSettings
from tests.serving import learnt, records

STREAM = ["--target", "load", "--features", "wind", "--horizon", "2", "--season", "4", "--time", "at", "--units", "4"]
TOKEN = "a-token-that-nobody-guesses"


def serve(*words, sent, stop):
    """The exit code of the command in a process of its own, what it said, and its answers to `sent`, before `stop`."""
    command = [sys.executable, "-m", "onward", "serve", "--port", "0", *map(str, words)]
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            line = process.stdout.readline()
            url = re.fullmatch(r"Listening on (http://127.0.0.1:\d+)/ \(the page\), stopped by Ctrl-C.\n", line)[1]
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                answers = learnt(client, sent)
            process.send_signal(stop)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, said, answers


def test_it_stops_at_a_signal_and_goes_on_where_it_was(tmp_path, capsys):
    file, sent = tmp_path / "stream.safetensors", records(30)
    kept = ["--checkpoint", file, "--resume"]
    code, said, first = serve(*STREAM, *kept, sent=sent[:17], stop=signal.SIGTERM)
    assert code == 130
    assert said.count("\n") == 1
    assert "stopped after 17 records; go on with" in said
    assert RecordStream.load(file).samples == 17
    code, said, second = serve(*kept, sent=sent[17:], stop=signal.SIGINT)
    assert code == 130
    assert "stopped after 30 records" in said
    settings = StreamSettings("load", features=("wind",), horizon=2, season=4, time="at", units=4)
    outcomes = RecordStream(settings, sent[0]).update_many(sent)
    assert [answer["number"] for answer in first + second] == list(range(1, 31))
    assert [answer["forecast"] for answer in first + second] == [outcome.forecast for outcome in outcomes]

    for words, sentence in (
        ([*STREAM, "--checkpoint", file], "is there; go on from it with --resume"),
        ([*kept, "--horizon", "3"], "--horizon differs"),
    ):
        assert main(["serve", *map(str, words)]) == 2
        assert sentence in capsys.readouterr().err


MISTAKES = {
    "": "give --target FIELD",
    "--target x --port 70000": "--port must be at least 0 and at most 65535, got 70000",
    "--target x --horizon 0": "--horizon must be at least 1",
    "--target x --learning-rate -1": "--learning-rate must be a number above 0",
    "--target x --cell gruu": "did you mean gru",
    "--target x --features x x": "name each once",
    "--target x --history 0": "--history must be at least 1",
    "--target x --max-body 0": "--max-body must be at least 1",
    "--target x --resume": "--resume needs --checkpoint FILE",
    "--target x --checkpoint /nowhere/at/all": "cannot be written",
    "--target x --host 0.0.0.0": "needs a --token",
    "--target x --host 0.0.0.0 --token short": "--token must be at least 16",
    "--target x --host nowhere.invalid": "is no address of this machine",
    "--target x --host 192.0.2.1": "cannot be listened on",
    "--target x --tokn abc": "did you mean --token",
}


@pytest.mark.parametrize("words", MISTAKES)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_told_in_a_sentence(words, capsys, monkeypatch):
    monkeypatch.delenv("ONWARD_TOKEN", raising=False)
    assert main(["serve", *words.split()]) == 2
    said = capsys.readouterr().err
    assert said.startswith("onward serve: ")
    assert said.count("\n") == 1
    assert MISTAKES[words] in said


def test_a_port_in_use_and_a_file_that_is_no_checkpoint(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert main(["serve", "--target", "x", "--port", str(listener.getsockname()[1])]) == 2
    assert "choose another --port" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("no checkpoint")
    assert main(["serve", "--resume", "--checkpoint", str(file)]) == 2
    assert str(file) in capsys.readouterr().err
    assert file.read_text() == "no checkpoint"


def test_without_its_packages_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["serve", "--target", "x"]) == 2
    assert "pip install starlette uvicorn" in capsys.readouterr().err


def test_xla_has_a_thread_for_forecasts_beside_the_one_that_learns(monkeypatch):
    """With one, on a machine of one core, forecasts would wait for learning."""
    for given, used in (("", "2"), ("3", "3")):
        monkeypatch.setenv("NPROC", given)
        if not given:
            del os.environ["NPROC"]
        assert main(["serve", "--target", "x", "--host", "192.0.2.1", "--token", TOKEN]) == 2
        assert os.environ["NPROC"] == used


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = capsys.readouterr().out
    for name in ("host", "port", "token", "checkpoint", "resume", "target", "max-body"):
        assert re.search(rf"--{name}\b", text), name
