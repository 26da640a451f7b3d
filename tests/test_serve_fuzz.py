"""Whatever is sent, the server answers in a sentence, goes on, and its checkpoint stays whole."""

import json
import math
import socket
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette", reason="Starlette and uvicorn are not installed")
pytest.importorskip("uvicorn", reason="Starlette and uvicorn are not installed")
pytest.importorskip("httpx")

from onward.records import RecordStream
from onward.serve.app import PATHS, Limits
from tests.serving import JSON, learnt, new, records, served, serving

QUICK = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
ANSWERS = {200, 400, 403, 404, 405, 409, 413, 415, 421, 422}

texts = st.text(max_size=30) | st.sampled_from(["load", "wind", "at", "\ud800", "NaN", "1e400", "2026-01-01", "０"])
numbers = (
    st.integers() | st.floats() | st.sampled_from([0, 1e15, -1e15, 1.1e15, 1e300, 10**400, -0.0, 5e-324, 2**63, True])
)
scalars = st.none() | st.booleans() | numbers | texts
nested = st.recursive(
    scalars, lambda part: st.lists(part, max_size=4) | st.dictionaries(texts, part, max_size=4), max_leaves=12
)
fields = st.fixed_dictionaries({"load": scalars}, optional={"wind": scalars, "at": scalars, "more": nested})
plausible = st.fixed_dictionaries(
    {"load": numbers | st.none()}, optional={"wind": numbers, "at": st.integers(0, 2**33)}
)
bodies = (
    st.binary(max_size=200)
    | (nested | fields | plausible | st.lists(fields | plausible, max_size=5)).map(lambda value: _json(value))
    | st.tuples(st.sampled_from([b"[", b'{"load":', b'[{"load":1},']), st.integers(1, 6000)).map(lambda p: p[0] * p[1])
    | st.tuples(plausible, st.integers(0, 60)).map(lambda p: _json(p[0])[: p[1]])
)


def _json(value):
    return json.dumps(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A client of a server that keeps a checkpoint; what it knows is finite to the end."""
    file = tmp_path_factory.mktemp("fuzz") / "stream.safetensors"
    engine = served(new(), checkpoint=file, every=50)
    with serving(engine, limits=Limits(body=50_000, records=20)) as client:
        yield client, file
        for record in records(30):
            last = learnt(client, record)
        assert client.post("/checkpoint").json()["samples"] == last["number"]
    assert math.isfinite(last["forecast"])
    kept = RecordStream.load(file)
    assert kept.samples == last["number"]
    assert kept.forecast() == last["forecast"]


def in_a_sentence(answer):
    assert answer.status_code in ANSWERS, answer.text
    assert "Traceback" not in answer.text
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert error.strip()
        assert "\n" not in error
        assert len(error) < 500
    return answer


@given(path=st.sampled_from(["/learn", "/predict"]), body=bodies)
@settings(max_examples=100, **QUICK)
def test_any_body(server, path, body):
    client, file = server
    before = client.get("/forecast").json()
    answer = in_a_sentence(client.post(path, content=body, headers=JSON))
    if answer.status_code != 200 or path == "/predict":
        assert client.get("/forecast").json() == before
        return
    outcomes = answer.json() if isinstance(answer.json(), list) else [answer.json()]
    count = before["samples"] + len(outcomes)
    assert [outcome["number"] for outcome in outcomes] == list(range(before["samples"] + 1, count + 1))
    assert client.get("/forecast").json()["samples"] == count
    assert client.post("/checkpoint").json()["samples"] == count
    assert RecordStream.load(file).samples == count


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "QUERY"]),
    path=st.sampled_from(PATHS)
    | st.text("/.%?&=#é\x01 learn0", max_size=20).map(lambda text: "/" + quote(text.lstrip("/"))),
    query=st.dictionaries(st.sampled_from(["since", "frames", "x"]), texts.filter(str.isprintable), max_size=3),
    names=st.dictionaries(
        st.sampled_from(["Host", "Origin", "Content-Type", "Content-Length", "Authorization", "Accept"]),
        st.sampled_from(["", "0", "application/json", "localhost", "-1", "null", "é", "x" * 3000, "http://localhost"]),
        max_size=2,
    ),
)
@settings(max_examples=80, **QUICK)
def test_any_request(server, method, path, query, names):
    client, _ = server
    headers = {name: value.encode("latin-1") for name, value in names.items()}
    query = {name: value.encode("utf-8", "replace").decode() for name, value in query.items()}
    if headers.get("Content-Length", b"0") != b"0":
        del headers["Content-Length"]  # the client would wait; what a socket sends is tried below
    answer = client.request(method, path, params=query, headers=headers)
    if method == "HEAD":
        assert answer.status_code in ANSWERS
    elif answer.headers["content-type"] == "application/json":
        in_a_sentence(answer)
    else:
        assert answer.status_code == 200 or "Invalid HTTP" in answer.text


@given(
    start=st.sampled_from(
        [b"", b"POST /learn HTTP/1.1\r\nHost: localhost\r\n", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01"]
    ),
    rest=st.binary(max_size=100)
    | st.sampled_from(
        [b"Content-Length: -1\r\n\r\n", b"Content-Length: 9\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\nx"]
    ),
)
@settings(max_examples=40, **QUICK)
def test_any_bytes(server, start, rest):
    client, _ = server
    address = (client.base_url.host, client.base_url.port)
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(start + rest)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:
            pass
    assert b"Traceback" not in received
    assert b" 500 " not in received.partition(b"\r\n")[0]
    assert client.get("/health").json()["status"] == "ok"
