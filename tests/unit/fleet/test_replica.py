"""What processes share through a store, one sync at a time, in virtual time."""

from __future__ import annotations

from shifter import Priority, Quality
from shifter.adapters.memory.state import MemoryFleetStore
from shifter.fleet.calls import FAILURE, Caller
from shifter.fleet.protection import Rejected
from shifter.fleet.replica import TRUST_S, FleetReplica
from shifter.fleet.shared_state import QUALITY_BY_HAND, OverrideCell, by_hand_cell
from shifter.fleet.view import set_by_hand
from shifter.policy.protection.circuit.states import Open
from shifter.policy.protection.dependency import Dependency
from shifter.protection import EvidencePolicy, QualityPolicy
from shifter.testing.clock import FakeClock

BANK = Dependency("bank", evidence=EvidencePolicy(min_calls=2))


class Observed:
    """An observer that keeps what it was called with."""

    def __init__(self):
        self.changes, self.strange = [], 0

    def circuit_changed(self, change):
        self.changes.append((change.dependency.name, change.scope))

    def found_strange(self, count):
        self.strange += count


class Process:
    """One process of a fleet."""

    def __init__(self, clock, store, name, quality=None):
        self.store, self.seen = store, Observed()
        self.replica = FleetReplica(
            [BANK],
            clock,
            process=name,
            observer=self.seen,
            quality=quality,
            seed=1,
        )
        self.bank = self.replica.protections["bank"]

    async def sync(self):
        sent = self.replica.report()
        self.replica.learn(sent, await self.store.sync(sent.report))

    def fail(self, times=2):
        for _ in range(times):
            caller = Caller(self.replica)
            call = caller.begin("bank")
            if not isinstance(call, Rejected):
                caller.end(call, FAILURE)

    def admits(self):
        answer = Caller(self.replica, Priority.CRITICAL).begin("bank")
        return not isinstance(answer, Rejected)


def fleet_of(count):
    clock = FakeClock()
    store = MemoryFleetStore(clock)
    return clock, store, [Process(clock, store, f"p{n}") for n in range(count)]


async def synced(*processes, rounds=3):
    for _ in range(rounds):
        for process in processes:
            await process.sync()


async def test_processes_that_all_fail_open_the_circuit_of_a_healthy_one():
    _, _, (first, second, third) = fleet_of(3)
    await synced(first, second, third)

    first.fail()
    second.fail()
    await synced(first, second, third)

    assert isinstance(third.bank.circuit.state, Open)
    assert not third.admits()
    assert ("bank", "fleet") in third.seen.changes


async def test_override_of_an_operator_holds_in_every_process_until_it_is_removed():
    _, store, (first, second) = fleet_of(2)
    await synced(first, second)
    override = OverrideCell("open", "ann", "maintenance", 60_000)

    await set_by_hand(store, "cli", by_hand_cell("bank"), override)
    await synced(first, second)
    assert not first.admits()
    assert not second.admits()
    await set_by_hand(store, "cli", by_hand_cell("bank"), None)
    await synced(first, second)

    assert first.admits()
    assert second.admits()


async def test_quality_that_an_operator_set_ends_at_its_time():
    clock, store, (process,) = fleet_of(1)
    await synced(process)
    override = OverrideCell("MINIMAL", "ann", "sale", 10_000)

    await set_by_hand(store, "cli", QUALITY_BY_HAND, override)
    await synced(process)
    assert process.replica.quality is Quality.MINIMAL
    clock.advance(10.0)

    assert process.replica.quality is Quality.FULL


async def test_process_without_its_store_uses_its_own_evidence_after_the_trust_time():
    clock, store, (process,) = fleet_of(1)
    await synced(process)
    override = OverrideCell("open", "ann", "maintenance", 3_600_000)
    await set_by_hand(store, "cli", by_hand_cell("bank"), override)
    await synced(process)

    process.replica.failed(process.replica.report())
    assert not process.admits()
    clock.advance(TRUST_S + 1)
    process.replica.failed(process.replica.report())

    assert process.admits()


async def test_cell_that_cannot_be_read_is_counted_and_ignored():
    _, store, (process,) = fleet_of(1)
    await synced(process)
    broken = OverrideCell("MINIMAL", "ann", "not a circuit's word", 60_000)

    await set_by_hand(store, "cli", "hand/quality", broken)
    await synced(process)
    before = process.seen.strange
    sent = process.replica.report()
    view = await store.sync(sent.report._replace(version=0))
    cells = {**(view.cells or {}), "hand/quality": b"\xff"}
    process.replica.learn(sent, view._replace(cells=cells))

    assert process.seen.strange == before + 1
    assert process.replica.quality is Quality.FULL


def loaded(loads):
    """Processes of one fleet, each with a load of its own; and their clock."""
    clock = FakeClock()
    store, quality = MemoryFleetStore(clock), QualityPolicy(lower_after_ms=1_000)
    processes = [Process(clock, store, f"p{at}", quality) for at in range(len(loads))]
    for process, load in zip(processes, loads, strict=True):
        process.replica.load = lambda load=load: load
    return clock, processes


async def test_lasting_load_of_all_lowers_the_quality_of_every_process():
    clock, processes = loaded([1.0, 1.0])
    for _ in range(4):
        for process in processes:
            await process.sync()
        clock.advance(0.6)

    assert {process.replica.quality for process in processes} == {Quality.REDUCED}


async def test_load_of_one_process_of_two_lowers_nothing():
    clock, processes = loaded([1.0, 0.0])
    for _ in range(9):
        for process in processes:
            await process.sync()
        clock.advance(0.6)

    assert {process.replica.quality for process in processes} == {Quality.FULL}
