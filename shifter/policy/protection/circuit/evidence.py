"""What calls show about a dependency, and when a process or the whole fleet acts on it.

A process counts its own calls: that is its *evidence*. Three rules decide whether one
process suspects the dependency: too large a share of failures, too many in a row, too
large a share of slow calls. A process that suspects it alone stops calling it alone.
The circuit of the fleet opens when enough processes suspect the dependency:

- a *quorum* of the processes that called it, or
- processes that carry enough *weight* of its traffic;
- and two of them at least, unless the fleet is one process: the network of a single
  process may be at fault.

Evidence only ever opens a circuit; probes close it. So a process that has just started,
and has counted nothing, resets nothing.

Sources: Linkerd (429 counts for the rate only, exact buckets), Hystrix and resilience4j
(defaults), Polly's issue 287 (quorum against one bad node).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from shifter.policy.bounds import check_at_least, check_ratio
from shifter.policy.failure_cause import FailureCause
from shifter.policy.sliding_window import SlidingWindow, WindowPolicy

_CALLS, _FAILURES, _SLOW, _THROTTLED = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePolicy:
    """When a process suspects a dependency, and when the fleet does.

    Attributes:
        window: How long calls are counted.
        min_calls: With fewer calls no share is judged, >= 1.
        failure_ratio: Suspicious share of failed calls, in (0, 1].
        consecutive_failures: Suspicious failures in a row, whatever the share; >= 1.
        slow_call_ms: A call that took so long is slow, >= 1; ``None`` for no bound.
        slow_ratio: Suspicious share of slow calls, in (0, 1].
        quorum_ratio: Share of the processes that called the dependency, in (0, 1].
        weight_ratio: Share of the dependency's traffic, in (0, 1].
        evidence_ttl_ms: How long a process that opened its own circuit reports the
            evidence for that, >= 1.

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
        check_at_least("consecutive_failures", self.consecutive_failures, 1)
        check_at_least("evidence_ttl_ms", self.evidence_ttl_ms, 1)
        if self.slow_call_ms is not None:
            check_at_least("slow_call_ms", self.slow_call_ms, 1)
        for name in ("failure_ratio", "slow_ratio", "quorum_ratio", "weight_ratio"):
            check_ratio(name, getattr(self, name))


class CallOutcome(Enum):
    """What a call showed about the dependency."""

    # Members are singletons; Enum's own hash is a call into Python, for each call made.
    __hash__ = object.__hash__

    SUCCESS = "success"
    FAILURE = "failure"
    THROTTLED = "throttled"
    """It answered, and asked to wait: fails a probe, counts for the share only."""
    IGNORED = "ignored"
    """Nothing: the caller gave up, or the request was at fault."""


class CallEnd(NamedTuple):
    """How a call ended.

    Attributes:
        outcome: What the call showed about the dependency.
        took_ms: How long it took, >= 0.
        retry_after_ms: How long the dependency asked not to be called, if it did.
        was_cut: Whether the caller stopped waiting; `LocalCircuit.judged` judges that.
        given_ms: The timeout of the call, >= 0; ``None`` if that is not known.
        cause: Why it failed, if known.
    """

    outcome: CallOutcome
    took_ms: int
    retry_after_ms: int | None = None
    was_cut: bool = False
    given_ms: int | None = None
    cause: FailureCause | None = None


class CallTally(NamedTuple):
    """The calls that one process counted over its window.

    Attributes:
        calls: Calls that ended, without the ignored ones.
        failures: Calls that failed or were throttled.
        slow: Calls that took too long.
        in_a_row: Failures since the last success, without the throttled calls.
    """

    calls: int = 0
    failures: int = 0
    slow: int = 0
    in_a_row: int = 0


class CallCounter:
    """Counts the calls of one process to one dependency. Belongs to one thread.

    Args:
        policy: The window, and which calls are slow.

    Attributes:
        peak_per_ms: Calls a millisecond over the window before the circuit last
            changed; 0 if too little was counted. It is a mean: the busiest moments of
            many processes would add up to more calls than there ever were.
    """

    def __init__(self, policy: EvidencePolicy) -> None:
        self._policy = policy.window
        self._slow_ms = policy.slow_call_ms
        self._window = SlidingWindow(policy.window, 4)
        self._in_a_row = 0
        self._since_ms: int | None = None
        self._last_ms = 0
        self.peak_per_ms = 0.0

    def record(self, outcome: CallOutcome, *, took_ms: int, now_ms: int) -> None:
        """Count a call that ended.

        Args:
            outcome: What the call showed; an ignored one is not counted.
            took_ms: How long the call took.
            now_ms: When it ended.
        """
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
        """The counts of the window; failures that left it are in no row any more."""
        calls, failures, slow, throttled = self._window.totals(now_ms)
        in_a_row = min(self._in_a_row, failures - throttled)
        return CallTally(calls, failures, slow, in_a_row)

    def clear(self) -> None:
        """Forget the calls, because the circuit changed; only their rate is kept.

        Less than two buckets of calls show no rate. A rate of less than a window does
        not lower an earlier one.
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


def suspects(policy: EvidencePolicy, tally: CallTally) -> bool:
    """Whether a process with this evidence suspects the dependency. Pure."""
    if tally.in_a_row >= policy.consecutive_failures:
        return True
    if tally.calls < policy.min_calls:
        return False
    if tally.failures >= policy.failure_ratio * tally.calls:
        return True
    slow = 0 if policy.slow_call_ms is None else tally.slow
    return slow >= policy.slow_ratio * tally.calls


class Vote(NamedTuple):
    """What one process thinks of a dependency, or of one of its endpoints.

    Attributes:
        calls: The calls that it counted, >= 0.
        suspects: Whether it suspects it.
    """

    calls: int
    suspects: bool


def fleet_suspects(policy: EvidencePolicy, tallies: Sequence[CallTally]) -> bool:
    """Whether the circuit of the whole fleet should open. Pure.

    Args:
        policy: The evidence policy of the dependency.
        tallies: The evidence of every process, in any order.

    Returns:
        The same answer in every process that has the same evidence.
    """
    votes = [Vote(tally.calls, suspects(policy, tally)) for tally in tallies]
    return has_quorum(policy, votes)


def has_quorum(policy: EvidencePolicy, votes: Sequence[Vote]) -> bool:
    """Whether enough processes suspect the same. Pure.

    Two must at least, unless there is one process alone.

    Args:
        policy: Share of the processes that called, or share of the calls.
        votes: One for each process, in any order.
    """
    suspecting = [vote for vote in votes if vote.suspects]
    if len(suspecting) < min(2, len(votes)):
        return False
    voters = sum(vote.calls > 0 for vote in votes)
    if len(suspecting) >= policy.quorum_ratio * voters:
        return True
    traffic = sum(vote.calls for vote in votes)
    weight = sum(vote.calls for vote in suspecting)
    return weight >= policy.weight_ratio * traffic
