"""What a fleet decides together, in memory."""

from __future__ import annotations

from collections.abc import Callable

from shifter.model.fleet import FleetReport, FleetView
from shifter.policy.protection.fleet_table import FleetTable
from shifter.ports import Clock


class MemoryFleetStore:
    """`shifter.ports.FleetStore` in this process.

    Args:
        clock: The store's.
        table: Shared with the other processes of the fleet, if there are any.
    """

    def __init__(self, clock: Clock, table: FleetTable | None = None) -> None:
        self._clock = clock
        self.table = FleetTable() if table is None else table

    async def sync(self, report: FleetReport) -> FleetView:
        """Exchange a report of this process for the state of the fleet."""
        now_ms = self._clock.epoch_ms()
        return self.table.sync(report, now_ms=now_ms, now_us=now_ms * 1_000)

    async def listen(self, changed: Callable[[], None]) -> None:
        """Return at once: changes are seen at the next sync."""

    async def close(self) -> None:
        """Nothing to free."""
