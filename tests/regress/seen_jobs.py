"""Handlers that write down what they see, for each place where a handler can run."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import structlog

from shifter import Context, Shifter
from shifter.jobs.request_scope import ambient, current_traceparent
from shifter.telemetry import job_fields

_logger = logging.getLogger("seen.jobs")
_structlog = structlog.get_logger()


def report(place: str, ctx: Context) -> None:
    """Append all that a handler can see to the file of effects, and to the log."""
    around = ambient()
    facts = {
        "place": place,
        "job_id": ctx.job_id,
        "job_type": ctx.job_type,
        "attempt": ctx.attempt,
        "has_fence": ctx.fence > 0,
        "key": ctx.key,
        "idempotency_key": ctx.idempotency_key,
        "quality": ctx.quality.value,
        "cancelled": ctx.cancelled,
        "limit_ms": ctx.limit_ms,
        "remaining_s": ctx.remaining_s,
        "traceparent": ctx.traceparent,
        "deadline_ms": around.deadline_ms,
        "current_traceparent": current_traceparent(),
        "log_fields": dict(job_fields()),
    }
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(json.dumps(facts) + "\n")
    ctx.log.info("seen", place=place)
    _logger.info("seen by %s", "logging", extra={"place": place, "job_id": "mine"})
    _structlog.info("seen by structlog", place=place, job_id="mine")


def count(place: str) -> int:
    """How often a place has been entered, across processes."""
    path = Path(os.environ["EFFECTS"] + "." + place)
    with path.open("a") as file:
        file.write(".")
    return path.stat().st_size


def make(app: Shifter) -> dict[str, Any]:  # noqa: C901  # a list, not a decision
    """Register a job for each place; its name is the place."""

    @app.job(timeout="10m")
    async def inner(place: str, ctx: Context) -> None:
        report(f"inner of {place}", ctx)

    @app.job(timeout="10m")
    async def in_loop(ctx: Context) -> None:
        report("in_loop", ctx)
        await inner.defer("in_loop")

    @app.job(timeout="10m")
    def in_thread(ctx: Context) -> None:
        report("in_thread", ctx)
        inner.defer_sync("in_thread")

    async def later(ctx: Context) -> None:
        report("in_coroutine", ctx)
        await inner.defer("in_coroutine")

    @app.job(timeout="10m")
    def in_coroutine(ctx: Context):
        return later(ctx)

    @app.job(isolate="process", timeout="10m")
    def in_process(ctx: Context) -> None:
        report("in_process", ctx)
        inner.defer_sync("in_process")

    @app.job(isolate="process", timeout="10m")
    async def in_async_process(ctx: Context) -> None:
        report("in_async_process", ctx)
        await inner.defer("in_async_process")

    @app.job(timeout="10m")
    async def apart(ctx: Context) -> None:
        """Take two workers along, so that the third run is in its own process."""
        if count("apart") < 3:
            os._exit(7)
        report("apart", ctx)
        await inner.defer("apart")

    @app.job(timeout="10m")
    def fallback_in_loop(ctx: Context) -> None: ...

    @fallback_in_loop.fallback
    async def cheaper(ctx: Context) -> None:
        report("fallback_in_loop", ctx)
        await inner.defer("fallback_in_loop")

    @app.job(timeout="10m")
    def fallback_in_thread(ctx: Context) -> None: ...

    @fallback_in_thread.fallback
    def cheaper_in_thread(ctx: Context) -> None:
        report("fallback_in_thread", ctx)
        inner.defer_sync("fallback_in_thread")

    return dict(app.jobs)


app = Shifter(os.environ.get("TEST_NAMESPACE", "seen"))
jobs = make(app)


@app.job(isolate="process", timeout="60s", attempts=1)
def until_cancelled(ctx: Context, is_async: bool = False) -> None:
    """Work in steps, and look at each whether that still makes sense."""
    report("until_cancelled", ctx)
    while True:
        ctx.checkpoint()
