"""The metrics of a service on a port of their own, for services that are no ASGI."""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self

from shifter.telemetry.exposition import CONTENT_TYPE, Exposition

_PATIENCE_S: Final = 5.0
"""How long a client may take for its request."""


class MetricsServer:
    """Serves one page until it is closed; see `shifter.telemetry.serve_metrics`.

    Args:
        exposition: Makes the page.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.

    Attributes:
        port: The port that it listens on.

    Raises:
        OSError: The address cannot be bound.
    """

    def __init__(self, exposition: Exposition, host: str, port: int) -> None:
        one_at_a_time = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            timeout = _PATIENCE_S

            def do_GET(self) -> None:  # as the library calls it
                if self.path.partition("?")[0] != "/metrics":
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                with one_at_a_time:
                    page = exposition.render()
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(page)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                """Write nothing: a scrape is no event."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        name = "shifter-metrics"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name=name, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Free the port; closing twice is harmless."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()
