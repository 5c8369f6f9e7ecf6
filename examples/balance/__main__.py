"""Five small servers break one after another while a service calls them.

    python -m examples.balance [SECONDS OF EACH FAULT]

Prints how many of the requests of its users failed. Ends with 1 if more than one in a
thousand did.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile

import httpx

from shifter import Shifter
from shifter.balance.http import AsyncBalancedTransport
from shifter.config import Secret, Settings

USERS = 5
FAULTS = ("slow", "failing", "stalled", "down")
HEAD = b"HTTP/1.1 %d x\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """One server on loopback; ``fault`` is what is wrong with it, if anything."""

    def __init__(self) -> None:
        self.fault = ""
        self.address = ""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen; on the same port as before."""
        port = int(self.address.rpartition(":")[2] or 0)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            await self._server.wait_closed()

    async def set(self, fault: str) -> None:
        """Break it, or mend it."""
        if fault == "down":
            await self.stop()
        elif self.fault == "down":
            await self.start()
        self.fault = fault

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._open.add(writer)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                if self.fault == "stalled":
                    await reader.read()  # until the caller leaves
                    return
                await asyncio.sleep(0.3 if self.fault == "slow" else 0.003)
                writer.write(HEAD % (500 if self.fault == "failing" else 200))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


async def use(client: httpx.AsyncClient, seen: list[str], done: asyncio.Event) -> None:
    """One user: a request after the other, and what came of each."""
    while not done.is_set():
        try:
            answer = await client.get("/")
            seen.append(str(answer.status_code))
        except Exception as error:  # noqa: BLE001  # whatever the user would see
            seen.append(type(error).__name__)


async def main(fault_s: float) -> int:
    """Break each server for so many seconds; returns the exit code."""
    servers = [Server() for _ in range(5)]
    for server in servers:
        await server.start()
    with tempfile.TemporaryDirectory() as folder:
        url = Secret(f"sqlite:///{folder}/shifter.db")
        settings = Settings(
            namespace="balance", log_url=url, state_url=url, spool="off"
        )
        app = Shifter("balance", settings=settings)
        backend = app.dependency("backend", endpoints=[one.address for one in servers])
        transport = AsyncBalancedTransport(backend, timeout="2s", retries=2)
        client = httpx.AsyncClient(transport=transport, base_url="http://backend")
        seen: list[str] = []
        done = asyncio.Event()
        async with app, client, asyncio.TaskGroup() as group:
            for _ in range(USERS):
                group.create_task(use(client, seen, done))
            for number, server in enumerate(servers):
                fault, before = FAULTS[number % len(FAULTS)], len(seen)
                await server.set(fault)
                await asyncio.sleep(fault_s)
                failed = sum(one != "200" for one in seen[before:])
                print(f"{fault}: {len(seen) - before} requests, {failed} failed")
                await server.set("")
            done.set()
    for server in servers:
        await server.stop()
    failed = sum(one != "200" for one in seen)
    print(f"{failed} of {len(seen)} requests failed: {failed / len(seen):.2%}")
    return int(failed > 0.001 * len(seen))


sys.exit(asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)))
