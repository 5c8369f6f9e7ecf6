"""How many jobs become due: observed, and by the same hour of earlier days."""

from __future__ import annotations

import pytest

from shifter.policy.scaling.arrivals import (
    Arrivals,
    HourlyRates,
    expected_per_s,
    learn_hour,
    observe_arrivals,
)

HOUR_MS = 3_600_000


def observed(*readings):
    """The rate after (second, due, ended a second), one after the other."""
    state = None
    for second, due, ended_per_s in readings:
        state = observe_arrivals(state, due=due, ended_per_s=ended_per_s, now_s=second)
    return state.per_s


def test_one_reading_says_nothing():
    assert observed((0, 100, 5.0)) is None


def test_what_ended_and_what_was_added_has_come():
    assert observed((0, 100, 0.0), (10, 150, 20.0)) == 25


def test_less_than_nothing_has_not_come():
    assert observed((0, 100, 0.0), (10, 0, 5.0)) == 0


def test_the_rate_is_smoothed():
    assert observed((0, 0, 0.0), (30, 0, 10.0), (60, 0, 30.0)) == 20


@pytest.mark.parametrize("second", [-1, 611])
def test_a_clock_that_jumps_begins_anew(second):
    assert observed((0, 0, 0.0), (10, 0, 10.0), (second, 9_000, 10.0)) is None


def test_the_same_reading_twice_changes_nothing():
    once = Arrivals(10.0, 5, 2.0)

    assert observe_arrivals(once, due=9, ended_per_s=9.0, now_s=10.0) == once


def learnt(*hours):
    """Rates after (hour, jobs a second, seconds observed)."""
    rates = HourlyRates()
    for hour, per_s, passed_s in hours:
        rates = learn_hour(
            rates, per_s=per_s, passed_s=passed_s, now_ms=hour * HOUR_MS + 1
        )
    return rates


def test_without_an_earlier_day_nothing_is_expected():
    rates = learnt((30, 8.0, 3_600.0))

    assert expected_per_s(rates, at_ms=30 * HOUR_MS) is None


def test_the_same_hour_of_the_day_before_is_expected():
    rates = learnt((30, 8.0, 1_800.0), (30, 4.0, 1_800.0), (31, 1.0, 1.0))

    assert expected_per_s(rates, at_ms=54 * HOUR_MS) == 6
    assert expected_per_s(rates, at_ms=55 * HOUR_MS) is None


def test_newer_days_have_more_weight():
    rates = learnt(
        (30, 8.0, 3_600.0), (54, 4.0, 3_600.0), (78, 2.0, 3_600.0), (79, 0, 1)
    )

    assert expected_per_s(rates, at_ms=102 * HOUR_MS) == 4


def test_an_hour_that_was_hardly_observed_teaches_nothing():
    rates = learnt((30, 8.0, 60.0), (31, 1.0, 1.0))

    assert expected_per_s(rates, at_ms=54 * HOUR_MS) is None
