"""The circuit of one dependency, as one process goes by it: the fleet's and its own.

The fleet's circuit holds for everybody. Beside it each process keeps one of its own,
by its own evidence: what it alone suspects it alone leaves alone, until the fleet
agrees, or does not. Where the store has been away for long, its own is all there is.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from shifter.fleet.circuit import ASK_AGAIN_MS, SharedCircuit
from shifter.policy.protection.circuit import (
    CircuitRefusal,
    CircuitState,
    Closed,
    Open,
    Permit,
)
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.evidence import (
    CallOutcome,
    CallTally,
    Evidence,
    Scope,
    scope,
    suspect,
)
from shifter.policy.protection.local_circuit import CallEnd, LocalCircuit

_NOT_COUNTED: Final = Permit(-1)
"""Of a call that says nothing to this process's own circuit."""


class StoreContact:
    """How a process stands with the store; all its breakers read the one.

    Attributes:
        offset_ms: From this process's clock to the store's.
        is_alone: Whether the store has been away for so long that only local evidence
            counts.
    """

    __slots__ = ("is_alone", "offset_ms")

    def __init__(self) -> None:
        self.offset_ms = 0
        self.is_alone = False


class CallPermit(NamedTuple):
    """One call may be made.

    Attributes:
        shared: Permit of the fleet's circuit.
        own: Permit of this process's own circuit.
    """

    shared: Permit
    own: Permit

    @property
    def is_probe(self) -> bool:
        """Whether it is a trial call of a half-open circuit."""
        return bool(self.shared.probe or self.own.probe)


class Breaker:
    """See above. Belongs to one thread.

    Args:
        dependency: Whose.
        draws: Jitter and ramp.
        standing: The process's, with the store.

    Attributes:
        shared: The fleet's.
    """

    def __init__(
        self, dependency: Dependency, draws: random.Random, standing: StoreContact
    ) -> None:
        self._policy, self._draws = dependency.evidence, draws
        self._standing = standing
        self.shared = SharedCircuit(dependency.name, dependency.circuit)
        self._guard = LocalCircuit(dependency)
        self._usual = CallPermit(Permit(0), Permit(0))
        self._usual_for = (0, 0)
        self._retry_after_ms: int | None = None

    @property
    def own_state(self) -> CircuitState:
        """The circuit by the evidence of this process alone."""
        return self._guard.state

    @property
    def is_calm(self) -> bool:
        """Whether both circuits are closed, and nothing is odd about them."""
        is_closed = isinstance(self._guard.state, Closed)
        return is_closed and self.shared.generation_if_calm >= 0

    def admit(self, now_ms: int) -> CallPermit | CircuitRefusal:
        """Decide about one call; instants are by this process's monotonic clock."""
        own_state, shared_gen = self._guard.state, self.shared.generation_if_calm
        if shared_gen >= 0 and isinstance(own_state, Closed):
            if (shared_gen, own_state.generation) != self._usual_for:
                self._usual = CallPermit(
                    Permit(shared_gen), Permit(own_state.generation)
                )
                self._usual_for = (shared_gen, own_state.generation)
            return self._usual
        if not self._standing.is_alone:
            store_ms = now_ms + self._standing.offset_ms
            shared = self.shared.admit(store_ms)
            if isinstance(shared, CircuitRefusal):
                return shared
            if shared.probe:
                return CallPermit(shared, _NOT_COUNTED)
        else:
            shared = Permit(self.shared.state.generation)
        own = self._guard.admit(now_ms)
        if isinstance(own, CircuitRefusal):
            return CircuitRefusal(min(own.retry_in_ms, ASK_AGAIN_MS))
        return CallPermit(shared, own)

    def uncounted(self) -> CallPermit:
        """Leave for a call that is refused in the dark only."""
        return CallPermit(Permit(self.shared.state.generation), _NOT_COUNTED)

    def of_child(self, shared: Permit) -> CallPermit:
        """What a child process was given, as far as this one's own circuit goes."""
        return CallPermit(shared, Permit(self._guard.state.generation))

    def give_back(self, leave: CallPermit, now_ms: int) -> None:
        """A call that was let through and is not made."""
        self.shared.give_back(leave.shared, now_ms + self._standing.offset_ms)
        if leave.own.probe:
            end = CallEnd(CallOutcome.IGNORED, 0)
            self._guard.record(leave.own, end, now_ms=now_ms, u=0.0)

    def judged(self, end: CallEnd) -> CallEnd:
        """As of `LocalCircuit.judged`."""
        return self._guard.judged(end)

    def ended(self, leave: CallPermit, end: CallEnd, *, now_ms: int) -> bool:
        """Note how a call ended; whether this process alone opened or closed it."""
        if leave.shared.probe:
            outcome = self._guard.of_probe(end)
            self.shared.record(leave.shared, outcome, end.retry_after_ms)
            return False
        if leave.shared.generation != self.shared.state.generation:
            return False
        self.shared.ended(end.outcome)
        if end.retry_after_ms is not None:
            self._retry_after_ms = end.retry_after_ms
        return self._guard.record(leave.own, end, now_ms=now_ms, u=self._draws.random())

    def testimony(self, now_ms: int) -> CallTally:
        """What this process counted."""
        return self._guard.testimony(now_ms)

    def is_suspicious(self, now_ms: int) -> bool:
        """Whether the others should be heard: this process alone would open it."""
        if not isinstance(self.shared.state, Closed):
            return False
        if isinstance(self._guard.state, Open):
            return True
        return suspect(self._policy, self._guard.testimony(now_ms)) is not None

    def hear(self, others: list[CallTally], *, now_ms: int) -> None:
        """Weigh what the other processes say; may ask for the fleet's opening."""
        if not isinstance(self.shared.state, Closed):
            return
        own = self._guard.testimony(now_ms)
        evidence = [Evidence(tally, now_ms) for tally in others]
        if scope(self._policy, own, evidence, now_ms=now_ms) is Scope.FLEET:
            self.shared.suspect(self._retry_after_ms)
            self._retry_after_ms = None

    def suspect(self, now_ms: int) -> None:
        """Open this process's own, for a reason that is no call's end."""
        self._guard.suspect(now_ms=now_ms, u=self._draws.random())

    def follow(self) -> None:
        """The fleet's circuit changed: what this process thought of it is over."""
        self._guard.reset()
        self.shared.peak_per_ms = self._guard.peak_per_ms
