"""Deadline arithmetic: what is left, whether it is over, how long an attempt may run.

A deadline is an instant and is excluded: a job may start before it, never at it. No
answer is negative, so that a deadline of long ago or a clock that jumped gives "nothing
left" and not a negative wait. Without a deadline there is no end.

Source: gRPC's deadlines (a child call may use the smaller of its own limit and what is
inherited); design record, "never started after its deadline".
"""

from __future__ import annotations

from shifter.model.time import EpochMs


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
