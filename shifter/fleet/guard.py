"""The verbs that every protection of a dependency has, and what they work on.

`shifter.fleet.protection.DependencyProtection` composes guards as a list. A call begins
when every guard has admitted it; the first guard that refuses a call returns what the
guards before it reserved.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from shifter.model.lane import Priority
from shifter.policy.protection.circuit import Permit
from shifter.policy.protection.dependency import Protection
from shifter.policy.protection.local_circuit import CallEnd


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


class CallRequest:
    """One call that asks to be made.

    Attributes:
        priority: The priority of the job or the request.
        is_extra: Whether the call is a retry, a replay or a hedge.
        now_ms: The time, by this process's monotonic clock.
        permit: The circuit's permit; the circuit's guard sets it.
        is_probe: Whether the permit is one of a trial call.
        has_paid: Whether the retry budget was charged.
    """

    __slots__ = ("has_paid", "is_extra", "is_probe", "now_ms", "permit", "priority")

    permit: CallPermit

    def __init__(self, priority: Priority, *, is_extra: bool, now_ms: int) -> None:
        self.priority, self.is_extra, self.now_ms = priority, is_extra, now_ms
        self.has_paid = self.is_probe = False


class Guard(Protocol):
    """One protection of one dependency. Belongs to one thread at a time."""

    @property
    def by(self) -> Protection:
        """The protection's name."""

    def admit(self, request: CallRequest) -> int | None:
        """Reserve what the call needs.

        Returns:
            ``None`` if the call may pass; milliseconds to wait, > 0, if it is refused.
            The caller may go on after a refusal: then the protection only counts.
        """

    def give_back(self, request: CallRequest) -> None:
        """Return what `admit` reserved; another guard refused the call."""

    def begin(self, request: CallRequest) -> None:
        """Note that the call begins; no guard refuses it."""

    def ended(self, permit: CallPermit, end: CallEnd, *, now_ms: int) -> bool:
        """Note how a call ended.

        Returns:
            Whether this process's own circuit opened or closed.
        """
