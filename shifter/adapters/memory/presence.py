"""Which workers are alive, in memory."""

from __future__ import annotations

from shifter.model.fleet import MAX_PRESENCE_MS
from shifter.ports import Clock, WorkerReport


class MemoryPresenceStore:
    """`shifter.ports.PresenceStore` in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reports: dict[str, tuple[int, WorkerReport]] = {}

    async def report(self, report: WorkerReport, *, keep_ms: int) -> None:
        """Report that a worker is alive."""
        until_ms = self._clock.epoch_ms() + min(keep_ms, MAX_PRESENCE_MS)
        self._reports[report.worker_id] = (until_ms, report)

    async def withdraw(self, worker_id: str) -> None:
        """Remove the report of a worker that left."""
        self._reports.pop(worker_id, None)

    async def workers(self) -> list[WorkerReport]:
        """All that live, by worker id."""
        now = self._clock.epoch_ms()
        self._reports = {k: v for k, v in self._reports.items() if v[0] > now}
        return [report for _, (_, report) in sorted(self._reports.items())]

    async def close(self) -> None:
        """Nothing to free."""
