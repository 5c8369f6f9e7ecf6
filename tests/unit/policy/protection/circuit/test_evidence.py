from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.policy.protection.circuit.evidence import (
    CallCounter,
    CallOutcome,
    CallTally,
    EvidencePolicy,
    fleet_suspects,
    suspects,
)
from shifter.policy.sliding_window import WindowPolicy

POLICY = EvidencePolicy(slow_call_ms=100)
BAD, GOOD, IDLE = CallTally(100, 90), CallTally(100), CallTally()
NOW = 50_000


def counted(outcomes, *, took_ms=1, policy=POLICY):
    counter = CallCounter(policy)
    for outcome in outcomes:
        counter.record(outcome, took_ms=took_ms, now_ms=NOW)
    return counter


@pytest.mark.parametrize(
    ("tally", "is_suspect"),
    [
        (CallTally(19, 19), False),
        (CallTally(20, 9), False),
        (CallTally(20, 10), True),
        (CallTally(5, 5, in_a_row=4), False),
        (CallTally(5, 5, in_a_row=5), True),
        (CallTally(20, 0, slow=15), False),
        (CallTally(20, 0, slow=16), True),
        (CallTally(), False),
    ],
)
def test_each_rule_suspects_from_its_edge_on(tally, is_suspect):
    assert suspects(POLICY, tally) is is_suspect


def test_no_call_is_slow_without_a_bound():
    assert not suspects(EvidencePolicy(), CallTally(100, 0, slow=100))


def test_throttled_calls_count_for_the_share_and_are_not_in_a_row():
    tally = counted([CallOutcome.THROTTLED] * 10).tally(NOW)

    assert tally == CallTally(10, 10)
    assert not suspects(POLICY, tally)
    assert suspects(POLICY, counted([CallOutcome.THROTTLED] * 20).tally(NOW))


def test_a_throttled_call_neither_ends_a_row_nor_adds_to_it():
    outcomes = [CallOutcome.FAILURE, CallOutcome.THROTTLED, CallOutcome.FAILURE]

    assert counted(outcomes).tally(NOW) == CallTally(3, 3, in_a_row=2)


def test_a_success_ends_the_row():
    outcomes = [CallOutcome.FAILURE, CallOutcome.SUCCESS, CallOutcome.FAILURE]

    assert counted(outcomes).tally(NOW) == CallTally(3, 2, in_a_row=1)


def test_an_ignored_call_is_not_counted():
    assert counted([CallOutcome.IGNORED] * 50, took_ms=9_999).tally(NOW) == IDLE


def test_slow_calls_are_counted_whatever_they_came_to():
    outcomes = [CallOutcome.SUCCESS, CallOutcome.FAILURE]

    assert counted(outcomes, took_ms=100).tally(NOW).slow == 2
    assert counted(outcomes, took_ms=99).tally(NOW).slow == 0


def test_failures_that_left_the_window_are_not_in_a_row_any_more():
    counter = counted([CallOutcome.FAILURE] * 4)
    later_ms = NOW + 20_000
    counter.record(CallOutcome.FAILURE, took_ms=1, now_ms=later_ms)

    assert counter.tally(later_ms) == CallTally(1, 1, in_a_row=1)


def test_old_failures_in_a_row_do_not_come_back_through_throttled_calls():
    counter = counted([CallOutcome.FAILURE] * 4)
    later_ms = NOW + 20_000
    for outcome in [CallOutcome.THROTTLED] * 6:
        counter.record(outcome, took_ms=1, now_ms=later_ms)

    assert counter.tally(later_ms) == CallTally(6, 6)


def test_a_cleared_counter_has_seen_nothing():
    counter = counted([CallOutcome.FAILURE] * 9)
    counter.clear()

    assert counter.tally(NOW) == IDLE


def test_a_fleet_of_one_process_goes_by_its_evidence():
    assert fleet_suspects(POLICY, [BAD])
    assert not fleet_suspects(POLICY, [GOOD])


@pytest.mark.parametrize("others", [(GOOD,), (IDLE,), (GOOD,) * 7, (CallTally(1),) * 7])
def test_one_bad_process_does_not_open_for_the_fleet_whatever_its_traffic(others):
    heavy = CallTally(10**9, 10**9)

    assert suspects(POLICY, heavy)
    assert not fleet_suspects(POLICY, [heavy, *others])


def test_a_quorum_of_the_processes_that_called_opens_for_all():
    assert fleet_suspects(POLICY, [GOOD, BAD, BAD, GOOD])
    assert not fleet_suspects(POLICY, [GOOD, BAD, BAD, GOOD, GOOD])


def test_an_idle_process_has_no_vote():
    assert fleet_suspects(POLICY, [GOOD, BAD, BAD, GOOD, *[IDLE] * 20])


def test_a_weight_of_traffic_opens_for_all_without_a_quorum():
    heavy = CallTally(1_000, 900)

    assert fleet_suspects(POLICY, [heavy, heavy, *[GOOD] * 6])
    assert not fleet_suspects(POLICY, [heavy, heavy, *[CallTally(400)] * 6])


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
    counter = CallCounter(EvidencePolicy())
    for now_ms in range(0, 3_000, 10):
        counter.record(CallOutcome.SUCCESS, took_ms=1, now_ms=now_ms)

    for _ in range(9):
        counter.clear()

    assert counter.peak_per_ms == pytest.approx(0.1, rel=0.01)
