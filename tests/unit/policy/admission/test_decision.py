"""The decision, rule by rule, and the words that explain it."""

from __future__ import annotations

import pytest

from shifter.model.answer import Quality
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.policy.admission.decision import decide, explain
from shifter.policy.admission.input import (
    AdmissionInput,
    Decision,
    DependencyNeeds,
    Verdict,
)
from shifter.policy.admission.lane_outlook import LaneFacts, OutlookPolicy

POLICY = OutlookPolicy(safety=1.5, jitter=0.5)
SLOW = LaneFacts(waiting=100, rate_per_s=10.0)  # 10 s, 15 s to be safe


def case(priority=Priority.HIGH, **facts) -> AdmissionInput:
    """In the middle of its priority, where all is well but for these facts."""
    return AdmissionInput(priority.rank, priority.base_level + 50, **facts)


def test_a_job_is_run_where_all_is_well():
    assert decide(POLICY, case()) == Decision(Verdict.RUN, Reason.ACCEPTED)


@pytest.mark.parametrize("left_s", [0.0, -3.0])
def test_what_is_late_is_shed_for_good_whatever_else_holds(left_s):
    late = case(left_s=left_s, has_fallback=True, needs=DependencyNeeds(is_open=True))

    decision = decide(POLICY, late)

    assert decision == Decision(Verdict.SHED, Reason.EXPIRED, None, None)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"needs": DependencyNeeds(is_open=True)}, Reason.CIRCUIT_OPEN),
        ({"waits_for": Reason.NOT_DUE}, Reason.NOT_DUE),
        ({"runs_here": False}, Reason.NOT_INLINE),
        ({"threshold": 251}, Reason.OVERLOADED),
        ({"floor": Priority.CRITICAL.rank}, Reason.OVERLOADED),
        ({"lag_ms": 500.0}, Reason.OVERLOADED),
        ({"needs": DependencyNeeds(has_room=False)}, Reason.LIMIT_REACHED),
        ({"free": 0}, Reason.LIMIT_REACHED),
    ],
)
def test_what_is_not_run_here_is_deferred_with_a_reason(changed, reason):
    assert decide(POLICY, case(**changed)) == Decision(Verdict.DEFER, reason)


@pytest.mark.parametrize(
    "bound", [{"threshold": 250}, {"floor": 2}, {"lag_ms": 499.9}, {"free": 1}]
)
def test_bounds_belong_to_those_who_are_run(bound):
    assert decide(POLICY, case(**bound)).verdict is Verdict.RUN


def test_a_lagging_loop_still_runs_what_is_critical():
    critical = case(Priority.CRITICAL, lag_ms=900.0)

    assert decide(POLICY, critical).verdict is Verdict.RUN


@pytest.mark.parametrize(
    ("left_s", "verdict"), [(15.1, Verdict.DEFER), (15.0, Verdict.SHED)]
)
def test_a_job_is_deferred_only_if_its_lane_will_finish_it_in_time(left_s, verdict):
    asked = case(left_s=left_s, free=0, lane=SLOW)

    assert decide(POLICY, asked).verdict is verdict


def test_a_deferral_reports_when_the_job_is_expected_to_start():
    assert decide(POLICY, case(free=0, lane=SLOW)).eta_s == 10.0


def test_what_cannot_be_deferred_gets_the_cheaper_answer():
    asked = case(left_s=1.0, has_fallback=True, free=0, lane=SLOW)

    decision = decide(POLICY, asked)

    assert decision == Decision(Verdict.DEGRADE, Reason.LIMIT_REACHED)


def test_cheaper_answers_have_a_limit_too():
    asked = case(left_s=1.0, has_fallback=True, free=0, fallbacks_free=0, lane=SLOW)

    decision = decide(POLICY, asked)

    assert decision.verdict is Verdict.SHED


@pytest.mark.parametrize(("u", "after_s"), [(0.0, 14.0), (0.5, 17.5)])
def test_a_refusal_reports_when_the_lane_will_have_room(u, after_s):
    decision = decide(POLICY, case(left_s=1.0, free=0, lane=SLOW, u=u))

    assert decision.retry_after_s == pytest.approx(after_s)


@pytest.mark.parametrize(("u", "after_s"), [(0.0, 40.0), (0.5, 50.0)])
def test_a_refusal_for_a_circuit_is_not_shorter_than_the_circuit_is_open(u, after_s):
    needs = DependencyNeeds(is_open=True, reopen_s=40.0)

    decision = decide(POLICY, case(left_s=1.0, needs=needs, lane=SLOW, u=u))

    assert decision == Decision(Verdict.SHED, Reason.CIRCUIT_OPEN, None, after_s)
    assert not decision.is_want_of_room


