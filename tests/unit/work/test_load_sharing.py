"""Jobs that would wait in a full worker are moved to others."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from shifter.errors import StoreUnavailableError
from shifter.model.claim import JobState
from shifter.model.reason import Reason
from shifter.ports import ANY_PARTITION, Refused, Unknown, WorkerReport
from shifter.ports.stores import decode_report, encode_report
from shifter.wire.headers import read_headers
from shifter.work.load_sharing import LoadSharing
from tests.unit.work.items import LANE, Stages


def report(worker="w2", *, running=0, partitions=(7,), **more):
    facts = {
        "worker_id": worker,
        "host": "h",
        "pid": 1,
        "started_ms": 1,
        "reported_ms": 1,
        "concurrency": 10,
        "running": {LANE.name: running} if running else {},
        "rate_per_s": {},
        "partitions": {LANE.name: list(partitions)} if partitions else {},
    }
    return WorkerReport(**facts | more)


class Sharing:
    """The stage over scripted reports, and a completer that carries its steps out."""

    def __init__(self, *reports, free=0):
        self.stages, self.reports, self.asked, self.free = Stages(), reports, 0, free
        self.completer = self.stages.completer()
        self.sharing = LoadSharing(
            self.stages.state,
            self.completer,
            owner="w1",
            reports=self.read,
            free=lambda: self.free,
            seed=1,
        )

    async def read(self):
        self.asked += 1
        if isinstance(self.reports, Exception):
            raise self.reports
        return self.reports

    def queue(self, *items):
        for item in items:
            now = self.stages.clock.monotonic()
            self.stages.state.buffer.put(item, now=now)
        return items

    async def moved(self, turns=200):
        """Let it look, and return the records that it appended."""
        self.sharing.look()
        tasks = [
            asyncio.ensure_future(main())
            for main in (self.sharing.run, self.completer.run)
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return self.stages.feed.records


async def test_a_full_worker_moves_a_waiting_job_as_it_is():
    world = Sharing(report())
    due_ms = world.stages.clock.epoch_ms() - 5
    (item,) = world.queue(world.stages.item(attempt=2, turn=3, due_ms=due_ms))

    (record,) = await world.moved()

    envelope = read_headers(record.headers).envelope
    assert (record.topic, record.partition, record.due_ms) == (LANE.name, 7, None)
    assert record.value == item.delivery.value
    assert (envelope.id, envelope.attempt, envelope.turn, envelope.due_ms) == (
        *(item.envelope.id, 2, 3),
        due_ms,
    )
    assert world.stages.feed.settled == [item.delivery]
    assert world.stages.state.buffer.ready == 0
    assert world.stages.state.observer.rates(99.0) == {}
    moved = world.stages.metrics.moved.read()
    assert moved == {("default", "NORMAL"): 1}


async def test_the_records_of_others_are_not_counted_as_waiting_jobs():
    world = Sharing(report())
    (item,) = world.queue(world.stages.item())

    await world.moved()

    assert await world.stages.store.status(item.envelope.id) is None


async def test_a_worker_with_a_free_slot_moves_nothing():
    world = Sharing(report(), free=1)
    world.queue(world.stages.item())

    assert not await world.moved()
    assert world.asked == 0


async def test_a_job_stays_that_has_an_order_a_claim_or_a_refusal():
    world = Sharing(report())
    keyed, unknown = world.stages.item(key="k"), world.stages.item("nobody")
    claimed = await world.stages.granted()
    raw = world.stages.item()
    raw.delivery.key = b"k"
    world.queue(keyed, unknown, claimed, raw)

    assert not await world.moved()
    assert world.stages.state.buffer.take([(LANE.name, 9)]) == [
        *(keyed, unknown, claimed, raw)
    ]


@pytest.mark.parametrize(
    "others",
    [
        [],
        [report("w1")],
        [report(running=10)],
        [report(partitions=())],
        [report(is_draining=True)],
        StoreUnavailableError("redis", "workers", "away"),
    ],
)
async def test_nothing_is_moved_where_no_other_worker_is_known_to_have_room(others):
    world = Sharing()
    world.reports = others
    world.queue(world.stages.item())

    assert not await world.moved()
    assert world.asked == 1
    assert world.stages.state.buffer.ready == 1


async def test_no_more_is_moved_than_the_others_have_room_for():
    # Ten slots, eight of them in use: two jobs in a second.
    world = Sharing(report(running=8))
    world.queue(*(world.stages.item() for _ in range(5)))

    assert len(await world.moved()) == 2
    assert world.stages.state.buffer.ready == 3


async def test_a_worker_does_not_count_its_own_report_among_those_of_others():
    world = Sharing(report("w1", running=10, partitions=(3,)), report(running=8))
    world.queue(*(world.stages.item() for _ in range(5)))

    assert len(await world.moved()) == 2


async def test_a_slot_that_becomes_free_meanwhile_ends_the_moves():
    world = Sharing(report())
    world.queue(world.stages.item())

    async def reports():
        world.free = 1
        return [report()]

    world.sharing._reports = reports

    assert not await world.moved()


async def test_a_job_of_a_partition_that_was_taken_away_is_left_to_its_new_owner():
    world = Sharing(report())
    (item,) = world.queue(world.stages.item())
    world.stages.feed.taken_away = {item.delivery.offset}

    assert not await world.moved()
    assert not world.stages.feed.settled


@pytest.mark.parametrize(
    "answer", [Unknown("no answer"), Refused(Reason.REFUSED_BY_LOG, "no")]
)
async def test_a_job_that_the_log_does_not_take_starts_here(answer):
    world = Sharing(report())
    (item,) = world.queue(world.stages.item())
    world.stages.feed.answers = [answer]

    await world.moved()

    assert len(world.stages.state.delayed) == 1
    assert world.completer.pending == 0
    assert not world.stages.feed.settled
    assert not world.stages.metrics.moved.read()
    task = asyncio.ensure_future(world.stages.state.delayed.run())
    await world.stages.clock.elapse(1.0)
    task.cancel()
    assert world.stages.ready == [item]


@pytest.mark.parametrize("number", [-1, 1 << 31, 1 << 70])
def test_a_report_of_a_partition_that_cannot_be_is_no_report(number):
    assert decode_report(encode_report(report(partitions=[7]))) is not None
    assert decode_report(encode_report(report(partitions=[number]))) is None


async def test_a_move_is_no_end_of_a_job():
    stages = Stages()

    step = stages.state.next_steps.moved(stages.item(), 3)

    assert (step.state, step.update, step.settles) == (JobState.WAITING, None, True)
    assert step.record is not None
    assert step.record.partition == 3
    assert stages.state.next_steps.postponed(stages.item(), 1).record.partition == (
        ANY_PARTITION
    )
