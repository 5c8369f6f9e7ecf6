"""The health port answers probes whatever other clients do to it.

A request whose head was longer than 8 KiB printed a traceback for each request; any
number of clients that sent nothing, or did not read their answer, each held a socket.
Now such a head is answered with 431, a connection ends after five seconds, and 64 are
open at most, of which a new one takes the place of the oldest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shifter.adapters.system import SystemClock
from shifter.supervise import pages
from shifter.supervise.pages import Page
from shifter.supervise.probes import ProbeServer
from shifter.supervise.supervisor import ProcessHealth

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


class Port:
    """An endpoint that listens, and clients to it."""

    def __init__(self, number: int, served: ProbeServer) -> None:
        self.number, self.served = number, served
        self.idle: list[socket.socket] = []

    async def ask(self, request: bytes, *, limit_s: float = 30.0) -> bytes:
        async with asyncio.timeout(limit_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.number)
            try:
                writer.write(request)
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
                return await reader.read()
            finally:
                writer.close()

    def connect(self, sent: bytes = b"", *, room: int | None = None) -> socket.socket:
        client = socket.socket()
        if room is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        client.connect(("127.0.0.1", self.number))
        client.sendall(sent)
        self.idle.append(client)
        return client


@pytest.fixture
async def port(caplog) -> AsyncIterator[Port]:
    served = ProbeServer(ProcessHealth(1, SystemClock()), version="1")
    async with served.serving("127.0.0.1", 0) as number:
        port = Port(number, served)
        yield port
        for client in port.idle:
            client.close()
    # asyncio says there what a connection's task did not catch.
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def sockets() -> int:
    found = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(path.readlink()).startswith("socket:")
    return found


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /livez HTTP/1.1\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"a" * 1_000_000,
        b"\x00" * 20_000,
    ],
    ids=["header", "path", "a megabyte", "zeros"],
)
async def test_head_that_is_too_long_is_answered_with_431(request_, port):
    answer = await port.ask(request_)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert (await port.ask(GET)).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    "request_",
    [b"\r\n\r\n", b"GET\r\n\r\n", b"\xff\xfe \xff\r\n\r\n", b"GET  / x\r\n\r\n"],
)
async def test_head_that_is_none_is_answered_without_a_traceback(request_, port):
    assert (await port.ask(request_)).startswith(b"HTTP/1.1 4")


async def test_probe_is_answered_while_hundreds_of_clients_say_nothing(
    port, monkeypatch
):
    # None of them leaves by itself: a probe waits for none.
    monkeypatch.setattr(pages, "_PATIENCE_S", 600.0)
    before = sockets()
    for number in range(400):
        port.connect(b"" if number % 2 else b"GET /livez HTTP/1.1\r\nX-Slow: ")
        if number % 50 == 0:
            await asyncio.sleep(0)

    answers = [await port.ask(GET) for _ in range(5)]

    assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
    assert len(port.served._open) <= 64
    # Beside the clients' own there are those that are served.
    assert sockets() - before - len(port.idle) < 64 + 20


async def test_client_that_dawdles_is_cut_off_after_its_time(port, monkeypatch):
    monkeypatch.setattr(pages, "_PATIENCE_S", 0.3)

    async def dawdle() -> None:
        client = port.connect()
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while True:
                await loop.sock_sendall(client, b"G")
                await asyncio.sleep(0.02)

    async with asyncio.timeout(30):
        await dawdle()

    assert not port.served._open


async def test_client_that_does_not_read_its_answer_holds_no_socket(port, monkeypatch):
    monkeypatch.setattr(pages, "_PATIENCE_S", 0.3)
    large = Page(pages.HTTPStatus.OK, "text/plain", b"a" * 4_000_000)
    monkeypatch.setattr(port.served, "page", lambda _: large)
    before = sockets()
    for _ in range(10):
        port.connect(GET, room=4_096)

    async with asyncio.timeout(30):
        while sockets() > before + 10 or not port.idle or port.served._open:
            await asyncio.sleep(0.02)

    assert sockets() == before + 10


async def test_whole_answer_arrives_although_the_request_has_a_body(port):
    answer = await port.ask(b"POST /livez HTTP/1.1\r\n\r\n" + b"a" * 100_000)

    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b'{"error":"use GET"}')


async def test_client_that_resets_costs_no_traceback(port, monkeypatch):
    monkeypatch.setattr(pages, "_PATIENCE_S", 600.0)
    large = Page(pages.HTTPStatus.OK, "text/plain", b"a" * 4_000_000)
    monkeypatch.setattr(port.served, "page", lambda _: large)
    for number in range(60):
        client = port.connect(GET if number % 3 else b"GET /livez")
        # Closing with this sends a reset.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if number % 2:
            await asyncio.sleep(0.005)
        client.close()

    async with asyncio.timeout(30):
        while port.served._open:
            await asyncio.sleep(0.02)


async def test_large_answer_arrives_whole(port, monkeypatch):
    large = Page(pages.HTTPStatus.OK, "text/plain", b"a" * 3_000_000)
    monkeypatch.setattr(port.served, "page", lambda _: large)

    answer = await port.ask(GET)

    assert answer.endswith(b"a" * 3_000_000)
