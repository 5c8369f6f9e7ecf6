"""The demo's app: what a user's own module of jobs looks like.

    shifter work shifter.demo.app:app

Two job types call one backend, whose socket the variable ``DEMO_BACKEND`` names. A
backend that is away or full teaches nothing about a job, so that attempt is not
counted (`Throttled`); a request that makes no sense fails, is tried again twice, and
ends among the dead letters.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import msgspec

from shifter.api.app import Shifter
from shifter.api.job import Job
from shifter.config import Settings
from shifter.demo.wire import Answer, Request, Told, ask
from shifter.errors import Throttled
from shifter.jobs.context import Context
from shifter.model.lane import Priority

NAMESPACE = "demo"
QUEUE = "inference"
TARGET = f"{__name__}:app"

_AWAY_AGAIN_S = 0.5
_BUSY_AGAIN_S = 0.2


class DemoApp(NamedTuple):
    """The app with its job types."""

    app: Shifter
    converse: Job[..., Any]
    complete: Job[..., Any]


def build(settings: Settings | None = None) -> DemoApp:
    """Declare the jobs.

    Args:
        settings: Ready settings; by default read as in any program.
    """
    namespace = os.environ.get("DEMO_NAMESPACE", NAMESPACE)
    if settings is not None:
        namespace = settings.namespace
    app = Shifter(namespace, settings=settings)

    @app.job(queue=QUEUE, priority=Priority.HIGH, attempts=3, backoff="200ms")
    async def converse(
        ctx: Context,
        priority: Priority,
        arrived_at: float,
        context_tokens: int,
        generated_tokens: int,
    ) -> None:
        """Answer somebody who waits."""
        await call_backend(ctx, priority, arrived_at, context_tokens, generated_tokens)

    @app.job(queue=QUEUE, priority=Priority.LOW, attempts=3, backoff="200ms")
    async def complete(
        ctx: Context,
        priority: Priority,
        arrived_at: float,
        context_tokens: int,
        generated_tokens: int,
    ) -> None:
        """Complete code in the background."""
        await call_backend(ctx, priority, arrived_at, context_tokens, generated_tokens)

    return DemoApp(app, converse, complete)


async def call_backend(
    ctx: Context, priority: Priority, arrived_at: float, read: int, written: int
) -> None:
    """Have one request carried out.

    Raises:
        Throttled: The backend is away, or all its slots are taken.
        ValueError: It says that the request makes no sense.
    """
    request = Request(ctx.idempotency_key, priority, arrived_at, read, written)
    line = await ask(os.environ["DEMO_BACKEND"], Told("serve", request=request))
    if not line:
        raise Throttled(_AWAY_AGAIN_S)
    answer = msgspec.json.decode(line, type=Answer)
    if answer.said == "busy":
        raise Throttled(_BUSY_AGAIN_S)
    if answer.said == "bad":
        raise ValueError(f"the backend refused the request: {answer.detail}")


app = build().app
