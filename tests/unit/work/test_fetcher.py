"""From deliveries to queued items."""

from __future__ import annotations

import asyncio

import pytest

from shifter.model.lane import Priority
from shifter.ports import Delivery
from shifter.work.fetcher import Fetcher
from shifter.work.item import ItemReader
from tests.unit.work.items import LANE, LANES, Stages


async def fetched(stages, *deliveries):
    """Let one batch come in, then stop."""
    completer = stages.completer()
    fetcher = Fetcher(
        stages.state,
        completer,
        ItemReader(LANES, stages.app.handlers),
        arrived=lambda: None,
        free=lambda: 4,
    )
    take = stages.feed.fetch

    async def once(max_records, *, wait_s):
        batch = await take(max_records, wait_s=wait_s)
        if not batch:
            fetcher.stop()
        return batch

    stages.feed.fetch = once
    stages.feed.batches = [list(deliveries)]
    await fetcher.run(Priority.NORMAL, stages.feed)
    return completer


async def test_a_readable_record_is_queued():
    stages = Stages()

    await fetched(stages, stages.delivery(), stages.delivery())

    assert stages.state.buffer.ready == 2


async def test_a_record_that_cannot_be_read_ends_here():
    stages = Stages()
    broken = Delivery(LANE.name, None, b"", [], stages.clock.epoch_ms(), 0, 7)

    completer = await fetched(stages, broken)

    assert (stages.state.buffer.ready, completer.pending) == (0, 1)


async def test_a_short_rest_of_a_delay_is_waited_for_and_a_long_one_sent_back():
    stages = Stages()
    now_ms = stages.clock.epoch_ms()

    completer = await fetched(
        stages,
        stages.delivery(due_ms=now_ms + 500),
        stages.delivery(due_ms=now_ms + 3_600_000),
    )

    assert stages.state.buffer.ready == 0
    assert (len(stages.state.delayed), completer.pending) == (1, 1)


class Fetching:
    """A fetcher that runs, and what it has asked its feed for."""

    def __init__(self, stages, *, free):
        self.stages, self.free, self.asked = stages, free, []
        self.fetcher = Fetcher(
            stages.state,
            stages.completer(),
            ItemReader(LANES, stages.app.handlers),
            arrived=lambda: None,
            free=lambda: self.free,
        )
        stages.feed.fetch = self.fetch
        stages.state.limits.seen(Priority.NORMAL, [100] * 1_000)

    async def fetch(self, max_records, *, wait_s):
        self.asked.append((self.stages.clock.monotonic(), max_records, wait_s))
        await self.stages.clock.sleep(wait_s)
        return []

    async def elapse(self, seconds):
        await self.stages.clock.elapse(seconds)

    async def __aenter__(self):
        run = self.fetcher.run(Priority.NORMAL, self.stages.feed)
        self.task = asyncio.create_task(run)
        await self.elapse(0)
        return self

    async def __aexit__(self, *_):
        self.fetcher.stop()
        await self.elapse(1)
        await self.task


@pytest.mark.parametrize("free", [0, 4])
async def test_a_worker_alone_fetches_whatever_may_wait_whether_it_is_full_or_not(free):
    async with Fetching(Stages(), free=free) as fetching:
        await fetching.elapse(0.1)

        assert fetching.asked == [(0.0, 100, 0.5)]


async def test_a_worker_that_competes_fetches_what_starts_at_once():
    stages = Stages()
    stages.feed.has_mates = True
    async with Fetching(stages, free=4) as fetching:
        assert fetching.asked == [(0.0, 4, 0.5)]


async def test_a_full_worker_leaves_records_to_others_until_it_has_a_slot():
    stages = Stages()
    stages.feed.has_mates = True
    async with Fetching(stages, free=0) as fetching:
        await fetching.elapse(0.95)
        assert fetching.asked == []

        fetching.free = 1
        fetching.fetcher.look_again()
        await fetching.elapse(0.01)

        assert [asked[1:] for asked in fetching.asked] == [(1, 0.5)]
        assert fetching.fetcher.unpolled_s < 0.2


async def test_a_full_worker_fetches_ahead_what_it_starts_in_a_second_and_nobody_took():
    stages = Stages()
    stages.feed.has_mates = True
    async with Fetching(stages, free=0) as fetching:
        started = [stages.item() for _ in range(5)]
        for item in started:
            stages.state.limits.add(item)
        stages.state.limits.drop_all(LANE.name, started)
        await fetching.elapse(0.35)

        [(at, most, wait_s)] = fetching.asked
        assert 0.25 <= at <= 0.35
        assert 15 <= most <= 20  # five in a quarter of a second
        assert wait_s == 0
