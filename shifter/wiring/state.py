"""Opens the stores of the shared state."""

from __future__ import annotations

from shifter.config import Settings
from shifter.ports import ClaimStore, FleetStore, LaneLog, PresenceStore
from shifter.wiring.log import is_embedded
from shifter.wiring.registry import state_adapter


def finds_waiting(settings: Settings) -> bool:
    """Whether the states of jobs that wait are found in the log, in the same file."""
    return is_embedded(settings) and settings.log_url == settings.state_url


def records_waiting(settings: Settings) -> bool:
    """Whether services record the jobs that wait and are not found in the log."""
    return settings.state_url is not None and settings.waiting_states == "on"


def open_claims(
    settings: Settings,
    beside: LaneLog | None = None,
    *,
    with_waiting: bool = False,
) -> ClaimStore:
    """The claim store, which decides that a job takes effect once.

    Args:
        settings: Name the state store.
        beside: An open log; a state in the same file shares its transactions.
        with_waiting: Whether `ClaimStore.status` also finds jobs that wait in the log
            and were never claimed, where the log is in the same file.

    Raises:
        ConfigError: No state store is configured, or its URL is wrong.
    """
    return state_adapter(settings).open_claims(
        settings, beside, with_waiting=with_waiting and finds_waiting(settings)
    )


def open_presence(settings: Settings, beside: LaneLog | None = None) -> PresenceStore:
    """The reports of live workers; arguments and errors are those of `open_claims`."""
    return state_adapter(settings).open_presence(settings, beside)


def open_fleet(settings: Settings) -> FleetStore:
    """The fleet's shared decisions; errors are those of `open_claims`."""
    return state_adapter(settings).open_fleet(settings)
