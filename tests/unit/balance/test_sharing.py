"""What one process finds about endpoints, and what the fleet makes of it."""

from __future__ import annotations

import random

import msgspec
import pytest

from shifter.adapters.memory.state import MemoryFleetStore
from shifter.balance.balancer import Balancer, CallEvidence
from shifter.balance.sharing import SharedEndpoints
from shifter.errors import StoreUnavailableError
from shifter.fleet.endpoint_cells import (
    EjectionCell,
    EndpointCell,
    EndpointReport,
    endpoint_of,
)
from shifter.fleet.replica import FleetReplica
from shifter.fleet.shared_state import OverrideCell, ProcessReport, words_text
from shifter.fleet.view import set_by_hand
from shifter.model.fleet import MAX_CELL_BYTES, FleetReport, Proposal
from shifter.policy.balance.mark import MarkKind
from shifter.policy.failure_cause import FailureCause
from shifter.policy.protection.dependency import Dependency
from shifter.testing.clock import FakeClock

RENDER = Dependency("render")
URLS = [f"http://h{number}:1" for number in range(6)]


def eject_cell(url, kind=MarkKind.FLEET):
    return EndpointCell(kind, "render", url).name


class Process:
    """A process of the fleet that calls the dependency."""

    def __init__(self, fleet, name, urls=URLS, dependency=RENDER):
        self.fleet, self.clock = fleet, fleet.clock
        self.replica = FleetReplica([dependency], self.clock, process=name, seed=1)
        balancer = Balancer("render", urls, dependency.balance, random.Random(1))
        self.shared = SharedEndpoints(balancer, dependency.balance)
        self.replica.endpoints.join(dependency, self.shared)

    @property
    def now(self):
        return self.clock.monotonic()

    def call(self, url, *, failed, times=1, cause=None):
        others = [one for one in URLS if one != url]
        for _ in range(times):
            lease = self.shared.balancer.lease(self.now, tried=others)
            lease.end(self.now, CallEvidence(failed=failed, cause=cause))

    def out(self):
        """Endpoints that get no calls, and for how many seconds."""
        views = self.shared.balancer.views(self.now)
        return {view.endpoint.url: view.out_s for view in views if view.out_s}

    def chosen(self, calls=60):
        balancer = self.shared.balancer
        leases = [balancer.lease(self.now) for _ in range(calls)]
        for lease in leases:
            lease.end(self.now, CallEvidence(failed=None))
        return {lease.endpoint.url for lease in leases}

    async def sync(self):
        sent = self.replica.report()
        try:
            self.replica.learn(sent, await self.fleet.store.sync(sent.report))
        except StoreUnavailableError:
            self.replica.failed(sent)


class Fleet:
    """Processes that share one store, in virtual time."""

    def __init__(self, count, **options):
        self.clock = FakeClock()
        self.store = MemoryFleetStore(self.clock)
        self.processes = [Process(self, f"p{n}", **options) for n in range(count)]

    async def run(self, seconds=2.0):
        for _ in range(round(seconds / 0.2)):
            for process in self.processes:
                await process.sync()
            self.clock.advance(0.2)

    @property
    def cells(self):
        return [name for name in self.store.table.cells if endpoint_of(name)]

    async def says(self, name, report):
        """Send what a liar sends."""
        words = words_text(ProcessReport(endpoints={"render": [report]}))
        sent = FleetReport(name, 0.0, words, True, 60_000, 0)
        await self.store.sync(sent)

    async def write(self, name, value):
        await self.store.sync(
            FleetReport("liar", 0.0, b"", True, 0, 0, [Proposal(name, b"", value)])
        )


async def test_what_two_processes_find_ejects_an_endpoint_in_all():
    fleet = Fleet(3)
    first, second, third = fleet.processes
    for process in fleet.processes:
        process.call(URLS[0], failed=False)
    await fleet.run()

    first.call(URLS[0], failed=True, times=5)
    second.call(URLS[0], failed=True, times=5)
    await fleet.run()

    assert set(third.out()) == {URLS[0]}
    assert 25 < third.out()[URLS[0]] <= 30
    assert URLS[0] not in third.chosen()
    [row] = [row for row in third.shared.reports(third.now) if row.url == URLS[0]]
    assert (row.state, row.why) == ("ejected", "5 failures in a row")
    assert row.vote == ""


