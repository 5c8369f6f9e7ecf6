from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.policy.protection.evidence import (
    CallCounter,
    CallOutcome,
    CallTally,
    Evidence,
    EvidencePolicy,
    Scope,
    Suspicion,
    scope,
    suspect,
)
from shifter.policy.sliding_window import WindowPolicy

POLICY = EvidencePolicy(slow_call_ms=100)
BAD, GOOD, IDLE = CallTally(100, 90), CallTally(100), CallTally()
NOW = 50_000


def said(*tallies: CallTally, age_ms: int = 0) -> list[Evidence]:
    return [Evidence(tally, NOW - age_ms) for tally in tallies]


def witnessed(outcomes, *, took_ms=1, policy=POLICY):
    witness = CallCounter(policy)
    for outcome in outcomes:
        witness.record(outcome, took_ms=took_ms, now_ms=NOW)
    return witness


@pytest.mark.parametrize(
    ("tally", "rule"),
    [
        (CallTally(19, 19), None),
        (CallTally(20, 9), None),
        (CallTally(20, 10), Suspicion.FAILURE_RATIO),
        (CallTally(5, 5, in_a_row=4), None),
        (CallTally(5, 5, in_a_row=5), Suspicion.CONSECUTIVE_FAILURES),
        (CallTally(20, 0, slow=15), None),
        (CallTally(20, 0, slow=16), Suspicion.SLOW_CALLS),
        (CallTally(), None),
    ],
)
def test_each_rule_at_its_edge(tally, rule):
    assert suspect(POLICY, tally) == rule


def test_nothing_is_slow_unless_said():
    assert suspect(EvidencePolicy(), CallTally(100, 0, slow=100)) is None


def test_throttled_calls_count_for_the_share_and_are_not_in_a_row():
    tally = witnessed([CallOutcome.THROTTLED] * 10).tally(NOW)

    assert tally == CallTally(10, 10)
    assert suspect(POLICY, tally) is None
    assert suspect(POLICY, witnessed([CallOutcome.THROTTLED] * 20).tally(NOW))


def test_a_throttled_call_neither_ends_a_row_nor_adds_to_it():
    outcomes = [CallOutcome.FAILURE, CallOutcome.THROTTLED, CallOutcome.FAILURE]

    assert witnessed(outcomes).tally(NOW) == CallTally(3, 3, in_a_row=2)


def test_a_success_ends_the_row():
    outcomes = [CallOutcome.FAILURE, CallOutcome.SUCCESS, CallOutcome.FAILURE]

    assert witnessed(outcomes).tally(NOW) == CallTally(3, 2, in_a_row=1)


def test_an_ignored_call_says_nothing():
    assert witnessed([CallOutcome.IGNORED] * 50, took_ms=9_999).tally(NOW) == IDLE


def test_slow_calls_are_counted_whatever_they_came_to():
    outcomes = [CallOutcome.SUCCESS, CallOutcome.FAILURE]

    assert witnessed(outcomes, took_ms=100).tally(NOW).slow == 2
    assert witnessed(outcomes, took_ms=99).tally(NOW).slow == 0


def test_failures_that_left_the_window_are_not_in_a_row_any_more():
    witness = witnessed([CallOutcome.FAILURE] * 4)
    later_ms = NOW + 20_000
    witness.record(CallOutcome.FAILURE, took_ms=1, now_ms=later_ms)

    assert witness.tally(later_ms) == CallTally(1, 1, in_a_row=1)


def test_old_failures_in_a_row_do_not_come_back_through_throttled_calls():
    witness = witnessed([CallOutcome.FAILURE] * 4)
    later_ms = NOW + 20_000
    for outcome in [CallOutcome.THROTTLED] * 6:
        witness.record(outcome, took_ms=1, now_ms=later_ms)

    assert witness.tally(later_ms) == CallTally(6, 6)


def test_a_cleared_witness_has_seen_nothing():
    witness = witnessed([CallOutcome.FAILURE] * 9)
    witness.clear()

    assert witness.tally(NOW) == IDLE


def test_a_fleet_of_one_process_goes_by_its_word():
    assert scope(POLICY, BAD, [], now_ms=NOW) is Scope.FLEET
    assert scope(POLICY, GOOD, [], now_ms=NOW) is Scope.NOBODY


@pytest.mark.parametrize("others", [(GOOD,), (IDLE,), (GOOD,) * 7, (CallTally(1),) * 7])
def test_one_bad_process_opens_for_itself_alone_whatever_its_traffic(others):
    heavy = CallTally(10**9, 10**9)

    assert scope(POLICY, heavy, said(*others), now_ms=NOW) is Scope.PROCESS
    view = said(heavy, *others[1:])
    assert scope(POLICY, others[0], view, now_ms=NOW) is Scope.NOBODY


def test_a_quorum_of_those_that_called_opens_for_all():
    assert scope(POLICY, GOOD, said(BAD, BAD, GOOD), now_ms=NOW) is Scope.FLEET
    assert scope(POLICY, GOOD, said(BAD, BAD, GOOD, GOOD), now_ms=NOW) is Scope.NOBODY


def test_the_idle_have_no_vote():
    view = said(BAD, BAD, GOOD, *[IDLE] * 20)

    assert scope(POLICY, GOOD, view, now_ms=NOW) is Scope.FLEET


def test_a_weight_of_traffic_opens_for_all_without_a_quorum():
    heavy = CallTally(1_000, 900)
    view = said(heavy, *[GOOD] * 6)

    assert scope(POLICY, heavy, view, now_ms=NOW) is Scope.FLEET


def test_evidence_is_forgotten_at_its_age():
    fresh, old = said(BAD, BAD, age_ms=1_999), said(BAD, BAD, age_ms=2_000)

    assert scope(POLICY, IDLE, fresh, now_ms=NOW) is Scope.FLEET
    assert scope(POLICY, IDLE, old, now_ms=NOW) is Scope.NOBODY


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_calls", 0),
        ("failure_ratio", float("nan")),
        ("failure_ratio", -0.1),
        ("failure_ratio", 0),
        ("failure_ratio", 1.01),
        ("failure_ratio", "half"),
        ("consecutive_failures", 0),
        ("slow_call_ms", 0),
        ("slow_ratio", float("inf")),
        ("quorum_ratio", 0.0),
        ("weight_ratio", 2),
        ("evidence_ttl_ms", 0),
    ],
)
def test_a_contradiction_is_refused_with_its_field(field, value):
    with pytest.raises(ConfigError) as caught:
        EvidencePolicy(**{field: value})

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("length_ms", {"length_ms": 0}),
        ("buckets", {"buckets": 0}),
        ("length_ms", {"length_ms": 1_001, "buckets": 10}),
    ],
)
def test_a_window_of_nothing_is_refused(field, settings):
    with pytest.raises(ConfigError) as caught:
        WindowPolicy(**settings)

    assert caught.value.field == field


def test_the_old_peak_outlives_any_number_of_changes():
    """A circuit that opens, is probed and opens again has seen no calls meanwhile."""
    witness = CallCounter(EvidencePolicy())
    for now_ms in range(0, 3_000, 10):
        witness.record(CallOutcome.SUCCESS, took_ms=1, now_ms=now_ms)

    for _ in range(9):
        witness.clear()

    assert witness.peak_per_ms == pytest.approx(0.1, rel=0.01)
