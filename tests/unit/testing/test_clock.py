"""The clock that moves by hand."""

from __future__ import annotations

import asyncio

import pytest

from shifter.testing.clock import FakeClock


async def nap(clock, log, name, *naps):
    for seconds in naps:
        await clock.sleep(seconds)
        log.append((name, clock.monotonic()))


async def test_time_stands_still_until_it_is_moved():
    clock = FakeClock(epoch_ms=5_000)

    clock.advance(0.25)

    assert (clock.epoch_ms(), clock.monotonic()) == (5_250, 0.25)


async def test_advance_wakes_the_sleepers_that_are_due_in_order_and_no_others():
    clock, log = FakeClock(), []
    tasks = [
        asyncio.ensure_future(nap(clock, log, name, seconds))
        for name, seconds in (("late", 3), ("second", 2), ("first", 1), ("also", 2))
    ]
    await asyncio.sleep(0)

    clock.advance(2)
    await asyncio.gather(*tasks[1:])

    assert [name for name, _ in log] == ["first", "second", "also"]
    assert {at for _, at in log} == {2.0}
    assert clock.sleepers == 1
    assert clock.next_wake_s() == 1.0
    clock.advance(1)
    await tasks[0]


async def test_elapse_lets_each_wake_at_its_own_time_also_on_the_way():
    clock, log = FakeClock(), []
    tasks = [
        asyncio.ensure_future(nap(clock, log, "a", 1, 1, 5)),
        asyncio.ensure_future(nap(clock, log, "b", 1.5)),
    ]

    await clock.elapse(3)

    assert log == [("a", 1.0), ("b", 1.5), ("a", 2.0)]
    assert clock.monotonic() == 3.0
    await clock.elapse(4)
    await asyncio.gather(*tasks)
    assert log[-1] == ("a", 7.0)


async def test_a_cancelled_sleeper_is_forgotten():
    clock = FakeClock()
    task = asyncio.ensure_future(clock.sleep(1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert clock.sleepers == 0
    assert clock.next_wake_s() is None
    clock.advance(2)


async def test_many_small_steps_add_up_exactly():
    clock = FakeClock()
    task = asyncio.ensure_future(clock.sleep(1))
    await asyncio.sleep(0)

    for _ in range(10):
        clock.advance(0.1)
    await task

    assert clock.monotonic() == 1.0


async def test_the_wall_clock_may_jump_without_waking_a_sleeper():
    clock = FakeClock(epoch_ms=10_000)
    task = asyncio.ensure_future(clock.sleep(1))
    await asyncio.sleep(0)

    clock.shift_wall(-4_000)

    assert (clock.epoch_ms(), clock.monotonic(), clock.sleepers) == (6_000, 0, 1)
    clock.advance(1)
    await task


async def test_no_wait_still_gives_way_once():
    clock, log = FakeClock(), []
    task = asyncio.ensure_future(nap(clock, log, "other", 0))

    await clock.sleep(0)
    await clock.sleep(0)

    assert log == [("other", 0.0)]
    await task


def test_a_clock_cannot_go_back():
    with pytest.raises(ValueError, match="go back"):
        FakeClock().advance(-1)


async def test_a_timer_is_done_at_its_time_unless_it_was_cancelled():
    clock = FakeClock()
    timer, dropped = clock.timer(2), clock.timer(1)
    dropped.cancel()

    assert clock.next_wake_s() == 2
    clock.advance(1.5)
    assert not timer.done()
    clock.advance(0.5)

    assert timer.done()
    assert dropped.cancelled()
