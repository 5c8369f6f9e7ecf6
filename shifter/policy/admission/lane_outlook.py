"""Estimates of a lane: its drain rate, when a job starts, and when to ask again.

The expected start is the number of waiting jobs divided by the drain rate, multiplied
by a safety factor: an optimistic estimate costs a job its deadline, a pessimistic one
costs a deferral that would have worked. If nothing is known about a lane, the job is
deferred: accepted work is kept, and it expires with a reason if the guess was wrong.

The drain rate is measured only while jobs wait. Then the number of jobs that end each
second is the capacity of the workers; while none wait, it is only the arrival rate.

Source: design record, section 6 (feasibility).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from shifter.errors import ConfigError

_WEIGHT: Final = 0.5
"""Weight of the newest sample in the average of the drain rate, 0 < weight <= 1.

The lanes are sampled once a second; at one half, a change of the rate is followed to
nine tenths within four samples, and one odd sample moves the estimate by half of it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlookPolicy:
    """Settings of the estimate.

    Attributes:
        safety: What an estimate is multiplied with, >= 1.
        min_retry_s: Shortest ``retry_after``, > 0.
        max_retry_s: Longest one before its jitter, at least the shortest.
        jitter: Largest share that is added to it, >= 0, so that those refused together
            do not return together.

    Raises:
        ConfigError: A value is out of its range.
    """

    safety: float = 1.5
    min_retry_s: float = 1.0
    max_retry_s: float = 3_600.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if not self.safety >= 1:
            raise ConfigError("safety", self.safety, "use at least 1")
        if not self.min_retry_s > 0:
            raise ConfigError("min_retry_s", self.min_retry_s, "use more than 0")
        if not self.max_retry_s >= self.min_retry_s:
            want = f"must be at least min_retry_s ({self.min_retry_s} s)"
            raise ConfigError("max_retry_s", self.max_retry_s, want)
        if not self.jitter >= 0:
            raise ConfigError("jitter", self.jitter, "use 0 or more")


class LaneFacts(NamedTuple):
    """The facts about a lane.

    Attributes:
        waiting: Due jobs that wait, >= 0.
        rate_per_s: How many the fleet ends a second while they wait, >= 0; ``None``
            if no job has waited yet, so that the rate is unknown.
        oldest_age_s: How long the first of them has waited, >= 0.
    """

    waiting: int
    rate_per_s: float | None
    oldest_age_s: float = 0.0


def eta_s(lane: LaneFacts | None) -> float | None:
    """Seconds until a job deferred now starts; ``None`` when not known.

    >>> eta_s(LaneFacts(waiting=30, rate_per_s=10.0))
    3.0
    """
    if lane is None:
        return None
    if lane.waiting == 0:
        return 0.0
    if lane.rate_per_s is None:
        return None
    return lane.waiting / lane.rate_per_s if lane.rate_per_s > 0 else float("inf")


def is_feasible(
    policy: OutlookPolicy,
    lane: LaneFacts | None,
    left_s: float | None,
    *,
    opens_s: float = 0.0,
) -> bool:
    """Whether a job deferred now is expected to start before its deadline.

    Args:
        policy: The safety factor.
        lane: Of the job; ``None`` when nothing is known of it.
        left_s: Seconds to the deadline; ``None`` without one.
        opens_s: Seconds until it is due and its hours have begun, >= 0. What waits now
            is drained meanwhile.
    """
    if left_s is None:
        return True
    expected_s = eta_s(lane) or 0.0
    return max(opens_s, expected_s * policy.safety) < left_s


def retry_after_s(
    policy: OutlookPolicy,
    lane: LaneFacts | None,
    left_s: float | None,
    *,
    opens_s: float = 0.0,
    shut_s: float = 0.0,
    u: float,
) -> float:
    """Seconds after which the same job is expected to be feasible.

    Args:
        policy: Bounds and jitter.
        lane: Of the job.
        left_s: Seconds a job has from submission to its deadline.
        opens_s: Seconds until it is due and its hours have begun, >= 0.
        shut_s: Seconds until what it calls may be called again, >= 0.
        u: One draw from [0, 1).

    Returns:
        ``min_retry_s`` to ``max_retry_s * (1 + jitter)``, the latter excluded.
    """
    excess_s = max(opens_s, (eta_s(lane) or 0.0) * policy.safety)
    if left_s is not None:
        excess_s -= left_s
    least_s = max(policy.min_retry_s, excess_s, shut_s)
    return min(policy.max_retry_s, least_s) * (1 + policy.jitter * u)


def next_rate(
    known: float | None, measured: float, *, waiting: int, is_drained: bool
) -> float | None:
    """Update the estimated drain rate with one more sample.

    Args:
        known: The previous estimate, jobs a second; ``None`` at first.
        measured: Jobs ended a second over the last seconds, >= 0.
        waiting: Jobs that wait, >= 0.
        is_drained: Whether any worker serves the lane. If none does, the rate is
            unknown: workers may be starting, and accepted work is kept meanwhile.

    Returns:
        Jobs a second; ``None`` if the rate is unknown.

    >>> next_rate(10.0, 2.0, waiting=0, is_drained=True)
    10.0
    >>> next_rate(10.0, 2.0, waiting=50, is_drained=True)
    6.0
    """
    if not is_drained:
        return None
    if waiting == 0:
        return None if known is None else max(known, measured)
    if known is None:
        return measured or None
    return known + _WEIGHT * (measured - known)
