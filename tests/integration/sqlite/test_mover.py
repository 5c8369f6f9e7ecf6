"""Records of a file that wait for their hours, brought to their lanes by hand."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from shifter.adapters.sqlite.admin import SqliteLogAdmin
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.feed import SqliteLaneFeed
from shifter.adapters.sqlite.log import SqliteLaneLog
from shifter.adapters.sqlite.mover import SqliteDelayMover
from shifter.adapters.system import SystemClock
from shifter.model.lane import Priority
from shifter.ports import Appended, Record
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import headers_by_id

LANE = "shop.mail.low"
HOUR_MS = 3_600_000


class Files:
    """A log with delayed records, and movers over it."""

    def __init__(self, path):
        self.clock = SystemClock()
        self.log = SqliteLaneLog(
            Database(path), self.clock, new_topic=(1, 60_000, 1_000_000)
        )
        self.admin = SqliteLogAdmin(self.log.database.share(), self.clock)

    def record(self, number, *, job="digest", own_ms=None, lane=LANE):
        now = self.clock.epoch_ms()
        envelope = EnvelopeV1(
            v=1,
            id=f"0190163d-8694-739b-aea5-{number:012d}",
            type=job,
            queue="mail",
            priority=Priority.LOW,
            created_ms=now,
            due_ms=None if own_ms is None else now + own_ms,
        )
        headers = headers_by_id(envelope, content_type="application/json")(
            envelope.id, []
        )
        return Record(lane, b"%d" % number, headers, None, now + HOUR_MS)

    async def append(self, *records):
        answers = await self.log.append(records, timeout_s=10)
        assert answers == [Appended()] * len(records)

    async def depth(self):
        [depth] = await self.admin.depths([LANE])
        return depth.waiting, depth.delayed

    @contextlib.asynccontextmanager
    async def moving(self, *wanted):
        movers = [SqliteDelayMover(self.log, self.clock) for _ in wanted]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(mover.run()) for mover in movers]
            for mover, job in zip(movers, wanted, strict=True):
                mover.rush(lambda name, lane, job=job: name == job)
            yield movers
            for task in tasks:
                task.cancel()

    async def until(self, depth):
        async with asyncio.timeout(40):
            while await self.depth() != depth:
                await asyncio.sleep(0.02)


@pytest.fixture
async def files(tmp_path):
    opened = Files(tmp_path / "log.db")
    yield opened
    await opened.admin.close()
    opened.log.close(timeout_s=5)


async def test_wanted_records_come_to_their_lane_once_from_either_mover(files):
    await files.append(*(files.record(number) for number in range(1_200)))
    await files.append(*(files.record(number, job="other") for number in range(50)))

    async with files.moving("digest", "digest"):
        await files.until((1_200, 50))

    feed = SqliteLaneFeed(files.log, [LANE], files.clock)
    await feed.open()
    found = [int(one.value) for one in await feed.fetch(5_000, wait_s=1)]
    await feed.close(timeout_s=5)
    assert found == list(range(1_200))


async def test_a_delay_that_was_asked_for_is_kept(files):
    await files.append(files.record(1, own_ms=HOUR_MS), files.record(2))

    async with files.moving("digest"):
        await files.until((1, 1))


async def test_what_comes_while_hours_are_set_is_moved_too(files):
    async with files.moving("digest"):
        await files.append(files.record(1))
        await files.until((1, 0))


async def test_let_go_nothing_is_moved_any_more(files):
    async with files.moving("digest") as [mover]:
        await files.append(files.record(1))
        await files.until((1, 0))
        mover.rush(None)
        await files.append(files.record(2))
        await asyncio.sleep(0.8)
        left = await files.depth()

    assert left == (1, 1)


async def test_a_record_whose_envelope_cannot_be_read_stays_where_it_is(files):
    broken = Record(LANE, b"x", [], None, files.clock.epoch_ms() + HOUR_MS)
    await files.append(broken, files.record(1))

    async with files.moving("digest"):
        await files.until((1, 1))
