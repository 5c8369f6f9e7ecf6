"""``python -m tests.integration.tls_probe KIND URL [NAME]``: one health check.

A process of its own, since TLS libraries read the certificates that they trust once.
"""

from __future__ import annotations

import asyncio
import sys

from shifter.balance import Endpoint, GrpcCheck, HttpCheck, TcpCheck
from shifter.balance.probe import probe

_KINDS = {"http": HttpCheck, "tcp": TcpCheck, "grpc": GrpcCheck}


def main() -> None:
    kind, url, *name = sys.argv[1:]
    endpoint = Endpoint(url, server_name=name[0] if name else None)
    found = asyncio.run(probe(_KINDS[kind](every="60s", timeout="60s"), endpoint))
    print("well" if found is None else found)


if __name__ == "__main__":
    main()
