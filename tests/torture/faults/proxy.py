"""A TCP proxy of our own before a broker or a Redis, and what a network may do there.

It runs on a thread of its own, so that it goes on while a test blocks. Bytes of each
direction keep their order, whatever holds them up; a connection whose bytes were once
thrown away never carries another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, Final, Self

from tests.torture.faults.fault import Healing, Repeated

_CHUNK: Final = 65_536
_CHUNKS_UNDER_WAY: Final = 256
_CALL_S: Final = 10.0
_RST: Final = struct.pack("ii", 1, 0)


class Way(Enum):
    """A direction: what the client sends, or what the server answers."""

    UP = "up"
    DOWN = "down"


BOTH: Final = (Way.UP, Way.DOWN)


class _Rules:
    """How bytes of one direction pass now."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.delay_s = self.jitter_s = 0.0
        self.bytes_per_s: float | None = None
        self.free_at = 0.0


class _Link:
    """One client's connection and the one to the server behind it."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.writers = writers
        self.is_dead = False

    def reset(self) -> None:
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            writer.transport.abort()


class Proxy:
    """Listens on a port of its own and passes everything on. Close it after use.

    Args:
        target: The server's port on 127.0.0.1.
        seed: Seeds the jitter.

    Attributes:
        port: Where clients connect.
        accepted: Connections taken so far.
    """

    def __init__(self, target: int, *, seed: int = 0) -> None:
        self.target, self.accepted = target, 0
        self._random = random.Random(seed)
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._is_resetting = self._is_blackhole = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="proxy", daemon=True
        )
        self._thread.start()
        self.port = 0
        self._call(self._open())

    @property
    def connections(self) -> int:
        """Connections open now, dead ones included."""
        return len(self._links)

    def close(self) -> None:
        """Drop everything; closing twice is harmless."""
        if self._loop.is_closed():
            return
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()

    def set_rules(self, ways: tuple[Way, ...], change: Callable[[Any], object]) -> None:
        """Change how bytes pass from now on."""

        async def apply() -> None:
            for way in ways:
                change(self._rules[way])

        self._call(apply())

    def reset(self) -> None:
        """Break all connections with RST."""
        self._call(self._reset())

    def refuse(self, *, is_on: bool) -> None:
        """Take no connections, or take them again."""
        self._call(self._stop_listening() if is_on else self._open())

    def reset_all_new(self, *, is_on: bool) -> None:
        """Break each connection as soon as it was taken."""
        self._is_resetting = is_on

    def blackhole(self, *, is_on: bool) -> None:
        """Throw away what comes; connections of that time stay dead for ever."""

        async def apply() -> None:
            self._is_blackhole = is_on
            for link in self._links:
                link.is_dead = link.is_dead or is_on

        self._call(apply())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_S)

    async def _open(self) -> None:
        if not hasattr(self, "_rules"):
            self._rules = {way: _Rules() for way in Way}
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, backlog=512
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _reset(self) -> None:
        for link in list(self._links):
            link.reset()

    async def _shut(self) -> None:
        await self._stop_listening()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):  # until the transports have said that they are closed
            await asyncio.sleep(0)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        if self._is_resetting:
            _Link(writer).reset()
            return
        try:
            behind = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _Link(writer).reset()
            return
        link = _Link(writer, behind[1])
        link.is_dead = self._is_blackhole
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, behind[1], link, Way.UP))
                group.create_task(self._pump(behind[0], writer, link, Way.DOWN))
        except* OSError:
            link.reset()
        finally:
            self._links.discard(link)
            for each in link.writers:
                each.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        link: _Link,
        way: Way,
    ) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_UNDER_WAY)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(under_way, writer, link, way))
            while data := await reader.read(_CHUNK):
                if not link.is_dead:
                    await under_way.put((time.monotonic() + self._delay_s(way), data))
            await under_way.put((0.0, b""))

    def _delay_s(self, way: Way) -> float:
        rules = self._rules[way]
        swing = self._random.uniform(-rules.jitter_s, rules.jitter_s)
        return max(0.0, rules.delay_s + swing)

    async def _deliver(
        self,
        under_way: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        link: _Link,
        way: Way,
    ) -> None:
        rules = self._rules[way]
        while True:
            due, data = await under_way.get()
            if due > (now := time.monotonic()):
                await asyncio.sleep(due - now)
            await rules.gate.wait()
            if link.is_dead:
                if not data:
                    return
                continue
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            await self._pace(rules, len(data))
            writer.write(data)
            await writer.drain()

    async def _pace(self, rules: _Rules, size: int) -> None:
        if rules.bytes_per_s is None:
            return
        # the line is shared by all connections of a direction
        now = time.monotonic()
        rules.free_at = max(rules.free_at, now) + size / rules.bytes_per_s
        await asyncio.sleep(rules.free_at - now)


class Latency(Healing):
    """Bytes take longer, each way.

    Args:
        proxy: Where.
        delay_s: On average, > 0.
        jitter_s: Up to this much more or less, uniform.
        ways: Which directions.
    """

    def __init__(
        self,
        proxy: Proxy,
        delay_s: float,
        *,
        jitter_s: float = 0.0,
        ways: tuple[Way, ...] = BOTH,
    ) -> None:
        super().__init__(f"latency {delay_s * 1_000:.0f}±{jitter_s * 1_000:.0f} ms")
        self._proxy, self._ways = proxy, ways
        self._delay_s, self._jitter_s = delay_s, jitter_s

    def _begin(self) -> None:
        self._set(self._delay_s, self._jitter_s)

    def _end(self) -> None:
        self._set(0.0, 0.0)

    def _set(self, delay_s: float, jitter_s: float) -> None:
        def change(rules: _Rules) -> None:
            rules.delay_s, rules.jitter_s = delay_s, jitter_s

        self._proxy.set_rules(self._ways, change)


class Stall(Healing):
    """Connections are taken and stay, but nothing passes; healed, all of it does."""

    def __init__(self, proxy: Proxy, *, ways: tuple[Way, ...] = BOTH) -> None:
        super().__init__(f"stall {'+'.join(way.value for way in ways)}")
        self._proxy, self._ways = proxy, ways

    def _begin(self) -> None:
        self._proxy.set_rules(self._ways, lambda rules: rules.gate.clear())

    def _end(self) -> None:
        self._proxy.set_rules(self._ways, lambda rules: rules.gate.set())


class Bandwidth(Healing):
    """A slow line, shared by all connections of a direction."""

    def __init__(
        self, proxy: Proxy, bytes_per_s: float, *, ways: tuple[Way, ...] = BOTH
    ) -> None:
        super().__init__(f"bandwidth {bytes_per_s * 8 / 1e6:g} Mbit/s")
        self._proxy, self._ways, self._rate = proxy, ways, bytes_per_s

    def _begin(self) -> None:
        self._set(self._rate)

    def _end(self) -> None:
        self._set(None)

    def _set(self, rate: float | None) -> None:
        self._proxy.set_rules(
            self._ways, lambda rules: setattr(rules, "bytes_per_s", rate)
        )


class Reset(Healing):
    """All connections break with RST, new ones too."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__("reset")
        self._proxy = proxy

    def _begin(self) -> None:
        self._proxy.reset_all_new(is_on=True)
        self._proxy.reset()

    def _end(self) -> None:
        self._proxy.reset_all_new(is_on=False)


class HalfOpen(Healing):
    """Connections look established and carry nothing: no byte, no FIN, no RST.

    Those of that time stay so after the healing, as after a firewall forgot them; only
    new ones work then. What is sent is acknowledged by TCP, so that keepalive finds
    nothing: only an answer that does not come does.
    """

    def __init__(self, proxy: Proxy) -> None:
        super().__init__("half-open")
        self._proxy = proxy

    def _begin(self) -> None:
        self._proxy.blackhole(is_on=True)

    def _end(self) -> None:
        self._proxy.blackhole(is_on=False)


class Refuse(Healing):
    """Nobody listens; connections that were there break."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__("refuse")
        self._proxy = proxy

    def _begin(self) -> None:
        self._proxy.refuse(is_on=True)

    def _end(self) -> None:
        self._proxy.refuse(is_on=False)


class Flapping(Repeated):
    """All connections break every so often."""

    def __init__(self, proxy: Proxy, *, every_s: float = 0.3) -> None:
        super().__init__(
            f"flapping every {every_s:g} s", lambda _: proxy.reset(), every_s=every_s
        )
