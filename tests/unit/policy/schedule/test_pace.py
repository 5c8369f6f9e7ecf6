"""The pace of LOW work, number by number."""

from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.policy.schedule.pace import (
    PacePolicy,
    PaceReason as Why,
    UrgentUse,
    observe_urgent,
    pace,
    usual_use,
)

POLICY = PacePolicy(patience=0.5)
STEADY = UrgentUse(0.0, recent=5.0, mean=5.0)
HOUR_MS = 3_600_000


def paced(left_s, use=STEADY, *, cost_s=2.0):
    found = pace(POLICY, use, left_s, cost_s=cost_s, at_ms=0)
    return found.slots, found.reason


def test_nothing_that_waits_needs_no_slot():
    assert paced([]) == (0, Why.IDLE)


# 1,600 jobs that came evenly over the last 28 minutes, each with 30 minutes.
EVEN = [100 + 1.0625 * number for number in range(1, 1_601)]


def test_what_waits_is_spread_over_a_part_of_the_time_left():
    # 3,200 s of work; half of the mean time that is left is 476 s.
    assert paced(EVEN) == (7, Why.SPREAD)


def test_slots_that_urgent_work_usually_uses_and_does_not_use_now_are_taken():
    assert paced(EVEN, STEADY._replace(recent=1.5)) == (11, Why.QUIET)


def test_busy_urgent_work_slows_the_pace_as_far_as_deadlines_allow():
    assert paced(EVEN, STEADY._replace(recent=7.0)) == (5, Why.BUSY)
    assert paced(EVEN, STEADY._replace(recent=90.0)) == (4, Why.DEADLINE)


def test_a_near_deadline_needs_its_slots_at_once():
    assert paced([5.0] * 10 + [1_800.0] * 100)[0] == 10
    assert paced([-1.0, 1_800.0])[0] == 1


def test_an_answer_names_its_numbers():
    found = pace(POLICY, STEADY, [1_800.0] * 400, cost_s=2.0, at_ms=0)

    assert found.detail == (
        "0.891 slots for the deadlines; 0.889 for what waits, "
        "and 5 usual less 5 used slots of more urgent work"
    )


def test_what_is_used_now_is_followed_sooner_than_what_is_usual():
    use = observe_urgent(POLICY, None, 4.0, now_s=0.0, at_ms=0)
    assert (use.recent, use.mean) == (4.0, 4.0)

    for second in range(1, 61):
        use = observe_urgent(POLICY, use, 10.0, now_s=second, at_ms=second * 1_000)

    assert use.recent == pytest.approx(10.0, abs=0.1)
    assert use.mean == pytest.approx(5.1, abs=0.1)


def test_a_clock_that_goes_back_stands_still():
    use = observe_urgent(POLICY, None, 4.0, now_s=100.0, at_ms=0)

    assert observe_urgent(POLICY, use, 90.0, now_s=50.0, at_ms=0).recent == 4.0


def test_the_same_hour_of_earlier_days_is_expected_again():
    use = observe_urgent(POLICY, None, 20.0, now_s=0.0, at_ms=0)
    for minute in range(1, 24 * 60 + 1):
        used = 20.0 if minute < 60 else 2.0
        use = observe_urgent(
            POLICY, use, used, now_s=minute * 60.0, at_ms=minute * 60_000
        )

    assert use.mean == pytest.approx(2.0, abs=0.1)
    assert usual_use(use, at_ms=24 * HOUR_MS) == pytest.approx(11.0, abs=0.5)
    assert usual_use(use, at_ms=25 * HOUR_MS) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(
    "wrong", [{"patience": 0.0}, {"patience": 1.1}, {"memory_ms": 10}, {"recent_ms": 1}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        PacePolicy(**wrong)
