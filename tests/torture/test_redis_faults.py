"""Redis forgetful, silent, full, locked or failed over: what drains and what waits."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from shifter.adapters.redis.claims import RedisClaimStore
from shifter.adapters.redis.client import open_redis
from shifter.errors import StoreError
from shifter.testing.conformance.claim_bench import granted
from stack.redis import RedisServer
from tests.torture.faults.redis import (
    FailedOver,
    RedisAsleep,
    RedisBusy,
    RedisFull,
    RedisHolding,
    RedisKilled,
    RedisPair,
    RedisPaused,
    RedisReadOnly,
    RightsRevoked,
    ScriptsFlushed,
    ask,
)
from tests.torture.faults.trial import RECOVERY_S, Trial, during

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.timeout(240)]

USER, PASSWORD = "shop", "word"


@pytest.fixture
def server():
    """A server of the test's own, with a user of the product's own."""
    server = RedisServer(further=["enable-debug-command local"])
    try:
        server.start()
        add_user(server.url)
        yield server
    finally:
        server.stop()


def add_user(url):
    rules = ("on", f">{PASSWORD}", "~*", "&*", "+@all")
    ask(url, lambda client: client.execute_command("ACL", "SETUSER", USER, *rules))


@contextlib.asynccontextmanager
async def at_work(log, state, namespace, folder):
    """A trial with a worker that has done its first jobs."""
    trial = await Trial(log, state, namespace, folder).open()
    try:
        async with trial.app:
            trial.worker = trial.work()
            async with trial.offering(per_s=5) as offer:
                await trial.progress(5, within_s=60)
            await trial.recovered(offer)
            yield trial
    finally:
        trial.close()


@pytest.fixture
async def trial(kafka, server, namespace, tmp_path):
    state = server.url.replace("redis://", f"redis://{USER}:{PASSWORD}@")
    async with at_work(kafka.url, state, namespace, tmp_path) as trial:
        yield trial


@contextlib.asynccontextmanager
async def both(trial, *, per_s):
    """Jobs that go on without claims, and as many that wait for them."""
    async with (
        trial.offering("note", per_s=per_s) as going_on,
        trial.offering("once", per_s=per_s) as waiting,
    ):
        yield going_on, waiting


async def assert_well(trial, pids, *offers):
    """Everything ran once, in the processes that ran before, without much ado."""
    for offer in offers:
        assert offer.accepted == {one.number for one in offer.told}
    accepted = set().union(*(offer.accepted for offer in offers))
    await trial.until(lambda: accepted <= trial.effects().keys(), timeout_s=RECOVERY_S)
    assert trial.worker_pids(trial.worker) == pids
    assert "Traceback" not in trial.said()
    assert len(trial.said(most=10**9).splitlines()) < 100


async def test_a_redis_that_comes_back_empty_doubles_nothing_that_was_done(
    trial, server
):
    pids = trial.worker_pids(trial.worker)
    async with both(trial, per_s=100) as offers:
        for _ in range(3):
            await trial.progress(100, within_s=RECOVERY_S)
            async with during(RedisKilled(server)):
                await asyncio.sleep(0.5)
            add_user(server.url)
        await trial.progress(100, within_s=RECOVERY_S)

    await assert_well(trial, pids, *offers)
    assert trial.doubled() == {}


@pytest.mark.parametrize("cut_s", [5, pytest.param(20, marks=pytest.mark.torture)])
async def test_a_silent_redis_stops_no_call_and_only_jobs_that_wait_for_it(
    trial, server, cut_s
):
    pids = trial.worker_pids(trial.worker)
    async with both(trial, per_s=50) as (going_on, waiting):
        await trial.progress(50, within_s=RECOVERY_S)
        async with during(RedisPaused(server)):
            await asyncio.sleep(cut_s)
            # They go on, though each claim is waited for first.
            await trial.progress(25 * cut_s, within_s=RECOVERY_S)
            parked = waiting.accepted - trial.effects().keys()
        assert len(parked) > 100

    await assert_well(trial, pids, going_on, waiting)
    assert max(going_on.slowest_s, waiting.slowest_s) < 5.0
    assert trial.doubled() == {}


FAULTS = {
    "full": RedisFull,
    "asleep": lambda url: RedisAsleep(url, 3.0),
    "busy": RedisBusy,
    "holding": lambda url: RedisHolding(url, 10.0),
    "read-only": RedisReadOnly,
    "no rights": lambda url: RightsRevoked(url, USER, restore="+@all"),
    "no scripts": lambda url: RightsRevoked(
        url, USER, revoke="-evalsha", restore="+evalsha"
    ),
    "no writes": lambda url: RightsRevoked(url, USER, revoke="-set", restore="+set"),
    "no keys": lambda url: RightsRevoked(url, USER, revoke="resetkeys", restore="~*"),
    "forgets scripts": ScriptsFlushed,
}


# one that is slow, one that refuses, one that refuses within a script
IN_SHORT = frozenset({"busy", "full", "no writes"})


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            fault, id=name, marks=() if name in IN_SHORT else pytest.mark.torture
        )
        for name, fault in FAULTS.items()
    ],
)
async def test_a_redis_that_refuses_degrades_and_breaks_nothing(trial, server, fault):
    pids = trial.worker_pids(trial.worker)
    async with both(trial, per_s=20) as offers:
        await trial.progress(20, within_s=RECOVERY_S)
        async with during(fault(server.url)):
            await trial.progress(20, within_s=RECOVERY_S)
            await asyncio.sleep(2)
        await trial.progress(20, within_s=RECOVERY_S)

    await assert_well(trial, pids, *offers)
    assert trial.doubled() == {}


async def test_a_failover_that_loses_the_last_writes_doubles_nothing(
    kafka, namespace, tmp_path
):
    with RedisPair() as pair:
        async with at_work(kafka.url, pair.url, namespace, tmp_path) as trial:
            pids = trial.worker_pids(trial.worker)
            store = RedisClaimStore(open_redis(pair.url), f"{namespace}x")
            async with both(trial, per_s=50) as offers:
                await trial.progress(50, within_s=RECOVERY_S)
                failover = FailedOver(pair)
                async with during(failover):
                    before = await granted(store)
                    await asyncio.sleep(2)
                    await asyncio.to_thread(failover.promote)
                await trial.progress(100, within_s=RECOVERY_S)

            await assert_well(trial, pids, *offers)
            assert trial.doubled() == {}
            after = await granted_at_last(store)
            assert after.fence > before.fence
            await store.close()


async def granted_at_last(store):
    """The same claim, from the new primary."""
    while True:
        try:
            return await granted(store)
        except StoreError:
            await asyncio.sleep(0.1)
