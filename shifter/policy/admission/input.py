"""What the admission decision looks at, what it answers, and its numbers as text.

Every value has a default that means "all is well", so that a process without facts
about a dependency or a lane decides without them. `show_deadline` and the functions
after it write the numbers that a rule looks at, for an explanation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from shifter.model.answer import Quality
from shifter.model.reason import Reason
from shifter.policy.admission.lane_outlook import LaneFacts, OutlookPolicy, eta_s

_FOR_WANT_OF_ROOM: Final = frozenset({Reason.OVERLOADED, Reason.LIMIT_REACHED})


@dataclass(frozen=True, slots=True)
class DependencyNeeds:
    """The state of all dependencies of a job together; all well by default.

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
"""Every dependency may be called."""


@dataclass(slots=True)
class AdmissionInput:
    """Every value that the decision uses; all well by default.

    A process has one object and writes it anew before each decision, since making an
    object would take as long as deciding.

    Attributes:
        rank: Of the job's priority.
        level: 0-399, within its priority.
        left_s: Seconds to its deadline, negative when late; ``None`` without one.
        waits_for: Why the job must not start now; ``None`` if it may.
        opens_s: Seconds until it may start, >= 0.
        runs_here: Whether its handler can run in this process.
        has_fallback: Whether there is a cheaper answer.
        is_extra: Whether it is a retry or a replay, charged to a budget.
        can_wait: Whether there is a lane for it.
        queued_s: How long the job was queued here before its decision, >= 0; a load
            signal.
        threshold: The prioritizer's: lower levels are not run.
        floor: The highest rank shed in this window, -1 if none.
        lane_floor: The highest rank shed of the job's queue in this window, or -1.
        free: Slots of this process left for the job's priority.
        limit: All slots that the job's priority may fill.
        fallbacks_free: Slots left for cheaper answers.
        lag_ms: The event loop's lag.
        lag_limit_ms: The lag from which on only ``CRITICAL`` is run.
        needs: The state of its dependencies.
        lane: The facts about its lane; ``None`` if there are none.
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
    """The work of this process now, as the caller measures it.

    Attributes:
        inflight: Slots in use.
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
        verdict: What is done with the job.
        reason: Why it is not run; ``ACCEPTED`` if it is run.
        eta_s: When it is expected to start, if it is deferred and that is known.
        retry_after_s: When a shed job may be submitted again; ``None`` for never.
    """

    verdict: Verdict
    reason: Reason
    eta_s: float | None = None
    retry_after_s: float | None = None

    @property
    def is_want_of_room(self) -> bool:
        """Whether it was shed because there was more work than room."""
        return self.verdict is SHED and self.reason in _FOR_WANT_OF_ROOM


def show_deadline(case: AdmissionInput) -> str:
    """Time left to the deadline."""
    left_s = case.left_s
    return "none" if left_s is None else f"{left_s:.1f} s left"


def show_budget(case: AdmissionInput) -> str:
    """Whether the retry budget can pay for an extra execution."""
    if not case.is_extra:
        return "a first execution, not charged"
    return "can pay" if case.needs.has_budget else "exhausted"


def show_circuit(case: AdmissionInput) -> str:
    """State of the circuits."""
    return "open" if case.needs.is_open else "closed"


def show_due(case: AdmissionInput) -> str:
    """When the job may start."""
    if case.waits_for is None:
        return "may start now"
    return f"{case.waits_for.value}: may start in {case.opens_s:.1f} s"


def show_inline(case: AdmissionInput) -> str:
    """Whether this process can run the job."""
    return "can run here" if case.runs_here else "cannot run here"


def show_quality(case: AdmissionInput) -> str:
    """The fleet's quality, and whether there is a cheaper answer."""
    fallback = "a fallback" if case.has_fallback else "no fallback"
    return f"{case.needs.quality.value}, {fallback}"


def show_level(case: AdmissionInput) -> str:
    """The job's level and the threshold."""
    return f"level {case.level}, threshold {case.threshold}"


def show_floor(case: AdmissionInput) -> str:
    """The job's rank, and the highest one that was shed in this window."""
    highest = case.floor
    was = "nothing shed" if highest < 0 else f"rank {highest} was shed"
    return f"rank {case.rank}, {was} in this window"


def show_lag(case: AdmissionInput) -> str:
    """The event loop's lag."""
    return f"lag {case.lag_ms:.1f} ms, limit {case.lag_limit_ms:.0f} ms"


def show_dependency(case: AdmissionInput) -> str:
    """Whether the limits of the dependencies have room."""
    return "has room" if case.needs.has_room else "full"


def show_limit(case: AdmissionInput) -> str:
    """Free slots of this process."""
    return f"{case.free} of {case.limit} slots free"


def show_lane(policy: OutlookPolicy, case: AdmissionInput) -> str:
    """The jobs that wait, the drain rate, and when a job deferred now starts."""
    facts, left_s = case.lane, case.left_s
    if facts is None:
        return "not known"
    expected_s = eta_s(facts)
    rate = "rate not known" if facts.rate_per_s is None else f"{facts.rate_per_s:.1f}/s"
    text = f"{facts.waiting} waiting, {rate}, oldest {facts.oldest_age_s:.1f} s"
    if expected_s is not None:
        text += f", starts in {expected_s:.1f} s x {policy.safety:g}"
    return text if left_s is None else f"{text}, deadline in {left_s:.1f} s"
