"""What operators see of a fleet, and set in it, on a memory store."""

from __future__ import annotations

import msgspec
import pytest

from shifter import Priority
from shifter.adapters.memory.state import MemoryFleetStore
from shifter.fleet.hours import queue_scope, window_cell
from shifter.fleet.replica import FleetReplica
from shifter.fleet.service_reports import (
    FlowRow,
    RecentAnswers,
    ServiceReport,
    ServiceRow,
)
from shifter.fleet.shared_state import (
    QUALITY_BY_HAND,
    OverrideCell,
    ProcessReport,
    by_hand_cell,
)
from shifter.fleet.view import look, set_by_hand
from shifter.model.fleet import FleetReport
from shifter.policy.protection.circuit.evidence import CallEnd, CallOutcome
from shifter.policy.protection.dependency import Dependency
from shifter.protection import EvidencePolicy, LimitPolicy
from shifter.testing.clock import FakeClock

BANK = Dependency(
    "bank",
    evidence=EvidencePolicy(consecutive_failures=2),
    limit=LimitPolicy(initial=7),
)


class Fleet:
    """Processes that share a store, and one clock."""

    def __init__(self):
        self.clock = FakeClock()
        self.store = MemoryFleetStore(self.clock)

    def process(self, name, *, load=0.0):
        replica = FleetReplica([BANK], self.clock, process=name)
        replica.load = lambda: load
        return replica

    async def sync(self, *replicas):
        for replica in replicas:
            told = replica.report()
            replica.learn(told, await self.store.sync(told.report))

    def call(self, replica, outcome):
        bank, now_ms = replica.protections["bank"], replica.now_ms()
        permit = bank.admit(Priority.NORMAL, is_extra=False, now_ms=now_ms)
        bank.ended(permit, CallEnd(outcome, 1), now_ms=now_ms)


@pytest.fixture
def fleet():
    return Fleet()


async def test_calls_of_all_processes_are_summed_up(fleet):
    replicas = [fleet.process(name) for name in "ab"]
    for replica in replicas:
        fleet.call(replica, CallOutcome.SUCCESS)
        fleet.call(replica, CallOutcome.FAILURE)
    await fleet.sync(*replicas)

    (row,) = (await look(fleet.store, "cli")).circuits

    assert (row.dependency, row.state, row.processes) == ("bank", "closed", 2)
    assert (row.calls, row.failures) == (4, 2)
    assert (row.limit, row.inflight) == (14, 0)


async def test_open_circuit_shows_when_it_lets_probes_through(fleet):
    replicas = [fleet.process(name) for name in "ab"]
    await fleet.sync(*replicas)
    for replica in replicas:
        for _ in range(2):
            fleet.call(replica, CallOutcome.FAILURE)
    await fleet.sync(*replicas, *replicas, *replicas)

    (row,) = (await look(fleet.store, "cli")).circuits

    assert row.state == "open"
    assert 2.5 <= row.reopens_s <= 5.0
    fleet.clock.advance(5.0)
    (later,) = (await look(fleet.store, "cli")).circuits
    assert (later.reopens_s, later.processes, later.age_s) == (0, 0, None)


async def test_refused_starts_are_counted_by_protection(fleet):
    replica = fleet.process("a")
    await fleet.sync(replica)
    for _ in range(2):
        fleet.call(replica, CallOutcome.FAILURE)
    bank = replica.protections["bank"]
    for _ in range(3):
        bank.admit(Priority.NORMAL, is_extra=False, now_ms=replica.now_ms())
    await fleet.sync(replica)

    (row,) = (await look(fleet.store, "cli")).circuits

    assert row.held_back == {"circuit": 3}
    assert row.would_hold_back == {}


async def test_shed_jobs_are_shown_by_priority(fleet):
    replica = fleet.process("a")
    replica.answers = lambda: ProcessReport(shed=(0, 0, 1, 2), would_shed=(0, 0, 0, 3))
    await fleet.sync(replica)

    admission = (await look(fleet.store, "cli")).admission

    assert admission.shed == {"NORMAL": 1, "LOW": 2}
    assert admission.would_shed == {"LOW": 3}


async def test_answers_of_all_services_are_summed_up_and_services_are_listed(fleet):
    for name, shedding_ms in (("a", 5), ("b", 0)):
        replica = fleet.process(name)
        recent = RecentAnswers(
            (0, 0, 0, 9), (0, 0, 0, 4), (0, 0, 0, 2), shed=(0, 0, 0, 3)
        )
        service = ServiceReport(7, f"{name}\x1b[2J", recent, shedding_ms)
        replica.answers = lambda service=service: ProcessReport(service=service)
        await fleet.sync(replica)
    await fleet.sync(fleet.process("worker"))

    found = await look(fleet.store, "cli")

    assert found.admission.last_minute == [FlowRow("LOW", 18, 8, 4, 0, 6)]
    assert found.admission.shedding_ms == 5
    assert found.services == [
        ServiceRow("a", 7, "a\\x1b[2J"),
        ServiceRow("b", 7, "b\\x1b[2J"),
    ]


