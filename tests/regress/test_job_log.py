"""A log line of a handler never fails its job.

``ctx.log.info("x", event=…)`` was a `TypeError` that failed the attempt; a field named
``job_id`` replaced the job's own, one named ``level`` or ``timestamp`` was lost, and a
value whose ``repr`` raises failed the job. Right: such a field is written under another
name, and what cannot be written is written as its text.
"""

from __future__ import annotations

import asyncio
import io
import json

import pytest
import structlog

from shifter import Context
from shifter.model.claim import JobState
from shifter.telemetry.setup import configure
from tests.integration.drain_world import World, submit


class Out(io.TextIOWrapper):
    def __init__(self) -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, write_through=True)

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.raw_bytes.getvalue().splitlines()]


@pytest.fixture(params=["json", "console"])
def log_format(request):
    return request.param


@pytest.fixture
def out(log_format):
    before = structlog.get_config()
    out = Out()
    configure("debug", log_format, out)
    yield out
    structlog.configure(**before)


class Panic(BaseException):
    pass


class BadRepr:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error

    __str__ = __repr__


def cyclic() -> dict:
    found: dict = {}
    found["self"] = found
    return found


def deep() -> list:
    found: list = []
    for _ in range(100_000):
        found = [found]
    return found


CALLS = {
    "event": lambda job_log: job_log.info("x", event="created"),
    "every reserved name": lambda job_log: job_log.info(
        "x", event=1, level="gold", timestamp=2, job_id=3, job=4, attempt=5
    ),
    "names of parameters": lambda job_log: job_log.info(
        "x", self=1, method_name="a", name=2
    ),
    "event alone": lambda job_log: job_log.info(event="x"),
    "by level": lambda job_log: job_log.log(20, "x", event=1),
    "bound": lambda job_log: job_log.bind(event=1, job_id="other").info("x"),
    "unbound": lambda job_log: job_log.bind(a=1).unbind("a").info("x"),
    "exception": lambda job_log: job_log.exception("x", event=1),
    "too few to format": lambda job_log: job_log.info("x %s %s", 1),
    "a per cent": lambda job_log: job_log.info("x 100% sure", 1),
    "an object": lambda job_log: job_log.info("x", value=object()),
    "a repr that raises": lambda job_log: job_log.info(
        "x", value=BadRepr(OSError("no"))
    ),
    "a repr that panics": lambda job_log: job_log.info("x", value=BadRepr(Panic())),
    "inside a list": lambda job_log: job_log.info("x", value=[BadRepr(OSError("no"))]),
    "a cycle": lambda job_log: job_log.info("x", value=cyclic()),
    "deep": lambda job_log: job_log.info("x", value=deep()),
    "keys that are no text": lambda job_log: job_log.info(
        "x", value={(1, 2): {3: b"\xff"}}
    ),
    "a lone surrogate": lambda job_log: job_log.info("x", value="\ud800"),
    "bytes": lambda job_log: job_log.info(b"x", value=b"\xff"),
    "an event that is no text": lambda job_log: job_log.info(BadRepr(OSError("no"))),
    "nothing": lambda job_log: job_log.info(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_log_call_never_fails_its_job(out, call, is_async):
    world = World()

    async def in_loop(ctx: Context) -> None:
        call(ctx.log)

    def in_thread(ctx: Context) -> None:
        call(ctx.log)

    job = world.app.job(name="job", attempts=1)(in_loop if is_async else in_thread)
    await world.open()
    async with world.working():
        job_id = await submit(job)
        assert await world.until_terminal(job_id) is JobState.DONE

    assert job_id.encode() in out.raw_bytes.getvalue()


@pytest.mark.parametrize("log_format", ["json"], indirect=True)
async def test_a_reserved_name_keeps_its_own_meaning_and_the_field_another_name(out):
    world = World()

    @world.app.job
    async def job(ctx: Context) -> None:
        ctx.log.info("x", event="created", job_id=3, level="gold", level_="kept")
        await ctx.log.ainfo("y", event="later")

    await world.open()
    async with world.working():
        job_id = await submit(job)
        await world.ended(job_id, JobState.DONE)

    first, second = (line for line in out.lines if line["event"] in ("x", "y"))
    assert (first["event"], first["event_"]) == ("x", "created")
    assert (first["job_id"], first["job_id_"]) == (job_id, 3)
    assert (first["level"], first["level_"], first["level__"]) == (
        "info",
        "kept",
        "gold",
    )
    assert (second["event"], second["event_"]) == ("y", "later")


async def test_a_logger_of_the_users_own_that_raises_fails_no_job(log_format):
    before = structlog.get_config()

    def broken(*_):
        raise RuntimeError("disk full")

    structlog.configure(processors=[broken])
    world = World()

    @world.app.job(attempts=1)
    async def job(ctx: Context) -> None:
        ctx.log.info("x", value=1)

    try:
        answer = await job.submit()
    finally:
        structlog.configure(**before)

    assert type(answer).__name__ == "Ran"


async def test_a_stop_in_the_middle_of_a_log_call_stops_the_handler(log_format):
    world = World()

    @world.app.job
    async def job(ctx: Context) -> None:
        ctx.log.info("x", value=BadRepr(asyncio.CancelledError()))

    with pytest.raises(asyncio.CancelledError):
        await job.submit()
