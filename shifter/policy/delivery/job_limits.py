"""Limits that end a job whatever its handler returns: time, worker losses, repeats.

A deadline is an instant and is excluded: a job may start before it, never at it. No
answer is negative, so that a deadline of long ago or a clock that jumped gives "nothing
left" and not a negative wait. Without a deadline there is no end.

A throttle is no fact about a job, so it is not charged as an attempt. A dependency that
throttles for ever, with no wait, would repeat a job for ever: the number of such
repeats and their time are bounded, and the job then becomes a dead letter that can be
replayed.

Source: gRPC's deadlines (a child call may use the smaller of its own limit and what is
inherited); design record, "never started after its deadline".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shifter.model.claim import JobState
from shifter.model.reason import Reason
from shifter.model.time import EpochMs

WORKER_LOSSES: Final = 3
"""Workers that may vanish while they run one attempt of a job.

A worker also vanishes with its machine, so one loss proves nothing; at three in a row
the job is the likely cause.
"""

MAX_PUT_OFF: Final = 10_000
"""Uncharged repeats of a job. With the least wait, 100 ms, that is 17 minutes of
repeats; with a wait of one minute, a week."""

MAX_PUT_OFF_MS: Final = 7 * 86_400_000
"""Time from the first uncharged repeat on: a week, so that an outage over a long
weekend loses nothing."""


@dataclass(frozen=True, slots=True)
class End:
    """The job is over.

    Attributes:
        state: A terminal state.
        reason: Why, where the state alone does not show it.
    """

    state: JobState
    reason: Reason | None = None


def remaining_ms(deadline_ms: int | None, now: EpochMs) -> int | None:
    """Milliseconds left before the deadline, >= 0; ``None`` without a deadline.

    >>> remaining_ms(1_500, EpochMs(1_000)), remaining_ms(1_500, EpochMs(9_000))
    (500, 0)
    """
    return None if deadline_ms is None else max(0, deadline_ms - now)


def is_expired(deadline_ms: int | None, now: EpochMs) -> bool:
    """Whether a job must not start any more; it may start just before its deadline."""
    return deadline_ms is not None and now >= deadline_ms


def attempt_limit_ms(timeout_ms: int, deadline_ms: int | None, now: EpochMs) -> int:
    """How long an attempt that starts now may run: its timeout, or less.

    Args:
        timeout_ms: Longest one attempt may take, > 0.
        deadline_ms: The job's deadline, epoch milliseconds, if it has one.
        now: The start of the attempt.

    Returns:
        Milliseconds, 0 to ``timeout_ms``; 0 when the deadline is over.
    """
    left_ms = remaining_ms(deadline_ms, now)
    return timeout_ms if left_ms is None else min(timeout_ms, left_ms)


def is_suspect(losses: int, limit: int = WORKER_LOSSES) -> bool:
    """Whether the next run is the last that `lost` allows, and must be run apart.

    All attempts of a worker are lost together, so a job that ran beside the cause has
    as many losses. In a worker process of its own, only the cause is lost again.
    """
    return losses >= max(1, limit - 1)


def lost(losses: int, limit: int = WORKER_LOSSES) -> End | None:
    """The end of a job whose workers vanished; ``None`` to run it once more.

    Args:
        losses: Workers that vanished while they ran this very attempt, >= 0.
        limit: The number of losses that ends the job, >= 1.
    """
    return End(JobState.DEAD, Reason.WORKER_LOST) if losses >= limit else None


def is_put_off_too_long(count: int, waited_ms: int) -> bool:
    """Whether a job that is throttled again and again is over.

    Args:
        count: How often it was put off, this time included, >= 1.
        waited_ms: Since the first time, milliseconds.
    """
    return count > MAX_PUT_OFF or waited_ms > MAX_PUT_OFF_MS
