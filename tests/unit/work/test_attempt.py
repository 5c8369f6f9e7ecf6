"""The time limit of an attempt, and what its end means."""

from __future__ import annotations

import asyncio

import pytest

from shifter.errors import DeadLetter, Discard, JobCancelledError, Retry, Throttled
from shifter.policy.delivery.error_rules import Ruling
from shifter.policy.delivery.retry import (
    DeadLettered,
    Discarded,
    Expired,
    Failed,
    Interrupted,
    RetryAsked,
    ThrottledOutcome,
    WasCancelled,
)
from shifter.work.attempt import Attempt, Stop
from tests.unit.work.items import Stages


def begun(stages, timeout_ms=2_000, **facts):
    attempt = Attempt(stages.item(**facts), stages.clock, timeout_ms=timeout_ms)
    attempt.begin(stages.clock.monotonic(), stages.clock.epoch_ms())
    return attempt


def test_the_nearer_of_timeout_and_deadline_limits_an_attempt():
    stages = Stages()
    now_ms = stages.clock.epoch_ms()

    assert begun(stages).expires_at == 2.0
    near = begun(stages, deadline_ms=now_ms + 500)

    assert (near.expires_at, near.stop_for) == (0.5, Stop.DEADLINE)
    assert begun(stages, deadline_ms=now_ms + 9_000).stop_for is Stop.TIMEOUT


def test_the_start_of_a_process_has_a_limit_of_its_own_and_no_part_of_the_timeout():
    stages = Stages()
    attempt = begun(stages)

    attempt.wait_to_begin(60.0)
    assert attempt.expires_at == 60.0
    stages.clock.advance(5.0)
    attempt.begin(stages.clock.monotonic(), stages.clock.epoch_ms())

    assert attempt.expires_at == 7.0


def test_a_deadline_holds_while_a_process_starts():
    stages = Stages()
    attempt = begun(stages, deadline_ms=stages.clock.epoch_ms() + 10_000)

    attempt.wait_to_begin(60.0)

    assert attempt.expires_at == 10.0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Discard("old"), Discarded("old")),
        (DeadLetter("bad"), DeadLettered("bad")),
        (Retry(after="2s"), RetryAsked(2_000)),
        (Throttled(after="3s"), ThrottledOutcome(3_000)),
        (ValueError("x"), Failed("ValueError")),
    ],
)
def test_what_a_handler_raises_is_its_outcome(error, outcome):
    assert begun(Stages()).outcome_of(error) == outcome


@pytest.mark.parametrize(
    ("why", "outcome"),
    [
        (Stop.DEADLINE, Expired()),
        (Stop.SHUTDOWN, Interrupted()),
        (Stop.TIMEOUT, Failed("TimeoutError")),
    ],
)
def test_a_cancellation_by_the_worker_means_what_it_was_stopped_for(why, outcome):
    attempt = begun(Stages())
    attempt.stop(why)

    assert attempt.outcome_of(asyncio.CancelledError()) == outcome


def test_a_timeout_is_judged_by_the_rules():
    attempt = begun(Stages(give_up_on=TimeoutError))
    attempt.stop(Stop.TIMEOUT)

    outcome = attempt.outcome_of(asyncio.CancelledError())

    assert outcome == Failed("TimeoutError", Ruling(gives_up=True))


@pytest.mark.parametrize("signal", [Retry("1s"), Throttled("1s"), Discard("x")])
def test_a_signal_is_not_judged_by_the_rules(signal):
    bare, ruled = begun(Stages()), begun(Stages(give_up_on=Exception))

    assert ruled.outcome_of(signal) == bare.outcome_of(signal)


def test_a_cancel_that_was_not_requested_is_a_failure():
    attempt = begun(Stages())

    assert attempt.outcome_of(JobCancelledError("1")) == Failed(
        "shifter.errors.JobCancelledError"
    )
    attempt.cancel_job()
    assert attempt.outcome_of(JobCancelledError("1")) == WasCancelled()


def test_an_attempt_that_does_not_end_after_a_stop_is_stuck_after_the_grace():
    stages = Stages()
    attempt = begun(stages)

    attempt.stop(Stop.TIMEOUT)
    stages.clock.advance(5.0)
    attempt.stop_again()
    assert not attempt.is_stuck
    stages.clock.advance(5.0)
    attempt.stop_again()

    assert attempt.is_stuck
    assert attempt.overdue_s(stages.clock.monotonic()) == 10.0
