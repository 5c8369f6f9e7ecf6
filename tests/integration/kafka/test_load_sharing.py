"""A worker whose slots are taken gives what waits to a worker that has free ones."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import msgspec
import pytest

from shifter.adapters.memory.state import MemoryPresenceStore
from shifter.model.lane import Lane, Priority
from shifter.ports import Appended, Record
from shifter.produce.publisher import Publisher
from shifter.work.heartbeat import report_presence
from tests.integration.drain_world import World

pytestmark = pytest.mark.kafka


class Pinned:
    """The log, with all records on one partition, whatever their keys are."""

    def __init__(self, log, partition):
        self._log, self._partition = log, partition

    async def append(self, records, *, timeout_s):
        pinned = [
            msgspec.structs.replace(one, partition=self._partition) for one in records
        ]
        return await self._log.append(pinned, timeout_s=timeout_s)


def worker(bench, name):
    """A worker's app: its jobs are noted, and wait while it is held."""
    world = World(bench.site.namespace)
    world.ran, world.is_released, world.name = [], asyncio.Event(), name

    @world.app.job(name="step", queue=bench.queue)
    async def step(number: int) -> None:
        world.ran.append(number)
        await world.is_released.wait()

    world.step = step
    return world


@contextlib.asynccontextmanager
async def working(bench, lane, world, claims, presence):
    feed = await bench.opened(lane.name)
    drain = world.drain(
        owner=world.name,
        concurrency=2,
        feeds={lane.priority: feed},
        claims=claims,
        reports=presence.workers,
    )
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(drain.run(drain_timeout_s=30)),
            group.create_task(report_presence(presence, drain)),
        ]
        yield feed
        drain.stop()
        await tasks[0]
        tasks[1].cancel()


async def test_waiting_jobs_move_to_a_worker_that_has_free_slots(bench):
    slow, fast = worker(bench, "slow"), worker(bench, "fast")
    fast.is_released.set()
    lane = Lane(bench.site.namespace, bench.queue, Priority.NORMAL)
    await asyncio.to_thread(bench.site.make, lane.name, partitions=2)
    claims, presence = slow.claims, MemoryPresenceStore(slow.clock)
    async with (
        working(bench, lane, slow, claims, presence) as first,
        working(bench, lane, fast, claims, presence) as second,
    ):
        await bench.until(lambda: len(first.epochs) == len(second.epochs) == 1)
        [[mine]] = first.partitions().values()
        publisher = Publisher(Pinned(bench.log, mine), slow.clock, timeout_s=60)
        slow.app._publisher = publisher
        await slow.step.options(key="k").defer(0)
        await slow.step.options(key="k").defer(1)
        await slow.step.defer(2)
        await slow.until(lambda: len(slow.ran) == 2)

        for number in range(3, 30):
            await slow.step.defer(number)

        await slow.until(lambda: len(fast.ran) == 27, timeout_s=120)
        assert sorted(slow.ran) == [0, 2], "and the job of the key that runs waits"
        slow.is_released.set()
        await slow.until(lambda: 1 in slow.ran)
    assert sorted(slow.ran + fast.ran) == list(range(30))
    assert sum(slow.metrics.moved.read().values()) >= 27
    assert not fast.metrics.moved.read()


async def test_a_partition_that_is_not_there_is_chosen_anew(bench):
    lane = await bench.lane(partitions=1)
    record = Record(lane, b"1", [], partition=7)

    # The first answer comes of a client that has no metadata of the topic yet.
    writer = bench.site.writer(f"i{uuid.uuid4().hex[:8]}")
    answers = [(await writer.append([record], timeout_s=60))[0] for _ in range(2)]
    await asyncio.to_thread(writer.close, timeout_s=5)

    assert answers[1] == Appended()
