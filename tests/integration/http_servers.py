"""Small HTTP servers on loopback that answer, are slow, fail or stall."""

from __future__ import annotations

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Backend(ThreadingHTTPServer):
    """One server; what it answers may be changed while it runs."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host="127.0.0.1"):
        if ":" in host:
            self.address_family = __import__("socket").AF_INET6
        super().__init__((host, 0), _Handler)
        self.requests, self.statuses, self.delay_s = [], [200], 0.0
        self.headers, self.stalls = {}, False
        self.ends = threading.Event()

    @property
    def address(self):
        host, port = self.server_address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def handle_error(self, request, client_address):
        """A client that gave up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Backend

    def answer(self):
        server = self.server
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        server.requests.append((self.command, self.path, dict(self.headers), body))
        if server.stalls:
            server.ends.wait(60)
            return
        time.sleep(server.delay_s)
        statuses = server.statuses
        status = statuses[len(server.requests) % len(statuses)]
        text = f"{status} from {server.address}".encode()
        dated = "date" in server.headers
        (self.send_response_only if dated else self.send_response)(status)
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = answer  # noqa: N815

    def log_message(self, *args):
        """Quiet."""


@contextlib.contextmanager
def backends(count, host="127.0.0.1"):
    """Servers that run while the block runs."""
    servers = [Backend(host) for _ in range(count)]
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.02,))
        for server in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield servers
    finally:
        for server in servers:
            server.ends.set()
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
