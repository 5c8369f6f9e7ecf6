"""Runs one attempt by a drain's executor, without the rest of a worker."""

from __future__ import annotations

import asyncio

from shifter.produce.options import CallOptions, plan_call
from shifter.wire.headers import read_headers
from shifter.work.item import Item
from tests.integration.drain_world import World


async def run_alone(drain, world, job, **arguments):
    """One attempt by a drain's executor, without the rest of the worker."""
    return (await ended_alone(drain, world, job, **arguments))[0]


async def ended_alone(drain, world, job, **arguments):
    """One attempt, and its outcome."""
    codec = job.codec
    plan = plan_call("shop", job.spec, CallOptions())
    await world.publisher.defer(plan, codec.encode((), arguments), codec.content_type)
    feed = drain.feeds[job.spec.priority]
    await feed.open()
    [delivery] = await feed.fetch(1, wait_s=30)
    lane = drain.lanes[delivery.topic]
    item = Item(delivery, feed, lane, read_headers(delivery.headers), job, None)
    ended: list = []
    drain._executor._ended = lambda attempt, outcome: ended.append((attempt, outcome))
    drain._executor.start([(item, job)], now_ms=world.clock.epoch_ms())
    await world.until(lambda: bool(ended), timeout_s=90)
    await feed.settle([delivery])
    await feed.close(timeout_s=1)
    return ended[0]


async def run_in_process(processes, app, name: str, **arguments):
    """One attempt of a job of ``app`` in a process of its own, under its timeout."""
    world = World()
    world.app.jobs.update(app.jobs)
    await world.open()
    drain = world.drain(processes=processes)
    async with asyncio.TaskGroup() as group:
        sweep = group.create_task(drain._executor.sweep())
        attempt = await run_alone(drain, world, app.jobs[name], **arguments)
        sweep.cancel()
    return attempt
