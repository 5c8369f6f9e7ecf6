"""A cron job fires at its time whatever a clock says for a while.

A worker whose clock was ahead when it started, or for a moment later, waited for the
instant that the clock had shown: set right, it did not fire for 27 days. A worker whose
clock was a day behind fired instants of yesterday, beside all others. Right: the state
store's clock counts, an instant lies between two looks at it, and a clock that is set
starts a new interval; one effect an instant, none of them early.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from shifter import Shifter
from shifter.adapters.memory.state import MemoryFleetStore
from shifter.config import Settings
from shifter.fleet.replica import FleetReplica
from shifter.fleet.sync import FleetSync
from shifter.jobs.schedule import next_firing_ms
from shifter.model.time import EpochMs
from shifter.supervise.cron import CronSchedule
from shifter.testing import FakeClock, TestApp

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY_MS, HOUR_MS, MINUTE_MS = 86_400_000, 3_600_000, 60_000
JUMPS_MS = [
    27 * DAY_MS,
    DAY_MS,
    HOUR_MS,
    2_000,
    -2_000,
    -HOUR_MS,
    -DAY_MS,
    -DAY_MS * 99,
]


class Off:
    """A process's clock beside the true one."""

    def __init__(self, true: FakeClock, by_ms: int) -> None:
        self.true, self.by_ms = true, by_ms

    def epoch_ms(self) -> EpochMs:
        return EpochMs(self.true.epoch_ms() + self.by_ms)

    def monotonic(self):
        return self.true.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self.true.sleep(seconds)


class Night:
    """An app with one job each night at three, and workers whose clocks are off."""

    def __init__(self, cron: str = "0 3 * * *") -> None:
        self.app = Shifter("cron", settings=Settings(namespace="cron"))

        @self.app.job(cron=cron)
        async def clean_up() -> None: ...

        self.job = clean_up
        self.test = TestApp(self.app, start=NOON)

    async def __aenter__(self):
        await self.test.__aenter__()
        return self

    async def __aexit__(self, *error):
        return await self.test.__aexit__(*error)

    def worker(self, by_ms: int = 0, store_ms=lambda: None) -> tuple[Off, CronSchedule]:
        clock = Off(self.test.clock, by_ms)
        publisher = self.app.publisher
        return clock, CronSchedule("cron", self.app.jobs, publisher, clock, store_ms)

    def true_ms(self) -> EpochMs:
        return self.test.clock.epoch_ms()

    async def pass_by(self, hours: int, *tables: CronSchedule) -> None:
        for _ in range(hours * 4):
            await self.test.drain(advance="15m")
            for table in tables:
                await table.fire()
        await self.test.drain()

    @property
    def starts(self) -> list[tuple[int, int]]:
        return [(call.at.day, call.at.hour) for call in self.job.calls]


@pytest.mark.parametrize("by_ms", JUMPS_MS)
async def test_clock_that_was_wrong_at_the_start_fires_once_it_is_set_right(by_ms):
    async with Night() as night:
        clock, table = night.worker(by_ms)
        await table.fire()
        clock.by_ms = 0
        await table.fire()
        night.job.calls.clear()

        await night.pass_by(40, table)

    assert night.starts[-2:] == [(2, 3), (3, 3)]
    assert len([start for start in night.starts if start[1] == 3]) == 2


@pytest.mark.parametrize("by_ms", JUMPS_MS)
async def test_clock_that_was_wrong_for_an_hour_goes_on_with_the_next_night(by_ms):
    async with Night() as night:
        clock, table = night.worker()
        await night.pass_by(2, table)
        clock.by_ms = by_ms
        await night.pass_by(1, table)
        clock.by_ms = 0
        await table.fire()

        await night.pass_by(37 + 24, table)

    nights = [start for start in night.starts if start[1] == 3]
    assert nights[-2:] == [(3, 3), (4, 3)]


@pytest.mark.parametrize("by_ms", [DAY_MS, HOUR_MS, 30 * MINUTE_MS])
async def test_what_a_clock_that_is_ahead_has_fired_waits_for_its_time(by_ms):
    async with Night() as night:
        _, ahead = night.worker(by_ms)
        _, right = night.worker()

        await night.pass_by(63, ahead, right)

    assert night.starts == [(2, 3), (3, 3), (4, 3)]


@pytest.mark.parametrize("by_ms", JUMPS_MS)
async def test_the_stores_clock_counts_where_it_is_known(by_ms):
    async with Night() as night:
        workers = [night.worker(off, night.true_ms)[1] for off in (by_ms, 0)]

        await night.pass_by(63, *workers)

    assert night.starts == [(2, 3), (3, 3), (4, 3)]


@pytest.mark.parametrize("by_ms", [-30 * DAY_MS, -DAY_MS, DAY_MS, 30 * DAY_MS])
async def test_nothing_fires_for_the_time_between_two_clocks(by_ms):
    answers = []
    async with Night() as night:
        _, table = night.worker(by_ms, lambda: night.true_ms() if answers else None)
        answers.append("the store answered")
        await table.fire()
        await night.test.drain()
        assert night.starts == []

        await night.pass_by(39, table)

    assert night.starts == [(2, 3), (3, 3)]


async def test_a_store_whose_clock_is_set_back_stops_nothing():
    async with Night() as night:
        store = Off(night.test.clock, 27 * DAY_MS)
        _, table = night.worker(0, store.epoch_ms)
        store.by_ms = 0
        await table.fire()

        await night.pass_by(39, table)

    assert night.starts == [(2, 3), (3, 3)]


async def test_nothing_fires_by_itself_in_the_time_of_a_test_app():
    async with Night() as night:
        await night.pass_by(48)

    assert night.starts == []


async def test_running_timetable_notices_a_clock_set_right_within_half_a_minute():
    clock = FakeClock()
    clock.shift_wall(27 * DAY_MS)
    fired = []
    night = Night("* * * * *")
    table = CronSchedule("cron", night.app.jobs, None, clock)

    async def write(name: str, at_ms: EpochMs) -> None:
        fired.append((clock.epoch_ms() - at_ms, at_ms))

    table._fire = write
    task = asyncio.create_task(table.run())
    await clock.elapse(10)
    clock.shift_wall(-27 * DAY_MS)
    set_at = clock.epoch_ms()
    await clock.elapse(120)
    task.cancel()

    late_ms, at_ms = fired[-1]
    assert [at - set_at for _, at in fired if at < set_at + 120_000]
    assert late_ms < 100
    assert at_ms <= clock.epoch_ms()


@pytest.mark.parametrize("day", ["2026-03-28T12:00+00:00", "2026-10-24T12:00+00:00"])
def test_a_change_of_summer_time_moves_no_firing(day, monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    noon = EpochMs(round(datetime.fromisoformat(day).timestamp() * 1_000))

    first = next_firing_ms("30 2 * * *", noon)

    assert first - noon == 14 * HOUR_MS + 30 * MINUTE_MS
    assert next_firing_ms("30 2 * * *", first) - first == DAY_MS


async def test_the_board_tells_the_stores_clock_once_it_has_answered():
    clock, store_clock = FakeClock(), FakeClock()
    store_clock.shift_wall(5 * HOUR_MS)
    replica = FleetReplica([], clock, process="one")
    before = replica.store_ms()

    await FleetSync(replica, MemoryFleetStore(store_clock), clock).once()

    assert before is None
    assert abs(replica.store_ms() - store_clock.epoch_ms()) <= 1
