"""A sync of a large fleet costs no more than one of a small fleet, and says the same."""

from __future__ import annotations

import pytest

from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.fleet import RedisFleetStore
from shifter.adapters.redis.keys import fleet_keys
from shifter.adapters.system import SystemClock
from shifter.fleet.replica import FleetReplica
from shifter.model.fleet import FleetReport, Proposal, RateWish
from shifter.model.lane import Priority
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.circuit.evidence import CallEnd, CallOutcome
from shifter.policy.protection.circuit.states import Open
from shifter.policy.protection.dependency import Dependency

pytestmark = pytest.mark.redis

NOW_US = 1_700_000_000_000_000
LOOK_US = 200_000


@pytest.fixture
async def client(redis_url):
    client = open_redis(redis_url, timeout_s=20)
    yield client
    await client.aclose()


@pytest.fixture
def store(client, namespace):
    return RedisFleetStore(client, namespace)


def report_of(number, **more):
    report = FleetReport(f"p{number:05d}", 0.5, b"e%d" % number, False, 10_000, 0)
    return report._replace(**more)


async def enter(store, count, *, at_us=NOW_US):
    for number in range(count):
        await store.sync_at(report_of(number), at_us)


async def calls_of(client, command, act):
    """How often the server ran a command meanwhile, scripts included."""

    async def count():
        found = await client.info("commandstats")
        return found.get(f"cmdstat_{command}", {"calls": 0})["calls"]

    before = await count()
    await act()
    return await count() - before


async def test_the_load_of_a_large_fleet_is_that_of_all(store):
    await enter(store, 300)
    busy = report_of(7, load=4.5)
    await store.sync_at(busy, NOW_US + 1)
    _, view = await store.sync_at(report_of(250), NOW_US + LOOK_US)

    assert view.load.processes == 300
    assert view.load.mean == pytest.approx((299 * 0.5 + 4.5) / 300)
    assert (view.load.highest, view.place) == (4.5, 250)


async def test_a_sync_of_a_large_fleet_seldom_looks_at_all(client, store):
    await enter(store, 300)

    async def many():
        for number in range(100):
            await store.sync_at(report_of(number), NOW_US + LOOK_US + number)

    # Of the reports; a process that has all cells is sent none.
    _, view = await store.sync_at(report_of(0), NOW_US + LOOK_US)
    version = view.version

    async def known():
        for number in range(100):
            report = report_of(number, version=version)
            await store.sync_at(report, NOW_US + LOOK_US + number)

    assert await calls_of(client, "hgetall", known) == 0
    assert await calls_of(client, "hset", many) == 200


async def test_processes_that_ended_are_counted_until_the_next_look(store):
    await enter(store, 60)
    later_us = NOW_US + 9_000_000
    for number in range(20):
        await store.sync_at(report_of(number), later_us)
    _, view = await store.sync_at(report_of(3), NOW_US + 11_000_000)

    assert (view.load.processes, view.place) == (20, 3)


async def test_places_that_were_damaged_are_made_anew(client, store, namespace):
    await enter(store, 50)
    *_, places = fleet_keys(namespace)
    await client.zadd(places, {"forged": 0})
    await store.sync_at(report_of(0), NOW_US + LOOK_US)
    _, view = await store.sync_at(report_of(49), NOW_US + LOOK_US + 1)

    assert (view.load.processes, view.place) == (50, 49)


@pytest.mark.parametrize("forged", [b"", b"x", b"1 2", b"9 nan 1 1", b"1 1e9 -1 x"])
async def test_a_forged_look_is_no_look(client, store, namespace, forged):
    await enter(store, 30)
    await client.hset(fleet_keys(namespace)[0], "look", forged)
    _, view = await store.sync_at(report_of(5), NOW_US + 1)

    assert view.load.processes == 30


async def test_evidence_of_a_large_fleet_goes_to_some_alarmed_processes(store):
    await enter(store, 500)

    async def told(at_us, count, *, is_alarmed=True):
        views = [
            (await store.sync_at(report_of(n, is_alarmed=is_alarmed), at_us))[1]
            for n in range(count)
        ]
        return sum(len(view.evidence) == 500 for view in views)

    # 20,000 reports within 200 ms are 40 times those of all.
    assert await told(NOW_US, 60) == 40
    assert await told(NOW_US, 10, is_alarmed=False) == 0
    assert await told(NOW_US + LOOK_US, 10) == 10


async def test_what_a_sync_of_a_large_fleet_makes_fades(client, store, namespace):
    await enter(store, 30)
    wish = BudgetPolicy().wish("mailer", 1_800, (1, 0, 0, 0))
    rate, cell = RateWish("mailer", 1_000, 1, 1), Proposal("c", b"", b"1")
    report = report_of(3, proposals=[cell], budgets=[wish], rates=[rate])
    await store.sync_at(report, NOW_US + 1)

    for key in fleet_keys(namespace):
        assert await client.pttl(key) > 0


async def test_an_operator_is_sent_all_evidence(store):
    await enter(store, 300)
    for number in range(300):
        await store.sync_at(report_of(number, is_alarmed=True), NOW_US)
    asking = report_of(0, is_alarmed=True)._replace(process="operator", keep_ms=0)
    _, view = await store.sync_at(asking, NOW_US)

    assert len(view.evidence) == 300
    assert view.place is None


async def test_a_circuit_of_a_large_fleet_opens_for_all(store):
    """Each of 150 processes fails five times in a row, and syncs once."""
    clock, bank = SystemClock(), Dependency("bank")
    replicas = [
        FleetReplica([bank], clock, process=f"p{n:05d}", seed=n) for n in range(150)
    ]

    async def sync_all():
        for replica in replicas:
            sent = replica.report()
            replica.learn(sent, await store.sync(sent.report))

    await sync_all()
    for replica in replicas:
        protection = replica.protections["bank"]
        for _ in range(5):
            with replica.lock:
                permit = protection.admit(
                    Priority.NORMAL, is_extra=False, now_ms=replica.now_ms()
                )
                end = CallEnd(CallOutcome.FAILURE, 1)
                protection.ended(permit, end, now_ms=replica.now_ms())
    rounds = 0
    while not all(
        isinstance(replica.protections["bank"].circuit.state, Open)
        for replica in replicas
    ):
        rounds += 1
        # One to report, one to open it, and one to learn of it.
        assert rounds <= 3
        await sync_all()
