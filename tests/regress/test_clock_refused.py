"""A machine whose clock the log refuses accepts into its spool, and hands its work over.

Kafka 4 refuses records dated more than an hour ahead. Each ``defer`` was then `Shed`
with ``refused_by_log`` and not spooled, and a worker ran jobs whose retries and dead
letters it could not write, for as long as it lived. The refusal has a reason of its
own, which passes; a worker that meets it logs it, ends in order and leaves its
partitions to others.
"""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import KafkaError

from shifter.adapters.kafka.errors import LastError, delivery_answer
from shifter.adapters.memory.log import MemoryLaneFeed
from shifter.adapters.memory.spool import MemorySpool
from shifter.adapters.system import SystemClock
from shifter.errors import StoreRefusedError
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.ports import Appended, Record, Refused
from shifter.produce.spooling import SpoolingLog
from tests.integration.drain_world import World, submit

REFUSED = Refused(Reason.CLOCK_REFUSED, "INVALID_TIMESTAMP")


class ClockRefusingLog:
    """A log that finds every record dated too far ahead."""

    async def append(self, records, *, timeout_s):
        return [REFUSED] * len(records)

    def warm_up(self):
        pass

    def close(self, *, timeout_s):
        return 0


class ClockRefusingFeed(MemoryLaneFeed):
    """Deliveries come, and no successor is taken."""

    async def hand_over(self, pairs, *, timeout_s):
        return [REFUSED] * len(pairs)


def test_kafkas_word_for_it_is_a_reason_that_passes_with_a_fix():
    error = KafkaError(KafkaError.INVALID_TIMESTAMP)

    answer = delivery_answer(error, LastError())

    assert isinstance(answer, Refused)
    assert answer.reason == Reason.CLOCK_REFUSED
    assert "NTP" in answer.detail


async def test_a_service_with_a_spool_accepts():
    clock = SystemClock()
    log = SpoolingLog(
        ClockRefusingLog(), MemorySpool(clock), clock=clock, is_up=lambda: False
    )

    answers = await log.append([Record("shop.mail.low", b"1", [])], timeout_s=20)
    await asyncio.to_thread(log.close, timeout_s=20)

    assert answers == [Appended(is_spooled=True)]


async def test_a_worker_hands_over_and_reports_why():
    world, ran = World(), []

    @world.app.job(queue="default")
    async def fails() -> None:
        ran.append(1)
        raise ValueError("always")

    await world.open()
    lanes = [f"shop.default.{p.value.lower()}" for p in Priority]
    feeds = {
        priority: ClockRefusingFeed(world.log, [lane])
        for priority, lane in zip(Priority, lanes, strict=True)
    }
    await submit(fails)

    drain = world.drain(feeds=feeds)
    for feed in feeds.values():
        await feed.open()
    async with asyncio.timeout(40):
        await drain.run(drain_timeout_s=5.0)
    for feed in feeds.values():
        await feed.close(timeout_s=1)

    assert ran == [1]
    assert isinstance(drain.failure, StoreRefusedError)
    assert "INVALID_TIMESTAMP" in str(drain.failure)
    successor = MemoryLaneFeed(world.log, lanes)
    await successor.open()
    assert len(await successor.fetch(10, wait_s=20)) == 1


@pytest.mark.kafka
async def test_a_delay_mover_that_is_refused_ends(kafka, namespace):
    from shifter.adapters.kafka.mover import KafkaDelayMover
    from tests.integration.kafka.bench import Site

    site = Site(kafka.bootstrap)
    site.make_ladder(namespace)
    site.make(f"{namespace}.mail.low")
    log = site.writer(namespace)
    due_ms = site.clock.epoch_ms() + 4_000
    record = Record(f"{namespace}.mail.low", b"1", [], due_ms=due_ms)
    assert await log.append([record], timeout_s=20) == [Appended()]
    log.close(timeout_s=20)
    mover = KafkaDelayMover(site.config, namespace, ClockRefusingLog(), site.clock)

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(50):
            await mover.run()
    site.close()

    assert caught.group_contains(StoreRefusedError, match="INVALID_TIMESTAMP")
