"""Errors that no real broker gives on demand: what a service makes of them."""

from __future__ import annotations

import asyncio

import pytest

from shifter import wiring
from tests.torture.faults.broker import (
    NOT_ENOUGH_REPLICAS,
    NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    OUT_OF_ORDER_SEQUENCE_NUMBER,
    BrokerErrors,
    FaultyCluster,
    LeaderChanges,
)
from tests.torture.faults.trial import RECOVERY_S, Trial, during, written

pytestmark = [pytest.mark.mockbroker, pytest.mark.timeout(240)]

LONG = pytest.mark.torture
ACCEPT_S = 2.0
BROKERS = 3


@pytest.fixture
def cluster():
    cluster = FaultyCluster(BROKERS)
    yield cluster
    cluster.close()


@pytest.fixture
async def trial(cluster, namespace, tmp_path):
    """A service; nobody drains."""
    trial = Trial(
        f"kafka://{cluster.bootstrap}",
        f"sqlite:///{tmp_path}/state.db",
        namespace,
        tmp_path,
        ACCEPT_TIMEOUT=f"{ACCEPT_S:g}s",
    )
    cluster.make_topic(trial.lane, 1)
    async with trial.app:
        yield trial


async def accepted_by_the_broker(trial, offer):
    """Wait until calls are answered by the broker again, and nothing is spooled."""
    since = len(offer.told)

    def is_back():
        return any(one.answer.reason == "accepted" for one in offer.told[since:])

    await trial.until(is_back, timeout_s=RECOVERY_S)


async def assert_nothing_is_lost(trial, cluster, offer):
    spool = wiring.open_spool(trial.settings, wiring.spool_path(trial.settings))
    await trial.until(lambda: spool.depth().waiting == 0, timeout_s=RECOVERY_S)
    left = spool.depth()
    spool.close()
    client = {"bootstrap.servers": cluster.bootstrap}
    found = await asyncio.to_thread(written, client, trial.lane)
    assert left.refused == 0
    assert offer.accepted == {one.number for one in offer.told}, offer.reasons()
    assert offer.accepted == found.keys()
    assert offer.slowest_s < ACCEPT_S + 5.0


@pytest.mark.parametrize("per_s", [pytest.param(20, marks=LONG), 2_000])
async def test_a_client_that_breaks_for_good_is_replaced_and_no_job_is_refused(
    trial, cluster, per_s
):
    async with trial.offering(per_s=per_s) as offer:
        await accepted_by_the_broker(trial, offer)
        broken = trial.app.publisher._log._log._keeper.current
        async with during(BrokerErrors(cluster, OUT_OF_ORDER_SEQUENCE_NUMBER)):
            await trial.until(lambda: broken.is_dead, timeout_s=RECOVERY_S)
        await accepted_by_the_broker(trial, offer)

    await assert_nothing_is_lost(trial, cluster, offer)


async def test_a_client_that_breaks_while_the_spool_is_forwarded_sets_nothing_aside(
    trial, cluster
):
    fault = BrokerErrors(cluster, OUT_OF_ORDER_SEQUENCE_NUMBER, times=3)

    async with trial.offering(per_s=200) as offer:
        await accepted_by_the_broker(trial, offer)
        async with during(fault):
            await asyncio.sleep(5)
        await accepted_by_the_broker(trial, offer)

    await assert_nothing_is_lost(trial, cluster, offer)


@LONG
async def test_too_few_replicas_are_waited_for(trial, cluster):
    codes = NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS_AFTER_APPEND

    async with trial.offering(per_s=100) as offer:
        await accepted_by_the_broker(trial, offer)
        async with during(BrokerErrors(cluster, *codes, times=5)):
            await asyncio.sleep(3)
        await accepted_by_the_broker(trial, offer)

    await assert_nothing_is_lost(trial, cluster, offer)


@LONG
async def test_a_leader_that_changes_all_the_time_is_followed(trial, cluster):
    changes = LeaderChanges(cluster, trial.lane, BROKERS, every_s=1.0)

    async with trial.offering(per_s=100) as offer:
        await accepted_by_the_broker(trial, offer)
        async with during(changes):
            await trial.until(lambda: changes.count >= 5, timeout_s=RECOVERY_S)
        await accepted_by_the_broker(trial, offer)

    await assert_nothing_is_lost(trial, cluster, offer)