@pytest.mark.parametrize("lane", [None, LaneFacts(0, 5.0)])
def test_a_job_whose_hours_begin_after_its_deadline_is_not_deferred(lane):
    closed = {"waits_for": Reason.WINDOW_CLOSED, "opens_s": 600.0, "lane": lane}

    late = decide(POLICY, case(left_s=60.0, **closed))
    cheaper = decide(POLICY, case(left_s=60.0, has_fallback=True, **closed))
    timely = decide(POLICY, case(left_s=601.0, **closed))

    assert late == Decision(Verdict.SHED, Reason.WINDOW_CLOSED, None, 540.0)
    assert not late.is_want_of_room
    assert cheaper == Decision(Verdict.DEGRADE, Reason.WINDOW_CLOSED)
    assert timely.verdict is Verdict.DEFER
    assert timely.eta_s == (None if lane is None else 600.0)


def test_a_job_that_only_a_lane_could_run_is_shed_for_want_of_room():
    decision = decide(POLICY, case(left_s=1.0, runs_here=False, lane=SLOW))

    assert decision.reason is Reason.OVERLOADED
    assert decision.is_want_of_room


def test_after_a_shed_no_lower_class_of_the_queue_is_deferred():
    decision = decide(POLICY, case(Priority.LOW, lane_floor=2, free=0))

    assert decision.verdict is Verdict.SHED


def test_an_open_circuit_prefers_the_fallback_to_a_lane():
    decision = decide(
        POLICY, case(has_fallback=True, needs=DependencyNeeds(is_open=True))
    )

    assert decision == Decision(Verdict.DEGRADE, Reason.CIRCUIT_OPEN)


def test_an_extra_execution_needs_the_budget_and_a_first_one_does_not():
    broke = DependencyNeeds(has_budget=False)

    assert decide(POLICY, case(needs=broke)).verdict is Verdict.RUN
    decision = decide(POLICY, case(is_extra=True, needs=broke))
    assert (decision.verdict, decision.reason) == (
        Verdict.SHED,
        Reason.BUDGET_EXHAUSTED,
    )


@pytest.mark.parametrize(
    ("quality", "degraded"),
    [
        (Quality.FULL, set()),
        (Quality.REDUCED, {Priority.LOW, Priority.NORMAL}),
        (Quality.MINIMAL, {Priority.LOW, Priority.NORMAL, Priority.HIGH}),
    ],
)
def test_quality_is_given_up_from_below(quality, degraded):
    found = {
        priority
        for priority in Priority
        if decide(
            POLICY,
            case(priority, has_fallback=True, needs=DependencyNeeds(quality=quality)),
        ).verdict
        is Verdict.DEGRADE
    }

    assert found == degraded


def test_without_a_fallback_low_quality_runs_the_job():
    assert (
        decide(POLICY, case(needs=DependencyNeeds(quality=Quality.MINIMAL)))[0]
        is Verdict.RUN
    )


def test_an_explanation_shows_every_rule_and_marks_the_decisive_ones():
    asked = case(left_s=12.0, free=0, limit=20, lane=SLOW)

    decision, findings = explain(POLICY, asked)

    assert decision == decide(POLICY, asked)
    assert [f.rule for f in findings if f.is_decisive] == ["local limit", "lane"]
    shown = {f.rule: f.found for f in findings}
    assert shown["local limit"] == "0 of 20 slots free"
    assert shown["deadline"] == "12.0 s left"
    assert shown["lane"] == (
        "100 waiting, 10.0/s, oldest 0.0 s, starts in 10.0 s x 1.5, deadline in 12.0 s"
    )
    assert len(findings) == 12


def test_an_explanation_of_a_run_shows_what_would_happen_otherwise():
    decision, findings = explain(POLICY, case())

    assert decision.verdict is Verdict.RUN
    assert not any(f.is_decisive for f in findings)
    assert findings[-1].says == "otherwise: defer"


@pytest.mark.parametrize(
    "facts",
    [
        {"floor": 3},
        {"needs": DependencyNeeds(is_open=True, has_room=False)},
        {"needs": DependencyNeeds(has_budget=False), "is_extra": True},
        {"runs_here": False, "waits_for": Reason.NOT_DUE},
    ],
)
def test_an_explanation_is_never_of_another_decision(facts):
    found = case(**facts)

    assert explain(POLICY, found)[0] == decide(POLICY, found)
    assert all(f.found for f in explain(POLICY, found)[1])
