"""Admission of one process: what it counts, and what it shows of a decision."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from shifter.model.answer import Quality
from shifter.model.job import JobSpec
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.policy.admission.admitter import AdmissionPolicy
from shifter.policy.admission.input import DependencyNeeds, Verdict
from shifter.policy.admission.lane_outlook import LaneFacts
from shifter.policy.protection.budget import BudgetPolicy
from shifter.produce.admission import Admission, Views
from shifter.produce.loop_lag import LoopLag
from shifter.produce.options import CallOptions, plan_call
from shifter.testing.clock import FakeClock

SPEC = JobSpec(name="send", queue="mail")
PLAN = plan_call("shop", SPEC, CallOptions())
CRITICAL = plan_call("shop", SPEC, CallOptions(Priority.CRITICAL))
LOW = plan_call("shop", SPEC, CallOptions(Priority.LOW, deadline="5s"))


class Lanes:
    """A view of lanes that are too long for any deadline."""

    def __init__(self) -> None:
        self.counted = []

    def facts(self, lane: str) -> LaneFacts:
        return LaneFacts(1_000, 1.0)

    def deferred(self, lane: str) -> None:
        self.counted.append(lane)


def make(*, limit: int = 2, views: Views | None = None, **policy) -> Admission:
    settings = AdmissionPolicy(**policy)
    return Admission(settings, FakeClock(), limit=limit, views=views, seed=1)


def test_a_slot_is_taken_by_the_decision_and_freed_once():
    admission = make()
    decisions = [admission.decide(CRITICAL, can_run=True) for _ in range(2)]
    taken = admission.inflight, admission.load()

    third = admission.decide(CRITICAL, can_run=True)
    for decision in [*decisions, third]:
        admission.let_go(decision)

    assert [one.verdict for one in decisions] == [Verdict.RUN] * 2
    assert taken == (2, 1.0)
    assert (third.verdict, third.reason) == (Verdict.DEFER, Reason.LIMIT_REACHED)
    assert admission.inflight == 0


class Serving(contextlib.AbstractContextManager):
    """A block that fails where it is told to."""

    def __init__(self, *, fails: bool) -> None:
        self.fails, self.ended = fails, []

    def __enter__(self) -> None:
        if self.fails:
            raise RuntimeError("begin")

    def __exit__(self, kind, *_):
        self.ended.append(kind)


@pytest.mark.parametrize(
    ("fails", "word", "ended"), [(False, "block", [ValueError]), (True, "begin", [])]
)
def test_a_slot_is_free_again_when_its_block_or_the_begin_of_it_fails(
    fails, word, ended
):
    serving = Serving(fails=fails)
    admission = make(views=Views(serving=lambda _: serving))

    with pytest.raises((ValueError, RuntimeError), match=word):  # noqa: SIM117
        with admission.slot(CRITICAL) as decision:
            assert decision.verdict is Verdict.RUN
            assert admission.inflight == 1
            raise ValueError("block")

    assert admission.inflight == 0
    assert serving.ended == ended


def test_slots_of_cheaper_answers_are_counted_by_themselves():
    views = Views(Lanes(), lambda *_: DependencyNeeds(is_open=True))
    admission = make(views=views)

    decision = admission.decide(LOW, can_run=True, has_fallback=True)
    during = admission.inflight, admission.fallbacks
    admission.let_go(decision)

    assert decision.verdict is Verdict.DEGRADE
    assert (during, admission.fallbacks) == ((0, 1), 0)


def test_a_deferred_job_is_counted_on_its_lane_until_the_next_look():
    lanes = Lanes()
    admission = make(views=Views(lanes))

    admission.decide(PLAN, can_run=False)
    admission.decide(PLAN, can_run=True)

    assert lanes.counted == [PLAN.lane]


def test_an_explanation_takes_no_slot_and_is_not_counted():
    admission = make()

    decision, rules = admission.explain(PLAN, can_run=True, has_fallback=False)

    assert decision.verdict is Verdict.RUN
    assert rules
    assert (admission.inflight, admission.report()) == (0, [])


def test_in_the_dark_a_job_runs_and_the_count_tells_what_would_have_been():
    admission = make(limit=1, views=Views(Lanes()), is_dark=True)

    decisions = [admission.decide(LOW, can_run=True) for _ in range(4)]

    assert {one.verdict for one in decisions} == {Verdict.RUN}
    assert admission.inflight == 4
    assert [(row.verdict, row.times) for row in admission.report()] == [
        (Verdict.SHED, 3),
        (Verdict.RUN, 1),
    ]
    assert admission.summary() == [
        "would have shed 75.0 % of LOW (limit_reached 75.0 %)"
    ]


def test_in_the_dark_what_is_not_due_waits_all_the_same():
    later = plan_call("shop", SPEC, CallOptions(delay="1h"))

    decision = make(is_dark=True).decide(later, can_run=True)

    assert (decision.verdict, decision.reason) == (Verdict.DEFER, Reason.NOT_DUE)


def test_each_decision_is_shown_with_its_window():
    shown, admission = [], make()
    admission.on_decision = lambda *facts: shown.append(facts)

    decision = admission.decide(PLAN, can_run=True)

    assert shown == [(admission.window, PLAN, decision)]


@pytest.mark.parametrize(("is_dark", "granted"), [(False, False), (True, True)])
def test_a_retry_without_budget_is_refused_unless_in_the_dark(is_dark, granted):
    admission = make(is_dark=is_dark, retries=BudgetPolicy(ratio=0.1, floor_per_s=1))
    while admission._retries.withdraw(0, Priority.NORMAL):
        pass

    assert admission.spend_retry(Priority.NORMAL) is granted


def test_a_retry_that_is_refused_anyway_costs_nothing():
    plan = LOW._replace(is_retry=True)
    admission = make(limit=1, views=Views(Lanes()))
    admission.decide(PLAN, can_run=True)
    before = admission._retries.can_pay(0, Priority.LOW)

    decisions = [admission.decide(plan, can_run=True) for _ in range(200)]

    assert {one.verdict for one in decisions} == {Verdict.SHED}
    assert admission._retries.can_pay(0, Priority.LOW) is before is True


def test_a_signal_that_fails_counts_as_no_load_and_the_failures_are_counted():
    admission = make()
    admission.watch(lambda: 1 / 0)

    for _ in range(3):
        admission.clock.advance(1.0)
        admission.let_go(admission.decide(PLAN, can_run=True))

    assert admission.signal_failures == 3
    assert admission.decide(PLAN, can_run=True).verdict is Verdict.RUN


def test_quality_is_that_of_the_dependencies():
    needs = DependencyNeeds(quality=Quality.REDUCED)

    assert make(views=Views(None, lambda *_: needs)).quality(PLAN) is Quality.REDUCED


def test_a_closed_admission_makes_new_threads_when_they_are_needed():
    admission = make()
    first = admission.threads
    admission.close()

    assert admission.threads.submit(int).result(40) == 0
    assert admission.threads is not first
    admission.close()


def test_a_thread_without_a_loop_has_no_lag():
    assert LoopLag().read_ms() == 0.0


async def test_a_new_loop_begins_without_the_lag_of_the_one_before():
    lag = LoopLag()
    lag.read_ms()
    lag._lag_s = 9.0

    await asyncio.to_thread(lambda: asyncio.run(read(lag)))

    assert lag._lag_s == 0.0


async def read(lag: LoopLag) -> float:
    return lag.read_ms()
