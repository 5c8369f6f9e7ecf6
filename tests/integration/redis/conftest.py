"""Stores on servers of their own, and a connection that can lose answers."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from shifter.adapters.redis.claims import RedisClaimStore
from shifter.adapters.redis.client import open_redis
from stack.redis import RedisServer


@pytest.fixture
def server():
    """A server that a test may stop, fill or lock."""
    server = RedisServer().start()
    yield server
    server.stop()


@pytest.fixture
async def stores(namespace):
    """Opens claim stores and closes them at the end."""
    opened = []

    def open_store(url, *, timeout_s=2.0, **options):
        client = open_redis(url, timeout_s=timeout_s)
        store = RedisClaimStore(client, namespace, **options)
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        await store.close()


class Proxy:
    """Passes bytes on to a server; can keep answers back, or take no connections."""

    def __init__(self, url):
        self._target = ("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))
        self._tasks = set()
        self._writers = set()
        self.answers = asyncio.Event()
        self.answers.set()
        self.connections = 0

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        return self

    async def stop(self):
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self):
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _serve(self, reader, writer):
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            self._writers |= {writer, server_writer}
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server_writer))
                group.create_task(self._pump(server_reader, writer, self.answers))

    @staticmethod
    async def _pump(reader, writer, gate=None):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if gate is not None:
                    await gate.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
async def proxy(redis_url):
    proxy = await Proxy(redis_url).start()
    yield proxy
    await proxy.stop()
