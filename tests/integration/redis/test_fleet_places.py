"""The fleet store on a cluster and behind a sentinel: real servers on loopback."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis import Redis

from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.fleet import RedisFleetStore
from shifter.adapters.redis.keys import fleet_keys
from shifter.adapters.system import SystemClock
from shifter.errors import StoreError
from shifter.fleet.guards import CallPermit
from shifter.fleet.replica import FleetReplica
from shifter.model.lane import Priority
from shifter.policy.protection.circuit.evidence import (
    CallEnd,
    CallOutcome,
    EvidencePolicy,
)
from shifter.policy.protection.circuit.policy import CircuitPolicy
from shifter.policy.protection.circuit.states import (
    Open,
)
from shifter.policy.protection.dependency import Dependency
from shifter.testing.conformance.fleet import FleetStoreConformance
from stack.redis import RedisServer
from tests.torture.faults.redis import FailedOver, RedisPair, ask

pytestmark = pytest.mark.redis


class Bench:
    """Opens fleet stores at one address."""

    def __init__(self, url, namespace, forget):
        self._url, self.namespace, self.forget = url, namespace, forget
        self._stores = []

    def open(self):
        client = open_redis(self._url, timeout_s=5)
        self._stores.append(RedisFleetStore(client, self.namespace))
        return self._stores[-1]

    async def close(self):
        for store in self._stores:
            await store.close()


@pytest.fixture(scope="module")
def cluster():
    """One server that is a whole cluster; it refuses keys of two slots in one call."""
    with RedisServer(further=["cluster-enabled yes"]) as server:
        redis = Redis(port=server.port)
        redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        until = time.monotonic() + 20
        while b"cluster_state:ok" not in redis.execute_command("CLUSTER", "INFO"):
            assert time.monotonic() < until
            time.sleep(0.05)
        yield server
        errors = redis.info("errorstats")
        redis.close()
    assert "errorstat_CROSSSLOT" not in errors


class TestClusterFleet(FleetStoreConformance):
    """`RedisFleetStore` on a cluster, whose clients hear no channel."""

    @pytest.fixture
    async def fleet_bench(self, cluster, namespace):
        async def forget():
            ask(cluster.url, lambda client: client.delete(*fleet_keys(namespace)))

        url = f"redis+cluster://127.0.0.1:{cluster.port}"
        bench = Bench(url, namespace, forget)
        yield bench
        await bench.close()

    async def test_listening_ends_at_once_on_a_cluster(self, fleet_bench):
        async with asyncio.timeout(30):
            await fleet_bench.open().listen(lambda: None)


BANK = Dependency(
    "bank",
    circuit=CircuitPolicy(cooldown_ms=60_000),
    evidence=EvidencePolicy(consecutive_failures=1),
)


class Member:
    """A process of the fleet, without its own loop."""

    def __init__(self, bench, name):
        self.replica = FleetReplica([BANK], SystemClock(), process=name, seed=1)
        self._store = bench.open()

    async def sync(self):
        told = self.replica.report()
        try:
            view = await self._store.sync(told.report)
        except StoreError:
            self.replica.failed(told)
        else:
            self.replica.learn(told, view)

    def call_in_vain(self):
        protection, now_ms = self.protection, int(time.monotonic() * 1_000)
        permit = protection.admit(Priority.NORMAL, is_extra=False, now_ms=now_ms)
        assert isinstance(permit, CallPermit)
        protection.ended(permit, CallEnd(CallOutcome.FAILURE, 1), now_ms=now_ms)

    @property
    def protection(self):
        return self.replica.protections["bank"]

    @property
    def state(self):
        return self.protection.circuit.state


async def test_a_failover_that_forgets_the_last_writes_keeps_an_open_circuit(namespace):
    """The replica never heard that it was opened; the members tell it again."""
    with RedisPair() as pair:
        bench = Bench(pair.url, namespace, None)
        members = [Member(bench, name) for name in ("a", "b")]
        for member in members:
            await member.sync()
        pair.wait_in_sync()
        failover = FailedOver(pair)
        failover.start()
        for member in members:
            member.call_in_vain()
        while not all(isinstance(member.state, Open) for member in members):
            for member in members:
                await member.sync()
        failover.promote()
        async with asyncio.timeout(40):
            late = Member(bench, "late")
            while not isinstance(late.state, Open):
                for member in (*members, late):
                    await member.sync()

        assert [member.state for member in members] == [late.state, late.state]
        failover.heal()
        await bench.close()
