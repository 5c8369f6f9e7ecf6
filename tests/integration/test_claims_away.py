"""A drain whose claim store does not answer, for a while."""

from __future__ import annotations

import asyncio
import time

import pytest

from shifter import JobState
from shifter.adapters.memory.log import MemoryLogAdmin
from shifter.errors import StoreUnavailableError
from shifter.model.claim import ClaimUpdate, WaitingJobs
from tests.integration.drain_world import World, submit


@pytest.fixture
def world() -> World:
    return World()


class AwayClaims:
    """A claim store that does not answer until told to."""

    def __init__(self, inner) -> None:
        self.inner, self.away = inner, True

    async def claim(self, *args, **kwargs):
        return await self._call("claim", *args, **kwargs)

    async def finish(self, *args, **kwargs):
        return await self._call("finish", *args, **kwargs)

    async def renew(self, *args, **kwargs):
        return await self._call("renew", *args, **kwargs)

    async def _call(self, name, *args, **kwargs):
        if self.away:
            raise StoreUnavailableError("test", name, "away")
        return await getattr(self.inner, name)(*args, **kwargs)


async def test_without_the_claim_store_jobs_proceed_or_park_as_they_say(world):
    ran = []

    @world.app.job
    async def proceeds() -> None:
        ran.append("proceeds")

    @world.app.job(claims="park")
    async def parks() -> None:
        ran.append("parks")

    await world.open()
    claims = AwayClaims(world.claims)
    parked = await submit(parks)
    await submit(proceeds)
    async with world.working(claims=claims):
        await world.until(lambda: "proceeds" in ran)
        assert ran == ["proceeds"]
        claims.away = False
        await world.ended(parked, JobState.DONE)

    assert ran == ["proceeds", "parks"]


class StoodStill(AwayClaims):
    """As a process that is stopped while it asks sees its store."""

    def __init__(self, inner) -> None:
        super().__init__(inner)
        self.away, self.asked = False, 0

    async def claim(self, requests, **options):
        if requests[0].identity.startswith("-"):  # the worker looks whether it writes
            return await self.inner.claim(requests, **options)
        self.asked += 1
        if self.asked > 1:
            return await super().claim(requests, **options)
        [theirs] = await self.inner.claim(requests, owner="w2", lease_ms=60_000)
        identity, _, turn, attempt = requests[0]
        done = ClaimUpdate(
            identity, theirs.fence, JobState.DONE, turn, attempt, keep_ms=60_000
        )
        await self.inner.finish([done])
        time.sleep(0.36)  # nothing of this process goes on
        raise StoreUnavailableError("test", "claim", "timed out")


async def test_a_worker_that_stood_still_asks_again_and_does_not_take_the_store_for_away(
    world,
):
    ran = []

    @world.app.job
    async def proceeds(number: int) -> None:
        ran.append(number)

    await world.open()
    await submit(proceeds, 1)
    claims = StoodStill(world.claims)
    async with world.working(claims=claims, lease_ms=300):
        await world.until(lambda: claims.asked > 1)
        await submit(proceeds, 2)
        await world.until(lambda: 2 in ran)

    assert ran == [2]


class SilentClaims(AwayClaims):
    """Each call to it takes a while before it fails."""

    async def _call(self, name, *args, **kwargs):
        if self.away:
            await asyncio.sleep(2.0)
        return await super()._call(name, *args, **kwargs)


async def test_jobs_that_proceed_wait_neither_for_a_silent_store_nor_for_parked_ones(
    world,
):
    ran = []

    @world.app.job
    async def proceeds(number: int) -> None:
        ran.append(number)

    @world.app.job(claims="park")
    async def parks(number: int) -> None:
        ran.append(-number)

    await world.open()
    for number in range(1, 501):
        await submit(parks, number)
        await submit(proceeds, number)
    claims = SilentClaims(world.claims)
    async with world.working(claims=claims, concurrency=10):
        await world.until(lambda: len(ran) == 500, timeout_s=40)
        assert min(ran) > 0
        claims.away = False
        await world.until(lambda: len(ran) == 1_000)

    assert len(set(ran)) == 1_000


class Vanishing(AwayClaims):
    """It goes away while a job runs; counts the ends that it was told in vain."""

    def __init__(self, inner) -> None:
        super().__init__(inner)
        self.away, self.in_vain = False, 0

    async def finish(self, updates):
        self.in_vain += self.away
        return await super().finish(updates)


def loses_its_store(app, claims):
    """A job during which the claim store goes away."""

    @app.job
    async def proceeds() -> None:
        claims.away = True

    return proceeds


async def waiting(world, topic="shop.default.normal"):
    [depth] = await MemoryLogAdmin(world.log).depths([topic])
    return depth.waiting


async def test_what_ended_while_the_store_was_away_is_recorded_once_it_is_back(world):
    claims = Vanishing(world.claims)
    proceeds = loses_its_store(world.app, claims)
    await world.open()
    job_id = await submit(proceeds)
    async with world.working(claims=claims) as drain:
        await world.until(lambda: claims.in_vain and not drain._completer.pending)
        assert await waiting(world) == 0
        assert await world.state(job_id) is JobState.RUNNING
        claims.away = False
        await world.ended(job_id, JobState.DONE)


async def test_a_job_that_shares_its_claim_is_settled_once_its_end_is_recorded(world):
    claims = Vanishing(world.claims)
    proceeds = loses_its_store(world.app, claims)
    await world.open()
    job_id = await submit(proceeds.options(idempotency_key="k"))
    async with world.working(claims=claims, lease_ms=100):
        await world.until(lambda: claims.in_vain > 3)
        assert await waiting(world) == 1
        claims.away = False
        await world.ended(job_id, JobState.DONE)
        async with asyncio.timeout(30):
            while await waiting(world):
                await asyncio.sleep(0.001)


async def test_no_job_waits_for_one_of_its_key_whose_worker_died_with_the_store(world):
    claims, ran = Vanishing(world.claims), []

    @world.app.job
    async def proceeds() -> None:
        ran.append(1)
        claims.away = len(ran) == 1

    await world.open()
    once = proceeds.options(idempotency_key="k")
    first, twin = await submit(once), await submit(once)
    with pytest.raises(ExceptionGroup):
        async with world.working(claims=claims, lease_ms=100) as drain:
            await world.until(lambda: claims.in_vain > 1)
            raise SystemError  # nothing is ended in order
    for feed in drain.feeds.values():
        await feed.close(timeout_s=1)
    claims.away = False

    async with world.working(claims=claims, owner="w2"), asyncio.timeout(40):
        while await waiting(world):
            await asyncio.sleep(0.001)

    assert [await world.state(job) for job in (first, twin)] == [JobState.DONE] * 2
    assert len(ran) == 2


async def test_a_job_that_ran_unclaimed_is_not_set_to_waiting_when_the_store_is_back(
    world,
):
    """Its record as waiting outlived the outage that its run began in."""
    ran = []

    @world.app.job(keep_status="1h")
    async def proceeds() -> None:
        ran.append("proceeds")

    await world.open()
    job_id = await submit(proceeds)
    await world.claims.add_waiting([WaitingJobs([job_id], 3_600_000)])
    claims = AwayClaims(world.claims)
    async with world.working(claims=claims):
        await world.until(lambda: ran)
        claims.away = False
        await world.ended(job_id, JobState.DONE)

    assert ran == ["proceeds"]
