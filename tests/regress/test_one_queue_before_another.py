"""No queue stands in front of another of its priority, and no payloads fill the memory.

A priority's line of 2,000 records was one line for all its queues. A queue with 6,000
jobs of a second filled it, and ten jobs of another queue waited up to 39 s. Parked
items of a key, and payloads, were bounded by number alone: 1,500 records of 890 kB took
1.4 GiB. Each lane has a line of its own, a full one is not fetched, and what waits is
bounded by bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from shifter.adapters.kafka.admin import KafkaLogAdmin
from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.feed import KafkaLaneFeed
from shifter.adapters.kafka.writer import KafkaLaneLog
from shifter.adapters.sqlite.admin import SqliteLogAdmin
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.feed import SqliteLaneFeed
from shifter.adapters.sqlite.log import SqliteLaneLog
from shifter.model.lane import Lane, Priority
from shifter.policy.schedule.lane_choice import (
    LaneChoicePolicy,
    LaneChoiceState,
    choose,
)
from shifter.produce.publisher import Publisher
from shifter.wiring import topic_specs
from shifter.work.waiting_limits import TURN_S, WaitingLimits
from tests.integration.drain_world import World

JOB_S = 0.5
SLOTS = 20
MANY = 3_000
FEW = 300
"""More than begin while a fetch lasts, and far fewer than a priority's line held."""
MEGABYTE = 1_000_000


@contextlib.asynccontextmanager
async def kafka_log(world, cluster):
    config, namespace = KafkaConfig(cluster.bootstrap), world.app.namespace
    log = KafkaLaneLog(config, namespace=namespace, clock=world.clock)
    admin = KafkaLogAdmin(config, namespace)
    await admin.apply(topic_specs(world.settings, world.app.queues))

    def feed(priority, topics):
        group = f"{namespace}.workers.{priority.value.lower()}"
        return KafkaLaneFeed(config, topics, group=group, writer=log, clock=world.clock)

    yield log, feed
    await admin.close()
    await asyncio.to_thread(log.close, timeout_s=5)


@contextlib.asynccontextmanager
async def sqlite_log(world, path):
    log = SqliteLaneLog(Database(path), world.clock)
    admin = SqliteLogAdmin(Database(path), world.clock, makes_topics=True)
    await admin.apply(topic_specs(world.settings, world.app.queues))

    yield log, lambda _, topics: SqliteLaneFeed(log, topics, world.clock)
    await admin.close()
    await asyncio.to_thread(log.close, timeout_s=5)


@contextlib.asynccontextmanager
async def draining(world, opened, **options):
    """A worker over a log; its app has the queues that were declared before."""
    async with opened as (log, feed):
        world.publisher = Publisher(log, world.clock, timeout_s=20)
        world.app._publisher = world.publisher
        lanes = {
            priority: [
                Lane(world.app.namespace, queue, priority).name
                for queue in sorted(world.app.queues)
            ]
            for priority in Priority
        }
        feeds = {priority: feed(priority, lanes[priority]) for priority in Priority}
        yield lambda: world.working(feeds=feeds, drain_timeout_s=1.0, **options)


async def most_before(world, opened):
    """How many jobs of a full queue began while ten of an idle one waited, thrice.

    A count: on a slow machine a fetch takes longer, and jobs of both queues with it.
    """
    started, busy = {}, []

    @world.app.job(queue="busy")
    async def slow(number: int) -> None:
        busy.append(number)
        await asyncio.sleep(JOB_S)

    @world.app.job(queue="idle")
    async def other(number: int) -> None:
        started[number] = len(busy)

    before = []
    async with draining(world, opened, concurrency=SLOTS) as working:
        await slow.defer_many([(number,) for number in range(MANY)])
        async with working() as drain:
            await world.until(lambda: len(drain._executor.running) == SLOTS)
            await asyncio.sleep(2 * JOB_S)
            for first in (0, 10, 20):
                began = len(busy)
                numbers = range(first, first + 10)
                await other.defer_many([(number,) for number in numbers])
                await world.until(
                    lambda n=numbers: started.keys() >= set(n), timeout_s=60
                )
                before.append(max(started.values()) - began)
    return max(before)


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_a_job_of_an_idle_queue_starts_at_once_on_kafka(kafka, namespace):
    world = World(namespace)

    assert await most_before(world, kafka_log(world, kafka)) < FEW


async def test_a_job_of_an_idle_queue_starts_at_once_on_a_file(tmp_path, namespace):
    world = World(namespace)

    assert await most_before(world, sqlite_log(world, tmp_path / "log.db")) < FEW


def item(topic, size):
    return SimpleNamespace(delivery=SimpleNamespace(topic=topic), payload_bytes=size)


def lanes(*queues):
    found = [Lane("shop", queue, Priority.NORMAL) for queue in queues]
    return {lane.name: lane for lane in found}


