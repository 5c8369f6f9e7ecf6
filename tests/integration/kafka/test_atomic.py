"""Whole appends on a real broker, whose sender is killed in the middle of one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid

import pytest

from shifter.adapters.kafka.admin import KafkaLogAdmin
from shifter.adapters.kafka.atomic import OPEN_MS, KafkaAtomicLog
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


async def test_a_killed_sender_holds_nobody_up_and_leaves_nothing(bench):
    """Live records behind an open transaction come long before the broker's limit."""
    lane, name = await bench.lane(partitions=1), uuid.uuid4().hex
    feed = bench.feed(lane)
    await feed.open()
    sender = start_sender(bench, name, lane)
    await asyncio.to_thread(sender.stdout.readline)
    await bench.log.append([Record(lane, b"live", [])], timeout_s=10)
    held = await feed.fetch(10, wait_s=0.5)

    sender.kill()
    killed_at = bench.clock.monotonic()
    sender.communicate()
    found = []
    while len(found) < 1 and bench.clock.monotonic() < killed_at + OPEN_MS / 1_000:
        found += await feed.fetch(10, wait_s=0.5)
    took_s = bench.clock.monotonic() - killed_at

    assert [x.value for x in held] == [b"whole"]
    assert [x.value for x in found] == [b"live"]
    assert took_s < OPEN_MS / 2_000


async def test_who_takes_over_from_a_killed_sender_reads_what_it_finished(bench):
    lane, name = await bench.lane(partitions=1), uuid.uuid4().hex
    sender = start_sender(bench, name, lane)
    await asyncio.to_thread(sender.stdout.readline)
    sender.kill()
    sender.communicate()
    log = KafkaAtomicLog(bench.site.config, name, bench.clock)

    await log.open()
    await log.append([Record(lane, b"again", [])], timeout_s=10)
    await log.close()

    assert await values(bench, lane) == [b"whole", b"again"]