async def test_what_one_process_finds_is_its_own():
    fleet = Fleet(3)
    first, second, third = fleet.processes
    for process in fleet.processes:
        process.call(URLS[0], failed=False)
    await fleet.run(1)
    first.call(URLS[0], failed=True, times=5)
    await fleet.run(10)
    assert set(first.out()) == {URLS[0]}
    assert second.out() == third.out() == {}
    assert fleet.cells == []


async def test_a_second_process_may_find_it_much_later():
    fleet = Fleet(2)
    first, second = fleet.processes
    first.call(URLS[0], failed=True, times=5)
    await fleet.run(20)
    second.call(URLS[0], failed=True, times=5)
    await fleet.run()
    assert fleet.cells == [eject_cell(URLS[0])]


async def test_a_process_alone_decides_alone():
    fleet = Fleet(1)
    fleet.processes[0].call(URLS[0], failed=True, times=5)
    await fleet.run()
    assert fleet.cells == [eject_cell(URLS[0])]


@pytest.mark.parametrize("calls", [0, 1, 2**53 - 2])
async def test_a_liar_ejects_nothing(calls):
    fleet = Fleet(3)
    for process in fleet.processes:
        process.call(URLS[0], failed=False, times=9)
    for _ in range(20):
        for url in URLS:
            lie = EndpointReport(url, "ejected", vote="calls", calls=calls, out_ms=1)
            await fleet.says("liar", lie)
        await fleet.run(0.4)
    assert [process.out() for process in fleet.processes] == [{}, {}, {}]
    assert fleet.cells == []


async def test_a_liar_ejects_nothing_that_only_one_process_knows():
    """It needs a second process where there is another at all."""
    fleet = Fleet(1)
    await fleet.says("liar", EndpointReport(URLS[1], "open", calls=9))
    fleet.processes[0].call(URLS[0], failed=True, times=5)
    await fleet.run()
    assert fleet.cells == []
    assert set(fleet.processes[0].out()) == {URLS[0]}


async def test_a_minority_that_fails_does_not_eject_for_those_that_succeed():
    fleet = Fleet(5)
    for process in fleet.processes:
        process.call(URLS[0], failed=False, times=50)
    await fleet.run(1)
    for process in fleet.processes[:2]:
        process.call(URLS[0], failed=True, times=5)
    await fleet.run(5)
    assert fleet.cells == []
    assert fleet.processes[4].out() == {}


async def test_an_ejection_of_the_fleet_ends_and_the_next_one_is_longer():
    fleet = Fleet(2)
    first, second = fleet.processes
    lengths = []
    for _ in range(2):
        for process in fleet.processes:
            process.call(URLS[0], failed=True, times=5)
        await fleet.run(1)
        lengths.append(round(second.out()[URLS[0]] + 1, 0))
        await fleet.run(lengths[-1] + 2)
        assert first.out() == second.out() == {}
    assert lengths == [pytest.approx(30, abs=1), pytest.approx(60, abs=1)]
    assert fleet.cells == []


REFUSED = FailureCause("ConnectionRefusedError", cooldown_ms=2_000)
DENIED = FailureCause("PermissionError", cooldown_ms=600_000)


@pytest.mark.parametrize(
    ("cause", "length_s"), [(REFUSED, 2), (DENIED, 600), (FailureCause("OSError"), 30)]
)
async def test_an_ejection_of_the_fleet_lasts_as_long_as_its_kind_of_failure_says(
    cause, length_s
):
    rules = {ConnectionRefusedError: "2s", PermissionError: "10m"}
    fleet = Fleet(3, dependency=Dependency("render", cooldown=rules))
    first, second, third = fleet.processes
    for process in (first, second):
        process.call(URLS[0], failed=True, times=5, cause=cause)
    for _ in range(2):
        for process in fleet.processes:
            await process.sync()

    assert third.out() == {URLS[0]: pytest.approx(length_s, abs=0.1)}

    await fleet.run(length_s + 0.4)
    assert third.out() == first.out() == {}