class TestRoom:
    def test_a_full_lane_rests_until_half_of_it_started_and_others_are_read(self):
        room = WaitingLimits(lanes("a", "b"), records=5, budget_bytes=100 * MEGABYTE)
        items = [item("shop.a.normal", 10) for _ in range(10)]
        for one in items:
            room.add(one)

        assert room.full(0.0) == frozenset()
        assert room.most(Priority.NORMAL) == 0
        assert room.full(TURN_S) == {"shop.a.normal"}
        assert room.most(Priority.NORMAL) == 4
        for one in items[:5]:
            room.drop(one)
        assert room.full(TURN_S) == {"shop.a.normal"}
        room.drop(items[5])
        assert room.full(TURN_S) == frozenset()

    def test_a_lane_whose_line_moves_fast_is_read_on(self):
        room = WaitingLimits(lanes("a", "b"), records=5, budget_bytes=100 * MEGABYTE)
        for _ in range(10):
            room.add(item("shop.a.normal", 10))
        room.full(0.0)
        for _ in range(10):
            room.drop(item("shop.a.normal", 10))
            room.add(item("shop.a.normal", 10))

        assert room.full(TURN_S) == frozenset()

    def test_where_all_lanes_are_full_none_is_paused_and_nothing_is_fetched(self):
        room = WaitingLimits(lanes("a", "b"), records=5, budget_bytes=100 * MEGABYTE)
        for topic in ("shop.a.normal", "shop.b.normal"):
            for _ in range(10):
                room.add(item(topic, 10))

        room.full(0.0)

        assert room.full(TURN_S) == frozenset()
        assert room.most(Priority.NORMAL) == 0

    def test_bytes_end_a_lane_also_those_behind_their_key(self):
        room = WaitingLimits(lanes("a"), records=2_000, budget_bytes=20 * MEGABYTE)
        for _ in range(10):
            room.add(item("shop.a.normal", MEGABYTE), in_line=False)

        assert room.most(Priority.NORMAL) == 0

    def test_a_lane_that_was_idle_has_room_whatever_the_others_have(self):
        room = WaitingLimits(
            lanes("a", "b", "c", "d"), records=2_000, budget_bytes=8_000_000
        )
        for topic in ("shop.a.normal", "shop.b.normal", "shop.c.normal"):
            for _ in range(3):
                room.add(item(topic, MEGABYTE))

        assert room.bytes > 8_000_000
        assert room.full(0.0) == {"shop.a.normal", "shop.b.normal", "shop.c.normal"}
        assert room.most(Priority.NORMAL) > 0

    def test_a_fetch_asks_for_fewer_records_where_they_are_large(self):
        room = WaitingLimits(lanes("a"), records=2_000, budget_bytes=100 * MEGABYTE)

        room.seen(Priority.NORMAL, [890_000])

        assert room.most(Priority.NORMAL) == 4

    def test_fetches_of_small_records_soon_bring_as_many_as_they_may(self):
        room = WaitingLimits(lanes("a"), records=2_000, budget_bytes=100 * MEGABYTE)
        asked = []

        while len(asked) < 100 and 1_000 not in asked:
            asked.append(room.most(Priority.NORMAL))
            room.seen(Priority.NORMAL, [100] * asked[-1])

        assert asked[0] == 4
        assert len(asked) <= 8

    def test_few_small_records_do_not_hide_how_large_the_others_are(self):
        room = WaitingLimits(lanes("a"), records=2_000, budget_bytes=100 * MEGABYTE)

        room.seen(Priority.NORMAL, [100, 890_000, 100, 890_000])
        room.seen(Priority.NORMAL, [100, 100, 100, 100])

        assert room.most(Priority.NORMAL) <= 12


def test_slots_are_shared_by_the_weights_of_queues():
    policy = LaneChoicePolicy(lane_weights={"shop.a.normal": 3})
    backlog = {
        "shop.a.normal": (Priority.NORMAL, 1_000, 0),
        "shop.b.normal": (Priority.NORMAL, 1_000, 0),
    }
    state, given = LaneChoiceState(), {"shop.a.normal": 0, "shop.b.normal": 0}

    for _ in range(100):
        state, picks = choose(policy, state, backlog, 4)
        for topic, count in picks:
            given[topic] += count

    assert given == {"shop.a.normal": 300, "shop.b.normal": 100}


async def test_large_records_of_a_file_are_read_a_few_at_a_time(tmp_path, namespace):
    world, running = World(namespace), []

    @world.app.job(queue="large")
    async def keep(body: str) -> None:
        running.append(1)
        await asyncio.sleep(60)

    async with draining(
        world, sqlite_log(world, tmp_path / "log.db"), concurrency=2
    ) as working:
        for _ in range(10):
            await keep.defer_many([("x" * 400_000,)] * 20)
        async with working() as drain:
            limits = drain.state.limits
            await world.until(lambda: len(running) == 2)
            await world.until(lambda: limits.bytes > 20 * MEGABYTE)
            await asyncio.sleep(0.5)
            waiting = limits.bytes

    # Half of the budget of 64 MiB for one lane, and one fetch.
    assert 20 * MEGABYTE < waiting < 40 * MEGABYTE
