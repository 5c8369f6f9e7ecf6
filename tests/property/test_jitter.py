"""Backoff over its documented domain: base up to a year, a million attempts."""

from __future__ import annotations

from hypothesis import given, strategies as st

from shifter.policy.delivery.backoff import BackoffPolicy, bound_ms, full_jitter

YEAR_MS = 366 * 86_400_000

policies = st.tuples(st.integers(1, YEAR_MS), st.integers(1, YEAR_MS)).map(
    lambda pair: BackoffPolicy(base_ms=min(pair), cap_ms=max(pair))
)
attempts = st.integers(2, 60) | st.integers(2, 10**6)
draws = st.floats(0, 1, exclude_max=True)


@given(policies, attempts, draws)
def test_a_wait_is_a_whole_number_below_the_bound_and_the_cap(policy, attempt, u):
    wait_ms = full_jitter(policy, attempt=attempt, u=u)

    assert isinstance(wait_ms, int)
    assert 0 <= wait_ms < bound_ms(policy, attempt=attempt) <= policy.cap_ms


@given(policies, attempts)
def test_the_largest_draw_comes_within_two_ms_of_the_bound(policy, attempt):
    bound = bound_ms(policy, attempt=attempt)

    assert full_jitter(policy, attempt=attempt, u=1 - 2**-53) >= bound - 1


@given(policies, attempts)
def test_the_bound_is_the_base_doubled_per_attempt_and_capped(policy, attempt):
    doubled = policy.base_ms * 2 ** (min(attempt, 80) - 2)

    assert bound_ms(policy, attempt=attempt) == min(doubled, policy.cap_ms)


@given(policies, attempts, draws, draws)
def test_the_bound_never_falls_and_the_wait_follows_the_draw(policy, attempt, u, v):
    assert bound_ms(policy, attempt=attempt) <= bound_ms(policy, attempt=attempt + 1)
    assert full_jitter(policy, attempt=attempt, u=min(u, v)) <= full_jitter(
        policy, attempt=attempt, u=max(u, v)
    )
