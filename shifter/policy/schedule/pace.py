"""How many slots LOW work with deadlines takes: its share of the time until then.

Run whenever a slot is free, LOW work adds to the busy minutes and leaves nothing for
the quiet ones. Paced, it fills them: it takes the slots that more urgent work usually
uses and does not use now, and beside them as many as do what waits within a part of the
time that is left. It never takes fewer than its deadlines need.

The forecast is the mean of what more urgent work used in the last minutes and, where it
is known, of what it used in the same hour of earlier days.

Sources: the water-filling of peak shaving, with a forecast in place of the future; for
the deadlines the processor demand criterion, as in `shifter.policy.scaling.size`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from shifter.policy.bounds import check_at_least, check_ratio
from shifter.policy.scaling.arrivals import HourlyRates, expected_per_s, learn_hour


class PaceReason(StrEnum):
    """What decided a pace.

    Attributes:
        IDLE: Nothing waits.
        DEADLINE: The deadlines of what waits.
        SPREAD: What waits, spread over a part of the time that is left.
        QUIET: The same, and more urgent work uses less than usual.
        BUSY: The same, and more urgent work uses more than usual.
    """

    IDLE = "idle"
    DEADLINE = "deadline"
    SPREAD = "spread"
    QUIET = "quiet"
    BUSY = "busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class PacePolicy:
    """Settings of the pace.

    Attributes:
        patience: Part of the time left to a deadline in which work is planned, in
            (0, 1]; at 0.35 an estimate that is wrong by a factor of two still meets it.
        memory_ms: Time constant of what more urgent work usually uses, >= 1000.
        recent_ms: Time constant of what it uses now, >= 100.

    Raises:
        ConfigError: A value is out of its range.
    """

    patience: float = 0.35
    memory_ms: int = 300_000
    recent_ms: int = 10_000

    def __post_init__(self) -> None:
        check_ratio("patience", self.patience)
        check_at_least("memory_ms", self.memory_ms, 1_000)
        check_at_least("recent_ms", self.recent_ms, 100)


class UrgentUse(NamedTuple):
    """Slots that more urgent work uses.

    Attributes:
        at_s: When they were counted last, monotonic seconds.
        recent: Now, smoothed, >= 0.
        mean: Over the last minutes, >= 0.
        hours: In the same hours of earlier days.
    """

    at_s: float
    recent: float
    mean: float
    hours: HourlyRates = HourlyRates()


class Pace(NamedTuple):
    """How many slots paced work may use, and why.

    Attributes:
        slots: The number, >= 0.
        reason: What decided it.
        needed: Slots that the deadlines need.
        spread: Slots that do what waits within a part of the time that is left.
        usual: Slots that more urgent work is expected to use.
        urgent: Slots that it uses now.
    """

    slots: int
    reason: PaceReason
    needed: float
    spread: float
    usual: float
    urgent: float

    @property
    def detail(self) -> str:
        """The numbers, as text."""
        return (
            f"{self.needed:.3g} slots for the deadlines; {self.spread:.3g} for what "
            f"waits, and {self.usual:.3g} usual less {self.urgent:.3g} used slots of "
            f"more urgent work"
        )


def observe_urgent(
    policy: PacePolicy,
    before: UrgentUse | None,
    used: float,
    *,
    now_s: float,
    at_ms: int,
) -> UrgentUse:
    """The state after a count of slots.

    Args:
        policy: The settings.
        before: The state so far; ``None`` before the first count.
        used: Slots that more urgent work uses, >= 0.
        now_s: Monotonic seconds. A clock that went back counts as one that stood still.
        at_ms: Epoch milliseconds, for the hour of the day.

    Pure.
    """
    if before is None:
        return UrgentUse(now_s, used, used)
    passed_s = max(0.0, now_s - before.at_s)
    passed_ms = passed_s * 1_000

    def smoothed(value: float, constant_ms: int) -> float:
        return value + passed_ms / (passed_ms + constant_ms) * (used - value)

    return UrgentUse(
        at_s=now_s,
        recent=smoothed(before.recent, policy.recent_ms),
        mean=smoothed(before.mean, policy.memory_ms),
        hours=learn_hour(before.hours, per_s=used, passed_s=passed_s, now_ms=at_ms),
    )


def usual_use(use: UrgentUse, *, at_ms: int) -> float:
    """Slots that more urgent work is expected to use. Pure."""
    of_hour = expected_per_s(use.hours, at_ms=at_ms)
    return use.mean if of_hour is None else (use.mean + of_hour) / 2


def pace(
    policy: PacePolicy,
    use: UrgentUse,
    left_s: Sequence[float],
    *,
    cost_s: float,
    at_ms: int,
) -> Pace:
    """How many slots paced work may use now.

    Args:
        policy: The settings.
        use: Slots that more urgent work uses.
        left_s: Of each job that waits, seconds to its deadline, ascending.
        cost_s: Seconds for which a job keeps a slot, > 0.
        at_ms: Epoch milliseconds.

    Pure.
    """
    usual, urgent = usual_use(use, at_ms=at_ms), use.recent
    if not left_s:
        return Pace(0, PaceReason.IDLE, 0.0, 0.0, usual, urgent)
    # The last of k jobs starts once those before it have ended, k / slots costs later.
    needed = max(
        number * cost_s / max(policy.patience * left - cost_s, cost_s)
        for number, left in enumerate(left_s, 1)
    )
    mean_s = max(0.0, sum(left_s) / len(left_s))
    spread = len(left_s) * cost_s / max(policy.patience * mean_s, cost_s)
    wanted = spread + usual - urgent
    if needed >= wanted:
        reason = PaceReason.DEADLINE
    elif abs(usual - urgent) < 1:
        reason = PaceReason.SPREAD
    else:
        reason = PaceReason.QUIET if usual > urgent else PaceReason.BUSY
    slots = math.ceil(max(needed, wanted))
    return Pace(slots, reason, needed, spread, usual, urgent)
