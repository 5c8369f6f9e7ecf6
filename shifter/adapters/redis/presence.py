"""Which workers are alive, in Redis: one hash of reports, one set of when they fade.

A report is about 300 bytes of JSON. Reports fade by the store's clock; what has faded
is removed by the next report of anybody, and both keys fade when nobody reports.
"""

from __future__ import annotations

from typing import Final

import msgspec

from shifter.adapters.redis.client import RedisClient
from shifter.adapters.redis.keys import bounded_id, presence_keys
from shifter.adapters.redis.scripts import ScriptRunner, read_script
from shifter.ports import WorkerReport

MAX_WORKERS: Final = 1_000
_MAX_REPORT_BYTES: Final = 65_536


class RedisPresenceStore:
    """`shifter.ports.PresenceStore` in Redis; shares its client with other stores.

    Attributes:
        unreadable: Reports found that were too large or no reports.
    """

    def __init__(self, client: RedisClient, namespace: str) -> None:
        self._keys = presence_keys(namespace)
        self._report, self._list, self._leave = (
            read_script("presence", name)
            for name in ("presence_report", "presence_list", "presence_leave")
        )
        scripts = (self._report, self._list, self._leave)
        self._runner = ScriptRunner(client, scripts)
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(WorkerReport)
        self.unreadable = 0

    async def report(self, report: WorkerReport, *, keep_ms: int) -> None:
        """Say that a worker lives."""
        args = (
            bounded_id(report.worker_id),
            self._encoder.encode(report),
            keep_ms,
        )
        await self._runner.send(
            "presence.report", self._report.command(self._keys, args)
        )

    async def withdraw(self, worker_id: str) -> None:
        """Say that a worker left."""
        command = self._leave.command(self._keys, (bounded_id(worker_id),))
        await self._runner.send("presence.withdraw", command)

    async def workers(self) -> list[WorkerReport]:
        """All that live, by worker id; at most `MAX_WORKERS`."""
        command = self._list.command(self._keys, (MAX_WORKERS,))
        found = await self._runner.send("presence.workers", command)
        reports = [report for report in map(self._decode, found) if report is not None]
        return sorted(reports, key=lambda report: report.worker_id)

    async def close(self) -> None:
        """Close the client, for every store that shares it."""
        await self._runner.close()

    def _decode(self, text: bytes | None) -> WorkerReport | None:
        # The store is not trusted: whatever cannot be read is left out and counted.
        try:
            if text is not None and len(text) <= _MAX_REPORT_BYTES:
                return self._decoder.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        self.unreadable += 1
        return None
