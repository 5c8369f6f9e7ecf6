"""Health checks in virtual time: who sends them, what they decide, when they end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import sys

import pytest

from shifter import Shifter
from shifter.adapters.memory.state import MemoryFleetStore
from shifter.balance import GrpcCheck, HttpCheck, TcpCheck
from shifter.balance.balancer import Balancer, CallEvidence
from shifter.balance.checks import EndpointChecks
from shifter.balance.sharing import SharedEndpoints
from shifter.errors import ConfigError, StoreUnavailableError
from shifter.fleet.endpoint_cells import EndpointReport, endpoint_of
from shifter.fleet.replica import FleetReplica
from shifter.fleet.shared_state import ProcessReport, words_text
from shifter.model.fleet import FleetReport
from shifter.policy.balance.checking import CheckState, interval_s
from shifter.policy.protection.dependency import Dependency
from shifter.testing.clock import FakeClock

URLS = [f"http://h{number}:1" for number in range(6)]
CHECK = HttpCheck("/healthz", every="10s", timeout="1s", healthy=2, unhealthy=3)
RENDER = Dependency("render", endpoints=URLS, health=CHECK)


class Process:
    """A process that checks; what it can reach is said by the test."""

    def __init__(self, fleet, name):
        self.fleet, self.name, self.ill = fleet, name, set()
        self.asked = []
        self.replica = FleetReplica([RENDER], fleet.clock, process=name, seed=1)
        balancer = Balancer("render", URLS, RENDER.balance, random.Random(1))
        self.shared = SharedEndpoints(balancer, RENDER.balance, has_checks=True)
        self.replica.endpoints.join(RENDER, self.shared)
        self.task = None

    async def check(self, check, endpoint):
        self.asked.append((self.fleet.clock.monotonic(), endpoint.url))
        is_ill = endpoint.url in self.ill | self.fleet.ill
        return "status 503" if is_ill else None

    async def sync(self):
        sent = self.replica.report()
        try:
            self.replica.learn(sent, await self.fleet.store.sync(sent.report))
        except StoreUnavailableError:
            self.replica.failed(sent)

    def start(self):
        checks = EndpointChecks(self.replica, self.check, random.Random(self.name))
        self.task = asyncio.get_running_loop().create_task(checks.run())

    async def stop(self):
        self.task.cancel()
        await asyncio.wait([self.task])

    def fail_calls(self, url):
        balancer, now = self.shared.balancer, self.fleet.clock.monotonic()
        for _ in range(5):
            lease = balancer.lease(now, tried=[one for one in URLS if one != url])
            lease.end(now, CallEvidence(failed=True))

    @property
    def out(self):
        views = self.shared.balancer.views(self.fleet.clock.monotonic())
        return {view.endpoint.url for view in views if view.out_s}


class Fleet:
    """Processes with one store."""

    def __init__(self, count):
        self.clock, self.ill = FakeClock(), set()
        self.store = MemoryFleetStore(self.clock)
        self.processes = [Process(self, f"p{n}") for n in range(count)]

    async def run(self, seconds):
        for _ in range(round(seconds / 0.2)):
            for process in self.processes:
                await process.sync()
            await self.clock.elapse(0.2)

    @property
    def cells(self):
        return [name for name in self.store.table.cells if endpoint_of(name)]


@contextlib.asynccontextmanager
async def fleet_of(count):
    fleet = Fleet(count)
    for process in fleet.processes:
        await process.sync()
        process.start()
    try:
        yield fleet
    finally:
        for process in fleet.processes:
            await process.stop()


class Away:
    async def sync(self, report):
        raise StoreUnavailableError("memory", "fleet.sync", "away")


async def test_one_process_checks_for_all_and_each_endpoint_once_an_interval():
    async with fleet_of(4) as fleet:
        await fleet.run(62)
        asked = [len(process.asked) for process in fleet.processes]
        assert sorted(asked)[:3] == [0, 0, 0]
        [checker] = [process for process in fleet.processes if process.asked]
        for url in URLS:
            times = [at for at, one in checker.asked if one == url]
            assert 5 <= len(times) <= 7
            gaps = {round(b - a, 1) for a, b in itertools.pairwise(times)}
            assert all(8.9 <= gap <= 11.5 for gap in gaps)
        firsts = {next(at for at, one in checker.asked if one == url) for url in URLS}
        assert len(firsts) > 3  # they do not begin together
        assert all(process.out == set() for process in fleet.processes)


async def test_an_endpoint_that_fails_its_checks_is_ejected_in_all_and_restored():
    async with fleet_of(4) as fleet:
        await fleet.run(15)
        fleet.ill = {URLS[0]}
        await fleet.run(60)
        assert [process.out for process in fleet.processes] == [{URLS[0]}] * 4
        assert len(fleet.cells) == 1
        rows = fleet.processes[3].shared.reports(fleet.clock.monotonic())
        assert rows[0].why == "health check: status 503"

        await fleet.run(120)  # it is renewed for as long as it lasts
        assert [process.out for process in fleet.processes] == [{URLS[0]}] * 4

        fleet.ill = set()
        await fleet.run(40)
        assert [process.out for process in fleet.processes] == [set()] * 4
        assert fleet.cells == []
        [row] = [
            row
            for row in fleet.processes[0].shared.reports(fleet.clock.monotonic())
            if row.url == URLS[0]
        ]
        assert row.state in ("starting", "open")


async def test_few_processes_confirm_what_one_found():
    async with fleet_of(8) as fleet:
        await fleet.run(5)
        fleet.ill = {URLS[0]}
        await fleet.run(60)
        assert len(fleet.cells) == 1
        confirming = [p for p in fleet.processes if p.asked]
        assert 2 <= len(confirming) <= 4
        others = [p for p in confirming if {url for _, url in p.asked} == {URLS[0]}]
        assert len(others) == len(confirming) - 1


async def test_what_only_the_checker_cannot_reach_is_out_for_it_alone():
    async with fleet_of(3) as fleet:
        await fleet.run(12)
        [checker] = [process for process in fleet.processes if process.asked]
        checker.ill = {URLS[0]}
        await fleet.run(90)
        assert checker.out == {URLS[0]}
        assert [p.out for p in fleet.processes if p is not checker] == [set(), set()]
        assert fleet.cells == []


async def test_a_process_alone_decides_alone():
    async with fleet_of(1) as fleet:
        fleet.ill = {URLS[0]}
        await fleet.run(60)
        assert fleet.processes[0].out == {URLS[0]}
        assert len(fleet.cells) == 1


async def test_a_liar_s_checks_eject_nothing():
    async with fleet_of(3) as fleet:
        for _ in range(40):
            lie = EndpointReport(URLS[0], "ejected", "checks", checks=99, out_ms=1)
            words = words_text(ProcessReport(endpoints={"render": [lie]}))
            await fleet.store.sync(FleetReport("liar", 0.0, words, True, 60_000, 0))
            await fleet.run(1)
        assert [process.out for process in fleet.processes] == [set()] * 3
        assert fleet.cells == []
        # It is confirmed or not by those whose turn it is.
        assert any(process.asked for process in fleet.processes)


async def test_another_process_takes_over_when_the_checker_ends():
    async with fleet_of(2) as fleet:
        await fleet.run(12)
        first, second = fleet.processes
        checker, other = (first, second) if first.asked else (second, first)
        assert other.asked == []
        await checker.stop()
        fleet.processes = [other]
        await fleet.run(35)
        fleet.processes = [first, second]
        assert {url for _, url in other.asked} == set(URLS)


async def test_while_the_store_is_away_each_process_checks_for_itself():
    async with fleet_of(2) as fleet:
        await fleet.run(5)
        fleet.store, fleet.ill = Away(), {URLS[0]}
        await fleet.run(70)
        assert [process.out for process in fleet.processes] == [{URLS[0]}] * 2
        assert all({url for _, url in p.asked} == set(URLS) for p in fleet.processes)
        fleet.ill = set()
        await fleet.run(40)
        assert [process.out for process in fleet.processes] == [set()] * 2


async def test_processes_with_subsets_check_their_own():
    async with fleet_of(2) as fleet:
        for process in fleet.processes:
            process.shared.has_subset = True
        await fleet.run(12)
        assert all({url for _, url in p.asked} == set(URLS) for p in fleet.processes)


async def test_a_check_that_succeeds_does_not_end_an_ejection_by_calls():
    async with fleet_of(1) as fleet:
        [process] = fleet.processes
        process.fail_calls(URLS[0])
        await fleet.run(29)
        assert process.out == {URLS[0]}
        assert sum(url == URLS[0] for _, url in process.asked) >= 2
        await fleet.run(4)
        assert process.out == set()


async def test_at_most_the_share_is_ejected_by_checks_and_one_is_left():
    async with fleet_of(2) as fleet:
        fleet.ill = set(URLS)
        await fleet.run(90)
        for process in fleet.processes:
            assert len(process.out) == 3
            assert process.shared.balancer.lease(fleet.clock.monotonic()) is not None


async def test_what_was_found_ends_with_the_checks():
    async with fleet_of(1) as fleet:
        [process] = fleet.processes
        fleet.store, fleet.ill = Away(), {URLS[0]}
        await fleet.run(60)
        assert process.out == {URLS[0]}
        await process.stop()
        assert process.out == set()


async def test_an_endpoint_that_left_the_list_is_not_checked():
    async with fleet_of(1) as fleet:
        [process] = fleet.processes
        fleet.ill = {URLS[0]}
        await fleet.run(40)
        left = [one.endpoint for one in process.shared.balancer.views(0.0)[1:]]
        process.shared.balancer.replace(tuple(left))
        await fleet.run(5)
        process.asked.clear()
        await fleet.run(30)
        assert {url for _, url in process.asked} == set(URLS[1:])


def test_thresholds_count_checks_in_a_row():
    state = CheckState()
    ends = [False, False, True, False, False, False, False, True, False, True, True]
    changes = [state.note(CHECK, ok=ok) for ok in ends]
    assert [at for at, changed in enumerate(changes) if changed] == [5, 10]
    assert state.is_healthy


def test_intervals_are_jittered_by_a_tenth():
    spread = [interval_s(CHECK, u / 100) for u in range(100)]
    assert min(spread) == 9
    assert 10.9 < max(spread) < 11
    assert interval_s(CHECK, 0.5, confirms=True) == 1


@pytest.mark.parametrize(
    ("make", "options", "field"),
    [
        (HttpCheck, {"path": "healthz"}, "path"),
        (HttpCheck, {"path": "/a b"}, "path"),
        (HttpCheck, {"path": "/a\r\nX: y"}, "path"),
        (HttpCheck, {"path": 7}, "path"),
        (TcpCheck, {"every": "10ms"}, "every"),
        (TcpCheck, {"every": "often"}, "every"),
        (TcpCheck, {"every": "1s", "timeout": "2s"}, "timeout"),
        (TcpCheck, {"timeout": 0}, "timeout"),
        (TcpCheck, {"healthy": 0}, "healthy"),
        (TcpCheck, {"unhealthy": True}, "unhealthy"),
        (GrpcCheck, {"unhealthy": 101}, "unhealthy"),
    ],
)
def test_a_wrong_option_is_one_error_that_names_it(make, options, field):
    with pytest.raises(ConfigError) as raised:
        make(**options)
    assert raised.value.field == field


@pytest.mark.parametrize("options", [{"health": CHECK}, {"health": "/healthz"}])
def test_health_checks_need_endpoints_and_are_checks(options):
    app = Shifter("shop")
    if options["health"] != CHECK:
        options["endpoints"] = ["a:1"]
    with pytest.raises(ConfigError) as raised:
        app.dependency("render", **options)
    assert raised.value.field == "health"


def test_grpc_is_needed_for_its_checks(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(ConfigError, match="shifter-queue"):
        GrpcCheck()
