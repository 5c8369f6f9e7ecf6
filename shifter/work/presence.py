"""What a worker process says of itself about once a second."""

from __future__ import annotations

import os
import socket

from shifter.errors import StoreError
from shifter.ports import Clock, PresenceStore, WorkerReport
from shifter.telemetry import Event
from shifter.work.drain import Drain
from shifter.work.ledger import Ledger

_EVERY_S = 1.0
_KEEP_MS = 10_000


async def report_presence(  # facts of one process, used once
    store: PresenceStore,
    drain: Drain,
    ledger: Ledger,
    clock: Clock,
    *,
    worker_id: str,
    concurrency: int,
) -> None:
    """Report until cancelled; while the store is away the last report fades."""
    started_ms = clock.epoch_ms()
    while True:
        ledger.fold()
        report = WorkerReport(
            worker_id=worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_ms=started_ms,
            reported_ms=clock.epoch_ms(),
            concurrency=concurrency,
            running=dict(drain.running),
            rate_per_s=ledger.rates(clock.monotonic()),
        )
        try:
            await store.report(report, keep_ms=_KEEP_MS)
        except StoreError as error:
            ledger.worker(Event.PRESENCE_UNAVAILABLE, detail=str(error))
        await clock.sleep(_EVERY_S)
