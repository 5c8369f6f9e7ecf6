"""Reports of workers in a server that others may write to as well."""

from __future__ import annotations

import time

import pytest

from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.fleet import RedisPresenceStore
from shifter.adapters.redis.keys import presence_keys
from shifter.testing.conformance.presence import report_of
from tests.conformance.redis_time import age_reports

pytestmark = pytest.mark.redis


@pytest.fixture
async def client(redis_url):
    client = open_redis(redis_url, timeout_s=5)
    yield client
    await client.aclose()


@pytest.fixture
def presence(client, namespace):
    return RedisPresenceStore(client, namespace)


async def test_what_faded_is_removed_by_the_next_report(client, presence, namespace):
    for i in range(150):
        await presence.report(report_of(f"gone{i}"), keep_ms=1_000)
    await presence.report(report_of("long"), keep_ms=60_000)
    await age_reports(client, namespace, 2_000)

    for _ in range(2):  # a bounded number each time
        await presence.report(report_of("alive"), keep_ms=10_000)

    until, reports = presence_keys(namespace)
    assert await client.hlen(reports) == await client.zcard(until) == 2


async def test_what_is_no_report_is_left_out_and_counted(client, presence, namespace):
    until, reports = presence_keys(namespace)
    await presence.report(report_of("w1"), keep_ms=10_000)
    bad = {
        "half": b'{"worker_id": "half"',
        "other": b"[]",
        "latin": b'{"worker_id": "\xff"}',
        "deep": b"[" * 5_000,
        "large": b'"' + b"x" * 70_000 + b'"',
    }
    await client.hset(reports, mapping=bad)
    await client.zadd(
        until, dict.fromkeys([*bad, "no report"], time.time() * 1e3 + 9e3)
    )

    assert await presence.workers() == [report_of("w1")]
    assert presence.unreadable == len(bad) + 1


async def test_keys_of_other_types_are_replaced(client, presence, namespace):
    for key in presence_keys(namespace):
        await client.set(key, "x")

    await presence.report(report_of("w1"), keep_ms=10_000)

    assert await presence.workers() == [report_of("w1")]


async def test_ends_beyond_the_bound_hide_no_worker(client, presence, namespace):
    until, _ = presence_keys(namespace)
    await client.zadd(until, {f"x{i}": 1e300 for i in range(1_000)} | {"i": "inf"})
    assert await presence.workers() == []

    await presence.report(report_of("w1"), keep_ms=10_000)

    assert await presence.workers() == [report_of("w1")]
    assert await client.zcard(until) == 1


async def test_ends_without_a_report_hide_no_worker(client, presence, namespace):
    until, _ = presence_keys(namespace)
    await presence.report(report_of("w1"), keep_ms=10_000)
    ahead_ms = time.time() * 1_000 + 90_000
    await client.zadd(until, {f"x{i}": ahead_ms + i / 8 for i in range(8_000)})

    assert await presence.workers() == [report_of("w1")]
    assert presence.unreadable == 8_000


async def test_keys_larger_than_any_fleet_makes_them_are_dropped(
    client, presence, namespace
):
    until, reports = presence_keys(namespace)
    await client.zadd(until, {f"x{i}": time.time() * 1_000 for i in range(40_001)})
    await client.hset(reports, mapping={f"x{i}": "{}" for i in range(40_001)})

    await presence.report(report_of("w1"), keep_ms=10_000)

    assert await client.hlen(reports) == await client.zcard(until) == 1
