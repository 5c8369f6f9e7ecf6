"""Where a fleet agrees: one call tells what a process saw, and brings what holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from shifter.model.fleet import FleetReport, FleetView


class FleetStore(Protocol):
    """What the processes of a fleet decide together. One call is one round trip.

    Raises:
        StoreUnavailableError: From any method; the outcome is then unknown.
    """

    async def sync(self, report: FleetReport) -> FleetView:
        """Tell and be told, as `shifter.policy.protection.fleet_table` says."""

    async def listen(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever cells may have changed; runs until cancelled.

        A store that cannot tell returns at once: the next sync tells as well.
        """

    async def close(self) -> None:
        """Free everything; what was said fades by itself."""
