"""The guard of a dependency's circuits: the fleet's, and this process's own.

The fleet's circuit holds for every process. In addition, each process has a circuit of
its own that goes by its own evidence: a process that suspects a dependency alone stops
calling it alone, until the fleet agrees or the evidence is gone. While the store has
been away for long, the own circuit is the only one.
"""

from __future__ import annotations

import random
from typing import Final

from shifter.fleet.circuit import ASK_AGAIN_MS, SharedCircuit
from shifter.fleet.guard import CallPermit, CallRequest
from shifter.policy.protection.circuit import (
    CircuitRefusal,
    CircuitState,
    Closed,
    Open,
    Permit,
)
from shifter.policy.protection.dependency import Dependency, Protection
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
"""The permit of a call that this process's own circuit does not count."""


class StoreContact:
    """Whether a process reaches the store; all its breakers read the same object.

    Attributes:
        offset_ms: From this process's clock to the store's.
        is_alone: Whether the store has been away for so long that only local evidence
            counts.
    """

    __slots__ = ("is_alone", "offset_ms")

    def __init__(self) -> None:
        self.offset_ms = 0
        self.is_alone = False


class Breaker:
    """The fleet's circuit and this process's own, as one guard. Belongs to one thread.

    Args:
        dependency: The dependency that is protected.
        draws: Source of the jitter.
        contact: Whether this process reaches the store.

    Attributes:
        shared: The fleet's circuit.
    """

    by: Final = Protection.CIRCUIT

    def __init__(
        self, dependency: Dependency, draws: random.Random, contact: StoreContact
    ) -> None:
        self._policy, self._draws = dependency.evidence, draws
        self._contact = contact
        self.shared = SharedCircuit(dependency.name, dependency.circuit)
        self._own = LocalCircuit(dependency)
        self._usual = CallPermit(Permit(0), Permit(0))
        self._usual_for = (0, 0)
        self._retry_after_ms: int | None = None

    @property
    def own_state(self) -> CircuitState:
        """The circuit by the evidence of this process alone."""
        return self._own.state

    @property
    def is_calm(self) -> bool:
        """Whether both circuits are closed, and nothing is odd about them."""
        is_closed = isinstance(self._own.state, Closed)
        return is_closed and self.shared.generation_if_calm >= 0

    def admit(self, request: CallRequest) -> int | None:
        """Set the permit of a call; a refused call has one that is not counted."""
        answer = self.ask(request.now_ms)
        if isinstance(answer, CircuitRefusal):
            generation = self.shared.state.generation
            request.permit = CallPermit(Permit(generation), _NOT_COUNTED)
            return answer.retry_in_ms
        request.permit = answer
        # Almost every permit is the usual one.
        request.is_probe = answer is not self._usual and answer.is_probe
        return None

    def ask(self, now_ms: int) -> CallPermit | CircuitRefusal:
        """Decide about one call; instants are by this process's monotonic clock."""
        own_state, shared_gen = self._own.state, self.shared.generation_if_calm
        if shared_gen >= 0 and isinstance(own_state, Closed):
            if (shared_gen, own_state.generation) != self._usual_for:
                self._usual = CallPermit(
                    Permit(shared_gen), Permit(own_state.generation)
                )
                self._usual_for = (shared_gen, own_state.generation)
            return self._usual
        if not self._contact.is_alone:
            store_ms = now_ms + self._contact.offset_ms
            shared = self.shared.admit(store_ms)
            if isinstance(shared, CircuitRefusal):
                return shared
            if shared.probe:
                return CallPermit(shared, _NOT_COUNTED)
        else:
            shared = Permit(self.shared.state.generation)
        own = self._own.admit(now_ms)
        if isinstance(own, CircuitRefusal):
            return CircuitRefusal(min(own.retry_in_ms, ASK_AGAIN_MS))
        return CallPermit(shared, own)

    def of_child(self, shared: Permit) -> CallPermit:
        """The permit of a call that a child process makes."""
        return CallPermit(shared, Permit(self._own.state.generation))

    def give_back(self, request: CallRequest) -> None:
        """Return the permit of a call that another guard refused."""
        if request.permit.own is not _NOT_COUNTED:
            self.put_back(request.permit, request.now_ms)

    def begin(self, request: CallRequest) -> None:
        """Do nothing: a call counts when it has ended."""

    def put_back(self, permit: CallPermit, now_ms: int) -> None:
        """Return a permit whose call is not made."""
        self.shared.give_back(permit.shared, now_ms + self._contact.offset_ms)
        if permit.own.probe:
            end = CallEnd(CallOutcome.IGNORED, 0)
            self._own.record(permit.own, end, now_ms=now_ms, u=0.0)

    def judged(self, end: CallEnd) -> CallEnd:
        """Find the outcome of a call; see `LocalCircuit.judged`."""
        return self._own.judged(end)

    def ended(self, permit: CallPermit, end: CallEnd, *, now_ms: int) -> bool:
        """Note how a call ended.

        Returns:
            Whether this process's own circuit opened or closed.
        """
        if permit.shared.probe:
            outcome = self._own.of_probe(end)
            self.shared.record(permit.shared, outcome, end.retry_after_ms)
            return False
        if permit.shared.generation != self.shared.state.generation:
            return False
        self.shared.ended(end.outcome)
        if end.retry_after_ms is not None:
            self._retry_after_ms = end.retry_after_ms
        return self._own.record(permit.own, end, now_ms=now_ms, u=self._draws.random())

    def testimony(self, now_ms: int) -> CallTally:
        """The calls that this process counted."""
        return self._own.testimony(now_ms)

    def is_suspicious(self, now_ms: int) -> bool:
        """Whether this process alone would open the circuit."""
        if not isinstance(self.shared.state, Closed):
            return False
        if isinstance(self._own.state, Open):
            return True
        return suspect(self._policy, self._own.testimony(now_ms)) is not None

    def weigh(self, others: list[CallTally], *, now_ms: int) -> None:
        """Weigh the other processes' counts; this may propose to open the fleet's."""
        if not isinstance(self.shared.state, Closed):
            return
        own = self._own.testimony(now_ms)
        evidence = [Evidence(tally, now_ms) for tally in others]
        if scope(self._policy, own, evidence, now_ms=now_ms) is Scope.FLEET:
            self.shared.suspect(self._retry_after_ms)
            self._retry_after_ms = None

    def suspect(self, now_ms: int) -> None:
        """Open this process's own circuit for another reason than the end of a call."""
        self._own.suspect(now_ms=now_ms, u=self._draws.random())

    def follow(self) -> None:
        """Forget this process's evidence: the fleet's circuit changed."""
        self._own.reset()
        self.shared.peak_per_ms = self._own.peak_per_ms