async def test_no_vote_takes_an_endpoint_away_for_longer_than_a_rule_of_this_process():
    rules = {ConnectionRefusedError: "2s", PermissionError: "10m"}
    fleet = Fleet(2, dependency=Dependency("render", cooldown=rules))
    first, second = fleet.processes
    lie = FailureCause("PermissionError", cooldown_ms=10**9)
    for process in fleet.processes:
        process.call(URLS[0], failed=True, times=5, cause=lie)
    await first.sync()
    await second.sync()
    await second.sync()

    [name] = fleet.cells
    cell = msgspec.json.decode(fleet.store.table.cells[name], type=EjectionCell)
    assert cell.until_ms - cell.since_ms == 600_000


async def test_a_process_that_begins_later_learns_what_is_ejected():
    fleet = Fleet(2)
    for process in fleet.processes:
        process.call(URLS[0], failed=True, times=5)
    await fleet.run(1)
    late = Process(fleet, "late")
    await late.sync()
    assert set(late.out()) == {URLS[0]}
    again = Process(fleet, "late")
    again.replica = late.replica
    late.replica.endpoints.join(RENDER, again.shared)
    assert set(again.out()) == {URLS[0]}


async def test_at_most_the_share_is_ejected_whatever_the_fleet_finds():
    fleet = Fleet(3)
    for url in URLS:
        at = fleet.clock.epoch_ms() + 60_000
        cell = msgspec.json.encode(EjectionCell(0, at, 1, "a lie"))
        await fleet.write(eject_cell(url), cell)
        await fleet.write(eject_cell(url, MarkKind.CHECKS), cell)
    await fleet.run(1)
    for process in fleet.processes:
        assert len(process.out()) == 3
        assert len(process.chosen()) == 3


async def test_the_fleet_proposes_no_more_than_the_share():
    fleet = Fleet(2)
    for url in URLS[:5]:
        for process in fleet.processes:
            process.call(url, failed=True, times=5)
            await fleet.run(1)
    assert len(fleet.cells) == 3


@pytest.mark.parametrize("count", [1, 2])
async def test_one_endpoint_is_always_left(count):
    fleet = Fleet(2, urls=URLS[:count])
    at = fleet.clock.epoch_ms() + 60_000
    for url in URLS[:count]:
        value = msgspec.json.encode(EjectionCell(0, at, 1, "a lie"))
        for kind in (MarkKind.FLEET, MarkKind.CHECKS):
            await fleet.write(eject_cell(url, kind), value)
        await drain(fleet, url)
    await fleet.run(1)
    assert all(process.chosen() for process in fleet.processes)


async def drain(fleet, url, to="drained"):
    setting = OverrideCell(to, "ann", "a new kernel", 60_000)
    cell = EndpointCell(MarkKind.DRAIN, "render", url).name
    await set_by_hand(fleet.store, "operator", cell, setting)


async def test_a_drained_endpoint_gets_no_calls_until_it_is_restored_or_the_end():
    fleet = Fleet(2)
    await drain(fleet, URLS[0])
    await drain(fleet, URLS[1])
    await fleet.run(1)
    for process in fleet.processes:
        assert process.chosen() == set(URLS[2:])
        row = process.shared.reports(process.now)[0]
        assert (row.state, row.why) == ("drained", "drained by ann: a new kernel")

    cell = EndpointCell(MarkKind.DRAIN, "render", URLS[1]).name
    await set_by_hand(fleet.store, "operator", cell, None)
    await fleet.run(1)
    assert URLS[1] in fleet.processes[0].chosen()

    await fleet.run(60)
    assert fleet.processes[0].chosen() == set(URLS)
    assert fleet.cells == []


async def test_drained_endpoints_are_called_only_where_all_are_drained():
    fleet = Fleet(1)
    [process] = fleet.processes
    for url in URLS[1:]:
        await drain(fleet, url)
    process.call(URLS[0], failed=True, times=50)
    await fleet.run(1)
    assert process.chosen() == {URLS[0]}
    await drain(fleet, URLS[0])
    await fleet.run(1)
    assert process.chosen() == set(URLS)


