"""What a service counts: answers, appends, calls, and gauges that are read."""

from __future__ import annotations

import os
import random
import threading

import pytest

from shifter import Shifter
from shifter.errors import StoreUnavailableError
from shifter.fleet.replica import FleetReplica
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.policy.protection.dependency import Dependency
from shifter.ports import Appended, Refused, Unknown
from shifter.produce.observer import ServiceObserver, SpoolReading
from shifter.telemetry.metric import SERVICE_SPECS
from shifter.telemetry.series import MAX_SERIES
from shifter.testing import TestApp
from shifter.testing.clock import FakeClock

LANE = "shop.mail.low"


@pytest.fixture
def observer():
    return ServiceObserver()


def read(observer, name, replica=None):
    return observer.snapshot(replica)[f"shifter_{name}"]


def test_answers_are_counted_by_job_priority_answer_and_reason(observer):
    for _ in range(3):
        observer.answered("pay", Priority.HIGH, "ran", Reason.ACCEPTED)
    observer.answered("pay", Priority.HIGH, "shed", Reason.OVERLOADED)

    assert read(observer, "decisions_total") == {
        ("pay", "HIGH", "ran", "accepted"): 3,
        ("pay", "HIGH", "shed", "overloaded"): 1,
    }


def test_appends_are_counted_by_outcome_and_failures_by_reason(observer):
    spooled, unknown = Appended(is_spooled=True), Unknown("late")
    refused = Refused("queue_full", "full")

    observer.appended(LANE, [Appended()], 0.002)
    observer.appended(LANE, [Appended(), spooled, refused, unknown, Appended()], 3.0)

    assert read(observer, "appends_total") == {
        ("mail", "LOW", "appended"): 3,
        ("mail", "LOW", "spooled"): 1,
        ("mail", "LOW", "refused"): 1,
        ("mail", "LOW", "unknown"): 1,
    }
    assert read(observer, "append_failures_total") == {
        ("queue_full",): 1,
        ("unknown",): 1,
    }
    bars = read(observer, "append_duration_seconds")[()]
    assert (sum(bars.counts), bars.total) == (2, pytest.approx(3.002))


def test_ten_thousand_names_of_jobs_are_a_bounded_number_of_series(observer):
    for number in range(10_000):
        name = f'job-{number}"}}\n'
        observer.answered(name, Priority.LOW, "shed", Reason.OVERLOADED)

    found = read(observer, "decisions_total")
    assert len(found) == 101
    assert found["other", "LOW", "shed", "overloaded"] == 9_900
    assert sum(found.values()) == 10_000


def test_ten_thousand_reasons_of_a_log_are_a_bounded_number_of_series(observer):
    for number in range(10_000):
        observer.appended(LANE, [Refused(f"reason-{number}", "")], 0.1)

    found = read(observer, "append_failures_total")
    assert len(found) == MAX_SERIES + 1
    assert sum(found.values()) == 10_000
    assert read(observer, "appends_total") == {("mail", "LOW", "refused"): 10_000}


def test_no_answer_of_many_threads_is_missed_or_counted_twice(observer):
    each, draws = 20_000, random.Random(1)
    chosen = [draws.choice(list(Priority)) for _ in range(each)]

    def work() -> None:
        for priority in chosen:
            observer.answered("pay", priority, "ran", Reason.ACCEPTED)
            observer.appended(LANE, [Appended()], 0.1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        observer.snapshot(None)
    for thread in threads:
        thread.join()

    found = observer.snapshot(None)
    assert found["shifter_decisions_total"] == {
        ("pay", priority.value, "ran", "accepted"): 4 * chosen.count(priority)
        for priority in Priority
    }
    assert found["shifter_appends_total"] == {("mail", "LOW", "appended"): 4 * each}
    assert sum(found["shifter_append_duration_seconds"][()].counts) == 4 * each


def test_an_answer_that_comes_while_others_are_taken_is_counted_later(observer):
    class Busy(list):
        """A list that another thread appends to between two steps."""

        def __getitem__(self, place):
            found = list(super().__getitem__(place))
            if found:
                self.append(("pay", Priority.LOW, "ran", Reason.ACCEPTED))
            return found

    observer._answers = Busy()
    observer.answered("pay", Priority.HIGH, "ran", Reason.ACCEPTED)

    first = read(observer, "decisions_total")
    second = read(observer, "decisions_total")

    assert first == {("pay", "HIGH", "ran", "accepted"): 1}
    assert second["pay", "LOW", "ran", "accepted"] == 1


def test_gauges_of_the_spool_are_left_out_where_it_cannot_be_read(observer):
    names = ("spool_records", "spool_bytes", "spool_age_seconds")

    def fails() -> SpoolReading:
        raise StoreUnavailableError("spool", "depth", "the disk is away")

    without = [read(observer, name) for name in names]
    observer.spool = lambda: SpoolReading(3, 4_096, 1.5)
    found = [read(observer, name) for name in names]
    observer.spool = fails
    failed = [read(observer, name) for name in names]

    assert without == failed == [{}, {}, {}]
    assert found == [{(): 3}, {(): 4_096}, {(): 1.5}]


def test_a_forked_child_counts_from_0(observer):
    observer.answered("pay", Priority.LOW, "ran", Reason.ACCEPTED)

    child = os.fork()
    if not child:
        try:
            is_empty = not read(observer, "decisions_total")
        except BaseException:  # the child must not run the tests
            is_empty = False
        os._exit(0 if is_empty else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert sum(read(observer, "decisions_total").values()) == 1


async def test_calls_circuits_and_budgets_are_those_of_the_dependency():
    app = Shifter("shop")
    bank = app.dependency("bank")

    @app.job
    async def pay() -> None: ...

    async with TestApp(app):
        await pay.submit()
        for fails in (False, True, False):
            try:
                async with bank:
                    if fails:
                        raise ConnectionError
            except ConnectionError:
                pass
        found = app.metrics()
        async with bank:
            pass

    assert found["shifter_calls_total"] == {
        ("bank", "success"): 2,
        ("bank", "failure"): 1,
    }
    assert found["shifter_circuit_state"]["bank", "fleet", "closed"] == 1
    assert found["shifter_circuit_state"]["bank", "process", "open"] == 0
    assert found["shifter_budget_left"]["bank",] > 0
    # A call that ended after the last scrape is counted, although the app is closed.
    assert app.metrics()["shifter_calls_total"]["bank", "success"] == 3


def test_a_circuit_that_opens_is_counted_and_refusals_are_held_back(observer):
    replica = FleetReplica(
        [Dependency("bank")], FakeClock(), process="p", observer=observer
    )
    protection = replica.protections["bank"]

    with replica.lock:
        protection.breaker.suspect(replica.now_ms())
    replica.urge(protection)

    assert read(observer, "circuit_changes_total", replica) == {
        ("bank", "process", "open"): 1
    }
    state = read(observer, "circuit_state", replica)
    assert (state["bank", "process", "open"], state["bank", "process", "closed"]) == (
        1,
        0,
    )


def test_every_metric_of_a_service_is_in_its_snapshot(observer):
    assert observer.snapshot(None).keys() == SERVICE_SPECS.keys()
