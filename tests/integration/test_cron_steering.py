"""Operators list, pause, resume and run cron jobs; three workers obey, in virtual time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from shifter import Shifter, wiring
from shifter.adapters.memory.state import MemoryFleetStore, MemoryPresenceStore
from shifter.config import Settings
from shifter.errors import (
    AlreadyAskedError,
    NotTakenError,
    StoreUnavailableError,
    UnknownNameError,
)
from shifter.fleet.cron_state import CronState, run_cell
from shifter.fleet.replica import FleetReplica
from shifter.fleet.sync import FleetSync
from shifter.fleet.view import cells_of
from shifter.ops.crons import pause_cron, read_crons, resume_cron, run_cron
from shifter.ops.overrides import Override
from shifter.ports import WorkerReport
from shifter.supervise.cron import CronSchedule
from shifter.testing import TestApp

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SETTINGS = Settings(namespace="cron")
HOUR_MS = 3_600_000


class Process:
    """One worker process: its copy of the shared state, and what fires there."""

    def __init__(self, world: World, number: int) -> None:
        clock, shared = world.test.clock, CronState()
        replica = FleetReplica([], clock, process=f"p{number}", seed=number)
        replica.tenants.append(shared)
        self.sync = FleetSync(replica, world.fleet, clock, seed=number)
        self.table = CronSchedule(
            "cron",
            world.app.jobs,
            world.app.publisher,
            clock,
            clock.epoch_ms,
            shared,
        )

    async def step(self) -> None:
        await self.sync.once()
        await self.table.fire()


class World:
    """A fleet with one job that fires each hour, and its operators."""

    def __init__(self) -> None:
        self.app = Shifter("cron", settings=SETTINGS)

        @self.app.job(cron="0 * * * *")
        async def digest() -> None: ...

        self.job, self.test = digest, TestApp(self.app, start=NOON)
        self.fleet = MemoryFleetStore(self.test.clock)
        self.presence = MemoryPresenceStore(self.test.clock)
        self.processes: list[Process] = []

    async def start(self) -> None:
        """Start three workers, which report their cron job."""
        self.processes = [Process(self, number) for number in range(3)]
        for number in range(3):
            facts = (f"w{number}", "h", 7, number, 1, 10, {}, {})
            report = WorkerReport(*facts, crons={"digest": "0 * * * *"})
            await self.presence.report(report, keep_ms=600_000)

    async def pass_by(self, minutes: int) -> None:
        for _ in range(minutes):
            await self.test.drain(advance="1m")
            await self.step()
            await self.test.drain()

    async def step(self) -> None:
        for process in self.processes:
            await process.step()
        for process in self.processes:
            await process.sync.once()

    # An operator's clock, whose sleep lets the fleet go on.
    def epoch_ms(self):
        return self.test.clock.epoch_ms()

    def monotonic(self):
        return self.test.clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self.test.drain(advance=f"{round(seconds * 1_000)}ms")
        await self.step()

    async def run(self, owner: str = "ann") -> str:
        asked = run_cron(SETTINGS, "digest", owner=owner, reason="a drill", clock=self)
        return await asked

    async def pause(self, lasts_ms: int, owner: str = "ann") -> None:
        override = Override("pause", owner, "a drill", lasts_ms)
        await pause_cron(SETTINGS, "digest", override)
        await self.step()

    async def row(self):
        [row] = await read_crons(SETTINGS)
        return row

    @property
    def starts(self) -> list[tuple[int, int]]:
        return [(call.at.hour, call.at.minute) for call in self.job.calls]


@pytest.fixture
async def world(monkeypatch):
    world = World()
    async with world.test:
        claims = world.test._backend.claims
        monkeypatch.setattr(wiring, "open_fleet", lambda settings: world.fleet)
        monkeypatch.setattr(wiring, "open_presence", lambda settings: world.presence)
        monkeypatch.setattr(wiring, "open_claims", lambda settings: claims)
        await world.start()
        yield world


async def test_a_cron_job_is_shown_with_its_last_end_and_its_next_firing(world):
    before = await world.row()
    await world.pass_by(61)
    await world.start()

    after = await world.row()

    noon_ms = int(NOON.timestamp() * 1_000)
    assert (before.schedule, before.tz, before.workers) == ("0 * * * *", "UTC", 3)
    assert (before.last_ms, before.outcome) == (None, None)
    assert before.next_ms == noon_ms + HOUR_MS
    assert after.last_ms == noon_ms + HOUR_MS
    assert (after.outcome, after.last_by) == ("done", None)
    assert after.next_ms == noon_ms + 2 * HOUR_MS


async def test_a_paused_job_is_skipped_until_the_pause_ends_by_itself(world):
    await world.pause(90 * 60_000)
    row = await world.row()

    await world.pass_by(185)

    assert world.starts == [(14, 0), (15, 0)]
    assert (row.paused.owner, row.paused.reason) == ("ann", "a drill")
    assert row.paused.left_s == 5_400
    assert row.next_ms == int(NOON.timestamp() * 1_000) + 2 * HOUR_MS
    assert (await world.row()).paused is None


async def test_a_job_that_is_resumed_fires_again(world):
    await world.pause(24 * HOUR_MS)
    await world.pass_by(61)
    await resume_cron(SETTINGS, "digest")
    await world.step()
    await world.pass_by(60)

    assert world.starts == [(14, 0)]


async def test_the_later_of_two_pauses_holds(world):
    await world.pause(24 * HOUR_MS)
    await world.pause(HOUR_MS // 2, owner="bob")
    await world.pass_by(61)

    assert world.starts == [(13, 0)]


async def test_a_run_that_is_asked_for_takes_effect_once_also_while_paused(world):
    await world.pause(24 * HOUR_MS)

    job_id = await world.run()
    await world.test.drain()
    row = await world.row()

    assert [call.arguments for call in world.job.calls] == [{}]
    assert (row.last_job_id, row.last_by, row.outcome) == (job_id, "ann", "done")
    await world.pass_by(61)
    assert len(world.job.calls) == 1
    cells, _ = await cells_of(world.fleet, "test")
    assert run_cell("digest") not in cells


async def test_the_second_of_two_operators_at_once_is_told_of_the_first(world):
    waits = asyncio.Event()
    go_on = asyncio.Event()

    class Held:
        """An operator's clock that a test holds."""

        monotonic, epoch_ms = world.monotonic, world.epoch_ms

        async def sleep(self, seconds: float) -> None:
            waits.set()
            await go_on.wait()
            await world.sleep(seconds)

    asked = run_cron(SETTINGS, "digest", owner="ann", reason="x", clock=Held())
    first = asyncio.create_task(asked)
    await waits.wait()
    with pytest.raises(AlreadyAskedError, match="asked for by ann"):
        await world.run("bob")
    go_on.set()
    await first
    await world.test.drain()

    assert len(world.job.calls) == 1
    await world.run("bob")
    await world.test.drain()
    assert len(world.job.calls) == 2


