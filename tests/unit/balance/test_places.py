"""Processes learn their places from the fleet, and call subsets by them."""

from __future__ import annotations

from shifter.adapters.memory.state import MemoryFleetStore
from shifter.api.dependency import BoundDependency
from shifter.fleet.calls import Caller
from shifter.fleet.replica import FleetReplica
from shifter.protection import BalancePolicy
from shifter.testing.clock import FakeClock

URLS = [f"http://h{number}:1" for number in range(12)]


class Process:
    """A process of the fleet that calls four of twelve endpoints."""

    def __init__(self, store, clock, name):
        self.store = store
        self.render = BoundDependency(
            lambda: Caller(self.replica),
            "render",
            endpoints=URLS,
            balance=BalancePolicy(subset=4),
        )
        self.replica = FleetReplica([self.render], clock, process=name, seed=1)

    async def sync(self):
        sent = self.replica.report()
        self.replica.learn(sent, await self.store.sync(sent.report))

    def fail(self):
        self.replica.failed(self.replica.report())

    def urls(self):
        return {view.endpoint.url for view in self.render.endpoint_views()}


def fleet_of(*names):
    clock = FakeClock()
    store = MemoryFleetStore(clock)
    return clock, [Process(store, clock, name) for name in names]


async def test_three_processes_share_twelve_endpoints_without_an_overlap():
    _, processes = fleet_of("b", "a", "c")
    for process in [*processes, *processes]:
        await process.sync()
    first, second, third = (process.urls() for process in processes)
    assert first | second | third == set(URLS)
    assert [len(first), len(second), len(third)] == [4, 4, 4]


async def test_a_process_without_the_fleet_calls_as_many_endpoints_at_a_random_place():
    _, processes = fleet_of(*map(str, range(20)))
    taken = [frozenset(process.urls()) for process in processes]
    assert {len(urls) for urls in taken} == {4}
    assert len(set(taken)) > 1


async def test_a_place_stays_while_the_store_is_away_and_those_of_the_dead_are_taken():
    clock, processes = fleet_of("a", "b", "c")
    for process in [*processes, *processes]:
        await process.sync()
    before = processes[2].urls()
    clock.advance(60)
    processes[2].fail()
    assert processes[2].urls() == before

    await processes[2].sync()  # the others are gone
    assert processes[2].urls() == set(URLS)
