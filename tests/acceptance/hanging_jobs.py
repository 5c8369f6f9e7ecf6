"""An app whose jobs call a server that may accept and never answer."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from shifter import Job, Shifter
from shifter.policy.protection.dependency import Dependency
from shifter.protection import CircuitPolicy

CUT_S = 0.3
PORT = int(os.environ.get("HUNG_PORT", "0"))
ONCE = CircuitPolicy(cooldown_ms=120_000, max_cooldown_ms=120_000)


async def call(port: int) -> None:
    """Wait for one byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await reader.readexactly(1)
    finally:
        writer.close()


def declare(app: Shifter, port: int) -> tuple[Dependency, list[Job[..., Any]]]:
    """The dependency of an app and the jobs that call it."""
    bank = app.dependency("bank", circuit=ONCE)

    @app.job(timeout=CUT_S)
    async def pay_in_time(number: int) -> None:
        async with bank:
            await call(port)

    @app.job(timeout="1m")
    async def pay_with_patience(number: int) -> None:
        async with asyncio.timeout(CUT_S), bank:
            await call(port)

    return bank, [pay_in_time, pay_with_patience]


apart = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))
remote = apart.dependency("bank", circuit=ONCE)


@apart.job(isolate="process", timeout="1500ms", attempts=1)
def pay_apart(number: int) -> None:
    with remote, socket.create_connection(("127.0.0.1", PORT)) as caller:
        caller.recv(1)


@apart.job(isolate="process", timeout="1500ms", attempts=1)
async def pay_apart_in_loop(number: int) -> None:
    async with remote:
        await call(PORT)


app = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))
declare(app, PORT)
