"""What a worker process says of itself about once a second."""

from __future__ import annotations

import os
import socket

from shifter.errors import StoreError
from shifter.ports import Clock, PresenceStore, WorkerReport
from shifter.work.drain import Drain
from shifter.work.ledger import Ledger

_EVERY_S = 1.0
_KEEP_MS = 10_000


async def report_presence(  # noqa: PLR0913  # facts of one process, used once
    store: PresenceStore,
    drain: Drain,
    ledger: Ledger,
    clock: Clock,
    *,
    worker_id: str,
    concurrency: int,
) -> None:
    """Report until cancelled. A store that is away is not worth a word: the report
    fades, and that is what it means.
    """
    started_ms = clock.epoch_ms()
    while True:
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
        except StoreError:
            ledger.store_away("presence")
        await clock.sleep(_EVERY_S)