@pytest.mark.parametrize(
    "service",
    [
        [1, "v" * 65],
        [-1, "v"],
        [10**15, "v"],
        [1, "v", [[1, 2, 3]]],
        [1, "v", [[-1, 0, 0, 0]]],
        [1, "v", [[2**60, 0, 0, 0]]],
        "service",
        None,
    ],
)
async def test_a_report_that_no_service_writes_is_ignored(fleet, service):
    lie = msgspec.msgpack.encode([{}, [0] * 4, [0] * 4, 1, {}, service])
    await fleet.store.sync(FleetReport("x", 0.0, lie, False, 2_000, 0))
    await fleet.sync(fleet.process("a"))

    found = await look(fleet.store, "cli")

    assert found.services == found.admission.last_minute == []
    assert found.admission.shedding_ms is None
    assert [row.dependency for row in found.circuits] == ["bank"]


async def test_reports_of_an_older_and_of_a_newer_release_are_read(fleet):
    of_service = [7, "1", [[0, 0, 0, 1]], 0, "a later field"]
    for name, report in (
        ("older", [{}, [0, 0, 0, 2], [0] * 4, 1]),
        ("newer", [{}, [0, 0, 0, 3], [0] * 4, 1, {}, of_service, "another"]),
    ):
        text = msgspec.msgpack.encode(report)
        await fleet.store.sync(FleetReport(name, 0.0, text, False, 2_000, 0))

    found = await look(fleet.store, "cli")

    assert found.admission.shed == {"LOW": 5}
    assert [row.offered for row in found.admission.last_minute] == [1]
    assert [row.process for row in found.services] == ["newer"]


async def test_a_circuit_says_since_when_it_is_open_also_while_it_probes(fleet):
    replica = fleet.process("a")
    await fleet.sync(replica)
    for _ in range(2):
        fleet.call(replica, CallOutcome.FAILURE)
    await fleet.sync(replica, replica)
    opened_ms = fleet.clock.epoch_ms()

    (row,) = (await look(fleet.store, "cli")).circuits
    assert (row.state, row.since_ms) == ("open", pytest.approx(opened_ms, abs=2_000))
    since_ms = row.since_ms
    fleet.clock.advance(6.0)
    bank = replica.protections["bank"]
    bank.admit(Priority.NORMAL, is_extra=False, now_ms=replica.now_ms())
    await fleet.sync(replica, replica)

    (row,) = (await look(fleet.store, "cli")).circuits
    assert (row.state, row.since_ms) == ("half_open", since_ms)


async def test_age_of_a_row_is_that_of_the_oldest_report(fleet):
    first, other = fleet.process("a"), fleet.process("b")
    await fleet.sync(first, first)
    fleet.clock.advance(1.0)
    await fleet.sync(other, other)
    fleet.clock.advance(0.5)

    (row,) = (await look(fleet.store, "cli")).circuits

    assert row.age_s == pytest.approx(1.5)


async def test_load_is_the_mean_of_the_processes(fleet):
    await fleet.sync(fleet.process("a", load=1.0), fleet.process("b", load=0.5))

    quality = (await look(fleet.store, "cli")).quality

    assert (quality.load, quality.processes) == (0.75, 2)


async def test_operators_program_is_no_process_of_the_fleet(fleet):
    await look(fleet.store, "cli")
    found = await look(fleet.store, "cli")

    assert (found.circuits, found.quality.processes) == ([], 0)
    assert found.quality.load is None


@pytest.mark.parametrize(
    ("cell", "to", "rows"),
    [
        (by_hand_cell("bank"), "open", lambda seen: seen.circuits),
        (QUALITY_BY_HAND, "MINIMAL", lambda seen: [seen.quality]),
        (window_cell(queue_scope("mail")), "closed", lambda seen: seen.windows),
    ],
)
async def test_override_is_shown_until_it_ends(fleet, cell, to, rows):
    override = OverrideCell(to, "ann", "game day", 60_000)
    await set_by_hand(fleet.store, "cli", cell, override)
    fleet.clock.advance(15.0)

    (row,) = rows(await look(fleet.store, "cli"))

    assert (row.by_hand.to, row.by_hand.owner, row.by_hand.left_s) == (to, "ann", 45)
    fleet.clock.advance(45.0)
    after = rows(await look(fleet.store, "cli"))
    assert all(row.by_hand is None for row in after)


async def test_override_that_is_removed_is_gone(fleet):
    cell = by_hand_cell("bank")
    await set_by_hand(fleet.store, "cli", cell, OverrideCell("open", "a", "b", 60_000))

    await set_by_hand(fleet.store, "cli", cell, None)

    assert (await look(fleet.store, "cli")).circuits == []


async def test_override_gives_up_when_others_change_the_cell_all_the_time(fleet):
    async def sync(report: FleetReport):
        view = await answer(report._replace(proposals=()))
        return view._replace(accepted=[False for _ in report.proposals])

    answer, fleet.store.sync = fleet.store.sync, sync

    with pytest.raises(RuntimeError, match="hand/circuit/bank"):
        await set_by_hand(
            fleet.store, "cli", by_hand_cell("bank"), OverrideCell("open", "a", "b", 9)
        )
