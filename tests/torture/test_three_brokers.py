"""A cluster of three that loses one broker, or two, or their leadership."""

from __future__ import annotations

import asyncio

import pytest

from stack.kafka import KafkaCluster
from tests.torture.faults.broker import BrokersDown, BrokersPaused, RollingBrokers
from tests.torture.faults.proxy import HalfOpen, Proxy, Stall
from tests.torture.faults.trial import RECOVERY_S, Trial, during

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.torture,
    pytest.mark.timeout(300),
]

ACCEPT_S = 3.0
CUT_S = 15.0


@pytest.fixture(scope="module")
def proxies():
    """One before each broker of `cluster`."""
    proxies = []
    yield proxies
    for proxy in proxies:
        proxy.close()


@pytest.fixture(scope="module")
def cluster(proxies):
    def behind(port):
        proxies.append(Proxy(port))
        return proxies[-1].port

    with KafkaCluster(3, behind=behind) as cluster:
        cluster.warm()
        yield cluster


@pytest.fixture
async def trial(cluster, redis_url, namespace, tmp_path):
    """Topics on all brokers, a service and a worker."""
    trial = Trial(
        cluster.url, redis_url, namespace, tmp_path, ACCEPT_TIMEOUT=f"{ACCEPT_S:g}s"
    )
    await trial.open()
    try:
        async with trial.app:
            trial.worker = trial.work()
            async with trial.offering(per_s=5) as offer:
                await trial.progress(5, within_s=60)
            await trial.recovered(offer)
            yield trial
    finally:
        trial.close()


FAULTS = {
    "one killed": lambda cluster, _: BrokersDown(cluster, [2]),
    "two killed": lambda cluster, _: BrokersDown(cluster, [2, 3]),
    "all killed": lambda cluster, _: BrokersDown(cluster),
    "one frozen": lambda cluster, _: BrokersPaused(cluster, [1]),
    "one silent": lambda _, proxies: Stall(proxies[0]),
    "one half-open": lambda _, proxies: HalfOpen(proxies[1]),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_everything_is_accepted_and_runs_once(trial, cluster, proxies, fault):
    async with trial.offering(per_s=50) as offer:
        await trial.progress(50, within_s=RECOVERY_S)
        async with during(fault(cluster, proxies)):
            await asyncio.sleep(CUT_S)
        await trial.progress(50, within_s=RECOVERY_S)

    await trial.recovered(offer)
    assert offer.accepted == {one.number for one in offer.told}, offer.reasons()
    assert offer.slowest_s < ACCEPT_S + 1.0
    assert trial.doubled() == {}


async def test_brokers_that_restart_one_after_the_other_stop_nothing(trial, cluster):
    rolling = RollingBrokers(cluster, times=3)

    async with trial.offering(per_s=50) as offer:
        async with during(rolling):
            for _ in range(3):
                await trial.progress(50, within_s=RECOVERY_S)
            assert await asyncio.to_thread(rolling.wait, 60)
        await trial.progress(50, within_s=RECOVERY_S)

    await trial.recovered(offer)
    assert offer.accepted == {one.number for one in offer.told}, offer.reasons()
    assert trial.doubled() == {}
