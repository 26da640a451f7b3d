"""The HTTP API of a stream: answers, order, refusals, checkpoints."""

import dataclasses
import itertools
import json
import math
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="Starlette and uvicorn are not installed")
pytest.importorskip("uvicorn", reason="Starlette and uvicorn are not installed")
pytest.importorskip("httpx")

from onward.records import RecordStream
from onward.serve import exposition
from onward.serve.app import PATHS, Limits
from onward.serve.engine import Engine
from tests.serving import JSON, SETTINGS, learnt, new, records, served, serving

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def client():
    """Of a server whose limits are low, after 40 records."""
    with serving(served(), limits=Limits(body=20_000, records=50)) as client:
        learnt(client, records(40))
        yield client


def plain(outcome):
    return json.loads(json.dumps(outcome._asdict()))


def test_answers_are_those_of_the_stream_itself():
    sent, alone = records(60), new()
    with serving(served()) as client:
        assert client.get("/forecast").status_code == client.post("/predict", json=sent[0]).status_code == 409
        answers = [learnt(client, sent[0]), *learnt(client, sent[1:50]), learnt(client, sent[50])]
        assert answers == [plain(outcome) for outcome in alone.update_many(sent[:51])]
        assert [answer["number"] for answer in answers] == list(range(1, 52))
        for record in sent[51:]:
            made = client.post("/predict", json=record).json()
            assert made == client.post("/predict", json=record).json()
            assert made["horizon"] == 2
            assert made == {"forecast": alone.update(record).forecast, "horizon": 2, "samples": alone.samples - 1}
            assert learnt(client, record)["forecast"] == made["forecast"]
            assert client.get("/forecast").json() == made | {"samples": alone.samples}
        history = client.get("/history", params={"since": 55}).json()
        assert [one["number"] for one in history["outcomes"]] == [56, 57, 58, 59, 60]
        assert history["about"]["target"] == "load"
        assert history["samples"] == 60


