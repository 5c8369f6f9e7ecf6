from __future__ import annotations

from typing import cast

import pytest

from shifter.errors import ConfigError
from shifter.model.claim import JobState
from shifter.model.reason import Reason
from shifter.model.time import EpochMs
from shifter.policy.delivery.backoff import BackoffPolicy
from shifter.policy.delivery.delay import MAX_DELAY_MS
from shifter.policy.delivery.job_limits import End, lost
from shifter.policy.delivery.retry import (
    DeadLettered,
    Discarded,
    Expired,
    Failed,
    Interrupted,
    Outcome,
    RetryAsked,
    RetryPolicy,
    Succeeded,
    ThrottledOutcome,
    TryAgain,
    WasCancelled,
    after_attempt,
)

NOW = EpochMs(1_000_000)
POLICY = RetryPolicy(
    max_attempts=3, backoff=BackoffPolicy(base_ms=1_000, cap_ms=60_000)
)


def decide(outcome: Outcome, *, attempt: int = 1, deadline_ms: int | None = None):
    return after_attempt(
        POLICY, outcome, attempt=attempt, now=NOW, deadline_ms=deadline_ms, u=0.5
    )


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        (Succeeded(), End(JobState.DONE)),
        (Discarded("sold out"), End(JobState.DISCARDED)),
        (DeadLettered("no such user"), End(JobState.DEAD, Reason.DEAD_LETTERED)),
        (Expired(), End(JobState.EXPIRED, Reason.EXPIRED)),
        (WasCancelled(), End(JobState.CANCELLED)),
    ],
)
def test_what_the_job_has_become_ends_it_whatever_is_left(outcome, end):
    assert decide(outcome) == end
    assert decide(outcome, attempt=3, deadline_ms=NOW - 1) == end


def test_a_failure_is_charged_and_waits_for_the_backoff_of_the_next_attempt():
    assert decide(Failed("OSError")) == TryAgain(
        EpochMs(NOW + 500), attempt=2, charged=True
    )
    assert decide(Failed("OSError"), attempt=2) == TryAgain(
        EpochMs(NOW + 1_000), attempt=3, charged=True
    )


@pytest.mark.parametrize("outcome", [Failed("E"), RetryAsked(5), RetryAsked(None)])
@pytest.mark.parametrize("attempt", [3, 4, 1_000_000])
def test_the_last_allowed_attempt_counts_the_first_and_ends_in_the_dead_letters(
    outcome, attempt
):
    assert decide(outcome, attempt=attempt) == End(
        JobState.DEAD, Reason.ATTEMPTS_EXHAUSTED
    )


def test_an_exhausted_job_is_dead_and_not_expired_past_its_deadline():
    """Its failure is worth a look; an expired job is not kept."""
    answer = decide(Failed("E"), attempt=3, deadline_ms=NOW - 1)

    assert answer == End(JobState.DEAD, Reason.ATTEMPTS_EXHAUSTED)


def test_a_retry_that_was_asked_for_is_charged_with_its_own_wait():
    assert decide(RetryAsked(7)) == TryAgain(EpochMs(NOW + 7), attempt=2, charged=True)
    assert decide(RetryAsked(0)) == TryAgain(NOW, attempt=2, charged=True)


def test_a_retry_without_a_wait_of_its_own_takes_the_backoff():
    assert decide(RetryAsked(None)) == decide(Failed("E"))


@pytest.mark.parametrize("attempt", [1, 3, 50])
def test_a_throttle_is_not_charged_however_often_it_comes(attempt):
    assert decide(ThrottledOutcome(250), attempt=attempt) == TryAgain(
        EpochMs(NOW + 250), attempt=attempt, charged=False
    )


def test_an_interrupted_attempt_comes_again_at_once_and_is_not_charged():
    assert decide(Interrupted(), attempt=3) == TryAgain(NOW, attempt=3, charged=False)


@pytest.mark.parametrize(
    "outcome", [RetryAsked(MAX_DELAY_MS + 1), ThrottledOutcome(MAX_DELAY_MS * 9)]
)
def test_no_wait_is_longer_than_thirty_days(outcome):
    answer = decide(outcome)

    assert isinstance(answer, TryAgain)
    assert answer.due_ms == NOW + MAX_DELAY_MS


def test_a_backoff_cap_of_a_year_is_cut_to_thirty_days_too():
    year_ms = 366 * 86_400_000
    policy = RetryPolicy(backoff=BackoffPolicy(base_ms=year_ms, cap_ms=year_ms))

    answer = after_attempt(
        policy, Failed("E"), attempt=1, now=NOW, deadline_ms=None, u=0.9
    )

    assert answer == TryAgain(EpochMs(NOW + MAX_DELAY_MS), attempt=2, charged=True)


@pytest.mark.parametrize("outcome", [RetryAsked(-1), ThrottledOutcome(-10_000)])
def test_a_negative_wait_is_no_wait(outcome):
    answer = decide(outcome)

    assert isinstance(answer, TryAgain)
    assert answer.due_ms == NOW


@pytest.mark.parametrize(
    ("outcome", "starts_after_ms"),
    [
        (Failed("E"), 500),
        (RetryAsked(40), 40),
        (ThrottledOutcome(40), 40),
        (Interrupted(), 0),
    ],
)
def test_a_start_at_or_after_the_deadline_is_not_waited_for(outcome, starts_after_ms):
    start = NOW + starts_after_ms

    assert isinstance(decide(outcome, deadline_ms=start + 1), TryAgain)
    assert decide(outcome, deadline_ms=start) == End(JobState.EXPIRED, Reason.EXPIRED)
    assert decide(outcome, deadline_ms=0) == End(JobState.EXPIRED, Reason.EXPIRED)


def test_outcomes_of_different_kinds_are_never_equal():
    outcomes = [Succeeded(), Expired(), WasCancelled(), Interrupted()]

    assert len(set(outcomes)) == len(outcomes)
    assert Discarded("x") != DeadLettered("x")


def test_an_outcome_from_elsewhere_is_an_error_and_not_a_guess():
    with pytest.raises(AssertionError):
        decide(cast("Outcome", "done"))


@pytest.mark.parametrize(
    ("losses", "limit", "is_over"),
    [(0, 3, False), (2, 3, False), (3, 3, True), (4, 3, True), (1, 1, True)],
)
def test_a_job_that_took_enough_workers_with_it_is_not_run_again(
    losses, limit, is_over
):
    end = End(JobState.DEAD, Reason.WORKER_LOST) if is_over else None

    assert lost(losses, limit) == end


def test_three_losses_are_enough_unless_said_otherwise():
    assert lost(2) is None
    assert lost(3) == End(JobState.DEAD, Reason.WORKER_LOST)


@pytest.mark.parametrize("max_attempts", [0, -1])
def test_no_attempt_at_all_is_refused(max_attempts):
    with pytest.raises(ConfigError, match="max_attempts"):
        RetryPolicy(max_attempts=max_attempts)


def test_a_job_with_one_attempt_is_never_retried():
    answer = after_attempt(
        RetryPolicy(max_attempts=1),
        Failed("E"),
        attempt=1,
        now=NOW,
        deadline_ms=None,
        u=0.0,
    )

    assert answer == End(JobState.DEAD, Reason.ATTEMPTS_EXHAUSTED)
