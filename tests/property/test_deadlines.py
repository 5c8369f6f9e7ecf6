"""Deadline arithmetic with clocks that disagree."""

from __future__ import annotations

from hypothesis import given, strategies as st

from shifter.model.time import EpochMs
from shifter.policy.delivery.job_limits import (
    attempt_limit_ms,
    is_expired,
    remaining_ms,
)

instants = st.integers(-(10**15), 10**15).map(EpochMs)
skews = st.integers(-86_400_000, 86_400_000)


@given(instants, instants, st.integers(1, 10**9))
def test_no_wait_is_negative_and_no_attempt_outlives_deadline_or_timeout(
    deadline_ms, now, timeout_ms
):
    left_ms = remaining_ms(deadline_ms, now)
    limit_ms = attempt_limit_ms(timeout_ms, deadline_ms, now)

    assert left_ms is not None
    assert 0 <= limit_ms <= min(left_ms, timeout_ms)
    assert limit_ms == 0 or now + limit_ms <= deadline_ms
    assert limit_ms in (left_ms, timeout_ms)


@given(instants, instants, st.integers(1, 10**9))
def test_expired_nothing_left_and_no_time_to_run_are_the_same(
    deadline_ms, now, timeout_ms
):
    expired = is_expired(deadline_ms, now)

    assert expired == (remaining_ms(deadline_ms, now) == 0)
    assert expired == (attempt_limit_ms(timeout_ms, deadline_ms, now) == 0)


@given(instants, instants, skews)
def test_a_skewed_clock_errs_by_no_more_than_its_skew(deadline_ms, now, skew_ms):
    right = remaining_ms(deadline_ms, now)
    skewed = remaining_ms(deadline_ms, EpochMs(now + skew_ms))

    assert right is not None
    assert skewed is not None
    assert abs(right - skewed) <= abs(skew_ms)


@given(instants, instants, instants)
def test_what_has_expired_stays_expired(deadline_ms, now, later):
    now, later = sorted((now, later))

    assert is_expired(deadline_ms, now) <= is_expired(deadline_ms, later)
