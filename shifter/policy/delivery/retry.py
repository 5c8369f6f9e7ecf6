"""What follows an attempt: an end, or another attempt and when.

The rules, in order:

1. An outcome that is an end of the job (success, discard, dead letter, expiry,
   cancel) ends the job so.
2. A failure is *charged*: the next attempt has the next number, and there is none after
   ``max_attempts``, or where `shifter.policy.delivery.error_rules` gives up. A retry
   that the handler asked for is a failure too, with a wait of its own choice.
3. A throttle or an interruption is *not charged*: it is no fact about the job,
   and the attempt comes again under the same number. A job that is throttled for ever
   ends all the same: see `shifter.policy.delivery.job_limits`.
4. If the next attempt would start at or after the deadline, the job ends now as
   expired, since no later attempt could help.
5. No wait is longer than `shifter.policy.delivery.delay.MAX_DELAY_MS`.

The caller asks the retry budget of the fleet. Sources: gRPC
proposal A6 (attempts count the first; push-back replaces the backoff); Sidekiq's and
River's snooze (not charged).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, assert_never

from shifter.errors import ConfigError
from shifter.model.claim import JobState
from shifter.model.reason import Reason
from shifter.model.time import EpochMs
from shifter.policy.delivery.backoff import BackoffPolicy, full_jitter
from shifter.policy.delivery.delay import MAX_DELAY_MS
from shifter.policy.delivery.error_rules import RETRIED, Ruling
from shifter.policy.delivery.job_limits import End, is_expired


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Settings of a job type.

    Attributes:
        max_attempts: Attempts allowed, including the first, >= 1.
        backoff: The wait between two attempts.

    Raises:
        ConfigError: ``max_attempts`` is below 1.
    """

    max_attempts: int = 4
    backoff: BackoffPolicy = field(default_factory=BackoffPolicy)

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            want = "use at least 1, the first included"
            raise ConfigError("max_attempts", self.max_attempts, want)


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler raised, or its timeout passed.

    Attributes:
        error: Name of the error's type, for a log.
        ruling: What follows it by the job's rules of errors.
    """

    error: str
    ruling: Ruling = RETRIED


@dataclass(frozen=True, slots=True)
class RetryAsked:
    """The handler asked for another attempt.

    Attributes:
        after_ms: The wait it asked for, >= 0; ``None`` leaves it to the backoff.
    """

    after_ms: int | None


@dataclass(frozen=True, slots=True)
class ThrottledOutcome:
    """A dependency asked to wait.

    Attributes:
        after_ms: How long, >= 0.
    """

    after_ms: int


@dataclass(frozen=True, slots=True)
class Discarded:
    """The handler raised `Discard`: the job has no value any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """The handler raised `DeadLetter`: the job cannot succeed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Expired:
    """The deadline passed before the attempt, or while it ran."""


@dataclass(frozen=True, slots=True)
class WasCancelled:
    """An operator or the service cancelled the job while it ran."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The worker shuts down and hands the attempt back."""


Outcome: TypeAlias = (
    Succeeded
    | Failed
    | RetryAsked
    | ThrottledOutcome
    | Discarded
    | DeadLettered
    | Expired
    | WasCancelled
    | Interrupted
)
"""The result of an attempt."""

RETRY_WORDS: Final[Mapping[type[Outcome], str]] = {
    Failed: "failed",
    RetryAsked: "retry_asked",
    ThrottledOutcome: "throttled",
}
"""The outcomes after which a job runs again, each with its published word."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The job goes on.

    Attributes:
        due_ms: Not before this instant.
        attempt: Number of the next attempt, >= 1.
        charged: Whether this attempt was counted.
    """

    due_ms: EpochMs
    attempt: int
    charged: bool


RetryAnswer: TypeAlias = End | TryAgain


def after_attempt(
    policy: RetryPolicy,
    outcome: Outcome,
    *,
    attempt: int,
    now: EpochMs,
    deadline_ms: int | None,
    u: float,
) -> RetryAnswer:
    """Decide what follows an attempt.

    Args:
        policy: Of the job type.
        outcome: The result of the attempt.
        attempt: Its number, >= 1; may be above ``max_attempts`` when the policy was
            made stricter while the job waited, and then a failure is the last one.
        now: When it ended.
        deadline_ms: The job's deadline, epoch milliseconds, if it has one.
        u: One draw from [0, 1) for the backoff.

    Pure.
    """
    if isinstance(outcome, Failed | RetryAsked):
        ruling = outcome.ruling if isinstance(outcome, Failed) else RETRIED
        if ruling.gives_up:
            return End(JobState.DEAD, Reason.NOT_RETRIED)
        if attempt >= policy.max_attempts:
            return End(JobState.DEAD, Reason.ATTEMPTS_EXHAUSTED)
        wait_ms = outcome.after_ms if isinstance(outcome, RetryAsked) else None
        if wait_ms is None:
            backoff = ruling.backoff or policy.backoff
            wait_ms = full_jitter(backoff, attempt=attempt + 1, u=u)
        answer = TryAgain(_later(now, wait_ms), attempt + 1, charged=True)
    elif isinstance(outcome, ThrottledOutcome):
        answer = TryAgain(_later(now, outcome.after_ms), attempt, charged=False)
    elif isinstance(outcome, Interrupted):
        answer = TryAgain(now, attempt, charged=False)
    else:
        return _end(outcome)
    if is_expired(deadline_ms, answer.due_ms):
        return End(JobState.EXPIRED, Reason.EXPIRED)
    return answer


def _later(now: EpochMs, wait_ms: int) -> EpochMs:
    return EpochMs(now + min(max(0, wait_ms), MAX_DELAY_MS))


def _end(
    outcome: Succeeded | Discarded | DeadLettered | Expired | WasCancelled,
) -> End:
    match outcome:
        case Succeeded():
            return End(JobState.DONE)
        case Discarded():
            return End(JobState.DISCARDED)
        case DeadLettered():
            return End(JobState.DEAD, Reason.DEAD_LETTERED)
        case Expired():
            return End(JobState.EXPIRED, Reason.EXPIRED)
        case WasCancelled():
            return End(JobState.CANCELLED)
        case _:
            assert_never(outcome)
