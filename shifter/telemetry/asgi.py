"""The metrics of a service over HTTP, as an ASGI application."""

from __future__ import annotations

from typing import Any, Final

from shifter.runtime.threads import in_thread
from shifter.telemetry.exposition import CONTENT_TYPE, of_service
from shifter.telemetry.metric import HasMetrics

_METHODS: Final = ("GET", "HEAD")
_NOT_ALLOWED: Final = 405


class MetricsEndpoint:
    """Answers scrapes; see `shifter.telemetry.asgi_metrics`.

    Args:
        app: The app whose metrics are read.
    """

    def __init__(self, app: HasMetrics) -> None:
        self._exposition = of_service(app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002  # as ASGI calls it
        """Serve one connection; a websocket is refused."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["type"] == "http":
            await self._answer(scope["method"], send)

    async def _answer(self, method: str, send: Any) -> None:
        status, body, headers = _NOT_ALLOWED, b"", [(b"allow", b"GET, HEAD")]
        if method in _METHODS:
            # A reading may wait for the disk that the spool is on.
            status, body = 200, await in_thread(self._exposition.render)
            headers = [(b"content-type", CONTENT_TYPE.encode())]
        headers.append((b"content-length", b"%d" % len(body)))
        headers.append((b"cache-control", b"no-store"))
        start = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        shown = b"" if method == "HEAD" else body
        await send({"type": "http.response.body", "body": shown})
