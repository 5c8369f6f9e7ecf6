"""The memory log in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneFeed, MemoryLaneLog, MemoryLogAdmin
from shifter.errors import StoreRefusedError
from shifter.ports import Appended, LostRange, Record, Refused, Unknown
from shifter.testing.clock import FakeClock

LANE = "shop.mail.low"


def at(due_ms, value=b"x"):
    return Record(LANE, value, [], None, due_ms)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def log(clock):
    log = MemoryLog(clock)
    log.create_lanes(LANE)
    return log


async def opened(log, *topics):
    feed = MemoryLaneFeed(log, topics or (LANE,))
    await feed.open()
    return feed


async def test_a_delayed_record_comes_exactly_when_it_is_due(log, clock):
    feed = await opened(log)
    due_ms = clock.epoch_ms() + 7_200_000
    await MemoryLaneLog(log).append([at(due_ms)], timeout_s=1)

    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(feed.fetch(10, wait_s=100_000))
        await clock.elapse(7_199.999)
        assert not fetching.done()
        assert log.next_due_ms() == due_ms
        await clock.elapse(0.001)

    [delivery] = fetching.result()
    assert delivery.appended_ms == due_ms
    assert log.next_due_ms() is None


async def test_delayed_records_come_in_the_order_they_are_due(log, clock):
    feed, now = await opened(log), clock.epoch_ms()
    await MemoryLaneLog(log).append(
        [at(now + 3_000, b"3"), at(now + 1_000, b"1"), at(now + 2_000, b"2")],
        timeout_s=1,
    )

    clock.advance(10)

    found = await feed.fetch(10, wait_s=0)
    assert [delivery.value for delivery in found] == [b"1", b"2", b"3"]


async def test_a_fetch_waits_in_virtual_time(log, clock):
    feed = await opened(log)

    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(feed.fetch(10, wait_s=3_600))
        await clock.elapse(3_599)
        assert not fetching.done()
        await clock.elapse(1)

    assert fetching.result() == []


async def test_a_cancelled_fetch_leaves_no_sleeper(log, clock):
    feed = await opened(log)
    fetching = asyncio.ensure_future(feed.fetch(10, wait_s=60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert clock.sleepers == 1

    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching

    assert clock.sleepers == 0


async def test_an_outage_writes_nothing(log):
    writer = MemoryLaneLog(log)
    for answer in (Unknown("no answer"), Refused("refused_by_log", "no right")):
        log.answer_instead = answer
        assert await writer.append([at(None)], timeout_s=1) == [answer]
    log.answer_instead = None

    assert await MemoryLogAdmin(log).count(LANE) == 0
    assert await writer.append([at(None)], timeout_s=1) == [Appended()]


async def test_records_lost_to_retention_are_reported_once(log):
    feed = await opened(log)
    await MemoryLaneLog(log).append(
        [at(None, b"%d" % n) for n in range(10)], timeout_s=1
    )
    log.truncate(LANE, 0, 4)

    found = await feed.fetch(100, wait_s=0)

    assert [delivery.offset for delivery in found] == [4, 5, 6, 7, 8, 9]
    assert feed.losses() == [LostRange(LANE, 0, 0, 4)]
    assert feed.losses() == []
    await feed.settle(found)
    assert feed.idle()


async def test_a_feed_of_an_unknown_lane_does_not_open(log):
    with pytest.raises(StoreRefusedError, match=r"shop\.other\.low"):
        await MemoryLaneFeed(log, [LANE, "shop.other.low"]).open()


async def test_a_full_lane_does_not_starve_the_others(log):
    other = "shop.mail.high"
    log.create_lanes(other)
    feed = await opened(log, LANE, other)
    records = [Record(topic, b"", []) for topic in (LANE, other) for _ in range(50)]
    await MemoryLaneLog(log).append(records, timeout_s=1)

    found = [d for _ in range(2) for d in await feed.fetch(10, wait_s=0)]

    assert {delivery.topic for delivery in found} == {LANE, other}


async def test_a_new_partition_is_read_too(log):
    feed = await opened(log)
    log.create_lanes(LANE, partitions=3)

    await MemoryLaneLog(log).append([at(None)] * 9, timeout_s=1)

    found = await feed.fetch(100, wait_s=0)
    assert {delivery.partition for delivery in found} == {0, 1, 2}


async def test_what_left_and_came_back_belongs_to_a_new_epoch(log):
    log.create_lanes(LANE, partitions=2)
    await MemoryLaneLog(log).append(
        [at(None, b"%d" % n) for n in range(2)], timeout_s=1
    )
    feed, other = await opened(log), MemoryLaneFeed(log, [LANE])
    before = await feed.fetch(10, wait_s=0)
    await other.open()
    other.crash()

    after = await feed.fetch(10, wait_s=0)

    assert len(before) == 2
    [again] = after
    assert again.epoch > 0
    owned = feed.begin([*before, *after])
    assert sorted(delivery.value for delivery in owned) == [b"0", b"1"]
    assert again in owned
    await feed.settle(before)
    assert not feed.idle()
    await feed.settle(after)
    assert feed.idle()
