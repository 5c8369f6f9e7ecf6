"""The life of a job through its attempts: it ends, in time, and is charged right."""

from __future__ import annotations

from hypothesis import given, strategies as st

from shifter.model.claim import JobState
from shifter.model.reason import Reason
from shifter.model.time import EpochMs
from shifter.policy.delivery.backoff import BackoffPolicy, bound_ms
from shifter.policy.delivery.delay import MAX_DELAY_MS
from shifter.policy.delivery.job_limits import End
from shifter.policy.delivery.retry import (
    DeadLettered,
    Discarded,
    Expired,
    Failed,
    Interrupted,
    RetryAsked,
    RetryPolicy,
    Succeeded,
    ThrottledOutcome,
    TryAgain,
    WasCancelled,
    after_attempt,
)

START = EpochMs(1_700_000_000_000)

waits = st.integers(-5, 2 * MAX_DELAY_MS) | st.integers(0, 5_000)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 12),
    backoff=st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)).map(
        lambda pair: BackoffPolicy(base_ms=min(pair), cap_ms=max(pair))
    ),
)
draws = st.floats(0, 1, exclude_max=True)
charged = st.builds(Failed, st.just("OSError")) | st.builds(
    RetryAsked, waits | st.none()
)
uncharged = st.builds(ThrottledOutcome, waits) | st.just(Interrupted())
final = st.sampled_from(
    [Succeeded(), Discarded("x"), DeadLettered("x"), Expired(), WasCancelled()]
)
steps = st.tuples(charged | uncharged, draws, st.integers(0, 10_000))
deadlines = st.none() | st.integers(START - 10, START + 10**7)


@given(policies, st.lists(steps, max_size=40), deadlines)
def test_attempts_are_counted_in_order_up_to_the_limit_and_start_in_time(
    policy, steps, deadline_ms
):
    attempt, now = 1, START
    for outcome, u, ran_ms in steps:
        now = EpochMs(now + ran_ms)
        answer = after_attempt(
            policy, outcome, attempt=attempt, now=now, deadline_ms=deadline_ms, u=u
        )
        if isinstance(answer, End):
            assert answer.state in (JobState.DEAD, JobState.EXPIRED)
            assert (answer.state is JobState.DEAD) == (
                isinstance(outcome, Failed | RetryAsked)
                and attempt == policy.max_attempts
            )
            return
        is_charged = isinstance(outcome, Failed | RetryAsked)
        assert answer.charged is is_charged
        assert answer.attempt == attempt + is_charged
        assert answer.attempt <= policy.max_attempts
        assert now <= answer.due_ms <= now + MAX_DELAY_MS
        assert deadline_ms is None or answer.due_ms < deadline_ms
        attempt, now = answer.attempt, answer.due_ms


@given(policies, st.lists(draws, min_size=12, max_size=12))
def test_failures_alone_end_after_the_allowed_attempts_within_the_horizon(policy, us):
    attempt, now = 1, START
    for u in us[: policy.max_attempts - 1]:
        answer = after_attempt(
            policy, Failed("E"), attempt=attempt, now=now, deadline_ms=None, u=u
        )
        assert isinstance(answer, TryAgain)
        attempt, now = answer.attempt, answer.due_ms
    last = after_attempt(
        policy, Failed("E"), attempt=attempt, now=now, deadline_ms=None, u=us[-1]
    )

    assert isinstance(last, End)
    assert attempt == policy.max_attempts
    horizon_ms = sum(bound_ms(policy.backoff, attempt=n) for n in range(2, attempt + 1))
    assert now - START <= horizon_ms


@given(policies, charged | uncharged | final, st.integers(1, 20), deadlines, draws)
def test_a_deadline_changes_nothing_but_a_start_that_would_be_too_late(
    policy, outcome, attempt, deadline_ms, u
):
    with_deadline, without = (
        after_attempt(
            policy, outcome, attempt=attempt, now=START, deadline_ms=deadline, u=u
        )
        for deadline in (deadline_ms, None)
    )

    is_late = (
        isinstance(without, TryAgain)
        and deadline_ms is not None
        and without.due_ms >= deadline_ms
    )
    expired = End(JobState.EXPIRED, Reason.EXPIRED)
    assert with_deadline == (expired if is_late else without)


@given(policies, final, st.integers(1, 10**6), deadlines, draws)
def test_what_ends_a_job_ends_it_at_any_time(policy, outcome, attempt, deadline_ms, u):
    answer = after_attempt(
        policy, outcome, attempt=attempt, now=START, deadline_ms=deadline_ms, u=u
    )

    assert isinstance(answer, End)
    assert answer.state.is_terminal
