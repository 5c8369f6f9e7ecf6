"""Which workers are alive, in SQLite: one row for each, with when its report fades.

What has expired is removed by the next report of a worker. A report also takes along a
slice of the sweep of claims: it is the one write of a worker that has nothing to do.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from shifter.adapters.sqlite.claim_rows import ClaimSweep
from shifter.adapters.sqlite.schema import bounded, key_prefix
from shifter.adapters.sqlite.transactions import Transactions
from shifter.model.fleet import MAX_PRESENCE_MS, MAX_WORKERS
from shifter.model.time import StoreMs
from shifter.ports import Clock, WorkerReport, understood

# Ends may be forged so that they come first: a listing passes over what is unreadable.
_MOST_LOOKED_AT: Final = 10_000
_MAX_REPORT_BYTES: Final = 65_536
# About a millisecond; a million claims in a few minutes, with one idle worker.
_SWEPT_PER_REPORT: Final = 5_000


class SqlitePresenceStore:
    """`shifter.ports.PresenceStore` in a file.

    Args:
        database: This store's share of it; `close` gives that back.
        namespace: The fleet's; others may share the file.
        clock: Of this machine.

    Attributes:
        unreadable: Reports found that were too large or no reports.
    """

    def __init__(self, database: Transactions, namespace: str, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._is_closed = False
        self._prefix = key_prefix(namespace)
        self._sweep = ClaimSweep()
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(WorkerReport)
        self.unreadable = 0

    async def report(self, report: WorkerReport, *, keep_ms: int) -> None:
        """Say that a worker lives."""
        key, value = self._key(report.worker_id), self._encoder.encode(report)

        def write(connection: sqlite3.Connection) -> None:
            now = StoreMs(self._clock.epoch_ms())
            connection.execute(
                "DELETE FROM presence WHERE until_ms <= ? OR until_ms > ? "
                "OR typeof(until_ms) <> 'integer'",
                (now, now + MAX_PRESENCE_MS),
            )
            connection.execute(
                "REPLACE INTO presence (key, until_ms, report) VALUES (?, ?, ?)",
                (key, now + min(keep_ms, MAX_PRESENCE_MS), value),
            )
            self._sweep.step(connection, now, rows=_SWEPT_PER_REPORT)

        await self._database.write(write)

    async def withdraw(self, worker_id: str) -> None:
        """Say that a worker left."""
        key = self._key(worker_id)

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM presence WHERE key = ?", (key,))

        await self._database.write(write)

    async def workers(self) -> list[WorkerReport]:
        """All that live, by worker id; at most `MAX_WORKERS`."""
        with understood("sqlite", "presence.workers"):
            reports = await self._database.read(self._live)
        return sorted(reports, key=lambda report: report.worker_id)

    async def close(self) -> None:
        """Leave the database; it goes on for the others that share it."""
        if not self._is_closed:
            self._is_closed = True
            await self._database.close()

    def _live(self, connection: sqlite3.Connection) -> list[WorkerReport]:
        first, end = self._prefix, self._prefix[:-1] + b"\1"
        now = self._clock.epoch_ms()
        # The file is not trusted: what no worker can have written is left out.
        rows = connection.execute(
            "SELECT CASE WHEN typeof(report) = 'blob' AND length(report) <= ? "
            "THEN report END FROM presence WHERE key >= ? AND key < ? "
            "AND typeof(until_ms) = 'integer' AND until_ms > ? AND until_ms <= ? "
            "ORDER BY until_ms DESC LIMIT ?",
            (
                *(_MAX_REPORT_BYTES, first, end),
                *(now, now + MAX_PRESENCE_MS, _MOST_LOOKED_AT),
            ),
        )
        reports: list[WorkerReport] = []
        for (text,) in rows:
            report = self._decode(text)
            if report is not None:
                reports.append(report)
            if len(reports) == MAX_WORKERS:
                break
        return reports

    def _decode(self, text: bytes | None) -> WorkerReport | None:
        try:
            if text is not None:
                return self._decoder.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        self.unreadable += 1
        return None

    def _key(self, worker_id: str) -> bytes:
        return self._prefix + bounded(worker_id).encode()
