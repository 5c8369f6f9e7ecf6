"""Opens the stores of the shared state."""

from __future__ import annotations

from shifter.config import Settings
from shifter.ports import ClaimStore, FleetStore, LaneLog, PresenceStore
from shifter.wiring.registry import state_adapter


def open_claims(settings: Settings, beside: LaneLog | None = None) -> ClaimStore:
    """The claim store, which decides that a job takes effect once.

    Args:
        settings: Name the state store.
        beside: An open log; a state in the same file shares its transactions.

    Raises:
        ConfigError: No state store is configured, or its URL is wrong.
    """
    return state_adapter(settings).open_claims(settings, beside)


def open_presence(settings: Settings, beside: LaneLog | None = None) -> PresenceStore:
    """The reports of live workers; arguments and errors are those of `open_claims`."""
    return state_adapter(settings).open_presence(settings, beside)


def open_fleet(settings: Settings) -> FleetStore:
    """The fleet's shared decisions; errors are those of `open_claims`."""
    return state_adapter(settings).open_fleet(settings)
