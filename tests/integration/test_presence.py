"""What a worker process reports about itself is what a scaling signal is made of."""

from __future__ import annotations

import asyncio
import contextlib

from shifter.ports import WorkerReport
from shifter.work.heartbeat import report_presence
from tests.integration.drain_world import World, submit

PATIENCE_S = 30
LANE = "shop.mail.normal"


class Reports:
    """A presence store that keeps every report."""

    def __init__(self) -> None:
        self.all: list[WorkerReport] = []

    async def report(self, report, *, keep_ms):
        self.all.append(report)


@contextlib.asynccontextmanager
async def reporting(world, **options):
    """The reports of a drain that runs."""
    store = Reports()
    async with world.working(**options) as drain:
        task = asyncio.get_running_loop().create_task(report_presence(store, drain))
        try:
            yield store.all
        finally:
            task.cancel()


async def until(reports, holds):
    async with asyncio.timeout(PATIENCE_S):
        while not any(map(holds, reports)):
            await asyncio.sleep(0.05)
    return next(report for report in reports if holds(report))


async def test_a_worker_reports_what_it_serves_and_what_its_lanes_use():
    world, release = World(), asyncio.Event()

    @world.app.job(queue="mail")
    async def send() -> None:
        await release.wait()

    await world.open()
    for _ in range(5):
        await submit(send)

    async with reporting(world, concurrency=10) as reports:
        found = await until(reports, lambda report: report.busy)
        release.set()

    assert found.queues == ["mail"]
    assert found.priorities == ["CRITICAL", "HIGH", "LOW", "NORMAL"]
    assert list(found.busy) == [LANE]
    assert 0 < found.busy[LANE] <= 1


async def test_the_start_is_measured_by_a_job_that_waited_for_it():
    world = World()

    @world.app.job(queue="mail")
    async def send() -> None: ...

    await world.open()
    await submit(send)

    async with reporting(world) as reports:
        found = await until(reports, lambda report: report.start_up_ms is not None)

    assert found.start_up_ms >= 0


async def test_a_job_that_comes_later_measures_no_start():
    world = World()

    @world.app.job(queue="mail")
    async def send() -> None: ...

    await world.open()
    async with reporting(world) as reports:
        await until(reports, lambda _: True)
        while world.clock.epoch_ms() <= reports[0].started_ms:
            await asyncio.sleep(0.01)
        await submit(send)
        found = await until(reports, lambda report: report.rate_per_s)

    assert found.start_up_ms is None
