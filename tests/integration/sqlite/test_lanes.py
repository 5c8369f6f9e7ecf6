"""Lanes in a file: what one transaction, one fetch and one worker may do to others."""

from __future__ import annotations

import asyncio
import threading

import pytest

from shifter.adapters.sqlite.admin import SqliteLogAdmin
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.feed import SqliteLaneFeed
from shifter.adapters.sqlite.log import SqliteLaneLog
from shifter.adapters.system import SystemClock
from shifter.ports import Appended, Record

LANE = "shop.mail.low"
NEW_TOPIC = (1, 60_000, 1_000_000)


def records(values, *, topic=LANE, key=None):
    return [Record(topic, b"%d" % value, [], key) for value in values]


def numbers(deliveries):
    return [int(delivery.value) for delivery in deliveries]


class Process:
    """What one process has open; feeds leave in the end."""

    def __init__(self, path):
        self.database = Database(path)
        self.log = SqliteLaneLog(self.database, SystemClock(), new_topic=NEW_TOPIC)
        self.admin = SqliteLogAdmin(self.database.share())
        self._feeds = []

    async def feed(self, *topics):
        feed = SqliteLaneFeed(self.log, topics or [LANE], SystemClock())
        await feed.open()
        self._feeds.append(feed)
        return feed

    async def append(self, wanted):
        answers = await self.log.append(wanted, timeout_s=10)
        assert answers == [Appended()] * len(wanted)

    async def forget_members(self):
        """As if every member had been silent for too long."""
        await self.database.write(lambda c: c.execute("DELETE FROM member"))

    async def waiting(self, topic=LANE):
        [depth] = await self.admin.depths([topic])
        return depth.waiting

    async def close(self):
        for feed in self._feeds:
            await feed.close(timeout_s=5)
        await self.admin.close()
        self.log.close(timeout_s=5)


@pytest.fixture
async def process(tmp_path):
    opened = Process(tmp_path / "log.db")
    yield opened
    await opened.close()


async def test_an_undone_transaction_leaves_no_topic_behind(process):
    """What it made must not be remembered: its id is the next topic's."""
    entered, go_on = threading.Event(), threading.Event()

    def hold(_):
        entered.set()
        go_on.wait(10)

    def fail(_):
        raise LookupError

    holding = asyncio.ensure_future(process.database.write(hold))
    await asyncio.to_thread(entered.wait, 10)
    appending = asyncio.ensure_future(process.append(records([1], topic="shop.a.low")))
    failing = asyncio.ensure_future(process.database.write(fail))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(holding, appending)
    with pytest.raises(LookupError):
        await failing
    await process.append(records([2], topic="shop.b.low"))

    first = await process.feed("shop.a.low")
    second = await process.feed("shop.b.low")

    assert numbers(await first.fetch(10, wait_s=5)) == [1]
    assert numbers(await second.fetch(10, wait_s=5)) == [2]


async def test_what_a_dead_worker_left_is_handed_out_in_order_and_never_too_much(
    process,
):
    await process.append(records(range(50)))
    dead = await process.feed()
    held = await dead.fetch(40, wait_s=5)
    await dead.settle(held[1:3])
    await dead.fetch(0, wait_s=0)
    await process.forget_members()
    heir = await process.feed()

    found = []
    while batch := await heir.fetch(7, wait_s=0.2):
        assert len(batch) <= 7
        found += numbers(batch)

    assert found == [0, *range(3, 50)]


async def test_a_flood_without_keys_does_not_hold_up_a_key(process):
    await process.append(records(range(3_000)))
    await process.append(records([9_999], key=b"k"))
    feed = await process.feed()

    fetched = [numbers(await feed.fetch(1, wait_s=5)) for _ in range(4)]

    assert [9_999] in fetched


async def test_records_the_file_lost_are_not_waited_for(process):
    await process.append(records(range(10)))
    await process.database.write(
        lambda c: c.execute("DELETE FROM job WHERE id & 1048575 IN (3, 4)")
    )
    feed = await process.feed()

    await feed.settle(await feed.fetch(10, wait_s=5))
    await feed.fetch(10, wait_s=0)

    assert await process.waiting() == 0
