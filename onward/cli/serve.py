"""`onward serve`: a learner of records behind a small HTTP API on this machine."""

import contextlib
import dataclasses
import importlib.util
import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from onward.checkpoint import CheckpointError
from onward.cli import session
from onward.cli.config import File
from onward.cli.errors import RunError, StoppedError, UsageError
from onward.cli.forecasting import ForecastOptions, with_options
from onward.cli.options import parse
from onward.cli.specs import sentence
from onward.records import RecordStream, StreamSettings

if TYPE_CHECKING:
    from onward.serve.engine import Engine

PACKAGES = ("starlette", "uvicorn")
TOKEN = "ONWARD_TOKEN"  # the variable that may hold the token, so that no list of processes shows it
SHORTEST = 16  # characters of a token that nobody guesses


@dataclass(frozen=True, kw_only=True)
class ServeConfig(ForecastOptions):
    """Learn from records that come by HTTP, forecast, and show how it goes on a page."""

    host: str = "127.0.0.1"
    """Address to listen on; any that is not loopback needs --token."""
    port: int = 8765
    """Port to listen on; 0: one that is free."""
    token: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """What requests must send as `Authorization: Bearer`; by default what the variable ONWARD_TOKEN holds."""
    checkpoint: File = None
    """File that all that was learnt is kept in, by and by and when the server is stopped."""
    checkpoint_every: int = 1000
    """Records from one checkpoint to the next, which also comes a minute after a record."""
    resume: bool = False
    """Go on from the file of --checkpoint, if it is there."""
    history: int = 2000
    """Records that the page can look back on."""
    max_body: int = 1 << 20
    """Most bytes in a request."""
    max_records: int = 10_000
    """Most records in a request."""


MOST = {"checkpoint_every": 2**31 - 1, "history": 100_000, "max_body": 1 << 30, "max_records": 1_000_000}


def run(words: list[str]) -> int:
    """Bind, build what can be built before the first record, and serve until stopped."""
    config = parse(ServeConfig, "serve", words)
    _check(config)
    if any(importlib.util.find_spec(package) is None for package in PACKAGES):
        raise UsageError("it needs Starlette and uvicorn; run `pip install starlette uvicorn`")
    with contextlib.ExitStack() as stack:
        if config.checkpoint is not None:
            stack.enter_context(session.sole_use_of(config.checkpoint))
        stack.enter_context(session.gentle_stop())
        _use_two_threads()
        stream = _resumed(config, words)
        settings = config.settings() if stream is None else stream.settings
        listener = stack.enter_context(_bound(config))
        if stream is None and settings.features:
            stream = _begun(settings)
        raise _served(config, settings, stream, listener)


def _served(
    config: ServeConfig, settings: StreamSettings, stream: RecordStream | None, listener: socket.socket
) -> Exception:
    """Serve until stopped; how that ended, as what the command says last."""
    from onward.serve.app import Limits, make_app
    from onward.serve.engine import Engine
    from onward.serve.guard import LOCAL
    from onward.serve.running import server

    kept = {"checkpoint": config.checkpoint, "every": config.checkpoint_every, "history": config.history}
    engine = Engine(lambda record: RecordStream(settings, record), stream, **kept)
    host, port = listener.getsockname()[:2]
    hosts = LOCAL if ipaddress.ip_address(host).is_loopback else None
    limits = Limits(config.max_body, config.max_records)
    app = make_app(engine, settings, hosts=hosts, token=_token(config), limits=limits)
    shown = f"[{host}]" if ":" in host else host
    print(f"Listening on http://{shown}:{port}/ (the page), stopped by Ctrl-C.", flush=True)
    with contextlib.suppress(KeyboardInterrupt), engine:
        server(app).run(sockets=[listener])
    return _ended(engine, config)


def _use_two_threads() -> None:
    """Have XLA run on two threads, so that one forecasts while the other learns; before its backend starts."""
    os.environ.setdefault("NPROC", "2")


def _check(config: ServeConfig) -> None:
    for name in ("checkpoint_every", "history", "max_body", "max_records"):
        value, most = getattr(config, name), MOST[name]
        if not 1 <= value <= most:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1 and at most {most}, got {value}.")
    if not 0 <= config.port <= 65535:
        raise UsageError(f"--port must be at least 0 and at most 65535, got {config.port}.")
    token = _token(config)
    if token is not None and (len(token) < SHORTEST or re.fullmatch("[!-~]+", token) is None):
        raise UsageError(
            f"--token must be at least {SHORTEST} letters, digits and signs without spaces; make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    if config.checkpoint is None and config.resume:
        raise UsageError("--resume needs --checkpoint FILE, the file to go on from; add it.")
    if config.checkpoint is not None and config.checkpoint.exists() and not config.resume:
        raise UsageError(f"{config.checkpoint} is there; go on from it with --resume, or choose another --checkpoint.")


def _token(config: ServeConfig) -> str | None:
    return os.environ.get(TOKEN) or None if config.token is None else config.token


def _resumed(config: ServeConfig, words: list[str]) -> RecordStream | None:
    """The stream of the checkpoint; None where it is to be a new one."""
    if not config.resume or config.checkpoint is None or not config.checkpoint.exists():
        return None
    try:
        stream = RecordStream.load(config.checkpoint)
    except CheckpointError as error:
        raise UsageError(sentence(error)) from None
    settings = dataclasses.asdict(stream.settings)
    asked = parse(ServeConfig, "serve", words, dataclasses.replace(ServeConfig(), **settings))
    for name, value in settings.items():
        if getattr(asked, name) != value:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option} differs from that of {config.checkpoint}, which has {value!r}; leave it out, or start anew "
                "with another --checkpoint."
            )
    return stream


def _begun(settings: StreamSettings) -> RecordStream:
    """The stream of known fields, compiled before the first record comes."""
    names = (settings.target, *settings.features, *([settings.time] if settings.time else []))
    try:
        return RecordStream(settings, dict.fromkeys(names))
    except ValueError as error:
        raise UsageError(with_options(error)) from None


def _bound(config: ServeConfig) -> socket.socket:
    """A socket that listens at the address that is asked for."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError):
        raise UsageError(f"--host {config.host} is no address of this machine; try 127.0.0.1.") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        reason = f"{config.host} port {config.port} cannot be listened on ({error.strerror})"
        raise UsageError(f"{reason}; choose another --port or --host.") from None
    if not ipaddress.ip_address(address[0]).is_loopback and _token(config) is None:
        listener.close()
        raise UsageError(f"--host {config.host} can be reached from other machines, which needs a --token; give one.")
    return listener


def _ended(engine: "Engine", config: ServeConfig) -> Exception:
    """How it ended, as what the command says last."""
    count = f"{engine.samples:,} record{'' if engine.samples == 1 else 's'}"
    if config.checkpoint is None:
        return StoppedError(f"stopped after {count}; nothing is kept, since there was no --checkpoint.")
    if engine.saved.error is not None:
        return RunError(f"stopped after {count}, and {config.checkpoint} could not be written: {engine.saved.error}.")
    if not config.checkpoint.exists():
        return StoppedError("stopped before the first record; run the same command to start again.")
    return StoppedError(
        f"stopped after {count}; go on with: onward serve --resume --checkpoint {config.checkpoint} (and the options "
        "of the server)"
    )
