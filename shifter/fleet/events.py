"""What a process learns of its fleet, and who wants to hear of it."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from shifter.fleet.shared_state import state_word
from shifter.policy.protection.circuit import CircuitState, Closed, HalfOpen, Open
from shifter.policy.protection.dependency import Dependency
from shifter.telemetry import Event, Log

_EVENTS: Final = {
    Closed: Event.CIRCUIT_CLOSED,
    Open: Event.CIRCUIT_OPENED,
    HalfOpen: Event.CIRCUIT_PROBED,
}


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

    @property
    def scope(self) -> str:
        """``fleet`` or ``process``."""
        return "fleet" if self.is_fleet else "process"


class FleetObserver(Protocol):
    """Whoever wants to hear what happens; called in the thread that learns of it."""

    def circuit_changed(self, change: Change) -> None:
        """A circuit changed."""

    def found_strange(self, count: int) -> None:
        """So many values in the store were none of ours, and were passed over."""


class LoggingObserver:
    """Writes it down; what a worker counts besides is its ledger's.

    Args:
        log: Where lines go.
    """

    def __init__(self, log: Log) -> None:
        self._log = log

    def circuit_changed(self, change: Change) -> None:
        """A circuit changed."""
        self._log.warning(
            _EVENTS[type(change.state)],
            dependency=change.dependency.name,
            scope=change.scope,
            generation=change.state.generation,
        )

    def found_strange(self, count: int) -> None:
        """Values in the store were none of ours."""
        self._log.warning(Event.FLEET_STRANGE, values=count)


def call_back(change: Change) -> None:
    """Tell whoever declared the dependency; what goes wrong there is only said."""
    heard = change.dependency.on_change
    if heard is None:
        return
    name = change.dependency.name
    try:
        heard(name, state_word(change.state))
    except Exception as error:  # noqa: BLE001  # a user's code: no reason to stop work
        Log().warning(Event.CALLBACK_FAILED, dependency=name, error=repr(error))
