"""The loop's lag, on a loop whose time is moved by hand or that is really blocked."""

from __future__ import annotations

import asyncio
import time

from shifter.produce.loop_lag import LoopLag


async def test_a_loop_with_nothing_to_do_has_no_lag():
    lag = LoopLag()
    lag.read_ms()
    await asyncio.sleep(0.12)

    assert lag.read_ms() < 40


async def test_a_decision_right_after_a_long_block_sees_it():
    lag = LoopLag()
    lag.read_ms()
    time.sleep(0.3)

    assert lag.read_ms() >= 240


async def test_a_block_is_remembered_for_a_while_and_then_forgotten():
    lag = LoopLag()
    lag.read_ms()
    time.sleep(0.3)
    await asyncio.sleep(0.01)
    soon = lag.read_ms()
    async with asyncio.timeout(20):
        while lag.read_ms() > 40:
            await asyncio.sleep(0.05)

    assert soon >= 150


def test_without_a_loop_there_is_no_lag():
    assert LoopLag().read_ms() == 0.0


def test_each_loop_has_a_lag_of_its_own():
    lag = LoopLag()

    async def blocked() -> None:
        lag.read_ms()
        time.sleep(0.2)

    async def fresh() -> float:
        return lag.read_ms()

    asyncio.run(blocked())

    assert asyncio.run(fresh()) < 40
