"""Reports of a worker process to the fleet, about one a second."""

from __future__ import annotations

import os
import socket

from shifter.errors import StoreError
from shifter.ports import PresenceStore, WorkerReport
from shifter.telemetry import Event
from shifter.work.drain import Drain
from shifter.work.parts import DrainParts

_EVERY_S = 1.0
_KEEP_MS = 10_000


async def report_presence(
    store: PresenceStore,
    drain: Drain,
    parts: DrainParts,
    *,
    worker_id: str,
    concurrency: int,
) -> None:
    """Report until cancelled; while the store is away the last report fades."""
    clock, observer = parts.clock, parts.observer
    started_ms = clock.epoch_ms()
    uses = {
        name: job.dependency.name
        for name, job in parts.jobs.items()
        if job.dependency is not None
    }
    while True:
        observer.fold()
        report = WorkerReport(
            worker_id=worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_ms=started_ms,
            reported_ms=clock.epoch_ms(),
            concurrency=concurrency,
            running=dict(drain.running),
            rate_per_s=observer.rates(clock.monotonic()),
            uses=uses,
        )
        try:
            await store.report(report, keep_ms=_KEEP_MS)
        except StoreError as error:
            observer.worker(Event.PRESENCE_UNAVAILABLE, detail=str(error))
        await clock.sleep(_EVERY_S)
