"""A server for tests: the real one, on a free port of loopback, in a thread."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np

from onward.records import RecordStream, StreamSettings
from onward.serve.app import make_app
from onward.serve.engine import Engine
from onward.serve.running import server

SETTINGS = StreamSettings("load", features=("wind",), horizon=2, season=4, time="at", units=4)
FIRST = {"load": 1.0, "wind": 2.0, "at": "2026-01-01T00:00"}
JSON = {"Content-Type": "application/json"}


def new(settings: StreamSettings = SETTINGS) -> RecordStream:
    """A stream before its first sample; compiled once in a process."""
    return RecordStream(settings, FIRST)


def records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """A daily wave with noise, and some values missing."""
    rng = np.random.default_rng(seed)
    made = []
    for step in range(count):
        load = float(5 + 2 * np.sin(step * np.pi / 2) + rng.normal(0, 0.2))
        wind = None if step % 7 == 3 else float(rng.normal())
        at = f"2026-01-{1 + step // 24 % 28:02d}T{step % 24:02d}:00"
        made.append({"load": None if step % 11 == 5 else load, "wind": wind, "at": at})
    return made


@contextlib.contextmanager
def serving(engine: Engine, settings: StreamSettings = SETTINGS, **options: Any) -> Iterator[httpx.Client]:
    """A client of a server of `engine`, which runs while this lasts."""
    listener = socket.create_server(("127.0.0.1", 0))
    running = server(make_app(engine, settings, **options))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with engine:
        thread.start()
        while not running.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        try:
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                yield client
        finally:
            running.should_exit = True
            thread.join(30)
    assert not thread.is_alive(), "the server did not stop"


def served(stream: RecordStream | None = None, **options: Any) -> Engine:
    """An engine that begins a new stream, or goes on with one."""
    return Engine(lambda record: RecordStream(SETTINGS, record), stream, **options)


def learnt(client: httpx.Client, sent: Sequence[dict[str, Any]] | dict[str, Any]) -> Any:
    """What the server answers to records that it can learn from."""
    answer = client.post("/learn", json=sent)
    assert answer.status_code == 200, answer.text
    return answer.json()
