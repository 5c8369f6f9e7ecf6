"""Items that wait a short while in memory."""

from __future__ import annotations

import asyncio
import contextlib

from tests.unit.work.items import Stages


@contextlib.asynccontextmanager
async def running(stages):
    task = asyncio.get_running_loop().create_task(stages.state.delayed.run())
    yield stages.state.delayed
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_items_are_handed_on_when_their_time_has_come_and_not_before():
    stages = Stages()
    first, second = stages.item(), stages.item()

    async with running(stages) as delayed:
        delayed.hold(second, until=2.0)
        delayed.hold(first, until=1.0)
        await stages.clock.elapse(0.999)
        assert stages.ready == []
        await stages.clock.elapse(0.001)
        assert stages.ready == [first]
        await stages.clock.elapse(1.0)

    assert stages.ready == [first, second]
    assert len(delayed) == 0


async def test_a_released_item_is_handed_on_at_once_and_only_once():
    stages = Stages()
    item = stages.item()

    async with running(stages) as delayed:
        delayed.hold(item, until=5.0)
        delayed.release(item)
        delayed.release(item)
        assert stages.ready == [item]
        assert delayed.next_at is None
        await stages.clock.elapse(10)

    assert stages.ready == [item]


async def test_an_item_that_is_held_again_waits_for_its_new_time():
    stages = Stages()
    item = stages.item()

    async with running(stages) as delayed:
        delayed.hold(item, until=1.0)
        delayed.release(item)
        delayed.hold(item, until=3.0)
        await stages.clock.elapse(2.0)
        assert stages.ready == [item]
        await stages.clock.elapse(1.0)

    assert stages.ready == [item, item]


def test_held_bytes_count_and_items_aside_are_not_counted_as_waiting():
    stages = Stages()
    delayed, limits = stages.state.delayed, stages.state.limits
    aside, counted = stages.item(), stages.item()

    delayed.hold(aside, until=1.0, is_aside=True)
    assert len(delayed) == 0
    delayed.hold(counted, until=1.0)

    assert len(delayed) == 1
    assert limits.bytes > 0
    delayed.release(aside)
    delayed.release(counted)
    assert limits.bytes == 0
