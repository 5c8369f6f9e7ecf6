"""What calls say about a dependency, and when a process or the whole fleet acts on it.

A process counts its own calls: that is its *evidence*. Three rules turn one process's
evidence into a suspicion: too large a share of failures, too many in a row, too large
a share of slow calls. The fleet is convinced when enough suspect it:

- a *quorum* of the processes that called it, or
- those that carry enough *weight* of its traffic;
- and two of them at least, unless the fleet is one process: a single process may be
  wrong about its own network, so it acts for itself alone.

Evidence only ever opens a circuit; closing is the work of probes
(`shifter.policy.protection.circuit`). So a process that has just started, and has seen
nothing, cannot reset anything.

Sources: Linkerd (429 counts for the rate only, exact buckets), Hystrix and resilience4j
(defaults), Polly's issue 287 (quorum against one bad node).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import NamedTuple

from shifter.policy.bounds import check_at_least, check_ratio
from shifter.policy.sliding_window import SlidingWindow, WindowPolicy

_CALLS, _FAILURES, _SLOW, _THROTTLED = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePolicy:
    """When a process suspects a dependency, and when the fleet does.

    Attributes:
        window: What is counted.
        min_calls: Fewer say nothing about a share, >= 1.
        failure_ratio: So many of the calls failed, in (0, 1].
        consecutive_failures: So many in a row, whatever the share; >= 1.
        slow_call_ms: A call that took so long is slow, >= 1; ``None`` never.
        slow_ratio: So many of the calls were slow, in (0, 1].
        quorum_ratio: Share of the processes that called it, in (0, 1].
        weight_ratio: Share of its traffic, in (0, 1].
        evidence_ttl_ms: Evidence is forgotten at this age, >= 1.

    Raises:
        ConfigError: A value is out of its range.
    """

    window: WindowPolicy = field(default_factory=WindowPolicy)
    min_calls: int = 20
    failure_ratio: float = 0.5
    consecutive_failures: int = 5
    slow_call_ms: int | None = None
    slow_ratio: float = 0.8
    quorum_ratio: float = 0.5
    weight_ratio: float = 0.5
    evidence_ttl_ms: int = 2_000

    def __post_init__(self) -> None:
        check_at_least("min_calls", self.min_calls, 1)
        check_ratio("failure_ratio", self.failure_ratio)
        check_at_least("consecutive_failures", self.consecutive_failures, 1)
        if self.slow_call_ms is not None:
            check_at_least("slow_call_ms", self.slow_call_ms, 1)
        check_ratio("slow_ratio", self.slow_ratio)
        check_ratio("quorum_ratio", self.quorum_ratio)
        check_ratio("weight_ratio", self.weight_ratio)
        check_at_least("evidence_ttl_ms", self.evidence_ttl_ms, 1)


class CallOutcome(Enum):
    """What a call said about the dependency."""

    SUCCESS = "success"
    FAILURE = "failure"
    THROTTLED = "throttled"
    """It answered, and asked to wait: fails a probe, counts for the share only."""
    IGNORED = "ignored"
    """Nothing: the caller gave up, or the request was at fault."""


class CallTally(NamedTuple):
    """What one process counted over its window.

    Attributes:
        calls: Ended calls, but the ignored ones.
        failures: Those that failed or were throttled.
        slow: Those that took too long.
        in_a_row: Failures since the last success; throttled ones left out.
    """

    calls: int = 0
    failures: int = 0
    slow: int = 0
    in_a_row: int = 0


class Suspicion(StrEnum):
    """The rule that a tally broke."""

    FAILURE_RATIO = "failure_ratio"
    CONSECUTIVE_FAILURES = "consecutive_failures"
    SLOW_CALLS = "slow_calls"


class Evidence(NamedTuple):
    """One process's word.

    Attributes:
        tally: What it counted.
        seen_ms: When it said so, by the store's clock.
    """

    tally: CallTally
    seen_ms: int


class Scope(StrEnum):
    """For whom the circuit should open."""

    NOBODY = "nobody"
    PROCESS = "process"
    FLEET = "fleet"


class CallCounter:
    """Counts the calls of one process to one dependency. Belongs to one thread.

    Attributes:
        peak_per_ms: Calls a millisecond, over the window before the circuit changed
            last; 0 if that is not known: too little was seen. No busiest moment of
            it: those of many processes add up to more than there ever was.
    """

    __slots__ = (
        "_in_a_row",
        "_last_ms",
        "_policy",
        "_since_ms",
        "_slow_ms",
        "_window",
        "peak_per_ms",
    )

    def __init__(self, policy: EvidencePolicy) -> None:
        self._window = SlidingWindow(policy.window, 4)
        self._policy = policy.window
        self._since_ms: int | None = None
        self._last_ms = 0
        self.peak_per_ms = 0.0
        self._slow_ms = policy.slow_call_ms
        self._in_a_row = 0

    def record(self, outcome: CallOutcome, *, took_ms: int, now_ms: int) -> None:
        """Note that a call ended."""
        if outcome is CallOutcome.IGNORED:
            return
        self._window.add(now_ms, _CALLS)
        self._last_ms = now_ms
        if self._since_ms is None:
            self._since_ms = now_ms
        if self._slow_ms is not None and took_ms >= self._slow_ms:
            self._window.add(now_ms, _SLOW)
        if outcome is CallOutcome.SUCCESS:
            self._in_a_row = 0
            return
        self._window.add(now_ms, _FAILURES)
        if outcome is CallOutcome.THROTTLED:
            self._window.add(now_ms, _THROTTLED)
        else:
            self._in_a_row += 1

    def tally(self, now_ms: int) -> CallTally:
        """What was counted. Failures that left the window are not in a row any more."""
        calls, failures, slow, throttled = self._window.totals(now_ms)
        in_a_row = min(self._in_a_row, failures - throttled)
        return CallTally(calls, failures, slow, in_a_row)

    def clear(self) -> None:
        """Forget everything: the circuit changed, what was seen before is of no use.

        But for how many calls there were. Less than two buckets show too little, and
        less than the window may show less than what was seen before it.
        """
        bucket_ms, last_ms = self._policy.bucket_ms, self._last_ms
        since_ms = last_ms if self._since_ms is None else self._since_ms
        oldest_ms = (last_ms // bucket_ms + 1) * bucket_ms - self._policy.length_ms
        seen_ms = last_ms - max(since_ms, oldest_ms)
        if seen_ms >= 2 * bucket_ms:
            per_ms = self._window.totals(last_ms)[_CALLS] / seen_ms
            is_short = since_ms > oldest_ms
            self.peak_per_ms = max(per_ms, self.peak_per_ms if is_short else 0.0)
        self._since_ms = None
        self._window.clear()
        self._in_a_row = 0


def suspect(policy: EvidencePolicy, tally: CallTally) -> Suspicion | None:
    """The rule that this tally breaks, if there is one. Pure."""
    if tally.in_a_row >= policy.consecutive_failures:
        return Suspicion.CONSECUTIVE_FAILURES
    if tally.calls < policy.min_calls:
        return None
    if tally.failures >= policy.failure_ratio * tally.calls:
        return Suspicion.FAILURE_RATIO
    if policy.slow_call_ms is not None and (
        tally.slow >= policy.slow_ratio * tally.calls
    ):
        return Suspicion.SLOW_CALLS
    return None


def scope(
    policy: EvidencePolicy, own: CallTally, others: Sequence[Evidence], *, now_ms: int
) -> Scope:
    """For whom the circuit should open, by all that is known.

    Args:
        policy: The dependency's.
        own: What this process counted.
        others: What the other processes said; what is too old is ignored.
        now_ms: By the clock that dated ``others``.

    Pure; every process that has the same evidence comes to the same answer about the
    fleet.
    """
    oldest_ms = now_ms - policy.evidence_ttl_ms
    tallies = [own, *(e.tally for e in others if e.seen_ms > oldest_ms)]
    suspecting = [tally for tally in tallies if suspect(policy, tally) is not None]
    if len(suspecting) >= min(2, len(tallies)):
        voters = sum(tally.calls > 0 for tally in tallies)
        traffic = sum(tally.calls for tally in tallies)
        weight = sum(tally.calls for tally in suspecting)
        if len(suspecting) >= policy.quorum_ratio * voters or (
            weight >= policy.weight_ratio * traffic
        ):
            return Scope.FLEET
    is_own = suspect(policy, own) is not None
    return Scope.PROCESS if is_own else Scope.NOBODY
