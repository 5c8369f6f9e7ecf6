"""A record may shorten its job's timeout and never lengthen it.

The timeout of an envelope took the place of the declared one, so that two records with
366 days pinned both slots of a worker. Right: the smaller of the two.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from shifter.model.claim import JobState
from shifter.model.job import JobSpec
from shifter.ports import Appended, Record
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import build_headers
from tests.integration.drain_world import World, submit

YEAR_MS = 366 * 86_400_000


async def put(world: World, timeout_ms: int) -> str:
    """Append a record as a producer in another language might."""
    envelope = EnvelopeV1(v=1, id=JOB_ID, type="job", timeout_ms=timeout_ms)
    headers = build_headers(envelope, content_type="application/json")
    record = Record("shop.default.normal", b"{}", headers)
    assert await world.lane_log.append([record], timeout_s=5) == [Appended()]
    return JOB_ID


JOB_ID = "018f0000-0000-7000-8000-000000000001"


@pytest.mark.parametrize("isolation", ["loop", "thread"])
async def test_a_record_with_a_year_of_timeout_ends_at_the_declared_one(isolation):
    world = World()

    async def in_loop() -> None:
        await asyncio.sleep(60)

    def in_thread() -> None:
        for _ in range(60_000):
            time.sleep(0.001)

    handler = in_loop if isolation == "loop" else in_thread
    world.app.job(name="job", timeout="100ms", attempts=1)(handler)
    await world.open()
    job_id = await put(world, YEAR_MS)

    async with world.working(concurrency=1):
        await world.ended(job_id, JobState.DEAD)


async def test_a_record_with_a_shorter_timeout_ends_at_it():
    world = World()

    @world.app.job(name="job", timeout="1h", attempts=1)
    async def job() -> None:
        await asyncio.sleep(60)

    await world.open()
    job_id = await put(world, 100)

    async with world.working(concurrency=2):
        await world.ended(job_id, JobState.DEAD)


async def test_a_timeout_declared_anew_holds_for_jobs_that_wait():
    """A timeout that was too short is raised, and its dead letters are replayed."""
    world = World()

    async def slow() -> None:
        await asyncio.sleep(0.3)

    job = world.app.job(name="job", timeout="100ms", attempts=1)(slow)
    await world.open()
    job_id = await submit(job)
    job.spec = JobSpec(name="job", timeout_ms=10_000, attempts=1)

    async with world.working(concurrency=1):
        await world.ended(job_id, JobState.DONE)
