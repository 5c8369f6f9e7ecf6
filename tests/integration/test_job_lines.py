"""The one line that is written about the end of a job."""

from __future__ import annotations

import asyncio
import io
import json
import time

import pytest

from shifter import Context, DeadLetter, Discard, Retry
from shifter.jobs import request_scope
from shifter.model.claim import JobState
from shifter.telemetry.log import LINES
from shifter.telemetry.setup import configure
from shifter.work.job_observer import _is_sampled
from tests.integration.drain_world import World, submit

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENDS = ("job.ended", "job.dead_lettered")


class Out(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), write_through=True)

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.buffer.getvalue().splitlines()]

    def ends_of(self, job_id: str) -> list[dict]:
        return [
            line
            for line in self.lines
            if line["event"] in ENDS and line["job_id"] == job_id
        ]


@pytest.fixture
def out():
    out = Out()
    configure("info", "json", out)
    return out


@pytest.fixture
def world():
    return World()


async def ended(world: World, job, state: JobState, **options) -> str:
    """Run a job to its end, in a worker of its own."""
    await world.open()
    async with world.working():
        job_id = await submit(job.options(**options) if options else job)
        await world.ended(job_id, state)
    return job_id


async def test_a_success_is_one_line_with_attempt_wait_and_duration(out, world):
    @world.app.job
    async def job() -> None:
        await asyncio.sleep(0.05)

    await world.open()
    with request_scope.within():
        request_scope.begin(request_scope.Ambient(traceparent=TRACE))
        job_id = await submit(job)
    await asyncio.sleep(0.05)
    async with world.working() as drain:
        await world.ended(job_id, JobState.DONE)

    [line] = out.ends_of(job_id)
    [series] = drain.observer._lanes.values()
    assert [line["wait_s"]] == series.waits
    assert [line["duration_s"]] == [round(each, 6) for each in series.durations]
    assert (line["event"], line["level"]) == ("job.ended", "info")
    assert (line["outcome"], line["attempt"], line["job"]) == ("done", 1, "job")
    assert 0.04 <= line["wait_s"] < 30
    assert 0.04 <= line["duration_s"] < 30
    assert line["trace_id"] == TRACE.split("-")[1]
    assert "cause" not in line


