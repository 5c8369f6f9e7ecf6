"""Wall clocks that jump: Redis's, on which leases are kept, and a worker's."""

from __future__ import annotations

import asyncio

import pytest

from stack.redis import RedisServer
from tests.torture.faults.clock import (
    ClockSet,
    ClockStrobe,
    ServerClock,
    WallClock,
    had,
)
from tests.torture.faults.trial import RECOVERY_S, Trial, during

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.torture,
    pytest.mark.timeout(240),
]

HOUR_S, DAY_S = 3_600, 86_400
FAULTS = {
    "an hour ahead": lambda clock: ClockSet(clock, HOUR_S),
    "an hour behind": lambda clock: ClockSet(clock, -HOUR_S),
    "a day ahead": lambda clock: ClockSet(clock, DAY_S),
    "a day behind": lambda clock: ClockSet(clock, -DAY_S),
    "to and fro": lambda clock: ClockStrobe(clock, HOUR_S, -HOUR_S, 0),
}


@pytest.fixture
def clock(tmp_path):
    return had(WallClock, tmp_path)


@pytest.fixture
def server_clock(tmp_path):
    return had(ServerClock, tmp_path)


async def assert_nothing_happens(trial, fault, **environment):
    """Jobs run once each, also those that were under way when the clock jumped."""
    async with trial.app:
        worker = trial.work(**environment)
        async with (
            trial.offering("once", per_s=50) as quick,
            trial.offering("slow", 3.0, per_s=2) as slow,
        ):
            await trial.progress(50, within_s=60)
            pids = trial.worker_pids(worker)
            async with during(fault):
                await trial.progress(100, within_s=15)
                await asyncio.sleep(3)
            await trial.progress(100, within_s=RECOVERY_S)

        for offer in (quick, slow):
            assert offer.accepted == {one.number for one in offer.told}
        accepted = quick.accepted | slow.accepted
        await trial.until(
            lambda: accepted <= trial.effects().keys(), timeout_s=RECOVERY_S
        )
        assert trial.doubled() == {}
        assert trial.worker_pids(worker) == pids


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_redis_whose_clock_jumps_doubles_nothing(
    kafka, namespace, tmp_path, server_clock, fault
):
    with server_clock.around():
        server = RedisServer().start()
    try:
        trial = await Trial(kafka.url, server.url, namespace, tmp_path).open()
        try:
            await assert_nothing_happens(trial, fault(server_clock))
        finally:
            trial.close()
    finally:
        server.stop()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_worker_whose_clock_jumps_doubles_nothing(
    kafka, redis_url, namespace, tmp_path, clock, fault
):
    trial = await Trial(kafka.url, redis_url, namespace, tmp_path).open()
    try:
        await assert_nothing_happens(trial, fault(clock), **clock.environment)
    finally:
        trial.close()
