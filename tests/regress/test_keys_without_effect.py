"""An idempotency key whose job had no effect swallowed later jobs for a day.

A job that expired before it ran, died, was cancelled or discarded kept its key: the next
job of the key was accepted and ended, without a word, as the first one had. Right is:
only a job that is done keeps its key; after any other end the next job of the key runs,
and the first one stays ended as it did.
"""

from __future__ import annotations

import itertools
import time
import uuid

import pytest

from shifter import Context, DeadLetter, Discard, JobState, Shifter
from shifter.config.load import load_settings
from shifter.testing import TestApp
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import JSON, build_headers
from tests.acceptance.fleet import Fleet
from tests.bad_inputs.catalogue import GOOD
from tests.bad_inputs.writers import writer_of

NAMES = (f"keys-{n}" for n in itertools.count())


class World:
    """A job whose first run ends as it is told to."""

    def __init__(self) -> None:
        self.app = Shifter(next(NAMES))
        self.runs: list[str] = []
        self.ends: list[Exception] = []

        @self.app.job(attempts=1)
        async def mail(ctx: Context) -> None:
            if self.ends:
                raise self.ends.pop(0)
            self.runs.append(ctx.job_id)

        self.mail = mail

    async def accepted(self, **options) -> str:
        answer = await self.mail.options(idempotency_key="k", **options).defer()
        return answer.job_id

    async def state(self, job_id: str) -> JobState | None:
        status = await self.app.status(job_id)
        return None if status is None else status.state


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DeadLetter("no such address"), JobState.DEAD),
        (OSError("away"), JobState.DEAD),
        (Discard("of no value"), JobState.DISCARDED),
    ],
    ids=["dead letter", "attempts", "discarded"],
)
async def test_the_next_job_runs_after_one_that_ended_without_an_effect(error, state):
    world = World()
    world.ends = [error]
    async with TestApp(world.app) as test:
        first = await world.accepted()
        await test.drain()
        second = await world.accepted()
        await test.drain()

        assert world.runs == [second]
        assert await world.state(first) is state
        assert await world.state(second) is JobState.DONE


async def test_the_next_job_runs_after_one_that_expired_before_it_ran():
    world = World()

    async with TestApp(world.app) as test:
        first = await world.accepted(deadline="5s")
        test.close_now(queue="default", for_="1m")
        await test.drain(advance="1m")
        second = await world.accepted()
        await test.drain()

        assert world.runs == [second]
        assert await world.state(first) is JobState.EXPIRED


async def test_the_next_job_runs_after_one_that_was_cancelled():
    world = World()
    async with TestApp(world.app) as test:
        first = await world.accepted(delay="1h")
        await world.app.cancel(first)
        second = await world.accepted()
        await test.drain()

        assert world.runs == [second]
        assert await world.state(first) is JobState.CANCELLED


async def test_a_job_that_is_done_keeps_its_key():
    world = World()
    async with TestApp(world.app) as test:
        first = await world.accepted()
        await test.drain()
        second = await world.accepted()
        await test.drain()

        assert world.runs == [first]
        assert await world.state(second) is JobState.DONE


@pytest.mark.redis
@pytest.mark.timeout(240)
@pytest.mark.parametrize("store", ["redis", "sqlite"])
def test_a_live_worker_runs_the_job_after_one_that_expired(
    redis_url, namespace, tmp_path, store
):
    log = f"sqlite://{tmp_path / 'log.db'}"
    fleet = Fleet(log, redis_url if store == "redis" else log, namespace, tmp_path)
    now_ms = time.time_ns() // 1_000_000
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    settings = load_settings(namespace, environ=fleet.environment)
    try:
        for job_id, deadline_ms in ((first, now_ms - 1_000), (second, None)):
            envelope = EnvelopeV1(
                v=1,
                id=job_id,
                type="handler",
                created_ms=now_ms - 5_000,
                deadline_ms=deadline_ms,
                idempotency_key="k",
            )
            with writer_of(settings, f"{namespace}.default.normal") as writer:
                writer.put(job_id, build_headers(envelope, content_type=JSON), GOOD)
                writer.flush()
            worker = fleet.work("--burst", target="tests.bad_inputs.jobs:app")
            assert worker.wait(60) == 0, fleet.said()

        assert [line[0] for line in fleet.effects()] == [second]
        for job_id, state in ((first, "expired"), (second, "done")):
            shown = fleet.json("job", "show", job_id, "--namespace", namespace)
            assert shown["state"] == state
    finally:
        fleet.close()
