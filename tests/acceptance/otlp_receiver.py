"""A process that receives traces over OTLP/HTTP and writes a line of JSON a span.

Its arguments: the file of the lines, and the file that its port is written to.
"""

from __future__ import annotations

import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

KINDS = {1: "INTERNAL", 4: "PRODUCER", 5: "CONSUMER"}


def plain(attributes) -> dict:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value"))
        for each in attributes
    }


def as_line(span, scope: str) -> str:
    found = {
        "scope": scope,
        "name": span.name,
        "kind": KINDS[span.kind],
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex(),
        "links": [[each.trace_id.hex(), each.span_id.hex()] for each in span.links],
        "attributes": plain(span.attributes),
        "is_error": span.status.code == span.status.STATUS_CODE_ERROR,
        "events": [each.name for each in span.events],
        "took_s": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    }
    return json.dumps(found) + "\n"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # as the base class calls it
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        with Path(sys.argv[1]).open("a") as out:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    out.writelines(as_line(s, scope.scope.name) for s in scope.spans)
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.end_headers()
        self.wfile.write(ExportTraceServiceResponse().SerializeToString())

    def log_message(self, *_: object) -> None:
        """Write nothing."""


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    Path(sys.argv[2]).write_text(str(server.server_address[1]))
    server.serve_forever()