def test_concurrent_clients_get_answers_of_one_order():
    sent, answers, made = records(400, seed=1), [], []
    together, done = threading.Barrier(5), threading.Event()
    engine = served(history=30)

    def learn(client, share):
        for number, some in enumerate(np.array_split(share, 18)):
            if number < 2:  # so that nobody's second list comes before everybody's first
                together.wait(60)
            some = some.tolist()
            answers.extend(zip(learnt(client, some), some, strict=True))

    def predict(client, record):
        while not done.is_set():
            made.append((record, client.post("/predict", json=record).json()))

    with serving(engine) as client, ThreadPoolExecutor(8) as threads:
        answers.append((learnt(client, sent[0]), sent[0]))
        readers = [threads.submit(predict, client, record) for record in records(3, seed=2)]
        for writer in [threads.submit(learn, client, share) for share in np.array_split(sent, 5)]:
            writer.result()
        done.set()
        for reader in readers:
            reader.result()
    answers.sort(key=lambda pair: pair[0]["number"])
    assert [answer["number"] for answer, _ in answers] == list(range(1, 402))
    assert [record for _, record in answers] != [sent[0], *sent]
    again, views = new(), {}
    for answer, record in answers:
        assert plain(again.update(record)) == answer
        views[again.samples] = again.view()
    assert len({answer["samples"] for _, answer in made}) > 5
    for record, answer in made:
        assert views[answer["samples"]].predict(record) == answer["forecast"]
    for ours, theirs in zip(again.state.arrays, engine._stream.state.arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(engine.outcomes()) == 30


class Slow(RecordStream):
    """Learns nothing before it is let."""

    def learn(self, readings):
        self.begun.set()
        assert self.let.wait(60)
        return super().learn(readings)


def test_nothing_but_learning_waits_for_learning():
    stream = new()
    stream.update_many(records(20))
    stream.__class__, stream.begun, stream.let = Slow, threading.Event(), threading.Event()
    with serving(served(stream, waiting=2)) as client, ThreadPoolExecutor(4) as threads:
        before = client.get("/forecast").json()
        learning = threads.submit(learnt, client, records(3, seed=3))
        assert stream.begun.wait(60)
        started = time.monotonic()
        assert client.post("/predict", json=records(1, seed=4)[0]).json()["samples"] == 20
        assert client.get("/forecast").json() == before
        assert client.get("/health").json()["samples"] == 20
        assert "onward_samples_total 20\n" in client.get("/metrics").text
        assert len(client.get("/history").json()["outcomes"]) == 0
        assert not learning.done()
        assert time.monotonic() - started < 20  # seconds for all, on a machine that is busy
        waiting = [threads.submit(learnt, client, records(1, seed=seed)[0]) for seed in (5, 6)]
        while "onward_learn_waiting 2\n" not in client.get("/metrics").text:
            time.sleep(0.01)
        refused = client.post("/learn", json=records(1)[0])
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert "2 requests wait" in refused.json()["error"]
        stream.let.set()
        assert [answer["number"] for answer in learning.result()] == [21, 22, 23]
        assert sorted(answer.result()["number"] for answer in waiting) == [24, 25]


def test_a_list_with_a_bad_record_teaches_nothing(client):
    before = client.get("/forecast").json()
    good = records(3, seed=7)
    for bad, named in (
        ({"wind": 1}, "'load' is not there"),
        ({"load": "high"}, "'high' instead of a number"),
        ({"load": [1]}, "nested"),
        ({"load": 1, "at": "noon"}, "no time"),
        ({"load": 1e300}, "larger units"),
    ):
        answer = client.post("/learn", json=[*good, bad])
        assert answer.status_code == 422
        assert named in answer.json()["error"]
        assert client.post("/predict", json=bad).status_code == 422
    assert client.get("/forecast").json() == before


REFUSED = [
    (400, "no body", b""),
    (400, "not JSON", b'{"load": 1'),
    (400, "not UTF-8", b'{"load": "\xff"}'),
    (400, "NaN is not JSON", b'{"load": NaN}'),
    (400, "-Infinity is not JSON", b'{"load": -Infinity}'),
    (400, 'the name "load" stands twice', b'{"load": 1, "load": 2}'),
    (400, "nested too deeply", b"[" * 15_000),
    (422, "larger than a double", b'{"load": 1e999}'),
    (422, "larger than a double", b'{"load": ' + b"9" * 5000 + b"}"),
    (422, "no records", b"[]"),
    (422, "must be an object", b"3"),
    (422, "record 1 must be an object", b'[{"load": 1}, null]'),
    (422, "1001 fields", json.dumps({f"f{place}": 1 for place in range(1001)}).encode()),
    (422, "at most 200", json.dumps({"n" * 201: 1}).encode()),
    (422, "text of 300 characters", json.dumps({"load": 1, "at": "2" * 300}).encode()),
    (413, "51 records", json.dumps([{"load": 1}] * 51).encode()),
    (413, "larger than 20000 bytes", b" " * 20_001),
]


@pytest.mark.parametrize(("status", "sentence", "body"), REFUSED, ids=[sentence for _, sentence, _ in REFUSED])
def test_what_is_no_record_is_refused_in_a_sentence(client, status, sentence, body):
    before = client.get("/forecast").json()
    for path in ("/learn", "/predict"):
        answer = client.post(path, content=body, headers=JSON)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
        error = answer.json()["error"]
        assert sentence in error
        assert "\n" not in error
        assert len(error) < 300
    assert client.get("/forecast").json() == before


def test_other_refusals(client):
    chunks = client.post("/learn", content=itertools.repeat(b" " * 5000, 10), headers=JSON)
    assert chunks.status_code == 413  # without a Content-Length
    plain = client.post("/learn", content=b'{"load": 1}', headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    assert "application/json" in plain.json()["error"]
    many = client.post("/predict", json=records(2))
    assert many.status_code == 422
    assert "one record" in many.json()["error"]
    for path, method in [("/learn", "GET"), ("/predict", "PUT"), ("/health", "POST"), ("/history", "DELETE")]:
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"]
        assert path in answer.json()["error"]
    missing = client.get("/learn/more")
    assert missing.status_code == 404
    assert "/predict" in missing.json()["error"]
    for since in ("-1", "x", "1" * 20, "²"):
        assert client.get("/history", params={"since": since}).status_code == 422
    kept = client.post("/checkpoint")
    assert kept.status_code == 409
    assert "--checkpoint" in kept.json()["error"]


def test_only_this_machine_and_own_pages_may_ask(client):
    for host in ("evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[::2]:1"):
        answer = client.get("/forecast", headers={"Host": host})
        assert answer.status_code == 421, host
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8765"):
        assert client.get("/forecast", headers={"Host": host}).status_code == 200, host
    own = str(client.base_url).rstrip("/")
    for origin, status in ((own, 200), ("http://evil.example", 403), ("null", 403), (own + "1", 403)):
        answer = client.post("/predict", json=records(1)[0], headers={"Origin": origin})
        assert answer.status_code == status, origin
    for method in ("GET", "OPTIONS"):
        answer = client.request(method, "/predict", headers={"Origin": own, "Access-Control-Request-Method": "POST"})
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_token_is_needed_everywhere_but_for_health():
    right = {"Authorization": f"Bearer {TOKEN}"}
    with serving(served(new()), token=TOKEN, hosts=None) as client:
        for path in PATHS:
            method = "POST" if path in ("/learn", "/predict", "/checkpoint") else "GET"
            with_token = client.request(method, path, headers=right)
            assert with_token.status_code not in (401, 404, 405), path
            for wrong in ({}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}):
                answer = client.request(method, path, headers=wrong)
                assert answer.status_code == (200 if path == "/health" else 401), path
            for other in (TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\xe9"):
                header = {"Authorization": f"Bearer {other}".encode("latin-1")}
                assert client.request(method, path, headers=header).status_code == answer.status_code
        assert client.get("/forecast", headers=right | {"Host": "far.example"}).status_code == 200
        assert client.get("/forecast").headers["www-authenticate"] == "Bearer"
        sign_in = client.get("/", headers={"Accept": "text/html,*/*"})
        assert sign_in.status_code == 401
        assert 'id="sign-in"' in sign_in.text


METRIC = r'[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? (-?[0-9.e+-]+|NaN|[+-]Inf)'


def test_metrics_are_in_prometheus_format_and_right():
    alone, engine = new(), served()
    alone.update_many(records(40))
    with serving(engine) as client:
        learnt(client, records(40))
        client.get("/nothing")
        while engine.figures() == {}:
            time.sleep(0.01)
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.split("\n")
    assert lines.pop() == ""
    values, described = {}, set()
    for line in lines:
        if line.startswith("# "):
            found = re.fullmatch(r"# (HELP|TYPE) ([a-z_]+) .+", line)
            assert found, line
            assert (found[1], found[2]) not in described
            described.add((found[1], found[2]))
            continue
        assert re.fullmatch(METRIC, line), line
        name, value = line.rsplit(" ", 1)
        family = re.sub(r"_(bucket|sum|count)$", "", name.split("{")[0])
        assert {("HELP", family), ("TYPE", family)} <= described
        values[name] = float(value)
    figures = alone.figures()
    assert values["onward_samples_total"] == 40
    assert values['onward_rolling_mae{model="onward"}'] == pytest.approx(figures["mae"])
    assert values['onward_rolling_mae{model="naive"}'] == pytest.approx(figures["naive_mae"])
    assert values['onward_rolling_mae{model="seasonal-naive"}'] == pytest.approx(figures["seasonal_mae"])
    assert values["onward_norm"] == pytest.approx(figures["norm"])
    assert values["onward_missing_values_total"] == figures["missing"] > 0
    assert values["onward_refused_updates_total"] == 0
    assert values['onward_http_requests_total{endpoint="/learn",status="200"}'] == 1
    assert values['onward_http_requests_total{endpoint="other",status="404"}'] == 1
    buckets = [value for name, value in values.items() if name.startswith("onward_learn_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == values["onward_learn_seconds_count"] == 40
    assert values["onward_learn_seconds_sum"] > 0


def test_exposition_escapes_and_counts():
    text = exposition.labelled("m", "gauge", "About.", "name", {'a"\\\n': math.nan, "b": -math.inf, "c": 0.25})
    assert text.split("\n")[2:5] == [r'm{name="a\"\\\n"} NaN', 'm{name="b"} -Inf', 'm{name="c"} 0.25']
    values = exposition.Histogram((1.0, 2.0))
    for value, times in ((0.5, 2), (1.0, 1), (1.5, 3), (9.0, 1)):
        values.observe(value, times)
    assert values.read() == ([3, 6, 7], 15.5)


def test_checkpoints_come_by_and_by_on_request_and_at_the_end(tmp_path):
    file, sent = tmp_path / "stream.safetensors", records(30)
    with serving(served(checkpoint=file, every=10)) as client:
        learnt(client, sent[:9])
        assert not file.exists()
        assert client.get("/health").json()["checkpoint"] == "on"
        learnt(client, sent[9])
        while not file.exists():  # it is written after the answer
            time.sleep(0.01)
        assert RecordStream.load(file).samples == 10
        learnt(client, sent[10:13])
        assert client.post("/checkpoint").json()["samples"] == 13
        assert RecordStream.load(file).samples == 13
        learnt(client, sent[13:15])
    kept, alone = RecordStream.load(file), new()
    assert kept.samples == 15
    outcomes = alone.update_many(sent)
    with serving(served(kept)) as client:
        assert client.get("/forecast").json()["forecast"] == outcomes[14].forecast
        assert learnt(client, sent[15:]) == [plain(outcome) for outcome in outcomes[15:]]


def test_a_checkpoint_that_cannot_be_written_stops_nothing(tmp_path):
    file = tmp_path / "gone" / "stream.safetensors"
    file.parent.mkdir()
    with serving(served(checkpoint=file, every=2)) as client:
        learnt(client, records(3))
        assert client.post("/checkpoint").status_code == 200
        kept = file.read_bytes()
        file.unlink()
        file.parent.rmdir()
        answer = client.post("/checkpoint")
        assert answer.status_code == 507
        assert "No such file" in answer.json()["error"]
        assert str(tmp_path) not in answer.text
        assert client.get("/health").json() == {"status": "ok", "samples": 3, "checkpoint": "failing"}
        assert learnt(client, records(3))[-1]["number"] == 6
        file.parent.mkdir()
        file.write_bytes(kept)
        assert client.post("/checkpoint").json()["samples"] == 6
        assert client.get("/health").json()["checkpoint"] == "on"
        metrics = client.get("/metrics").text
        assert "onward_checkpoint_samples 6\n" in metrics
        assert re.search(r"onward_checkpoint_failures_total [1-9]\n", metrics)


def test_the_first_record_says_which_fields_there_are():
    settings = dataclasses.replace(SETTINGS, features=())
    with serving(Engine(lambda record: RecordStream(settings, record)), settings) as client:
        assert client.post("/learn", json={"wind": 1}).status_code == 422
        assert client.post("/learn", json=[{"load": 1, "wind": 2}, {"load": "x"}]).status_code == 422
        assert client.get("/forecast").status_code == 409
        assert learnt(client, {"load": 1, "sun": 2, "name": "x"})["number"] == 1
        assert learnt(client, {"load": 1, "sun": None, "more": {"a": [1]}})["number"] == 2


def test_only_the_extra_imports_its_packages():
    allowed = {"onward/serve", "onward/cli/serve.py"}
    for path in Path("onward").rglob("*.py"):
        imports = re.search(
            r"^\s*(import|from) (starlette|uvicorn|onward\.serve)\b", path.read_text("utf-8"), re.MULTILINE
        )
        assert not imports or any(str(path).startswith(part) for part in allowed), path
