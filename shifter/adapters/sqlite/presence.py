"""Which workers are alive, in SQLite: one row for each, with when its report fades.

What has faded is removed by the next report of anybody. A report also takes along a
slice of the sweep of claims: it is the one write of a worker that has nothing to do.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from shifter.adapters.sqlite.claims_schema import bounded, key_prefix
from shifter.adapters.sqlite.sweep import ClaimSweep
from shifter.adapters.sqlite.transactions import Transactions
from shifter.model.time import StoreMs
from shifter.ports import Clock, WorkerReport

MAX_WORKERS: Final = 1_000
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
            connection.execute("DELETE FROM presence WHERE until_ms <= ?", (now,))
            connection.execute(
                "REPLACE INTO presence (key, until_ms, report) VALUES (?, ?, ?)",
                (key, now + keep_ms, value),
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
        found = await self._database.read(self._live)
        reports = [report for report in map(self._decode, found) if report is not None]
        return sorted(reports, key=lambda report: report.worker_id)

    async def close(self) -> None:
        """Leave the database; it goes on for the others that share it."""
        if not self._is_closed:
            self._is_closed = True
            await self._database.close()

    def _live(self, connection: sqlite3.Connection) -> list[bytes]:
        first, end = self._prefix, self._prefix[:-1] + b"\1"
        rows = connection.execute(
            "SELECT report FROM presence "
            "WHERE key >= ? AND key < ? AND until_ms > ? "
            "ORDER BY until_ms DESC LIMIT ?",
            (first, end, self._clock.epoch_ms(), MAX_WORKERS),
        )
        return [report for (report,) in rows.fetchall()]

    def _decode(self, text: bytes) -> WorkerReport | None:
        # The file is not trusted: whatever cannot be read is left out and counted.
        try:
            if len(text) <= _MAX_REPORT_BYTES:
                return self._decoder.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        self.unreadable += 1
        return None

    def _key(self, worker_id: str) -> bytes:
        return self._prefix + bounded(worker_id).encode()
