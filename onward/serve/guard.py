"""Who may ask: middleware that looks at a request's headers before anything else does.

A server on loopback is open to every page that the user's browser shows, unless it looks closely:

- DNS rebinding: a page's own name is made to point at 127.0.0.1. Such requests carry that name as `Host`, which is none
  of this machine's.
- Requests across sites: a page may post to any address without being able to read the answer. Such requests carry its
  `Origin`, which is not this server's. No header of CORS is ever sent.
"""

import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from onward.serve.answers import refused
from onward.serve.reading import RefusedError, shown

LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
OPEN = frozenset({"/health"})  # needs no token


class Guard:
    """Lets requests through that name this server, come from its own pages, and know the token.

    **Arguments.** `hosts`: names by which the server may be called, whatever the port; None: any, for servers that are
    reached from elsewhere, where the token is what counts. `token`: what `Authorization: Bearer` must say.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str] | None, token: str | None):
        self._app = app
        self._hosts = None if hosts is None else frozenset(hosts)
        self._token = None if token is None else token.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope["method"], scope["path"], Headers(scope=scope))
            except RefusedError as refusal:
                await refused(scope, refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, method: str, path: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._hosts is not None and _without_port(host) not in self._hosts:
            names = " or ".join(sorted(self._hosts))
            raise RefusedError(421, f"this server is not called {shown(host)}; ask it as {names}")
        origin = headers.get("origin")
        if method != "GET" and origin is not None and origin.split("://")[-1].lower() != host.lower():
            raise RefusedError(403, f"a page of {shown(origin)} may not ask this server; use a page of its own")
        if self._token is None or path in OPEN:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        known = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._token)
        if scheme.lower() != "bearer" or not known:
            sentence = "this server needs its token; send it as Authorization: Bearer TOKEN"
            raise RefusedError(401, sentence, WWW_Authenticate="Bearer")


def _without_port(host: str) -> str:
    if host.startswith("["):  # an IPv6 address
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()
