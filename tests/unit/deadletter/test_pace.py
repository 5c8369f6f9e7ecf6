"""How much room a run leaves to the live jobs of the lanes it sends to."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from shifter.adapters.memory.state import MemoryClaimStore, MemoryPresenceStore
from shifter.deadletter.batch import SampledReplay
from shifter.deadletter.pace import BatchControl, BatchControlPolicy, BatchSize
from shifter.errors import StoreUnavailableError
from shifter.model.claim import ClaimRequest
from shifter.ports import WorkerReport
from shifter.testing.clock import FakeClock

LANE = "shop.mail.low"
POLICY = BatchControlPolicy()


class World:
    """A run whose replays start when a test says so."""

    def __init__(self):
        self.clock = FakeClock()
        self.claims = MemoryClaimStore(self.clock)
        self.presence = MemoryPresenceStore(self.clock)
        self.control = BatchControl(self.claims, self.presence, self.clock, POLICY)
        self._sent = 0

    async def worker(self, *lanes, keep_s=3_600):
        running = dict.fromkeys(lanes, 1)
        report = WorkerReport("w", "h", 1, 0, 0, 10, running, {})
        await self.presence.report(report, keep_ms=keep_s * 1_000)

    async def send(self, lane=LANE):
        self._sent += 1
        sample = SampledReplay(f"job-{self._sent}", 4, "send", lane)
        await self.control.read_presence()
        self.control.sent([sample])
        return sample

    async def start(self, sample):
        request = ClaimRequest(sample.job_id, sample.job_id, 1, sample.attempt)
        await self.claims.claim([request], owner="w", lease_ms=10_000)

    async def waits(self, at_most_s):
        """How long the next batch waits if nothing else happens."""
        began = self.clock.monotonic()
        while pause_s := await self.control.wait_s():
            if self.clock.monotonic() + pause_s > began + at_most_s:
                return None
            self.clock.advance(pause_s)
        return self.clock.monotonic() - began


@pytest.fixture
def world():
    return World()


async def test_where_no_worker_lives_nothing_waits_and_batches_are_full(world):
    await world.send()

    assert await world.waits(1) == 0
    assert world.control.size(2_000) == 2_000


async def test_a_batch_waits_until_the_last_replay_has_started(world):
    await world.worker(LANE)
    sample = await world.send()

    held = await world.waits(1)
    await world.start(sample)

    assert held is None
    assert await world.waits(1) == 0
    assert world.control.size(2_000) == POLICY.first + POLICY.growth


async def test_batches_shrink_while_replays_wait_and_grow_when_they_do_not(world):
    await world.worker(LANE)
    sizes = []
    for waited_s in (0.005, 0.3, 0.3, 0.005, 0.005):
        sample = await world.send()
        world.clock.advance(waited_s)
        await world.start(sample)
        await world.waits(1)
        sizes.append(world.control.size(2_000))

    assert sizes == [55, 27, 13, 18, 23]


async def test_a_lane_that_no_worker_speaks_of_is_filled_at_full_speed(world):
    await world.worker("shop.other.low")
    await world.send()

    waited_s = await world.waits(60)
    await world.send()

    assert POLICY.unserved_s < waited_s < POLICY.unserved_s + 1
    assert await world.waits(1) == 0
    assert world.control.size(2_000) == 2_000


async def test_a_lane_is_yielded_to_once_a_worker_speaks_of_it(world):
    await world.worker("shop.other.low")
    await world.send()
    await world.waits(60)
    await world.worker(LANE)
    world.clock.advance(2)

    await world.send()

    assert await world.waits(1) is None


async def test_workers_that_are_busy_for_long_hold_a_run_but_never_for_ever(world):
    await world.worker(LANE)
    await world.send()

    waited_s = await world.waits(60)

    assert POLICY.patience_s < waited_s < POLICY.patience_s + 1
    assert world.control.size(2_000) == POLICY.least


async def test_topics_of_others_are_not_waited_for(world):
    await world.worker(LANE)
    await world.control.read_presence()
    world.control.sent([])

    assert await world.waits(1) == 0
    assert world.control.size(2_000) == 2_000


async def test_what_the_store_does_not_answer_has_not_started(world, monkeypatch):
    await world.worker(LANE)

    async def away(job_id):
        raise StoreUnavailableError("test", "status", "away")

    monkeypatch.setattr(world.claims, "status", away)
    await world.send()

    assert await world.waits(1) is None


@given(st.lists(st.floats(0, 30), max_size=200))
def test_a_batch_is_never_empty_and_never_beyond_the_most(waits):
    room = BatchSize(POLICY)

    for waited_s in waits:
        room.started(waited_s)
        assert POLICY.least <= room.size <= POLICY.most
    room.stuck()
    assert room.size == POLICY.least