async def test_while_the_store_is_away_what_is_known_goes_on():
    fleet = Fleet(2)
    first, second = fleet.processes
    for process in fleet.processes:
        process.call(URLS[0], failed=True, times=5)
    await drain(fleet, URLS[5])
    await fleet.run(1)

    class Away:
        async def sync(self, report):
            raise StoreUnavailableError("memory", "fleet.sync", "away")

    fleet.store = Away()
    first.call(URLS[1], failed=True, times=5)
    await fleet.run(5)
    assert set(first.out()) == {URLS[0], URLS[1], URLS[5]}
    assert set(second.out()) == {URLS[0], URLS[5]}
    await fleet.run(60)
    assert first.out() == second.out() == {}


LIES = [
    b"",
    b"{}",
    b"\xff",
    b"[" * 100_000,
    b'{"since_ms":0,"until_ms":-1,"times":1,"why":"x"}',
    b'{"since_ms":0,"until_ms":1e300,"times":1,"why":"x"}',
    b'{"since_ms":0,"until_ms":253402300799999,"times":0,"why":"x"}',
    b'{"since_ms":0,"until_ms":253402300799999,"times":1,"why":7}',
    b'{"since_ms":0,"until_ms":253402300799999,"times":1,"why":"x","more":1}',
    b'{"to":"drained","owner":"x","reason":"y","until_ms":"soon"}',
    b'{"to":"open","owner":"x","reason":"y","until_ms":253402300799999}',
    b'"' + b"x" * MAX_CELL_BYTES + b'"',
]


@pytest.mark.parametrize("lie", LIES)
async def test_a_value_that_is_none_of_ours_is_ignored(lie):
    fleet = Fleet(1)
    for kind in MarkKind:
        fleet.store.table.cells[eject_cell(URLS[0], kind)] = lie
    fleet.store.table.version = 7
    await fleet.run(1)
    assert fleet.processes[0].out() == {}
    if lie:
        assert fleet.cells == []  # removed


async def test_a_forged_ejection_lasts_no_longer_than_the_policy_allows():
    fleet = Fleet(1)
    value = msgspec.json.encode(EjectionCell(0, 253_402_300_799_999, 900, "\x1b[31m"))
    await fleet.write(eject_cell(URLS[0]), value)
    await fleet.write(eject_cell(URLS[1], MarkKind.CHECKS), value)
    await fleet.run(1)
    [process] = fleet.processes
    assert process.out()[URLS[0]] <= 300
    assert process.out()[URLS[1]] <= 30
    assert all(
        view.why.isprintable() for view in process.shared.balancer.views(process.now)
    )


@pytest.mark.parametrize(
    "name",
    [
        "endpoint/ejected/",
        "endpoint/ejected/render",
        "endpoint/ejected/render/",
        "endpoint/ejected//http://h0:1",
        "hand/endpoint/other/http://h0:1",
        "endpoint/ejected/render/http://unknown:1",
        "endpoint/checks/render",
    ],
)
async def test_cells_of_nobody_are_harmless(name):
    fleet = Fleet(2)
    at = fleet.clock.epoch_ms() + 60_000
    await fleet.write(name, msgspec.json.encode(EjectionCell(0, at, 1, "a lie")))
    await fleet.run(1)
    assert fleet.processes[0].out() == {}


async def test_a_report_that_is_too_long_is_ignored_as_a_whole():
    fleet = Fleet(2)
    rows = [EndpointReport(f"http://h{n}:1", vote="calls") for n in range(129)]
    words = words_text(ProcessReport(endpoints={"render": rows}))
    await fleet.store.sync(FleetReport("liar", 0.0, words, True, 60_000, 0))
    await fleet.run(1)
    assert fleet.cells == []


async def test_a_report_of_many_endpoints_is_bounded_and_says_what_matters():
    urls = [f"http://h{number}:1" for number in range(300)]
    fleet = Fleet(1, urls=urls)
    [process] = fleet.processes
    state = process.shared.balancer
    for _ in range(5):
        lease = state.lease(process.now, tried=urls[:299])
        lease.end(process.now, CallEvidence(failed=True))
    rows = process.shared.reports(process.now)
    assert len(rows) == 128
    assert rows[0].url == urls[299]
    assert rows[0].vote == "calls"
