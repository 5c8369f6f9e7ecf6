"""The circuit of one dependency as one process keeps it, by its own evidence.

Each call that ended is counted. When the process suspects the dependency
(`shifter.policy.protection.circuit.evidence`), `LocalCircuit.open` opens the circuit by
the rules of `shifter.policy.protection.circuit.states`, and probes close it again.

A caller that stops waiting got no answer: its timeout passed, its deadline passed, or
it left. If the call had already run longer than calls usually do, the dependency did
not answer in time, and the cut is a failure; else the caller was early, and the cut
shows nothing. The usual duration is estimated as TCP estimates it for a lost segment:
the smoothed duration of successful calls plus four times their smoothed deviation.

Source: RFC 6298 (Computing TCP's Retransmission Timer), gains of 1/8 and 1/4.
"""

from __future__ import annotations

import math
from typing import Final

from shifter.policy.failure_cause import SLOW_CALL, CauseCounter, FailureCause
from shifter.policy.protection.circuit.evidence import (
    CallCounter,
    CallEnd,
    CallOutcome,
    CallTally,
    suspects,
)
from shifter.policy.protection.circuit.states import (
    CircuitRefusal,
    CircuitState,
    Closed,
    Open,
    Permit,
    admit,
    settle,
    trip,
)
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.failure_kinds import cooldown_for

USUAL_FLOOR_MS: Final = 10
"""A call that was cut sooner is ignored: pauses of the process itself are as long."""

USUAL_CEILING_MS: Final = 600_000
"""A call that was cut after ten minutes has failed, whatever is usual."""

_FAILED: Final = (CallOutcome.FAILURE, CallOutcome.THROTTLED)

_MEAN_GAIN: Final = 1 / 8
"""Gain of the mean. Source: RFC 6298, section 2 (alpha)."""

_DEVIATION_GAIN: Final = 1 / 4
"""Gain of the deviation. Source: RFC 6298, section 2 (beta)."""

_DEVIATIONS: Final = 4
"""Deviations above the mean that are still usual. Source: RFC 6298, section 2 (K)."""


class UsualDuration:
    """Learns from successful calls how long they take. Belongs to one thread.

    Attributes:
        limit_ms: A call that takes so long takes longer than usual. From
            `USUAL_FLOOR_MS`, which it is until the first success, to
            `USUAL_CEILING_MS`.
    """

    def __init__(self) -> None:
        self._known, self._mean_ms, self._deviation_ms = 0, 0.0, 0.0
        self.limit_ms: float = USUAL_FLOOR_MS

    def learn(self, took_ms: int) -> None:
        """Learn from one success, >= 0 ms."""
        if not self._known:
            self._mean_ms, self._deviation_ms = float(took_ms), took_ms / 2
        else:
            error_ms = took_ms - self._mean_ms
            # The first calls are averaged, so that later ones soon outweigh a slow one.
            gain = max(_MEAN_GAIN, 1 / (self._known + 1))
            spread_ms = abs(error_ms) - self._deviation_ms
            self._deviation_ms += spread_ms * _DEVIATION_GAIN
            self._mean_ms += error_ms * gain
        self._known += 1
        limit_ms = self._mean_ms + _DEVIATIONS * self._deviation_ms
        self.limit_ms = min(max(USUAL_FLOOR_MS, limit_ms), USUAL_CEILING_MS)


