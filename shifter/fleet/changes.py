"""Changes of circuits: as log lines, as events of spans, and to the user's callback."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from shifter.fleet.shared_state import state_word
from shifter.policy.protection.circuit.states import (
    CircuitState,
    Closed,
    HalfOpen,
    Open,
)
from shifter.policy.protection.dependency import Dependency
from shifter.telemetry import Event, Log
from shifter.telemetry.tracing import note_current

_EVENTS: Final = {
    Closed: Event.CIRCUIT_CLOSED,
    Open: Event.CIRCUIT_OPENED,
    HalfOpen: Event.CIRCUIT_PROBED,
}


class Change(NamedTuple):
    """A change of a circuit.

    Attributes:
        dependency: The dependency of the circuit.
        state: Its new state.
        is_fleet: Whether it is the fleet's circuit; else it is this process's own.
    """

    dependency: Dependency
    state: CircuitState
    is_fleet: bool

    @property
    def scope(self) -> str:
        """``fleet`` or ``process``."""
        return "fleet" if self.is_fleet else "process"

    @property
    def event(self) -> Event:
        """The event of its log line, and of spans."""
        return _EVENTS[type(self.state)]

    @property
    def facts(self) -> dict[str, str | int]:
        """The fields of that event."""
        name, generation = self.dependency.name, self.state.generation
        return {"dependency": name, "scope": self.scope, "generation": generation}


class FleetObserver(Protocol):
    """Observes changes; called in the thread that learns of them."""

    def circuit_changed(self, change: Change) -> None:
        """A circuit changed."""

    def found_strange(self, count: int) -> None:
        """So many values in the store could not be read and were ignored."""


class LoggingObserver:
    """Logs changes, and notes them on the current span.

    Args:
        log: Where lines go.
    """

    def __init__(self, log: Log) -> None:
        self._log = log

    def circuit_changed(self, change: Change) -> None:
        """A circuit changed."""
        self._log.warning(change.event, **change.facts)
        note_current(change.event, change.facts)

    def found_strange(self, count: int) -> None:
        """Values in the store could not be read."""
        self._log.warning(Event.FLEET_STRANGE, values=count)


def call_back(change: Change) -> None:
    """Call the dependency's ``on_change``; an error of it is logged, not raised."""
    callback = change.dependency.on_change
    if callback is None:
        return
    name = change.dependency.name
    try:
        callback(name, state_word(change.state))
    except Exception as error:  # noqa: BLE001  # a user's code: no reason to stop work
        Log().warning(Event.CALLBACK_FAILED, dependency=name, error=repr(error))
