"""Kafka away, silent, slow or flapping: what service and workers do meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from stack.kafka import KafkaCluster
from tests.torture.faults.broker import BrokersDown
from tests.torture.faults.fault import Cannot
from tests.torture.faults.network import PacketLoss
from tests.torture.faults.process import open_files, threads
from tests.torture.faults.proxy import (
    Bandwidth,
    Flapping,
    HalfOpen,
    Latency,
    Proxy,
    Refuse,
    Reset,
    Stall,
    Way,
)
from tests.torture.faults.trial import RECOVERY_S, Trial, during

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.timeout(240)]

ACCEPT_S = 3.0
CUT_S = float(os.environ.get("FAULT_CUT_S", "12"))


@pytest.fixture(scope="module")
def proxy():
    """In front of the broker of `cluster`."""
    with Proxy(0) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def cluster(proxy):
    """One broker that clients reach through `proxy`."""

    def behind(port):
        proxy.target = port
        return proxy.port

    with KafkaCluster(behind=behind) as cluster:
        cluster.warm()
        yield cluster


@pytest.fixture
async def trial(cluster, redis_url, namespace, tmp_path):
    """A service of one process and a worker, at work."""
    trial = Trial(
        cluster.url,
        redis_url,
        namespace,
        tmp_path,
        ACCEPT_TIMEOUT=f"{ACCEPT_S:g}s",
    )
    await trial.open()
    async with trial.app:
        trial.worker = trial.work()
        async with trial.offering(per_s=5) as offer:
            await trial.progress(5, within_s=60)
        await trial.recovered(offer)
        try:
            yield trial
        finally:
            trial.close()


def made(fault, *of):
    """A fault, or a skip that says why this machine cannot carry it."""
    try:
        return fault(*of)
    except Cannot as reason:
        pytest.skip(str(reason))


def assert_definite(offer):
    """Every call was answered in time, and promised to run."""
    assert offer.slowest_s < ACCEPT_S + 5.0
    assert offer.accepted == {one.number for one in offer.told}, offer.reasons()


LONG = pytest.mark.torture
OUT_OF_REACH = [
    pytest.param(lambda proxy, _: Stall(proxy), id="silent"),
    pytest.param(
        lambda proxy, _: Stall(proxy, ways=(Way.DOWN,)), id="answers lost", marks=LONG
    ),
    pytest.param(lambda proxy, _: Refuse(proxy), id="refused", marks=LONG),
    pytest.param(lambda proxy, _: Reset(proxy), id="reset", marks=LONG),
    pytest.param(
        lambda proxy, _: PacketLoss(proxy.port, 1.0), id="cut off", marks=LONG
    ),
    pytest.param(lambda _, cluster: BrokersDown(cluster), id="killed"),
]


@pytest.mark.parametrize("fault", OUT_OF_REACH)
async def test_while_the_broker_is_out_of_reach_everything_is_accepted(
    trial, proxy, cluster, fault
):
    async with trial.offering() as offer:
        await trial.progress(50, within_s=RECOVERY_S)
        async with during(made(fault, proxy, cluster)):
            await asyncio.sleep(CUT_S)
        await trial.progress(50, within_s=RECOVERY_S)

    await trial.recovered(offer)
    assert_definite(offer)
    assert offer.reasons()["spooled"] > 0
    assert trial.doubled() == {}


async def test_connections_that_went_dead_unnoticed_are_found_within_30_s(trial, proxy):
    async with trial.offering() as offer:
        await trial.progress(50, within_s=RECOVERY_S)
        async with during(HalfOpen(proxy)):
            pass
        await trial.progress(50, within_s=RECOVERY_S)

    await trial.recovered(offer)
    assert_definite(offer)
    assert trial.doubled() == {}


@LONG
async def test_a_link_that_flaps_costs_neither_files_nor_threads(trial, proxy):
    [worker] = trial.worker_pids(trial.worker)
    pids = [os.getpid(), worker]
    before = [(open_files(pid), threads(pid)) for pid in pids]

    async with trial.offering() as offer:
        async with during(Flapping(proxy, every_s=0.3)):
            await trial.progress(10, within_s=60)
            await asyncio.sleep(2 * CUT_S)
        await trial.progress(50, within_s=RECOVERY_S)

    await trial.recovered(offer)
    assert_definite(offer)
    after = [(open_files(pid), threads(pid)) for pid in pids]
    grown = [
        (files_after - files, threads_after - count)
        for (files, count), (files_after, threads_after) in zip(
            before, after, strict=True
        )
    ]
    assert max(max(pair) for pair in grown) <= 8, grown


@LONG
async def test_a_slow_and_lossy_line_is_slow_and_loses_nothing(trial, proxy):
    faults = [
        Latency(proxy, 0.2, jitter_s=0.1),
        Bandwidth(proxy, 125_000),
        made(PacketLoss, proxy.port, 0.1),
    ]

    async with trial.offering(per_s=20) as offer:
        with contextlib.ExitStack() as stack:
            for fault in faults:
                stack.enter_context(fault)
            await trial.progress(20, within_s=RECOVERY_S)
            await asyncio.sleep(2 * CUT_S)
        await trial.progress(20, within_s=RECOVERY_S)

    await trial.recovered(offer)
    assert_definite(offer)
    assert trial.doubled() == {}


@LONG
async def test_a_worker_may_leave_while_the_broker_is_silent(trial, proxy):
    async with during(Stall(proxy)):
        await asyncio.sleep(1)
        trial.worker.terminate()
        await trial.until(
            lambda: trial.worker.poll() is not None, timeout_s=2 * RECOVERY_S
        )

    assert trial.worker.returncode == 0, trial.said()
