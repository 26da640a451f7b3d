"""Responses: JSON that any client can read, and refusals of one sentence."""

import json
import math
from typing import Any

from starlette.responses import Response
from starlette.types import Scope

from onward.serve import page
from onward.serve.reading import RefusedError

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`value` as JSON, in ASCII (names may hold half a surrogate pair); what is not finite becomes null."""
    text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":")) + "\n"
    return Response(text, status, HEADERS | (headers or {}), "application/json")


def plain(text: str, kind: str) -> Response:
    """`text` of a kind that is not JSON."""
    return Response(text, 200, HEADERS, kind)


def shown_page(status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The page, which holds no data, only what asks for them."""
    policy = {"Content-Security-Policy": page.policy()}
    return Response(page.text(), status, HEADERS | policy | (headers or {}), "text/html")


def refused(scope: Scope, refusal: RefusedError) -> Response:
    """The sentence of a refusal; to a browser that has no token yet, the page, which asks for it."""
    if refusal.status == 401 and scope["path"] == "/" and scope["method"] == "GET":
        accepted = dict(scope["headers"]).get(b"accept", b"")
        if b"text/html" in accepted:
            return shown_page(401, refusal.headers)
    return answer({"error": refusal.sentence}, refusal.status, refusal.headers)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