async def test_a_run_that_no_worker_takes_is_taken_back(world):
    world.processes.clear()

    with pytest.raises(NotTakenError, match="no worker took a run of digest"):
        await world.run()

    cells, _ = await cells_of(world.fleet, "test")
    assert run_cell("digest") not in cells
    assert world.job.calls == []


async def test_an_unknown_cron_job_is_refused_with_those_there_are(world):
    override = Override("pause", "ann", "a drill", 1_000)

    for asked in (
        run_cron(SETTINGS, "other", owner="ann", reason="x", clock=world),
        pause_cron(SETTINGS, "other", override),
        resume_cron(SETTINGS, "other"),
    ):
        with pytest.raises(UnknownNameError, match=r": digest$"):
            await asked


async def test_without_the_state_store_nothing_is_done(world, monkeypatch):
    async def sync(report):
        raise StoreUnavailableError("redis", "fleet.sync", "gone")

    monkeypatch.setattr(world.fleet, "sync", sync)

    for asked in (read_crons(SETTINGS), world.run(), resume_cron(SETTINGS, "digest")):
        with pytest.raises(StoreUnavailableError, match="gone"):
            await asked


async def test_a_report_with_a_schedule_that_never_fires_harms_nothing(world):
    hostile = WorkerReport(
        *("w9", "h", 7, 99, 1, 10, {}, {}), crons={"digest": "\x1b[2J"}
    )
    await world.presence.report(hostile, keep_ms=60_000)

    row = await world.row()

    assert (row.schedule, row.next_ms) == ("\x1b[2J", None)
