"""Changes of circuits: as log lines, as events of spans, and to the user's callback."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeGuard, cast

from shifter.policy.failure_cause import FailureCause
from shifter.policy.protection.circuit.states import (
    CircuitState,
    Closed,
    HalfOpen,
    Open,
)
from shifter.policy.protection.dependency import Dependency, OnChange
from shifter.telemetry import Event, Log
from shifter.telemetry.tracing import note_current

_EVENTS: Final = {
    Closed: Event.CIRCUIT_CLOSED,
    Open: Event.CIRCUIT_OPENED,
    HalfOpen: Event.CIRCUIT_PROBED,
}


StateCallback: TypeAlias = Callable[[str, str], None]
CauseCallback: TypeAlias = Callable[[str, str, FailureCause | None], None]
_WITH_CAUSE: Final = 3
_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


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
        facts: dict[str, str | int] = {
            "dependency": name,
            "scope": self.scope,
            "generation": generation,
        }
        return facts if self.cause is None else {**facts, **cause_facts(self.cause)}

    @property
    def cause(self) -> FailureCause | None:
        """Why the circuit opened; ``None`` if it is closed, or that is not known."""
        return None if isinstance(self.state, Closed) else self.state.cause

    @property
    def kind(self) -> str | None:
        """The kind of that failure."""
        return None if self.cause is None else self.cause.kind


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


def cause_facts(cause: FailureCause) -> dict[str, str | int]:
    """The fields of an event that say why calls failed."""
    return {"kind": cause.kind, "count": cause.count, "error": cause.message}


def takes_cause(callback: OnChange) -> TypeGuard[CauseCallback]:
    """Whether a callback has three arguments without a default value."""
    try:
        found = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):  # a builtin has no signature
        return False
    required = [one for one in found if one.default is one.empty]
    return sum(one.kind in _POSITIONAL for one in required) == _WITH_CAUSE


def call_back(dependency: Dependency, state: str, cause: FailureCause | None) -> None:
    """Call the dependency's ``on_change``; an error of it is logged, not raised.

    Args:
        dependency: The dependency.
        state: The new state of its circuit, or of the endpoint that ``cause`` names.
        cause: Why calls failed; ``None`` if that is not known.
    """
    callback, name = dependency.on_change, dependency.name
    if callback is None:
        return
    try:
        if takes_cause(callback):
            callback(name, state, cause)
        elif cause is None or not cause.endpoint:
            cast("StateCallback", callback)(name, state)
    except Exception as error:  # noqa: BLE001  # a user's code: no reason to stop work
        Log().warning(Event.CALLBACK_FAILED, dependency=name, error=repr(error))