class LocalCircuit:
    """A dependency's circuit, by the evidence of one process. Belongs to one thread.

    Args:
        dependency: The dependency that is protected.

    Attributes:
        state: The state of the circuit.
    """

    def __init__(self, dependency: Dependency) -> None:
        self._policy, self._evidence = dependency.circuit, dependency.evidence
        slow_ms = dependency.evidence.slow_call_ms
        self._slow_ms = math.inf if slow_ms is None else slow_ms
        self._counter = CallCounter(dependency.evidence)
        self._usual = UsualDuration()
        self.state: CircuitState = Closed()
        self._opened_for, self._opened_ms = CallTally(), -math.inf
        self._causes = CauseCounter(dependency.evidence.window)
        self._cut_cooldown_ms = cooldown_for(TimeoutError(), dependency.cooldowns_ms)

    @property
    def peak_per_ms(self) -> float:
        """Calls a millisecond before the last change; see `CallCounter`."""
        return self._counter.peak_per_ms

    def admit(self, now_ms: int) -> Permit | CircuitRefusal:
        """Decide about one call."""
        self.state, answer = admit(self._policy, self.state, now_ms=now_ms)
        return answer

    def record(self, permit: Permit, end: CallEnd, *, now_ms: int, u: float) -> bool:
        """Note how an admitted call ended.

        Args:
            permit: The permit of the call; one of an older generation is dropped.
            end: How the call ended.
            now_ms: When it ended.
            u: One draw from [0, 1) for the cooldown.

        Returns:
            Whether the circuit opened or closed.
        """
        before = self.state
        if permit.generation != before.generation:
            return False
        if isinstance(before, Closed):
            self._counter.record(end.outcome, took_ms=end.took_ms, now_ms=now_ms)
            if end.cause is not None and end.outcome in _FAILED:
                self._causes.record(end.cause, now_ms)
            # A success is no reason to open the circuit, unless it was slow.
            is_harmless = (
                end.outcome is CallOutcome.SUCCESS and end.took_ms < self._slow_ms
            )
            if not is_harmless and suspects(
                self._evidence, self._counter.tally(now_ms)
            ):
                self.open(now_ms=now_ms, u=u, retry_after_ms=end.retry_after_ms)
        else:
            self.state = settle(
                self._policy,
                before,
                permit,
                self.probe_outcome(end),
                now_ms=now_ms,
                u=u,
                retry_after_ms=end.retry_after_ms,
                cause=end.cause,
            )
        return self.state.generation != before.generation

    def judged(self, end: CallEnd) -> CallEnd:
        """The end with the outcome of a call that was cut; learns from a success.

        A cut is a failure if the call ran for as long as it was given, or longer than
        is usual or than counts as slow. Else its caller left early: that shows nothing.
        """
        if end.outcome is CallOutcome.SUCCESS:
            self._usual.learn(end.took_ms)
        if not end.was_cut:
            return end
        given_ms = math.inf if end.given_ms is None else end.given_ms
        if end.took_ms < min(self._usual.limit_ms, self._slow_ms, given_ms):
            return end._replace(outcome=CallOutcome.IGNORED)
        text = f"no answer within {end.took_ms} ms"
        cause = FailureCause("TimeoutError", 1, text, self._cut_cooldown_ms)
        return end._replace(outcome=CallOutcome.FAILURE, cause=end.cause or cause)

    def probe_outcome(self, end: CallEnd) -> CallOutcome:
        """The outcome of a probe: a slow success is a failure."""
        is_slow = end.took_ms >= self._slow_ms
        is_success = end.outcome is CallOutcome.SUCCESS
        return CallOutcome.FAILURE if is_success and is_slow else end.outcome

    def open(self, *, now_ms: int, u: float, retry_after_ms: int | None = None) -> None:
        """Open the circuit, and begin to count anew.

        Args:
            now_ms: When the circuit opens.
            u: One draw from [0, 1) for the cooldown.
            retry_after_ms: How long the dependency asked not to be called, if it did.
        """
        cause = self.cause(now_ms)
        self._opened_for, self._opened_ms = self._counter.tally(now_ms), now_ms
        self._counter.clear()
        self._causes.clear()
        self.state = trip(
            self._policy,
            self.state,
            now_ms=now_ms,
            u=u,
            retry_after_ms=retry_after_ms,
            cause=cause,
        )

    def tally(self, now_ms: int) -> CallTally:
        """This process's evidence; for a while after it opened, what it opened for."""
        if now_ms - self._opened_ms < self._evidence.evidence_ttl_ms:
            return self._opened_for
        return self._counter.tally(now_ms)

    def cause(self, now_ms: int) -> FailureCause | None:
        """Why calls failed that are evidence, or were slow; ``None`` if none was."""
        if isinstance(self.state, Open):
            return self.state.cause
        tally, cause = self._counter.tally(now_ms), self._causes.main(now_ms)
        if cause is None and tally.slow:
            text = f"took {self._slow_ms:.0f} ms or longer"
            return FailureCause(SLOW_CALL, tally.slow, text)
        return cause

    def reset(self) -> None:
        """Close the circuit and forget the evidence: the fleet's circuit changed."""
        self._counter.clear()
        self._causes.clear()
        self._opened_for, self._opened_ms = CallTally(), -math.inf
        if not isinstance(self.state, Closed):
            self.state = Closed(self.state.generation + 1)
