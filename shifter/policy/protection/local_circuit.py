"""The circuit of one dependency as one process keeps it: decide, watch, change.

`shifter.policy.protection.circuit` says what the states are and
`shifter.policy.protection.evidence` what speaks against the dependency; this keeps both
up to date with every call.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from shifter.policy.protection.circuit import (
    CircuitRefusal,
    CircuitState,
    Closed,
    Permit,
    admit,
    settle,
    trip,
)
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.evidence import (
    CallCounter,
    CallOutcome,
    CallTally,
    suspect,
)
from shifter.policy.protection.usual_duration import UsualDuration


class CallEnd(NamedTuple):
    """How a call ended.

    Attributes:
        outcome: What it said about the dependency.
        took_ms: How long it took, >= 0.
        retry_after_ms: How long the dependency asked to be left alone, if it did.
        was_cut: Whether its caller stopped waiting; `LocalCircuit.judged` finds the
        outcome. given_ms: The timeout it had, >= 0; ``None`` if that is not known.
    """

    outcome: CallOutcome
    took_ms: int
    retry_after_ms: int | None = None
    was_cut: bool = False
    given_ms: int | None = None


class LocalCircuit:
    """A dependency's circuit, by the evidence of one process. Belongs to one thread.

    Attributes:
        state: The circuit's.
    """

    __slots__ = (
        "_dependency",
        "_said_at_ms",
        "_said_last",
        "_usual",
        "_witness",
        "state",
    )

    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency
        self._witness = CallCounter(dependency.evidence)
        self._usual = UsualDuration()
        self.state: CircuitState = Closed()
        self._said_last, self._said_at_ms = CallTally(), -math.inf

    def admit(self, now_ms: int) -> Permit | CircuitRefusal:
        """Decide about one call."""
        self.state, answer = admit(self._dependency.circuit, self.state, now_ms=now_ms)
        return answer

    def record(self, permit: Permit, end: CallEnd, *, now_ms: int, u: float) -> bool:
        """Note how a permitted call ended; returns whether the circuit changed.

        Args:
            permit: The call's; of an older generation it is dropped.
            end: How it ended.
            now_ms: When.
            u: One draw from [0, 1).
        """
        before = self.state
        if permit.generation != before.generation:
            return False
        if isinstance(before, Closed):
            self._judge(end, now_ms=now_ms, u=u)
        else:
            self.state = settle(
                self._dependency.circuit,
                before,
                permit,
                self.of_probe(end),
                now_ms=now_ms,
                u=u,
                retry_after_ms=end.retry_after_ms,
            )
        return self.state.generation != before.generation

    def judged(self, end: CallEnd) -> CallEnd:
        """The end with the outcome of a call that was cut; learns from a success.

        A cut is a failure if the call ran for as long as it was given, or longer than
        is usual or than counts as slow. Else its caller left early: that says nothing.
        """
        if end.outcome is CallOutcome.SUCCESS:
            self._usual.learn(end.took_ms)
        if not end.was_cut:
            return end
        given_ms = math.inf if end.given_ms is None else end.given_ms
        if end.took_ms < min(self._usual.limit_ms, self._slow_ms, given_ms):
            return end._replace(outcome=CallOutcome.IGNORED)
        return end._replace(outcome=CallOutcome.FAILURE)

    def suspect(self, *, now_ms: int, u: float) -> None:
        """Open it, for a reason that is no call's end."""
        self._open(now_ms=now_ms, u=u, retry_after_ms=None)

    def testimony(self, now_ms: int) -> CallTally:
        """What was counted; for a while after it opened, what it opened for."""
        if now_ms - self._said_at_ms < self._dependency.evidence.evidence_ttl_ms:
            return self._said_last
        return self._witness.tally(now_ms)

    @property
    def peak_per_ms(self) -> float:
        """As of `CallCounter`."""
        return self._witness.peak_per_ms

    def reset(self) -> None:
        """Close it and forget everything: the fleet decided."""
        self._witness.clear()
        self._said_last, self._said_at_ms = CallTally(), -math.inf
        if not isinstance(self.state, Closed):
            self.state = Closed(self.state.generation + 1)

    def of_probe(self, end: CallEnd) -> CallOutcome:
        """What a trial call says: a slow success is none."""
        slow_ms = self._dependency.evidence.slow_call_ms
        is_slow = slow_ms is not None and end.took_ms >= slow_ms
        is_success = end.outcome is CallOutcome.SUCCESS
        return CallOutcome.FAILURE if is_success and is_slow else end.outcome

    def _judge(self, end: CallEnd, *, now_ms: int, u: float) -> None:
        self._witness.record(end.outcome, took_ms=end.took_ms, now_ms=now_ms)
        # A success speaks against nothing, unless it was slow.
        if end.outcome is CallOutcome.SUCCESS and end.took_ms < self._slow_ms:
            return
        if suspect(self._dependency.evidence, self._witness.tally(now_ms)) is not None:
            self._open(now_ms=now_ms, u=u, retry_after_ms=end.retry_after_ms)

    @property
    def _slow_ms(self) -> float:
        slow_ms = self._dependency.evidence.slow_call_ms
        return math.inf if slow_ms is None else slow_ms

    def _open(self, *, now_ms: int, u: float, retry_after_ms: int | None) -> None:
        self._said_last = self._witness.tally(now_ms)
        self._said_at_ms = now_ms
        self._witness.clear()
        self.state = trip(
            self._dependency.circuit,
            self.state,
            now_ms=now_ms,
            u=u,
            retry_after_ms=retry_after_ms,
        )
