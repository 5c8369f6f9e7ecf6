"""The demo's app: what a user's own module of jobs looks like.

    shifter work shifter.demo.app:app

Two job types call one backend, whose socket the variable ``DEMO_BACKEND`` names. That
the backend is away or full is no fault of the job, so the attempt is not counted
(`Throttled`). A request that the backend cannot carry out fails, is tried again twice,
and ends among the dead letters.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from shifter.api.app import Shifter
from shifter.api.job import Job
from shifter.config import Settings
from shifter.demo.backend import Answer, Command, Request, ask
from shifter.errors import Throttled
from shifter.jobs.context import Context
from shifter.model.lane import Priority

NAMESPACE = "demo"
QUEUE = "inference"
TARGET = f"{__name__}:app"

# A backend that is away takes longer to come back than a slot takes to become free.
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
        """Answer a person who waits."""
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
    """Have the backend carry out the work of one job.

    Args:
        ctx: Of the attempt.
        priority: Of the job.
        arrived_at: Monotonic seconds of this machine when the job was offered.
        read: Tokens to read.
        written: Tokens to write.

    Raises:
        Throttled: The backend is away, or all its slots are taken.
        ValueError: The backend cannot do what the request asks for.
    """
    request = Request(ctx.idempotency_key, priority, arrived_at, read, written)
    command = Command("serve", request=request)
    answer = await ask(os.environ["DEMO_BACKEND"], command, Answer)
    if answer is None:
        raise Throttled(_AWAY_AGAIN_S)
    if answer.status == "busy":
        raise Throttled(_BUSY_AGAIN_S)
    if answer.status == "bad":
        raise ValueError(f"the backend refused the request: {answer.detail}")


app = build().app
