"""An app whose jobs have hours, or wait for a quiet time.

``HOURS`` is a window that is closed while a test runs. Each start is one line of the
effects file: name, argument, attempt, process id and wall clock.
"""

from __future__ import annotations

import asyncio
import os
from typing import NamedTuple

from shifter import Priority, Shifter, Window
from shifter.api.job import Job
from shifter.config import Settings
from tests.acceptance.jobs import effect

LOAD_S = 0.1


class Jobs(NamedTuple):
    """The app and what is registered."""

    app: Shifter
    nightly: Job
    plain: Job
    idle: Job
    urgent: Job


def make(namespace: str, hours: str, settings: Settings | None = None) -> Jobs:
    """The app, with settings of its own or those of the environment."""
    app = Shifter(namespace, settings=settings)
    app.lane("spare", priority=Priority.LOW, opportunistic=True)

    @app.job(queue="night", window=Window(hours))
    async def nightly(number: int) -> None:
        effect("nightly", number)

    @app.job(queue="day")
    async def plain(number: int) -> None:
        effect("plain", number)

    @app.job(queue="spare", priority=Priority.LOW)
    async def idle(number: int) -> None:
        effect("idle", number)
        await asyncio.sleep(0.05)

    @app.job(queue="spare", priority=Priority.HIGH)
    async def urgent(number: int) -> None:
        effect("urgent", number)
        await asyncio.sleep(LOAD_S)

    @app.job(queue="clock", cron="* * * * *")
    async def tick() -> None:
        effect("tick", "-")

    return Jobs(app, nightly, plain, idle, urgent)


app = make(
    os.environ.get("TEST_NAMESPACE", "acceptance"),
    os.environ.get("HOURS", "00:00-00:01"),
).app
