"""A small HTTP/1.1 server of fixed pages: for a kubelet, a Prometheus and a scaler.

It answers once a connection; any path that is not a page is 404. It asks for no
authentication, and is bound to the loopback by default.

A connection may last five seconds in all, and 64 may be open: a new one replaces the
oldest. A probe sends its head at once and is answered in milliseconds, so slow clients,
however many, keep no probe out and hold no more sockets than that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from shifter.ops.scale_reader import PAGE_WAIT_S, ScaleReader, scale_page

JSON: Final = "application/json"
_HEAD_BYTES: Final = 8_192
_PATIENCE_S: Final = 5.0
_CONNECTIONS: Final = 64
_DISCARD_BYTES: Final = 65_536
_LINGER_S: Final = 0.2
_TOO_LARGE: Final = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class Page(NamedTuple):
    """An HTTP answer."""

    status: HTTPStatus
    content_type: str
    body: bytes


class PageServer:
    """Answers GET and HEAD.

    Args:
        pages: The pages by path; each is made anew for a request.
        scaling: Has the numbers of ``/scale``; ``None`` without that page.
    """

    def __init__(
        self, pages: Mapping[str, Callable[[], Page]], scaling: ScaleReader | None
    ) -> None:
        self._pages, self._scaling = pages, scaling
        self._open: dict[asyncio.StreamWriter, None] = {}  # oldest first

    @contextlib.asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncGenerator[int]:
        """Serve while the block runs; yields the port.

        Raises:
            OSError: The address cannot be bound.
        """
        # Not serving yet: asyncio leaves the socket open if it is cancelled while it
        # starts to serve.
        server = await asyncio.start_server(
            self._answer, host, port, limit=_HEAD_BYTES, start_serving=False
        )
        async with server:
            await server.start_serving()
            yield server.sockets[0].getsockname()[1]

    def page(self, path: str) -> Page:
        """The page of a path."""
        find = self._pages.get(path)
        if find is None:
            return Page(HTTPStatus.NOT_FOUND, JSON, b'{"error":"no such page"}')
        return find()

    async def _scale(self) -> Page:
        assert self._scaling is not None  # noqa: S101  # the caller has looked
        answer = await self._scaling.fresh(wait_s=PAGE_WAIT_S)
        status, body = scale_page(answer)
        return Page(status, JSON, body)

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if len(self._open) >= _CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            # A client that breaks off or is too slow is not logged.
            with contextlib.suppress(OSError):
                async with asyncio.timeout(_PATIENCE_S):
                    await self._exchange(reader, writer)
        finally:
            self._open.pop(writer, None)
            # Closing would wait for a client that does not read its answer.
            writer.transport.abort()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            answer = await self._response(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            answer = _written(Page(_TOO_LARGE, JSON, b'{"error":"head too long"}'))
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(answer)
        await writer.drain()
        # Unread bytes would make the kernel discard the answer. The client has the
        # length and closes; a half-close from here would raise after a reset.
        async with asyncio.timeout(_LINGER_S):
            while await reader.read(_DISCARD_BYTES):
                pass

    async def _response(self, head: bytes) -> bytes:
        method, path, *_ = [*head.split(b"\r\n", 1)[0].split(b" "), b"", b""]
        if method not in (b"GET", b"HEAD"):
            page = Page(HTTPStatus.METHOD_NOT_ALLOWED, JSON, b'{"error":"use GET"}')
        else:
            name = path.split(b"?", 1)[0].decode("latin-1")
            is_scale = name == "/scale" and self._scaling is not None
            page = await self._scale() if is_scale else self.page(name)
        return _written(page, has_body=method != b"HEAD")


def _written(page: Page, *, has_body: bool = True) -> bytes:
    """The bytes of an answer."""
    lines = (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        "Cache-Control: no-store",
        "Connection: close",
    )
    start = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return start + page.body if has_body else start