async def test_a_success_after_a_retry_is_one_line_of_the_last_attempt(out, world):
    @world.app.job
    async def job(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise Retry(after="1s")

    job_id = await ended(world, job, JobState.DONE)

    [line] = out.ends_of(job_id)
    assert (line["outcome"], line["attempt"]) == ("done", 2)
    assert line["wait_s"] >= 1
    assert line["duration_s"] < 1


async def test_a_dead_letter_is_one_line_with_cause_and_stack(out, world):
    @world.app.job(attempts=1)
    async def job() -> None:
        raise ValueError("no letter")

    job_id = await ended(world, job, JobState.DEAD)

    [line] = out.ends_of(job_id)
    assert (line["event"], line["level"]) == ("job.dead_lettered", "warning")
    assert (line["outcome"], line["cause"]) == ("dead", "attempts_exhausted")
    assert (line["error"], line["message"]) == ("ValueError", "no letter")
    assert line["attempt"] == 1
    assert line["duration_s"] >= 0
    assert line["wait_s"] >= 0
    [frame] = line["stack"]
    assert frame.endswith("job")
    assert "test_job_lines" in frame


async def test_a_dead_letter_that_the_handler_asked_for_has_its_words(out, world):
    @world.app.job
    async def job() -> None:
        raise DeadLetter("wrong address")

    job_id = await ended(world, job, JobState.DEAD)

    [line] = out.ends_of(job_id)
    assert (line["outcome"], line["detail"]) == ("dead", "wrong address")


async def test_a_discard_is_no_warning_and_its_cause_is_the_handlers(out, world):
    @world.app.job
    async def job() -> None:
        raise Discard("unsubscribed")

    job_id = await ended(world, job, JobState.DISCARDED)

    [line] = out.ends_of(job_id)
    assert (line["event"], line["level"]) == ("job.ended", "info")
    assert (line["outcome"], line["cause"]) == ("discarded", "unsubscribed")


async def test_a_cancelled_job_is_no_warning(out, world):
    @world.app.job
    async def job() -> None: ...

    await world.open()
    job_id = await submit(job)
    await world.claims.cancel(job_id, keep_ms=60_000)
    async with world.working():
        await world.until(lambda: bool(out.ends_of(job_id)))

    [line] = out.ends_of(job_id)
    assert (line["outcome"], line["level"]) == ("cancelled", "info")


async def test_a_failed_attempt_is_a_line_with_its_stack_and_no_outcome(out, world):
    @world.app.job(attempts=2, backoff="10ms")
    async def job(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError("once")

    job_id = await ended(world, job, JobState.DONE)

    [line] = (one for one in out.lines if one["event"] == "job.retried")
    assert (line["job_id"], line["error"], line["level"]) == (
        job_id,
        "ValueError",
        "info",
    )
    assert "test_job_lines" in line["stack"][-1]
    assert "outcome" not in line


async def test_a_job_that_expired_before_it_ran_waited_and_has_no_duration(out, world):
    @world.app.job
    async def job() -> None: ...

    await world.open()
    job_id = await submit(job.options(deadline="20ms"))
    await asyncio.sleep(0.05)
    async with world.working():
        await world.ended(job_id, JobState.EXPIRED)

    [line] = out.ends_of(job_id)
    assert (line["event"], line["level"]) == ("job.ended", "warning")
    assert (line["outcome"], line["cause"]) == ("expired", "expired")
    assert line["wait_s"] >= 0.04
    assert "duration_s" not in line


async def many(world: World, count: int, log_done: float | None) -> list[str]:
    @world.app.job
    async def job(n: int) -> None: ...

    await world.open()
    ids = [await submit(job, n) for n in range(count)]
    async with world.working(concurrency=100, log_done=log_done) as drain:
        until = time.monotonic() + 30
        while sum(drain.observer._ended.values()) < count:
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
    drain.observer.close()
    return ids


async def test_ten_thousand_successes_are_twenty_lines_and_a_count(out, world):
    await many(world, 10_000, None)

    ends = [line for line in out.lines if line["event"] == "job.ended"]
    left = [line for line in out.lines if line["event"] == "lines.left_out"]
    assert LINES <= len(ends) <= 3 * LINES  # 10 s a window, on a slow machine
    assert len(ends) + sum(line["count"] for line in left) == 10_000
    assert {(line["of"], line["outcome"], line["level"]) for line in left} == {
        ("job.ended", "done", "info")
    }


async def test_ten_thousand_bad_records_are_few_lines_and_a_count(out, world):
    @world.app.job(attempts=1)
    async def job(n: int) -> None:
        raise ValueError(f"record {n}")

    await world.open()
    for n in range(10_000):
        await submit(job, n)
    async with world.working(concurrency=100) as drain:
        until = time.monotonic() + 60
        while sum(drain.observer._ended.values()) < 10_000:
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
    drain.observer.close()

    dead = [line for line in out.lines if line["event"] == "job.dead_lettered"]
    left = [line for line in out.lines if line["event"] == "lines.left_out"]
    counted = [line["count"] for line in left if line["of"] == "job.dead_lettered"]
    assert len(dead) <= 6 * LINES
    assert len(dead) + sum(counted) == 10_000


@pytest.mark.parametrize(("log_done", "least", "most"), [(0, 0, 0), (1, 400, 400)])
async def test_a_share_of_none_or_all_is_exact(out, world, log_done, least, most):
    await many(world, 400, log_done)

    ends = [line for line in out.lines if line["event"] == "job.ended"]
    assert least <= len(ends) <= most
    assert not [line for line in out.lines if line["event"] == "lines.left_out"]


async def test_a_share_is_of_the_job_and_not_of_the_process(out, world):
    ids = await many(world, 2_000, 0.1)
    first = {line["job_id"] for line in out.lines if line["event"] == "job.ended"}

    assert 120 <= len(first) <= 290  # 200 ± 6 standard deviations
    assert first < set(ids)

    assert first == {one for one in ids if _is_sampled(one, 0.1)}


async def test_at_debug_level_every_success_is_a_line(world):
    out = Out()
    configure("debug", "json", out)

    await many(world, 100, None)

    ends = [line for line in out.lines if line["event"] == "job.ended"]
    assert len(ends) == 100
    assert {line["level"] for line in ends} == {"debug"}
