"""Whole appends on a real broker, whose sender is killed in the middle of one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid

import pytest

from shifter.adapters.kafka.admin import KafkaLogAdmin
from shifter.adapters.kafka.atomic import OPEN_MS, KafkaAtomicLog
from shifter.adapters.kafka.writer import PendingBatch
from shifter.deadletter.journal import Journal, RunBegun, RunTaken
from shifter.ports import Record

pytestmark = pytest.mark.kafka


def start_sender(bench, name, lane):
    """One that has a transaction open once it has said a line."""
    arguments = [bench.site.bootstrap, name, lane]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.kafka.sender", *arguments],
        stdout=subprocess.PIPE,
    )


async def values(bench, lane) -> list[bytes]:
    admin = KafkaLogAdmin(bench.site.config, bench.site.namespace)
    try:
        return [x.value async for batch in admin.scan(lane) for x in batch]
    finally:
        await admin.close()


async def test_a_killed_sender_holds_no_reader_up_and_leaves_nothing(bench):
    """Live records behind an open transaction come long before the broker's limit."""
    lane, name = await bench.lane(partitions=1), uuid.uuid4().hex
    feed = bench.feed(lane)
    await feed.open()
    sender = start_sender(bench, name, lane)
    await asyncio.to_thread(sender.stdout.readline)
    await bench.log.append([Record(lane, b"live", [])], timeout_s=30)
    whole = await bench.collect(feed, 1)
    held = await feed.fetch(10, wait_s=0.5)

    sender.kill()
    killed_at = bench.clock.monotonic()
    sender.communicate()
    found = []
    while len(found) < 1 and bench.clock.monotonic() < killed_at + OPEN_MS / 1_000:
        found += await feed.fetch(10, wait_s=0.5)
    took_s = bench.clock.monotonic() - killed_at

    assert [x.value for x in whole] == [b"whole"]
    assert held == []
    assert [x.value for x in found] == [b"live"]
    assert took_s < 0.8 * OPEN_MS / 1_000


async def test_a_sender_that_takes_over_from_a_killed_one_reads_what_it_finished(bench):
    lane, name = await bench.lane(partitions=1), uuid.uuid4().hex
    sender = start_sender(bench, name, lane)
    await asyncio.to_thread(sender.stdout.readline)
    sender.kill()
    sender.communicate()
    log = KafkaAtomicLog(bench.site.config, name, bench.clock)

    await log.open()
    await log.append([Record(lane, b"again", [])], timeout_s=30)
    await log.close()

    assert await values(bench, lane) == [b"whole", b"again"]


async def test_a_journal_is_read_to_its_end_behind_the_open_transaction_of_another(
    bench,
):
    """What a run noted must be seen by who goes on with it."""
    namespace = f"{bench.site.namespace}-{uuid.uuid4().hex[:6]}"
    bench.site.make(f"{namespace}.replays")
    admin = KafkaLogAdmin(bench.site.config, namespace)
    journal, name = Journal(admin, namespace), uuid.uuid4().hex
    other = start_sender(bench, name, journal.topic)
    await asyncio.to_thread(other.stdout.readline)
    log = KafkaAtomicLog(bench.site.config, uuid.uuid4().hex, bench.clock)
    await log.open()
    begun = RunBegun(
        run="r", at_ms=1, action="replay", by="", reason="", source="t", spans={}
    )
    taken = RunTaken(run="r", at_ms=2)
    entries = [journal.record(begun), journal.record(taken)]
    await log.append(entries, timeout_s=30)

    hidden = (await journal.load()).runs
    reading = asyncio.ensure_future(journal.load_upto(taken, bench.clock))
    await asyncio.sleep(0.5)
    is_waiting = not reading.done()
    other.kill()
    other.communicate()
    book = await asyncio.wait_for(reading, 40)
    await log.close()
    await admin.close()

    assert (hidden, is_waiting) == ({}, True)
    assert list(book.runs) == ["r"]


async def test_a_report_without_an_offset_takes_the_whole_append_back_and_repeats_it(
    bench, monkeypatch
):
    """The broker took a record for one that it had; it may be wrong."""
    lane, report, doubted = await bench.lane(partitions=2), PendingBatch.report, []

    def doubt_once(batch, place, error, message):
        if place == 7 and not doubted:
            doubted.append(place)
            message = NoOffset()
        report(batch, place, error, message)

    monkeypatch.setattr(PendingBatch, "report", doubt_once)
    log = KafkaAtomicLog(bench.site.config, uuid.uuid4().hex, bench.clock)
    await log.open()
    wanted = [Record(lane, b"%d" % n, [], b"k%d" % n) for n in range(20)]

    told = await log.append(wanted, timeout_s=30)
    await log.close()

    assert (told, doubted) == ({}, [7])
    assert sorted(map(int, await values(bench, lane))) == list(range(20))


class NoOffset:
    def offset(self):
        return None
