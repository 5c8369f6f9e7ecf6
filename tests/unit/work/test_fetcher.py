"""From deliveries to queued items."""

from __future__ import annotations

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
