"""What a process learns of its fleet, and who wants to hear of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from shifter.policy.circuit import CircuitState
from shifter.policy.dependency import Dependency


class Change(NamedTuple):
    """A circuit changed, as this process learnt.

    Attributes:
        dependency: Whose.
        state: Its new state.
        is_fleet: Whether the fleet's; else this process's own.
    """

    dependency: Dependency
    state: CircuitState
    is_fleet: bool


class FleetEars(Protocol):
    """Whoever wants to hear what happens; called in the thread that learns of it."""

    def circuit_changed(self, change: Change) -> None:
        """A circuit changed."""

    def found_strange(self, count: int) -> None:
        """So many values in the store were none of ours, and were passed over."""
