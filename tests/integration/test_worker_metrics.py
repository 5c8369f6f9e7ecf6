"""What a worker counts is what happened to its jobs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime

import pytest

from shifter import Priority, Retry, Throttled, Window
from shifter.fleet.readings import read_fleet, show_fleet
from shifter.fleet.replica import FleetReplica
from shifter.model.claim import JobState
from shifter.model.fleet import FleetLoad, FleetView
from shifter.ports import Record
from shifter.protection import LimitPolicy
from shifter.runtime.heartbeat_socket import heartbeat_sockets
from shifter.telemetry import WorkerMetrics
from shifter.telemetry.metric import WORKER_SPECS
from shifter.testing.clock import FakeClock
from shifter.wire.headers import read_headers, successor
from shifter.work import worker_readings
from shifter.work.heartbeat import beating, newest_heartbeat
from tests.integration.drain_world import World, submit

PATIENCE_S = 30
LANE = ("default", "NORMAL")
OTHER = "01890a5d-ac96-774b-bcce-b302099a8057"
"""The id of a job."""


@pytest.fixture
async def world():
    return World()


@contextlib.asynccontextmanager
async def beats(drain):
    """A worker's heartbeats; yields a function that returns the newest metrics."""
    ours, theirs = heartbeat_sockets()
    newest = {}

    def metrics():
        beat = newest_heartbeat(ours)
        newest.update({} if beat is None else beat.metrics)
        return newest

    try:
        async with beating(theirs, drain, lambda: True):
            yield metrics
    finally:
        ours.close()
        theirs.close()


def value(metrics, name):
    return metrics.get(name, {}).get((), 0)


async def until(holds):
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


async def test_retries_are_counted_by_their_reason(world):
    runs = {"fails": 0, "asks": 0, "rests": 0}

    @world.app.job(attempts=3, backoff="1ms")
    async def fails() -> None:
        runs["fails"] += 1
        raise ValueError

    @world.app.job(attempts=9)
    async def asks() -> None:
        runs["asks"] += 1
        if runs["asks"] < 3:
            raise Retry(after="1ms")

    @world.app.job()
    async def rests() -> None:
        runs["rests"] += 1
        if runs["rests"] < 5:
            raise Throttled("1ms")

    await world.open()
    ids = [await submit(job) for job in (fails, asks, rests)]
    async with world.working():
        ends = [await world.until_terminal(job_id) for job_id in ids]

    found = world.metrics.snapshot()
    assert ends == [JobState.DEAD, JobState.DONE, JobState.DONE]
    assert found["shifter_retries_total"] == {
        (*LANE, "failed"): runs["fails"] - 1,
        (*LANE, "retry_asked"): runs["asks"] - 1,
        (*LANE, "throttled"): runs["rests"] - 1,
    }
    assert found["shifter_attempts_total"][LANE] == sum(runs.values())


async def test_answers_of_the_claim_store_are_counted_one_by_one(world):
    @world.app.job()
    async def note(number: int) -> None: ...

    await world.open()
    ids = [await submit(note, number) for number in range(25)]
    # A second record of a job that has ended: the store answers that it has.
    twin = next(r for r in world.log.entries("shop.default.normal"))
    async with world.working() as drain:
        for job_id in ids:
            await world.ended(job_id, JobState.DONE)
        append(world, twin, twin.headers)
        await until(lambda: folded(drain)["shifter_claims_total"].get(("finished",)))

    found = world.metrics.snapshot()
    assert found["shifter_claims_total"] == {("granted",): 25, ("finished",): 1}
    assert found["shifter_jobs_total"] == {(*LANE, "done"): 25}
    assert sum(found["shifter_claim_duration_seconds"][()].counts) <= 26


def append(world, delivery, headers):
    """Append the record of a delivery once more, with headers of its own."""
    record = Record(delivery.topic, delivery.value, headers, delivery.key)
    world.log.append([record], 1_000_000)


def folded(drain):
    drain.observer.fold()
    return drain.observer.metrics.snapshot()


async def test_the_margin_to_the_deadline_is_that_of_jobs_that_have_one(world):
    @world.app.job()
    async def note(number: int) -> None: ...

    await world.open()
    await submit(note, 1)
    ids = [await submit(note.options(deadline="20m"), number) for number in range(3)]
    late = await submit(note.options(deadline="1ms"), 4)
    await asyncio.sleep(0.01)
    async with world.working() as drain:
        for job_id in (*ids, late):
            await world.until_terminal(job_id)
        drain.observer.fold()

    found = world.metrics.snapshot()
    bounds = WORKER_SPECS["shifter_job_deadline_margin_seconds"].bounds
    bars = found["shifter_job_deadline_margin_seconds"][LANE]
    # From 15 min on, up to 1 h.
    assert bars.counts[bounds.index(3_600.0)] == 3
    assert sum(bars.counts[: bounds.index(0.0) + 1]) == 1
    assert sum(bars.counts) == 4
    assert found["shifter_jobs_total"][*LANE, "expired"] == 1


