"""A fleet to watch: jobs of four queues, and a service that defers them without end.

Files beside ``EFFECTS`` are the faults: ``bank-is-closed`` breaks the dependency,
``poison`` spoils the jobs of one queue.

    uvicorn tests.acceptance.alert_jobs:service
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Route

from shifter import DeadLetter, Priority, Shifter
from shifter.errors import ShifterError
from shifter.protection import CircuitPolicy, EvidencePolicy
from shifter.telemetry import asgi_metrics

app = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))

PAUSE_S = 0.2
"""Between two rounds of the service, each a job a queue."""

bank = app.dependency(
    "bank",
    circuit=CircuitPolicy(cooldown_ms=1_000, max_cooldown_ms=2_000, ramp_ms=500),
    evidence=EvidencePolicy(consecutive_failures=3),
)


def is_there(fault: str) -> bool:
    """Whether a fault is on."""
    return Path(os.environ["EFFECTS"]).with_name(fault).exists()


@app.job(queue="mail", priority=Priority.HIGH, deadline="1h")
async def send(number: int) -> None: ...


@app.job(queue="news", priority=Priority.LOW)
async def print_news(number: int) -> None: ...


@app.job(queue="payments", uses=bank, attempts=20, backoff="100ms", deadline="1h")
async def pay(number: int) -> None:
    if is_there("bank-is-closed"):
        raise OSError("the bank is closed")


@app.job(queue="letters")
async def read(number: int) -> None:
    if is_there("poison"):
        raise DeadLetter("it is illegible")


async def offer() -> None:
    """Defer a job of each queue, and run one here, until cancelled."""
    number = 0
    while True:
        number += 1
        for job in (send, print_news, pay, read):
            with contextlib.suppress(ShifterError):
                await job.defer(number)
        with contextlib.suppress(ShifterError):
            await send.submit(number)
        with contextlib.suppress(ShifterError, OSError):
            async with bank:
                if is_there("bank-is-closed"):
                    raise OSError("the bank is closed")
        await asyncio.sleep(PAUSE_S)


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[None]:
    async with app:
        offering = asyncio.create_task(offer())
        yield
        offering.cancel()


service = Starlette(routes=[Route("/metrics", asgi_metrics(app))], lifespan=lifespan)
