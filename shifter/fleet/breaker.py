"""The fleet's circuit of a dependency and this process's own, as one guard.

The fleet's circuit (`shifter.fleet.circuit`) holds for every process. A process that
suspects a dependency alone stops calling it alone, by its own circuit
(`shifter.policy.protection.circuit.local`), until the fleet agrees or the evidence is
gone. While the store has been away for long, the own circuit is the only one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shifter.fleet.circuit import ASK_AGAIN_MS, SharedCircuit
from shifter.fleet.guards import CallPermit, CallRequest, Guard
from shifter.policy.failure_cause import FailureCause, main_cause
from shifter.policy.protection.circuit.evidence import (
    CallEnd,
    CallOutcome,
    CallTally,
    fleet_suspects,
    suspects,
)
from shifter.policy.protection.circuit.local import LocalCircuit
from shifter.policy.protection.circuit.states import (
    CircuitRefusal,
    Closed,
    Open,
    Permit,
)
from shifter.policy.protection.dependency import Dependency, Protection

_NOT_COUNTED: Final = Permit(-1)
"""The permit of a call that this process's own circuit does not count."""


@dataclass(slots=True)
class StoreContact:
    """Whether a process reaches the store; all its breakers read the same object.

    Attributes:
        offset_ms: From this process's clock to the store's.
        is_alone: Whether the store has been away for so long that only local evidence
            counts.
    """

    offset_ms: int = 0
    is_alone: bool = False


class Breaker(Guard):
    """The fleet's circuit and this process's own, as one guard. Belongs to one thread.

    Args:
        dependency: The dependency that is protected.
        draws: Source of the jitter.
        contact: Whether this process reaches the store.

    Attributes:
        shared: The fleet's circuit.
        own: The circuit by the evidence of this process alone.
    """

    by = Protection.CIRCUIT

    def __init__(
        self, dependency: Dependency, draws: random.Random, contact: StoreContact
    ) -> None:
        self._policy, self._draws = dependency.evidence, draws
        self._contact = contact
        self.shared = SharedCircuit(
            dependency.name,
            dependency.circuit,
            longest_ms=max(dependency.cooldowns_ms.values(), default=0),
        )
        self.own = LocalCircuit(dependency)
        self._usual = CallPermit(Permit(0), Permit(0))
        self._usual_for = (0, 0)
        self._retry_after_ms: int | None = None

    @property
    def is_calm(self) -> bool:
        """Whether both circuits are closed, without override and ramp."""
        return isinstance(self.own.state, Closed) and self.shared.calm_generation >= 0

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
        own_state, shared_gen = self.own.state, self.shared.calm_generation
        if shared_gen >= 0 and isinstance(own_state, Closed):
            if (shared_gen, own_state.generation) != self._usual_for:
                self._usual_for = (shared_gen, own_state.generation)
                self._usual = CallPermit(*map(Permit, self._usual_for))
            return self._usual
        if self._contact.is_alone:
            shared: Permit | CircuitRefusal = Permit(self.shared.state.generation)
        else:
            shared = self.shared.admit(now_ms + self._contact.offset_ms)
        if isinstance(shared, CircuitRefusal):
            return shared
        if shared.probe:
            return CallPermit(shared, _NOT_COUNTED)
        own = self.own.admit(now_ms)
        if isinstance(own, CircuitRefusal):
            return CircuitRefusal(min(own.retry_in_ms, ASK_AGAIN_MS))
        return CallPermit(shared, own)

    def give_back(self, request: CallRequest) -> None:
        """Return the permit of a call that another guard refused."""
        if request.permit.own is not _NOT_COUNTED:
            self.put_back(request.permit, request.now_ms)

    def put_back(self, permit: CallPermit, now_ms: int) -> None:
        """Return a permit whose call is not made."""
        self.shared.give_back(permit.shared, now_ms + self._contact.offset_ms)
        if permit.own.probe:
            end = CallEnd(CallOutcome.IGNORED, 0)
            self.own.record(permit.own, end, now_ms=now_ms, u=0.0)

    def ended(self, permit: CallPermit, end: CallEnd, *, now_ms: int) -> bool:
        """Note how a call ended, in the circuit that its permit belongs to."""
        shared = permit.shared
        if shared.probe:
            outcome = self.own.probe_outcome(end)
            self.shared.ended(shared, outcome, end.retry_after_ms, end.cause)
            return False
        if shared.generation != self.shared.state.generation:
            return False
        self.shared.ended(shared, end.outcome, end.retry_after_ms)
        if end.retry_after_ms is not None:
            self._retry_after_ms = end.retry_after_ms
        return self.own.record(permit.own, end, now_ms=now_ms, u=self._draws.random())

    def is_suspicious(self, now_ms: int) -> bool:
        """Whether this process alone would open the circuit."""
        if not isinstance(self.shared.state, Closed):
            return False
        if isinstance(self.own.state, Open):
            return True
        return suspects(self._policy, self.own.tally(now_ms))

    def suspicion(self, now_ms: int) -> FailureCause | None:
        """Why this process alone would open the circuit; ``None`` if it would not."""
        return self.own.cause(now_ms) if self.is_suspicious(now_ms) else None

    def weigh(
        self,
        others: list[CallTally],
        *,
        now_ms: int,
        causes: Iterable[FailureCause] = (),
    ) -> None:
        """Weigh the evidence of all processes; propose to open the fleet's circuit.

        Args:
            others: What the other processes counted.
            now_ms: The time, by this process's monotonic clock.
            causes: Why calls of the other processes failed.
        """
        if isinstance(self.shared.state, Closed) and fleet_suspects(
            self._policy, [self.own.tally(now_ms), *others]
        ):
            own = self.own.cause(now_ms)
            cause = main_cause([*causes, *([] if own is None else [own])])
            self.shared.suspect(self._retry_after_ms, cause)
            self._retry_after_ms = None

    def suspect(self, now_ms: int) -> None:
        """Open this process's own circuit for another reason than the end of a call."""
        self.own.open(now_ms=now_ms, u=self._draws.random())

    def follow(self) -> None:
        """Forget this process's evidence: the fleet's circuit changed."""
        self.own.reset()
        self.shared.peak_per_ms = self.own.peak_per_ms
