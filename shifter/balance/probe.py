"""One health check of one endpoint: over HTTP, TCP or gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncGenerator
from typing import Any, Final
from urllib.parse import urlsplit

from shifter.model.endpoint import Endpoint
from shifter.model.health_check import GrpcCheck, HealthCheck, HttpCheck
from shifter.wire.untrusted import printable

_LONGEST_LINE: Final = 4_096
"""Bytes of a status line that are read; a longer one is no HTTP."""

_SERVING: Final = 1
"""Of `HealthCheckResponse.status`, grpc/health/v1/health.proto."""


async def probe(check: HealthCheck, endpoint: Endpoint) -> str | None:
    """Check an endpoint once.

    Args:
        check: How.
        endpoint: The endpoint.

    Returns:
        ``None`` if it is well; otherwise what is wrong. Nothing is raised.
    """
    try:
        async with asyncio.timeout(check.timeout_s):
            if isinstance(check, GrpcCheck):
                return await _grpc(check, endpoint)
            async with _connected(endpoint) as (reader, writer):
                if not isinstance(check, HttpCheck):
                    return None
                return await _http(check, endpoint, reader, writer)
    except TimeoutError:
        return f"no answer in {check.timeout_s:g} s"
    except Exception as error:  # noqa: BLE001  # whatever a server does, it is not well
        return printable(str(error) or type(error).__name__, 160)


@functools.cache
def _tls() -> ssl.SSLContext:
    """Verifies a server's certificate and name; made once, since it reads files."""
    return ssl.create_default_context()


@contextlib.asynccontextmanager
async def _connected(
    endpoint: Endpoint,
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    is_tls = urlsplit(endpoint.url).scheme in ("https", "wss")
    reader, writer = await asyncio.open_connection(
        endpoint.host,
        endpoint.port,
        limit=_LONGEST_LINE,
        ssl=_tls() if is_tls else None,
        server_hostname=(endpoint.server_name or endpoint.host) if is_tls else None,
    )
    try:
        yield reader, writer
    finally:
        # An orderly end could wait for a server that does not read.
        writer.transport.abort()


async def _http(
    check: HttpCheck,
    endpoint: Endpoint,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> str | None:
    parts = urlsplit(endpoint.url)
    host = parts.netloc
    if endpoint.server_name is not None:
        host = f"{endpoint.server_name}:{endpoint.port}"
    request = (
        f"GET {parts.path}{check.path} HTTP/1.1\r\nHost: {host}\r\n"
        "User-Agent: shifter-health-check\r\nConnection: close\r\n\r\n"
    )
    writer.write(request.encode("utf-8"))
    words = (await reader.readline()).split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        return "the answer is not HTTP/1.1"
    status = words[1]
    if len(status) == 3 and status.startswith(b"2") and status.isdigit():
        return None
    return f"status {printable(status.decode('latin-1'), 8)}"


async def _grpc(check: GrpcCheck, endpoint: Endpoint) -> str | None:
    import grpc  # noqa: PLC0415  # an extra
    import grpc.aio  # noqa: PLC0415

    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    target = f"{host}:{endpoint.port}"
    options = []
    if endpoint.server_name is not None:
        options = [("grpc.ssl_target_name_override", endpoint.server_name)]
    if urlsplit(endpoint.url).scheme == "https":
        credentials = grpc.ssl_channel_credentials()
        channel = grpc.aio.secure_channel(target, credentials, options)
    else:
        channel = grpc.aio.insecure_channel(target)
    async with channel:
        ask: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer: bytes = await ask(_request(check.service))
        except grpc.aio.AioRpcError as error:
            return printable(f"{error.code().name}: {error.details()}", 160)
    status = _status(answer)
    return None if status == _SERVING else f"not serving (status {status})"


def _request(service: str) -> bytes:
    """`HealthCheckRequest`: field 1 is the name of the service."""
    name = service.encode("utf-8")
    if not name:
        return b""
    return b"\x0a" + _varint(len(name)) + name


def _status(answer: bytes) -> int:
    """The status of a `HealthCheckResponse`: field 1, a number; 0 if it has none."""
    return answer[1] if len(answer) == 2 and answer[0] == 0x08 else 0


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
