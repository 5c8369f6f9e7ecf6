"""C12 and C25 on histories that were made by hand: each finds what it is there for."""

from __future__ import annotations

import itertools

import pytest

from tests.torture.harness.event import Event
from tests.torture.harness.evidence import Evidence
from tests.torture.harness.scenario import SCENARIOS
from tests.torture.harness.share_checkers import (
    budget_excess,
    c12_budget,
    c25_aside,
    c25_shares,
    slot_shares,
)

CROWDED = SCENARIOS["F49"]
PAYING = SCENARIOS["F50"]


class Past:
    """A history in the making."""

    def __init__(self, scenario):
        self.scenario, self.events = scenario, []
        self.numbers = itertools.count()

    def note(self, t, f, outcome="info", *, proc="worker-1", **facts):
        event = Event(t, int(t * 1_000), proc, 1, next(self.numbers), f, outcome)
        for name, value in facts.items():
            setattr(event, name, value)
        self.events.append(event)

    def offered(self, t, job, kind):
        self.note(t, "accept", "invoke", job=job, kind=kind, proc="producer-0")
        self.note(t, "accept", "ok", job=job, kind=kind, proc="producer-0")

    def ran(self, job, kind, begin, end, *, pid=7, attempt=1, outcome="ok"):
        facts = {"job": job, "kind": kind, "attempt": attempt}
        self.note(begin, "start", "ok", pids=[pid], **facts)
        if end is not None:
            self.note(end, "finish", outcome, **facts)
            self.events[-1].pid = pid

    def called(self, t, job, *, is_extra, **facts):
        self.note(t, "call", job=job, facts={"extra": float(is_extra)})
        self.ran(job, "paid", t + 0.001, t + 0.01, **facts)

    def killed(self, t, pid=7):
        self.note(t, "fault", kind="kill", pids=[pid], proc="nemesis")

    def evidence(self):
        events = sorted(self.events, key=lambda event: event.t)
        return Evidence(events, self.scenario, "sqlite")


def crowded(wait_s, *, died_at=None, share=(0.33, 0.67)):
    """Two full queues over 100 s, and a job of an idle one every second."""
    past = Past(CROWDED)
    past.note(0.0, "fault", kind="nothing", proc="nemesis")
    past.note(100.0, "heal", kind="nothing", proc="nemesis")
    for n in range(700):
        past.offered(0.01 * n, f"crowd-{n}", "crowd")
        past.offered(0.01 * n, f"brief-{n}", "brief")
    for n in range(90):
        past.ran(f"crowd-{n}", "crowd", 8.0 + n, 8.0 + n + share[0])
        past.ran(f"brief-{n}", "brief", 8.0 + n, 8.0 + n + share[1])
    for n in range(40):
        past.offered(10.0 + n, f"aside-{n}", "aside")
        past.ran(f"aside-{n}", "aside", 10.0 + n + wait_s, 10.1 + n + wait_s)
    if died_at is not None:
        past.killed(died_at)
    return past.evidence()


def test_c25_lets_a_job_of_an_idle_queue_wait_for_one_job_and_a_fetch():
    assert list(c25_aside(crowded(0.3))) == []
    assert list(c25_shares(crowded(0.3))) == []


def test_c25_sees_a_job_that_waited_longer_than_one_job_takes():
    found = list(c25_aside(crowded(3.0)))

    assert len(found) == 41
    assert found[0].text == "40 of 40 waited longer than one job and a fetch"
    assert found[1].job == "aside-0"


def test_c25_allows_for_a_death_only_where_there_was_one():
    found = {one.job for one in c25_aside(crowded(3.0, died_at=25.0)) if one.job}

    # From a session before they were accepted to their start.
    assert {f"aside-{n}" for n in range(40)} - found == {
        f"aside-{n}" for n in range(12, 26)
    }


def test_c25_does_not_count_the_time_in_which_a_worker_starts():
    past = Past(CROWDED)
    past.note(0.0, "fault", kind="nothing", proc="nemesis")
    past.note(100.0, "heal", kind="nothing", proc="nemesis")
    for n in range(700):
        past.offered(0.01 * n, f"crowd-{n}", "crowd")
    for n in range(40):
        past.offered(10.0, f"aside-{n}", "aside")
        past.ran(f"aside-{n}", "aside", 40.0 + 0.01 * n, 40.1 + 0.01 * n, pid=8)

    assert list(c25_aside(past.evidence())) == []


def test_c25_sees_that_a_run_had_no_job_that_it_could_judge():
    past = Past(CROWDED)
    past.offered(1.0, "aside-1", "aside")
    past.note(0.0, "fault", kind="nothing", proc="nemesis")

    assert [one.checker for one in c25_aside(past.evidence())] == ["C25"]


def test_c25_sees_slots_that_are_shared_by_starts():
    ev = crowded(0.3, share=(0.7, 0.3))

    assert slot_shares(ev)["crowd"] == pytest.approx(0.7, abs=0.02)
    assert len(list(c25_shares(ev))) == 2


def paying(repeats, *, is_known=True):
    """A hundred firsts in 50 s, of which some are repeated."""
    past = Past(PAYING)
    for n in range(100):
        past.called(0.5 * n, f"p{n}", is_extra=False, outcome="fail")
    for n in range(repeats):
        past.called(0.5 * n + 0.2, f"p{n}", is_extra=is_known, attempt=2)
    return past.evidence()


def test_c12_lets_as_many_repeats_pass_as_the_budget_has():
    ev = paying(13)

    assert budget_excess(ev) <= 0.05
    assert list(c12_budget(ev)) == []


def test_c12_sees_repeats_beyond_the_budget():
    [found] = c12_budget(paying(40))

    assert "more repeats than the budget allows" in found.text


def test_c12_sees_repeats_that_ran_as_first_attempts():
    found = list(c12_budget(paying(13, is_known=False)))

    assert {one.text for one in found} == {"a repeat ran as a first attempt"}


@pytest.mark.parametrize(("is_extra", "count"), [(False, 0), (True, 1)])
def test_c12_a_run_after_a_death_is_a_first_one(is_extra, count):
    past = Past(PAYING)
    past.called(0.0, "other", is_extra=False, outcome="fail")
    past.called(0.5, "other", is_extra=True, attempt=2)
    past.note(1.0, "call", job="p1", facts={"extra": 0.0})
    past.ran("p1", "paid", 1.0, None)
    past.killed(1.1)
    past.called(3.0, "p1", is_extra=is_extra, pid=8)

    assert len(list(c12_budget(past.evidence()))) == count
