"""Clocks that jump, under calls to endpoints."""

from __future__ import annotations

import pytest

from shifter.api.dependency import BoundDependency
from shifter.errors import DeadlineExceededError
from shifter.fleet.calls import Caller
from shifter.fleet.replica import FleetReplica
from shifter.protection import BalancePolicy, EvidencePolicy
from shifter.testing.clock import FakeClock
from tests.unit.balance.test_checks import URLS as CHECKED, fleet_of
from tests.unit.balance.test_sharing import URLS, Fleet, Process

DAY_MS = 86_400_000
PATIENT = EvidencePolicy(consecutive_failures=10**6, min_calls=10**6)


class Service:
    """A process that calls three endpoints, one of which is ejected."""

    def __init__(self):
        self.clock = FakeClock()
        self.render = BoundDependency(
            lambda: Caller(self.replica),
            "render",
            endpoints=["a:1", "b:1", "c:1"],
            evidence=PATIENT,
            balance=BalancePolicy(choice="round_robin"),
        )
        self.replica = FleetReplica([self.render], self.clock, process="p", seed=1)
        self.failing = {"a"}
        for _ in range(30):  # five failures in a row, and turns of the others
            self.render.run_sync(self.fetch, retries=2)

    def fetch(self, endpoint):
        self.clock.advance(0.01)
        if endpoint.host in self.failing:
            raise OSError("refused")
        return endpoint.host

    def out_s(self):
        """For how long the first endpoint gets no calls."""
        [first, *others] = self.render.endpoint_views()
        assert [view.out_s for view in others] == [0, 0]
        return first.out_s


@pytest.fixture
def service():
    service = Service()
    assert service.out_s() > 0
    return service


@pytest.mark.parametrize("days", [1, -1])
def test_a_wall_clock_that_jumps_ends_no_ejection_and_ejects_nobody(service, days):
    before_s = service.out_s()
    service.clock.shift_wall(days * DAY_MS)
    assert service.out_s() == before_s
    for _ in range(20):
        assert service.render.run_sync(service.fetch, timeout="1s", retries=2) != "a"
    assert 0 < service.out_s() < before_s


@pytest.mark.parametrize("days", [1, -1])
def test_a_wall_clock_that_jumps_during_a_try_leaves_it_its_own_time(service, days):
    def fetch(endpoint):
        service.clock.shift_wall(days * DAY_MS)
        [*_] = service.render.endpoint_views()
        return endpoint.host

    assert service.render.run_sync(fetch, timeout="1s") in ("b", "c")
    with service.render.call(timeout="1s") as call:
        service.clock.shift_wall(days * DAY_MS)
        service.clock.advance(0.4)
        assert call.remaining_s == pytest.approx(0.6)


def test_a_call_within_a_try_goes_by_the_wall_clock_which_may_refuse_it(service):
    """The deadline of a request is an instant; the outer try is not harmed."""
    with service.render.call(timeout="1s"):
        service.clock.shift_wall(DAY_MS)
        with pytest.raises(DeadlineExceededError):
            service.render.run_sync(service.fetch)
    assert service.render.run_sync(service.fetch) in ("b", "c")


def test_after_a_suspension_of_an_hour_an_ejected_endpoint_is_tried_again(service):
    service.clock.advance(3_600)
    assert service.out_s() == 0
    service.failing = set()
    seen = set()
    for _ in range(60):
        service.clock.advance(0.5)
        seen.add(service.render.run_sync(service.fetch, timeout="1s"))
    assert seen == {"a", "b", "c"}


async def ejected_by_the_fleet():
    """Three processes, in all of which the first endpoint is ejected by two."""
    fleet = Fleet(3)
    for process in fleet.processes[:2]:
        process.call(URLS[0], failed=True, times=5)
    await fleet.run(1)
    assert all(process.out().keys() == {URLS[0]} for process in fleet.processes)
    return fleet


@pytest.mark.parametrize("days", [1, -1])
async def test_a_store_s_clock_that_jumps_ends_no_ejection_that_is_known(days):
    fleet = await ejected_by_the_fleet()
    before = [process.out()[URLS[0]] for process in fleet.processes]

    fleet.clock.shift_wall(days * DAY_MS)
    await fleet.run(5)

    after = [process.out()[URLS[0]] for process in fleet.processes]
    assert after == [pytest.approx(one - 5, abs=0.3) for one in before]
    await fleet.run(60)
    assert all(process.out() == {} for process in fleet.processes)


@pytest.mark.parametrize(("days", "most_s"), [(1, 0), (-1, 300)])
async def test_who_begins_after_a_jump_of_the_store_bounds_what_it_learns(days, most_s):
    """Ahead, the ejection is over; back, it lasts as long as one may, and no longer."""
    fleet = await ejected_by_the_fleet()
    fleet.clock.shift_wall(days * DAY_MS)

    late = Process(fleet, "late")
    await late.sync()

    assert late.out() == ({URLS[0]: most_s} if most_s else {})
    fleet.processes.append(late)
    await fleet.run(most_s + 35)
    assert all(process.out() == {} for process in fleet.processes)


@pytest.mark.parametrize("days", [1, -1])
async def test_after_a_jump_of_the_store_the_fleet_ejects_as_before(days):
    fleet = await ejected_by_the_fleet()
    fleet.clock.shift_wall(days * DAY_MS)
    await fleet.run(1)

    for process in fleet.processes[:2]:
        process.call(URLS[1], failed=True, times=5)
    await fleet.run(1)

    assert all(URLS[1] in process.out() for process in fleet.processes)
    assert all(process.out()[URLS[1]] <= 30 for process in fleet.processes)


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("days", [1, -1])
async def test_after_a_jump_of_the_store_one_process_sends_the_health_checks(
    days, ends
):
    """Also where the process that sent them ended at that moment."""
    async with fleet_of(3) as fleet:
        await fleet.run(30)
        [checker] = [process for process in fleet.processes if process.asked]
        if ends:
            await checker.stop()
            fleet.processes.remove(checker)
        fleet.clock.shift_wall(days * DAY_MS)
        await fleet.run(20)
        for process in fleet.processes:
            process.asked.clear()
        await fleet.run(30)
        asking = [process for process in fleet.processes if process.asked]
    assert len(asking) == 1
    assert {url for _, url in asking[0].asked} == set(CHECKED)
