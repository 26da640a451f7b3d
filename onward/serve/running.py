"""The server itself: uvicorn, without what an API on loopback has no use for."""

from typing import Any

import uvicorn
from starlette.types import ASGIApp

CONNECTIONS = 200  # at once; more are told to come again
GRACE = 10  # seconds that requests have to end when the server is stopped


def server(app: ASGIApp) -> uvicorn.Server:
    """A server for `app`, to be run with `sockets=[...]`."""
    plain: dict[str, Any] = {"http": "h11", "ws": "none", "lifespan": "off", "loop": "asyncio"}
    quiet: dict[str, Any] = {
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
    }
    limits: dict[str, Any] = {"limit_concurrency": CONNECTIONS, "timeout_graceful_shutdown": GRACE}
    return uvicorn.Server(uvicorn.Config(app, **plain, **quiet, **limits))
