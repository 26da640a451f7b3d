"""The page: one HTML file with its style and its script inside, which asks nobody but its own server."""

import base64
import hashlib
import importlib.resources
from functools import cache

SCRIPTS = ("draw.js", "charts.js", "live.js")


@cache
def text() -> str:
    """The page, whole."""
    return _read("page.html").replace("/* style */", _style()).replace("/* script */", _script())


@cache
def policy() -> str:
    """The content security policy: nothing but this style and this script, which may ask this server only."""
    parts = {
        "default-src": "'none'",
        "script-src": f"'sha256-{_digest(_script())}'",
        "style-src": f"'sha256-{_digest(_style())}'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())


def _style() -> str:
    return _read("page.css")


def _script() -> str:
    return "\n".join(map(_read, SCRIPTS))


def _read(name: str) -> str:
    return importlib.resources.files("onward.serve.page").joinpath(name).read_text("utf-8")


def _digest(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
