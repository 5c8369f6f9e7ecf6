"""What the admission decision looks at, and what it answers: plain values.

Everything has a default that means "all is well", so that a process that knows nothing
of a dependency or a lane decides without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from shifter.model.answer import Quality
from shifter.model.reason import Reason
from shifter.policy.admission.lane_outlook import LaneFacts

_FOR_WANT_OF_ROOM: Final = frozenset({Reason.OVERLOADED, Reason.LIMIT_REACHED})


@dataclass(frozen=True, slots=True)
class DependencyNeeds:
    """What the job's dependencies say, all of them together; all well by default.

    Attributes:
        is_open: Whether a circuit is open.
        has_room: Whether a concurrency limit has room.
        has_budget: Whether the retry budget can pay for one more.
        quality: The fleet's.
        reopen_s: Seconds until an open circuit lets a probe through, if known.
    """

    is_open: bool = False
    has_room: bool = True
    has_budget: bool = True
    quality: Quality = Quality.FULL
    reopen_s: float | None = None


WELL: Final = DependencyNeeds()
"""Nothing speaks against a call."""


@dataclass(slots=True)
class AdmissionInput:
    """Everything the decision is made of; all well by default.

    Plain values, and one object a process, which is written anew before each decision:
    making one would take as long as deciding.

    Attributes:
        rank: Of the job's priority.
        level: 0-399, within its priority.
        left_s: Seconds to its deadline, negative when late; ``None`` without one.
        waits_for: Why it must not start now; ``None`` if it may.
        opens_s: Seconds until it may, >= 0.
        runs_here: Whether its handler can run in this process.
        has_fallback: Whether there is a cheaper answer.
        is_extra: Whether it is a retry or a replay, charged to a budget.
        can_wait: Whether there is a lane for it.
        queued_s: How long it stood in line here before it was asked about, >= 0; a
            load signal.
        threshold: The prioritizer's: lower levels are not run.
        floor: The highest rank shed in this window, -1 if none.
        lane_floor: The same of the job's queue.
        free: Slots of this process left for the job's priority.
        limit: Slots there are for it.
        fallbacks_free: Slots left for cheaper answers.
        lag_ms: The event loop's lag.
        lag_limit_ms: From here on only ``CRITICAL`` is run.
        needs: What its dependencies say.
        lane: Its lane; ``None`` when nothing is known.
        u: One draw from [0, 1), for the jitter of ``retry_after``.
    """

    rank: int
    level: int
    left_s: float | None = None
    waits_for: Reason | None = None
    opens_s: float = 0.0
    runs_here: bool = True
    has_fallback: bool = False
    is_extra: bool = False
    can_wait: bool = True
    queued_s: float = 0.0
    threshold: int = 0
    floor: int = -1
    lane_floor: int = -1
    free: int = 1
    limit: int = 1
    fallbacks_free: int = 1
    lag_ms: float = 0.0
    lag_limit_ms: float = 500.0
    needs: DependencyNeeds = WELL
    lane: LaneFacts | None = None
    u: float = 0.0


@dataclass(slots=True)
class Load:
    """What this process does now, as the caller measures it.

    Attributes:
        inflight: Slots taken.
        limit: All slots, >= 1.
        fallbacks: Cheaper answers under way; they have as many slots of their own.
        lag_ms: The event loop's lag, >= 0.
        outside: The worst of the user's own signals; 1.0 means at capacity.
    """

    inflight: int = 0
    limit: int = 1
    fallbacks: int = 0
    lag_ms: float = 0.0
    outside: float = 0.0


class Verdict(Enum):
    """What is done with a job."""

    __hash__ = object.__hash__  # Enum's own is a call into Python

    RUN = "run"
    DEFER = "defer"
    DEGRADE = "degrade"
    SHED = "shed"


# Python 3.11 takes 0.1 us for each member looked up in its class.
RUN: Final = Verdict.RUN
DEFER: Final = Verdict.DEFER
DEGRADE: Final = Verdict.DEGRADE
SHED: Final = Verdict.SHED


class Decision(NamedTuple):
    """The answer.

    Attributes:
        verdict: What is done.
        reason: Why it is not run; ``ACCEPTED`` when it is.
        eta_s: When it is expected to start, if it is deferred and that is known.
        retry_after_s: When asking again makes sense, if it is shed; ``None`` never.
    """

    verdict: Verdict
    reason: Reason
    eta_s: float | None = None
    retry_after_s: float | None = None

    @property
    def is_want_of_room(self) -> bool:
        """Whether it was shed because there was more work than room."""
        return self.verdict is SHED and self.reason in _FOR_WANT_OF_ROOM
