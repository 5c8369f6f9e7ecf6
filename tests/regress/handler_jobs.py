"""Jobs that worker processes and isolated processes of these tests import by name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

from shifter import Context, Shifter
from shifter.work import attempt as attempts
from tests.acceptance.jobs import effect
from tests.regress.leaving import leave

app = Shifter(os.environ.get("TEST_NAMESPACE", "shop"))

if "HURRIED" in os.environ:
    attempts.STOP_AGAIN_S, attempts.STOP_GRACE_S = 0.5, 1.5


@app.job(isolate="process", attempts=1)
def leaves_process(how: str) -> None:
    leave(how)


@app.job(isolate="process", attempts=1)
async def leaves_async_process(how: str) -> None:
    leave(how)


@app.job(timeout="2s", attempts=1)
def waits_in_c(ctx: Context) -> None:
    """Go on for ever in one call that no exception reaches."""
    effect("waits_in_c", ctx.job_id, ctx.attempt)
    threading.Event().wait()


@app.job(timeout="2s", attempts=1)
async def swallows(ctx: Context) -> None:
    """Go on for ever, whatever it is told."""
    effect("swallows", ctx.job_id, ctx.attempt)
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(60)


@app.job
async def beside(number: int, ctx: Context, seconds: float = 0.0) -> None:
    """Start beside a job that does not end, and end."""
    await asyncio.sleep(seconds)
    effect("beside", number, ctx.attempt)
