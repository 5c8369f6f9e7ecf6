"""The loop that keeps a replica in step with its fleet, on virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from shifter.adapters.memory.state import MemoryFleetStore
from shifter.errors import StoreUnavailableError
from shifter.fleet.replica import FleetReplica
from shifter.fleet.sync import FleetSync
from shifter.policy.protection import fleet_table
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.fleet_pace import EVERY_S
from shifter.policy.protection.fleet_table import LastReport
from shifter.testing.clock import FakeClock


class Store(MemoryFleetStore):
    """Counts syncs by the time they came; answers none while it is down."""

    def __init__(self, clock):
        super().__init__(clock)
        self.clock, self.is_up, self.synced_at = clock, True, []

    async def sync(self, report):
        self.synced_at.append(self.clock.monotonic())
        if not self.is_up:
            raise StoreUnavailableError("memory", "fleet.sync", "down")
        return await super().sync(report)


class World:
    """One replica, its store, and the loop between them."""

    def __init__(self):
        self.clock = FakeClock()
        self.store = Store(self.clock)
        self.replica = FleetReplica([Dependency("bank")], self.clock, process="p")
        self.sync = FleetSync(self.replica, self.store, self.clock, seed=1)

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.sync.run())
        await self.sync.tried.wait()
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def pass_time(self, seconds, *, step_s=0.01):
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            for _ in range(5):
                await asyncio.sleep(0)

    def waits(self):
        at = self.store.synced_at
        return [later - earlier for earlier, later in itertools.pairwise(at)]


@pytest.fixture
def world():
    return World()


async def test_process_syncs_at_a_steady_pace(world):
    async with world.running():
        await world.pass_time(2.0)

    assert 8 <= len(world.waits()) <= 10
    assert min(world.waits()) >= EVERY_S - 1e-6


async def test_waits_grow_while_the_store_does_not_answer(world):
    world.store.is_up = False

    async with world.running():
        await world.pass_time(10.0)

    waits = world.waits()
    assert waits[0] <= 0.4 + 0.02
    assert max(waits) <= 2.0 + 0.02
    assert min(waits[4:]) >= 1.0 - 0.02
    assert world.replica.failures == len(world.store.synced_at)


async def test_answer_after_failures_restores_the_pace(world):
    world.store.is_up = False
    async with world.running():
        await world.pass_time(3.0)
        world.store.is_up = True
        await world.pass_time(4.0)

    assert world.replica.failures == 0
    assert world.waits()[-1] == pytest.approx(EVERY_S, abs=0.02)


async def test_urgent_news_is_synced_at_once(world):
    async with world.running():
        await world.pass_time(0.1)
        before = len(world.store.synced_at)
        world.replica.urge(None)
        await world.pass_time(0.03)

        assert len(world.store.synced_at) == before + 1


async def test_replica_does_not_wake_a_loop_that_ended(world):
    async with world.running():
        await world.pass_time(0.1)
    count = len(world.store.synced_at)

    world.replica.urge(None)
    world.sync.wake()
    await world.pass_time(1.0)

    assert world.replica.urgent is None
    assert len(world.store.synced_at) == count


async def test_first_sync_counts_as_tried_if_it_fails(world):
    world.store.is_up = False

    await world.sync.once()

    assert world.sync.tried.is_set()
    assert world.replica.age_s is None


def of_a_fleet(world, processes):
    """The other processes of the world's fleet, whose reports do not end."""
    for n in range(processes - 1):
        report = LastReport(10**15, 0.5, b"")
        world.store.table.voices[f"other-{n:05d}"] = report


async def test_syncs_are_rarer_in_a_large_fleet(world, monkeypatch):
    monkeypatch.setattr(fleet_table, "MAX_KEEP_MS", 10**15)
    of_a_fleet(world, 5_000)
    async with world.running():
        await world.pass_time(3.5, step_s=0.05)

    assert world.replica.processes == 5_000
    assert world.waits() == pytest.approx([1.0] * len(world.waits()), abs=0.06)


async def test_urgent_news_of_a_large_fleet_is_synced_at_once(world, monkeypatch):
    monkeypatch.setattr(fleet_table, "MAX_KEEP_MS", 10**15)
    of_a_fleet(world, 5_000)
    async with world.running():
        await world.pass_time(0.1)
        before = len(world.store.synced_at)
        world.replica.urge(None)
        await world.pass_time(0.03)

        assert len(world.store.synced_at) == before + 1


class Heard(Store):
    """A store whose listener a test may call."""

    changed = None

    async def listen(self, changed):
        self.changed = changed
        await asyncio.Event().wait()


async def syncs_after_news(world, processes):
    """How often the process synced, at once and within a second."""
    world.store = Heard(world.clock)
    of_a_fleet(world, processes)
    world.sync = FleetSync(world.replica, world.store, world.clock, seed=1)
    async with world.running():
        await world.pass_time(0.05)
        before = len(world.store.synced_at)
        world.store.changed()
        await world.pass_time(0.02)
        at_once = len(world.store.synced_at) - before
        await world.pass_time(0.8, step_s=0.1)
        return at_once, len(world.store.synced_at) - before


async def test_a_change_is_read_at_once_in_a_small_fleet(world, monkeypatch):
    monkeypatch.setattr(fleet_table, "MAX_KEEP_MS", 10**15)
    at_once, _ = await syncs_after_news(world, 500)

    assert at_once == 1


async def test_a_change_is_read_within_a_second_in_a_large_fleet(world, monkeypatch):
    monkeypatch.setattr(fleet_table, "MAX_KEEP_MS", 10**15)
    # Its own syncs are 1.8 s apart.
    assert await syncs_after_news(world, 9_000) == (0, 1)
