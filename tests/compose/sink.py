"""Takes any POST with 204 and prints what it got, one JSON line a request."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        line = {"path": self.path, "headers": headers, "body": body.decode()}
        print(json.dumps(line), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The JSON line is the log."""


if __name__ == "__main__":
    # all addresses: it is alone in its container
    ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
