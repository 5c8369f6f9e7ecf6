"""The delay ladder: how a delayed record reaches its due time over fixed tiers.

A tier is a topic in which every record waits the same time, so the topic is first in,
first out and only its head is looked at. A record goes to the largest tier that still
fits into what remains, then to the next one; the last piece, shorter than the shortest
tier, is held in memory by the reader of the lane. So any delay needs a fixed number of
topics and no other store.

Tiers grow by a factor of 4, so a record waits at most three times in any tier but the
largest: at most `MAX_HOPS` hops in all, and at most 21 for a delay up to 4.5 hours.
Time lost on the way (a slow append, a late mover) is made up for, since the next hop is
chosen from what really remains: a job is never early, and late by no more than its last
move was late and its append to the lane took.

This module uses no clock and no topic: names are in `shifter.model.lane`, the mover is
in the log's adapter. Source: design record, section 4 (log-spaced delay topics).
"""

from __future__ import annotations

from bisect import bisect_right

TIERS_S = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384)
"""Waiting times of the tiers, seconds, ascending.

Powers of 4 from one second, the longest wait in memory, to 4.5 hours: eight topics,
and at most three waits in each tier but the last.
"""

MAX_DELAY_MS = 30 * 86_400_000
"""Longest delay of a job, included: 30 days, less than the default ``retention`` of 37
days, so that a delayed record is not deleted before it is due."""

MAX_HOPS = 178
"""Most hops that any delay up to `MAX_DELAY_MS` takes: 157 full turns of the largest
tier and three in each of the seven others."""

_TIERS_MS = tuple(tier_s * 1_000 for tier_s in TIERS_S)


def next_hop(remaining_ms: int) -> int | None:
    """The tier a record goes to when it has ``remaining_ms`` left to wait.

    Args:
        remaining_ms: Milliseconds to its due time; negative when late.

    Returns:
        Seconds of the largest tier that is not longer; ``None`` below the shortest
        tier: the record goes to its lane and the rest is held in memory.

    >>> next_hop(90_000), next_hop(999)
    (64, None)
    """
    fitting = bisect_right(_TIERS_MS, remaining_ms)
    return TIERS_S[fitting - 1] if fitting else None


def ready_at(appended_ms: int, tier_s: int, due_ms: int) -> int:
    """When a record may leave its tier.

    After the tier's time, or at its due time if that comes first: an append that took
    long has used up a part of the wait. Leaving is not starting: the mover chooses the
    `next_hop` from what then remains.

    Args:
        appended_ms: When the log took the record, epoch milliseconds.
        tier_s: The tier it waits in, seconds.
        due_ms: Not before this instant, epoch milliseconds; may be forged, and can
            only make its own record leave earlier.

    Returns:
        Epoch milliseconds, never later than ``appended_ms`` plus the tier.
    """
    return min(appended_ms + tier_s * 1_000, due_ms)


def hops(delay_ms: int) -> list[int]:
    """All tiers a record passes when no time is lost on the way, in order.

    Args:
        delay_ms: Milliseconds, 0 to `MAX_DELAY_MS`, both included.

    Returns:
        Seconds of each tier, never ascending, at most `MAX_HOPS`; their sum is less
        than one second short of the delay.

    Raises:
        ValueError: The delay is negative or too long.

    >>> hops(90_500)
    [64, 16, 4, 4, 1, 1]
    """
    if not 0 <= delay_ms <= MAX_DELAY_MS:
        raise ValueError(f"delay is {delay_ms} ms; allowed: 0 to {MAX_DELAY_MS} ms")
    path: list[int] = []
    while (tier_s := next_hop(delay_ms)) is not None:
        path.append(tier_s)
        delay_ms -= tier_s * 1_000
    return path
