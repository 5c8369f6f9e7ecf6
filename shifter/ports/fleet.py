"""The port of fleet state: one call reports what a process saw, and reads the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from shifter.model.fleet import FleetReport, FleetView


class FleetStore(Protocol):
    """State that the processes of a fleet share. One call is one round trip.

    Raises:
        StoreUnavailableError: From any method; the outcome is then unknown.
    """

    async def sync(self, report: FleetReport) -> FleetView:
        """Report, and return the state; see `shifter.policy.protection.fleet_table`."""

    async def listen(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever cells may have changed; runs until cancelled.

        A store without notifications returns at once; the next `sync` reads the cells.
        """

    async def close(self) -> None:
        """Free everything; reports expire by themselves."""
