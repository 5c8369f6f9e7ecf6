"""Which workers are alive, in Redis: one hash of reports, one set of when they fade.

A report is about 300 bytes of JSON. Reports fade by the store's clock; what has faded
is removed by the next report of any worker, and both keys expire without reports.
"""

from __future__ import annotations

from typing import Final

import msgspec

from shifter.adapters.redis.client import RedisClient
from shifter.adapters.redis.keys import bounded_id, presence_keys
from shifter.adapters.redis.scripts import ScriptRunner, read_script
from shifter.model.fleet import MAX_WORKERS
from shifter.ports import WorkerReport, understood

# Ends may be forged so that they come first: a listing passes over what is unreadable.
_MOST_LOOKED_AT: Final = 10_000
_PAGE: Final = 500


class RedisPresenceStore:
    """`shifter.ports.PresenceStore` in Redis; shares its client with other stores.

    Attributes:
        unreadable: Reports found that were too large or no reports.
    """

    def __init__(self, client: RedisClient, namespace: str) -> None:
        self._keys = presence_keys(namespace)
        self._report, self._list, self._leave = (
            read_script("number", "presence", name)
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
        reports: dict[str, WorkerReport] = {}
        for first in range(0, _MOST_LOOKED_AT, _PAGE):
            command = self._list.command(self._keys, (first, _PAGE))
            found = await self._runner.send("presence.workers", command)
            with understood(self._runner.store, "presence.workers"):
                for report in map(self._decode, found):
                    if report is not None:
                        reports.setdefault(report.worker_id, report)
            if len(found) < _PAGE or len(reports) >= MAX_WORKERS:
                break
        by_id = sorted(reports.values(), key=lambda report: report.worker_id)
        return by_id[:MAX_WORKERS]

    async def close(self) -> None:
        """Close the client, for every store that shares it."""
        await self._runner.close()

    def _decode(self, text: bytes | None) -> WorkerReport | None:
        # The store is not trusted: whatever cannot be read is left out and counted.
        try:
            if text is not None:
                return self._decoder.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        self.unreadable += 1
        return None
