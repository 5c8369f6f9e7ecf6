"""What load decides for a fleet: the busy flag and the quality, on a memory store."""

from __future__ import annotations

import pytest

from shifter import Quality
from shifter.adapters.memory.state import MemoryFleetStore
from shifter.fleet.load import BUSY_CELL, BUSY_MS, BusyFlag
from shifter.fleet.replica import FleetReplica
from shifter.fleet.shared_state import QUALITY_BY_HAND, OverrideCell
from shifter.fleet.view import set_by_hand
from shifter.protection import QualityPolicy
from shifter.testing.clock import FakeClock

POLICY = QualityPolicy(lower_after_ms=1_000, raise_after_ms=1_000)


class Process:
    """One process of a fleet, with a busy flag and a load of its own."""

    def __init__(self, store, name, *, is_busy=None, load=0.0):
        self.clock, self.store = FakeClock(), store
        self.board = FleetReplica([], self.clock, process=name, quality=POLICY)
        self.board.load = lambda: load
        self.sign = BusyFlag(self.clock, is_busy)
        self.board.tenants.append(self.sign)

    async def sync(self):
        told = self.board.report()
        self.board.learn(told, await self.store.sync(told.report))


@pytest.fixture
def store():
    return MemoryFleetStore(FakeClock())


async def test_load_in_one_process_is_seen_by_the_others_and_ends(store):
    busy = [True]
    first = Process(store, "a", is_busy=lambda: busy[0])
    other = Process(store, "b")
    for process in (first, other, first, other):
        await process.sync()

    seen = other.sign.is_set
    busy[0] = False
    other.clock.advance(BUSY_MS / 1_000)

    assert (seen, other.sign.is_set) == (True, False)


async def test_a_sign_is_renewed_while_the_load_lasts_and_not_each_time(store):
    process = Process(store, "a", is_busy=lambda: True)
    await process.sync()
    await process.sync()
    await process.sync()
    first = store.table.cells[BUSY_CELL]
    for clock in (process.clock, store._clock):
        clock.advance(BUSY_MS / 1_000 / 2)
    await process.sync()

    assert store.table.cells[BUSY_CELL] != first


@pytest.mark.parametrize("text", [b"soon", b"-1", b"9" * 40, b"999999999999999"])
def test_a_broken_sign_holds_nobody_up_for_long(text):
    clock = FakeClock()
    sign = BusyFlag(clock)

    sign.learn({BUSY_CELL: text}, clock.epoch_ms())
    clock.advance(BUSY_MS / 1_000)

    assert not sign.is_set


async def test_lasting_load_of_all_lowers_the_quality_of_every_process(store):
    processes = [Process(store, name, load=1.0) for name in "ab"]
    for _ in range(3):
        for process in processes:
            await process.sync()
            process.clock.advance(1.0)

    assert [process.board.quality for process in processes] == [Quality.REDUCED] * 2


async def test_load_of_one_process_of_two_lowers_nothing(store):
    processes = [Process(store, "a", load=1.0), Process(store, "b")]
    for _ in range(5):
        for process in processes:
            await process.sync()
            process.clock.advance(1.0)

    assert {process.board.quality for process in processes} == {Quality.FULL}


async def test_override_of_the_quality_holds_until_its_end(store):
    process = Process(store, "a")
    override = OverrideCell("MINIMAL", "ann", "game day", 60_000)
    await set_by_hand(store, "cli", QUALITY_BY_HAND, override)

    await process.sync()

    assert process.board.quality is Quality.MINIMAL
    process.clock.advance(60.0)
    assert process.board.quality is Quality.FULL
