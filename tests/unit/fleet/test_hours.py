"""Execution windows that operators override, and the busy flag of a fleet."""

from __future__ import annotations

import pytest

from shifter import Priority
from shifter.adapters.memory.state import MemoryFleetStore
from shifter.fleet.hours import (
    BUSY_CELL,
    BUSY_MS,
    BusyFlag,
    Hours,
    job_scope,
    queue_scope,
    window_cell,
)
from shifter.fleet.replica import FleetReplica
from shifter.fleet.shared_state import OverrideCell
from shifter.fleet.view import look, set_by_hand
from shifter.jobs.schedule import Window
from shifter.model.job import JobSpec, LaneRule
from shifter.model.lane import Lane
from shifter.testing.clock import FakeClock

LANE = Lane("shop", "mail", Priority.LOW)
SPEC = JobSpec(name="digest", queue="mail")
NIGHT = Window("22:00-06:00").weekly  # the clock starts at midnight


class Process:
    """One process's side, with its own wall clock."""

    def __init__(self, store, name, *, ahead_ms=0, is_busy=None):
        self.clock, self.store = FakeClock(), store
        self.clock.shift_wall(ahead_ms)
        self.replica = FleetReplica([], self.clock, process=name)
        self.hours = Hours(self.clock, {})
        self.sign = BusyFlag(self.clock, is_busy)
        self.replica.tenants += [self.hours, self.sign]

    async def sync(self):
        told = self.replica.report()
        self.replica.learn(told, await self.store.sync(told.report))

    def opening_s(self):
        now = self.clock.epoch_ms()
        return (self.hours.opening_ms(SPEC, LANE, now) - now) / 1_000


@pytest.fixture
def store():
    return MemoryFleetStore(FakeClock())


async def put(store, scope, to, for_ms):
    setting = OverrideCell(to, "ann", "because", for_ms)
    await set_by_hand(store, "cli", window_cell(scope), setting)


async def test_an_override_reaches_each_process_at_its_next_sync(store):
    process, news = Process(store, "p"), []
    await process.sync()
    process.hours.changed = lambda: news.append(1)
    await put(store, queue_scope("mail"), "closed", 60_000)

    before = process.opening_s()
    await process.sync()

    assert (before, process.opening_s(), news) == (0, 60, [1])


@pytest.mark.parametrize("ahead_ms", [-3_600_000, 0, 3_600_000])
async def test_it_ends_by_the_stores_clock_whatever_a_process_takes_for_now(
    store, ahead_ms
):
    process = Process(store, "p", ahead_ms=ahead_ms)
    await put(store, job_scope("digest"), "closed", 60_000)

    await process.sync()

    assert process.opening_s() == 60
    process.clock.advance(60)
    assert process.opening_s() == 0


async def test_what_was_let_go_is_gone(store):
    process = Process(store, "p")
    await put(store, queue_scope("mail", Priority.LOW), "closed", 60_000)
    await process.sync()
    await set_by_hand(
        store, "cli", window_cell(queue_scope("mail", Priority.LOW)), None
    )

    await process.sync()

    assert process.opening_s() == 0
    assert (await look(store, "cli")).windows == []


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b'{"to":"FULL","owner":"a","reason":"b","until_ms":9e15}'],
)
def test_a_cell_without_hours_is_ignored(text):
    hours = Hours(FakeClock(), {})

    hours.learn({window_cell("queue/mail"): text}, 0)

    assert hours.by_hand == {}


def test_a_closed_lane_is_awake_for_a_job_that_was_opened_by_itself():
    clock = FakeClock()
    now = clock.epoch_ms() + 12 * 3_600_000
    hours = Hours(clock, {LANE.name: LaneRule((NIGHT,))})
    closed = hours.is_lane_closed(LANE, now)
    cells = {
        window_cell(job_scope("digest")): (
            b'{"to":"open","owner":"a","reason":"b","until_ms":%d}' % (now + 1)
        )
    }

    hours.learn(cells, clock.epoch_ms())

    other = JobSpec(name="other", queue="mail")
    assert (closed, hours.is_lane_closed(LANE, now)) == (True, False)
    assert hours.opening_ms(SPEC, LANE, now) == now
    assert hours.opening_ms(other, LANE, now) > now


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
def test_a_broken_sign_holds_no_job_up_for_long(text):
    clock = FakeClock()
    sign = BusyFlag(clock)

    sign.learn({BUSY_CELL: text}, clock.epoch_ms())
    clock.advance(BUSY_MS / 1_000)

    assert not sign.is_set