async def test_replays_are_counted_once_each(world):
    @world.app.job(attempts=3, backoff="1ms")
    async def note() -> None:
        raise ValueError

    await world.open()
    await submit(note)
    [first] = world.log.entries("shop.default.normal")
    read = read_headers(first.headers)
    headers = successor(read, id=OTHER, replay_of=read.envelope.id)
    append(world, first, headers)
    async with world.working():
        assert await world.until_terminal(OTHER) is JobState.DEAD
        await world.until_terminal(read.envelope.id)

    found = world.metrics.snapshot()
    assert found["shifter_replays_total"] == {("default",): 1}
    assert found["shifter_attempts_total"][LANE] == 6


async def test_a_reading_of_a_worker_shows_its_pace(world):
    @world.app.job(priority=Priority.LOW, deadline="1h")
    async def tidy() -> None: ...

    await world.open()
    ids = [await submit(tidy) for _ in range(3)]
    async with world.working(pace="on") as drain, beats(drain) as metrics:
        for job_id in ids:
            await world.ended(job_id, JobState.DONE)
        await until(lambda: metrics().get("shifter_pace_slots"))
        found = metrics()["shifter_pace_slots"]

    parts = ("allowed", "needed", "spread", "usual", "urgent")
    assert found == {(part,): 0 for part in parts}


async def test_slots_are_busy_for_as_long_as_attempts_run(world):
    gate = asyncio.Event()

    @world.app.job()
    async def note() -> None:
        await gate.wait()

    await world.open()
    ids = [await submit(note) for _ in range(3)]
    async with world.working(concurrency=7) as drain, beats(drain) as metrics:
        await until(lambda: value(metrics(), "shifter_slots_busy_seconds_total") > 1)
        running = metrics()["shifter_inflight"][LANE]
        gate.set()
        for job_id in ids:
            await world.ended(job_id, JobState.DONE)

    found = world.metrics.snapshot()
    busy_s = found["shifter_slots_busy_seconds_total"][()]
    assert running == 3
    assert found["shifter_slots"] == {(): 7}
    assert busy_s == pytest.approx(found["shifter_job_duration_seconds"][LANE].total)


async def test_a_blocked_loop_is_seen_as_its_lag(world):
    @world.app.job()
    async def blocks() -> None:
        time.sleep(1.5)  # blocks on purpose

    await world.open()
    async with world.working() as drain, beats(drain) as metrics:
        await until(lambda: "shifter_loop_lag_seconds" in metrics())
        await submit(blocks)
        await until(lambda: value(metrics(), "shifter_loop_lag_seconds") > 1)


async def test_lag_of_a_timer_is_what_it_was_late():
    lag = worker_readings.LagTimer()
    time.sleep(0.3)  # blocks on purpose

    overdue_s = lag.take_s()
    await asyncio.sleep(0)
    lag.stop()

    assert overdue_s >= 0.2


async def test_calls_budget_limit_and_quality_are_those_of_a_service(world):
    bank = world.app.dependency("bank", limit=LimitPolicy())

    @world.app.job(attempts=1)
    async def pay(number: int) -> None:
        async with bank:
            if number:
                raise ConnectionError

    await world.open()
    ids = [await submit(pay, number) for number in (0, 0, 0, 1)]
    async with world.working() as drain:
        for job_id in ids:
            await world.until_terminal(job_id)
        async with beats(drain) as metrics:
            await until(lambda: "shifter_calls_total" in metrics())
            found = metrics()

    assert found["shifter_calls_total"] == {
        ("bank", "success"): 3,
        ("bank", "failure"): 1,
    }
    assert found["shifter_limit"] == {("bank",): int(LimitPolicy().initial)}
    assert found["shifter_budget_left"]["bank",] >= 0
    assert found["shifter_quality"] == {("FULL",): 1}
    assert found["shifter_circuit_state"]["bank", "fleet", "closed"] == 1
    # No store has answered here.
    assert found["shifter_clock_skew_seconds"] == {}


def test_skew_of_a_clock_is_its_distance_from_the_stores():
    clock, metrics = FakeClock(), WorkerMetrics()
    replica = FleetReplica([], clock, process="w1", seed=1)
    view = FleetView(
        clock.epoch_ms() - 3_000, 0, None, [], {}, FleetLoad(1, 0.0, 0.0), [], []
    )
    replica.learn(replica.report(), view)

    show_fleet(metrics, read_fleet(replica))

    assert metrics.snapshot()["shifter_clock_skew_seconds"] == {(): 3.0}


async def test_a_lane_outside_its_hours_or_for_a_quiet_time_is_closed(world):
    """What is due in such a lane is no work that stands still."""
    hour = datetime.now(UTC).hour
    later = Window(f"{(hour + 3) % 24:02}:00-{(hour + 4) % 24:02}:00")
    world.app.lane("night", window=later)
    world.app.lane("quiet", priority=Priority.LOW, opportunistic=True)

    @world.app.job(queue="night")
    async def digest() -> None: ...

    @world.app.job(queue="quiet", priority=Priority.LOW)
    async def tidy() -> None: ...

    @world.app.job
    async def receipt() -> None: ...

    await world.open()
    async with (
        world.working(hours=world.app.hours) as drain,
        beats(drain) as metrics,
    ):
        closed = {("quiet", "LOW"), *(("night", p.value) for p in Priority)}
        await until(lambda: closed_lanes(metrics()) == closed)
        found = metrics()["shifter_lane_closed"]

    assert found["default", "NORMAL"] == 0


def closed_lanes(metrics):
    found = metrics.get("shifter_lane_closed", {})
    return {lane for lane, is_closed in found.items() if is_closed}
