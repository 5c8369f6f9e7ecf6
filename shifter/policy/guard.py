"""The circuit of one dependency as one process keeps it: decide, watch, change.

`shifter.policy.circuit` says what the states are and `shifter.policy.evidence` what
speaks against the dependency; this keeps both up to date with every call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

from shifter.model.lane import check_name
from shifter.policy.circuit import (
    CircuitPolicy,
    CircuitState,
    Closed,
    Permit,
    Refused,
    admit,
    settle,
    trip,
)
from shifter.policy.evidence import CallOutcome, EvidencePolicy, Witness, suspect


class DependencyOptions(TypedDict, total=False):
    """Options of ``app.dependency(...)``; `Dependency` says what each means."""

    circuit: CircuitPolicy
    evidence: EvidencePolicy
    is_dark: bool


@dataclass(frozen=True, slots=True)
class Dependency:
    """Something that jobs call and that may fail: a service, a database.

    Attributes:
        name: 1-64 lower-case letters, digits and inner hyphens.
        circuit: How it is left alone.
        evidence: When.
        is_dark: Decide and count, refuse nothing.

    Raises:
        ConfigError: The name is wrong.
    """

    name: str
    circuit: CircuitPolicy = field(default_factory=CircuitPolicy, kw_only=True)
    evidence: EvidencePolicy = field(default_factory=EvidencePolicy, kw_only=True)
    is_dark: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_name("dependency", self.name)


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How a call ended.

    Attributes:
        outcome: What it said about the dependency.
        took_ms: How long it took, >= 0.
        retry_after_ms: How long the dependency asked to be left alone, if it did.
    """

    outcome: CallOutcome
    took_ms: int
    retry_after_ms: int | None = None


class Guard:
    """A dependency's circuit, by local evidence. Belongs to one thread.

    Attributes:
        state: The circuit's.
        refused: Calls refused so far; in the dark, those that would have been.
    """

    __slots__ = ("_dependency", "_witness", "refused", "state")

    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency
        self._witness = Witness(dependency.evidence)
        self.state: CircuitState = Closed()
        self.refused = 0

    def admit(self, now_ms: int) -> Permit | Refused:
        """Decide about one call."""
        circuit = self._dependency.circuit
        self.state, answer = admit(circuit, self.state, now_ms=now_ms)
        if isinstance(answer, Refused):
            self.refused += 1
            if self._dependency.is_dark:
                return Permit(self.state.generation)
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
                self._of_probe(end),
                now_ms=now_ms,
                u=u,
                retry_after_ms=end.retry_after_ms,
            )
        return self.state.generation != before.generation

    def _judge(self, end: CallEnd, *, now_ms: int, u: float) -> None:
        self._witness.record(end.outcome, took_ms=end.took_ms, now_ms=now_ms)
        tally = self._witness.tally(now_ms)
        if suspect(self._dependency.evidence, tally) is None:
            return
        self._witness.clear()
        self.state = trip(
            self._dependency.circuit,
            self.state,
            now_ms=now_ms,
            u=u,
            retry_after_ms=end.retry_after_ms,
        )

    def _of_probe(self, end: CallEnd) -> CallOutcome:
        slow_ms = self._dependency.evidence.slow_call_ms
        is_slow = slow_ms is not None and end.took_ms >= slow_ms
        is_success = end.outcome is CallOutcome.SUCCESS
        return CallOutcome.FAILURE if is_success and is_slow else end.outcome
