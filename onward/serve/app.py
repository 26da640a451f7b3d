"""The HTTP API of a stream, as an ASGI application."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onward.readings import RecordError
from onward.records import StreamSettings
from onward.serve import metrics
from onward.serve.answers import answer, plain, refused, shown_page
from onward.serve.engine import BusyError, Engine
from onward.serve.exposition import CONTENT_TYPE, Counter
from onward.serve.guard import LOCAL, Guard
from onward.serve.reading import Record, RefusedError, parse, records_of, shown

PATHS = ("/", "/learn", "/predict", "/forecast", "/health", "/metrics", "/checkpoint", "/history")
ABOUT = ("target", "horizon", "season", "cell", "units", "algorithm")
DRAINED = 4  # times the most that a body may be
BODY_SECONDS = 30.0  # that a client may take to send its records


@dataclass(frozen=True)
class Limits:
    """Of a request: bytes of its body, and records in it."""

    body: int = 1 << 20
    records: int = 10_000


def make_app(
    engine: Engine,
    settings: StreamSettings,
    *,
    hosts: Iterable[str] | None = LOCAL,
    token: str | None = None,
    limits: Limits = Limits(),
) -> Starlette:
    """The application; `hosts` and `token` as for `onward.serve.guard.Guard`."""
    api, requests = _Api(engine, settings, limits), Counter()
    routes = [
        Route("/", api.page, methods=["GET"]),
        Route("/learn", api.learn, methods=["POST"]),
        Route("/predict", api.predict, methods=["POST"]),
        Route("/forecast", api.forecast, methods=["GET"]),
        Route("/health", api.health, methods=["GET"]),
        Route("/metrics", partial(_metrics, engine, requests), methods=["GET"]),
        Route("/checkpoint", api.checkpoint, methods=["POST"]),
        Route("/history", api.history, methods=["GET"]),
    ]
    middleware = [Middleware(_Counted, counter=requests), Middleware(Guard, hosts=hosts, token=token)]
    handlers = {RefusedError: _refused, HTTPException: _http, Exception: _unexpected}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


class _Api:
    def __init__(self, engine: Engine, settings: StreamSettings, limits: Limits):
        self._engine, self._settings, self._limits = engine, settings, limits

    async def page(self, request: Request) -> Response:
        return shown_page()

    async def learn(self, request: Request) -> Response:
        records, many = await self._records(request)
        outcomes = [outcome._asdict() for outcome in await _done(lambda: self._engine.learn(records))]
        return answer(outcomes if many else outcomes[0])

    async def predict(self, request: Request) -> Response:
        records, many = await self._records(request)
        if many:
            raise RefusedError(422, "a forecast is made from one record, got a list; send the record itself")
        view = self._published()
        try:
            forecast = await run_in_threadpool(view.predict, records[0])
        except RecordError as error:
            raise RefusedError(422, str(error)) from None
        return answer({"forecast": forecast, "horizon": self._settings.horizon, "samples": view.samples})

    async def forecast(self, request: Request) -> Response:
        view = self._published()
        return answer({"forecast": view.latest, "horizon": self._settings.horizon, "samples": view.samples})

    async def health(self, request: Request) -> Response:
        engine = self._engine
        kept = "off" if engine.checkpoint is None else "failing" if engine.saved.error else "on"
        status = {"status": "ok" if engine.alive else "stopped", "samples": engine.samples, "checkpoint": kept}
        return answer(status, 200 if engine.alive else 503)

    async def checkpoint(self, request: Request) -> Response:
        if self._engine.checkpoint is None:
            raise RefusedError(409, "the server keeps no checkpoint; start it with --checkpoint FILE")
        try:
            saved = await _done(self._engine.save)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise RefusedError(
                507, f"the checkpoint could not be written ({reason}); see to the server's disk"
            ) from None
        return answer({"samples": saved.samples or 0, "time": saved.time})

    async def history(self, request: Request) -> Response:
        """What the page draws; `since` and `frames` say what it has already."""
        engine, settings, query = self._engine, self._settings, request.query_params
        since, frames_since = (_number(name, query.get(name, "0")) for name in ("since", "frames"))
        about = {name: getattr(settings, name) for name in ABOUT} | {"started": engine.started}
        about["checkpoint"] = None if engine.checkpoint is None else engine.saved._asdict()
        frames, outcomes, view = engine.frames(frames_since), engine.outcomes(since), engine.published
        return answer(
            {
                "about": about,
                "samples": engine.samples,
                "forecast": None if view is None else view.latest,
                "figures": engine.figures(),
                "outcomes": [outcome._asdict() for outcome in outcomes],
                "frames": [frame._asdict() for frame in frames],
            }
        )

    def _published(self):
        view = self._engine.published
        if view is None:
            raise RefusedError(409, "nothing is known yet; send the first records to /learn")
        return view

    async def _records(self, request: Request) -> tuple[list[Record], bool]:
        """The records of a request, and whether they are a list."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # what a page of another site may send without asking is none
            raise RefusedError(415, f"records are sent as Content-Type: application/json, got {shown(kind)}")
        value = parse(await self._body(request))
        return records_of(value, self._limits.records), isinstance(value, list)

    async def _body(self, request: Request) -> bytes:
        body, most, dropped = bytearray(), self._limits.body, 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    if len(body) <= most:
                        body += part
                        continue
                    dropped += len(part)  # read all the same, or the client may lose the answer while it sends
                    if dropped > DRAINED * most:
                        break
        except TimeoutError:
            raise RefusedError(
                408, f"the body was not there after {BODY_SECONDS:.0f} seconds; send it at once"
            ) from None
        except ClientDisconnect:
            raise RefusedError(400, "the connection ended within the body; send it again") from None
        if len(body) > most:
            sentence = f"the body is larger than {most} bytes; send fewer records"
            raise RefusedError(413, sentence, Connection="close")
        return bytes(body)


class _Counted:
    """Counts answers by endpoint and status."""

    def __init__(self, app: ASGIApp, counter: Counter):
        self._app, self._counter = app, counter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                endpoint = scope["path"] if scope["path"] in PATHS else "other"
                self._counter.add(endpoint=endpoint, status=str(message["status"]))
            await send(message)

        await self._app(scope, receive, watched if scope["type"] == "http" else send)


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise RefusedError(422, f"{name} must be the number of a sample, 0 or more, got {shown(text)}")
    return int(text)


async def _done(ask: Callable):
    """What the engine answers, or the refusal that its errors are."""
    try:
        return await asyncio.wrap_future(ask())
    except RecordError as error:
        raise RefusedError(422, str(error)) from None
    except BusyError as error:
        raise RefusedError(503, str(error), Retry_After="1") from None


async def _metrics(engine: Engine, requests: Counter, request: Request) -> Response:
    return plain(metrics.text(engine, requests), CONTENT_TYPE)


async def _refused(request: Request, error: Any) -> Response:
    return refused(request.scope, error)


async def _http(request: Request, error: Any) -> Response:
    path, method = shown(request.url.path), request.method
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        sentence = f"{path} does not answer {method}; ask with {allowed}"
    elif error.status_code == 404:
        sentence = f"there is no {path}; ask for one of {', '.join(PATHS)}"
    else:
        sentence = str(error.detail)
    return answer({"error": sentence}, error.status_code, dict(error.headers or {}))


async def _unexpected(request: Request, error: Any) -> Response:
    return answer({"error": "the server failed, and its log says how; please report it"}, 500)
