"""What the processes of one machine share: fleet decisions and live workers.

Shared decisions have a file of their own beside the queue's. They do not outlive their
use: the file is written five times a second, without waiting for the disk, and a
damaged one is made anew.

Live workers have one row each in the state's file, with the instant at which the report
expires. The next report of any worker removes expired ones. A report also carries a
slice of the sweep of claims, since it is the only write of an idle worker.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from shifter.adapters.sqlite.claim_rows import ClaimSweep, key_prefix
from shifter.adapters.sqlite.connection import check_schema, closed_on_error
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.file import check_file
from shifter.errors import ConfigError, StoreRefusedError, StoreUnavailableError
from shifter.model.fleet import MAX_PRESENCE_MS, MAX_WORKERS, FleetReport, FleetView
from shifter.model.time import StoreMs
from shifter.policy.protection.fleet_table import FleetTable
from shifter.ports import Clock, WorkerReport, decode_report, encode_report, understood
from shifter.runtime.forking import put_away_for_forks
from shifter.runtime.threads import in_thread
from shifter.wire.untrusted import bounded

# A sync is due every 0.2 s: after a second, five more would wait behind this one.
_BUSY_S: Final = 1.0
# The processes of one machine need some kilobytes; a larger value is not decoded.
_MAX_TABLE_BYTES: Final = 67_108_864
# Ends may be forged so that they come first: a listing passes over what is unreadable.
_MOST_LOOKED_AT: Final = 10_000
# A worker's report has some hundred bytes; a larger value is none.
_MAX_REPORT_BYTES: Final = 65_536
# About a millisecond; a million claims in a few minutes, with one idle worker.
_SWEPT_PER_REPORT: Final = 5_000
_DDL: Final = (
    "CREATE TABLE IF NOT EXISTS fleet (namespace TEXT PRIMARY KEY, packed BLOB)"
)


class SqliteFleetStore:
    """`shifter.ports.FleetStore` for one machine.

    Args:
        path: Absolute; made where it is not there.
        namespace: The fleet's; others may share the file.
        clock: Of this machine.

    Attributes:
        unreadable: Tables found that were none.
    """

    def __init__(self, path: Path, namespace: str, clock: Clock) -> None:
        self._path, self._namespace, self._clock = path, namespace, clock
        self._connection: sqlite3.Connection | None = None
        self._lock, self._is_closed = threading.Lock(), False
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(FleetTable).decode
        self.unreadable = 0
        put_away_for_forks(self)

    def before_fork(self) -> None:
        """Wait for the sync under way, and close the file.

        A child would take the locks of an open connection for its own.
        """
        self._lock.acquire()
        self._close()

    def after_fork_in_parent(self) -> None:
        """Go on; the next sync opens the file."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Release the lock, which the thread that forked had taken."""
        self._lock.release()

    async def sync(self, report: FleetReport) -> FleetView:
        """Exchange a report of this process for the state of the fleet."""
        with understood(f"sqlite {self._path}", "fleet.sync"):
            return await in_thread(self._sync, report)

    async def listen(self, changed: Callable[[], None]) -> None:
        """Return at once: a file notifies no process; changes are seen at a sync."""

    async def close(self) -> None:
        """Close the file for ever, after the sync under way; again is harmless."""
        await in_thread(self._close_for_ever)

    def _sync(self, report: FleetReport) -> FleetView:
        try:
            with self._lock:
                if self._is_closed:
                    store = f"sqlite {self._path}"
                    raise StoreUnavailableError(store, "fleet.sync", "it is closed")
                try:
                    return self._transaction(report)
                except sqlite3.OperationalError:
                    raise
                except sqlite3.DatabaseError:
                    self._make_anew()
                    return self._transaction(report)
        except ConfigError as error:
            store, op = f"sqlite {self._path}", "fleet.sync"
            raise StoreRefusedError(store, op, error.want) from error
        except (sqlite3.Error, OSError) as error:
            store, op = f"sqlite {self._path}", "fleet.sync"
            raise StoreUnavailableError(store, op, str(error)) from error

    def _transaction(self, report: FleetReport) -> FleetView:
        connection = self._connection or self._open()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            found = connection.execute(
                "SELECT CASE WHEN typeof(packed) = 'blob' AND length(packed) <= ? "
                "THEN packed END FROM fleet WHERE namespace = ?",
                (_MAX_TABLE_BYTES, self._namespace),
            ).fetchone()
            table, strange = (
                (FleetTable(), 0) if found is None else self._read(found[0])
            )
            now_ms = self._clock.epoch_ms()
            view = table.sync(report, now_ms=now_ms, now_us=now_ms * 1_000)
            packed = self._encode(table)
            row = (self._namespace, packed)
            connection.execute("REPLACE INTO fleet VALUES (?, ?)", row)
        return view._replace(strange=view.strange + strange)

    def _read(self, packed: object) -> tuple[FleetTable, int]:
        """The table without what is none of ours, and how many values that were."""
        try:
            if isinstance(packed, bytes):
                table = self._decode(packed)
                return table, table.mend()
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        self.unreadable += 1
        return FleetTable(), 1

    def _open(self) -> sqlite3.Connection:
        # Of an embedded setting, nothing may have made the folder yet.
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_file(self._path)
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        with closed_on_error(connection):
            connection.execute("PRAGMA trusted_schema = OFF")
            check_schema(connection, self._path)
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_DDL)
            self._path.chmod(0o600)
        self._connection = connection
        return connection

    def _make_anew(self) -> None:
        self.unreadable += 1
        self._close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def _close_for_ever(self) -> None:
        # A caller that was cancelled leaves its sync running in a thread. Without the
        # lock and the mark, that sync would open a connection that nothing closes.
        with self._lock:
            self._is_closed = True
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


class SqlitePresenceStore:
    """`shifter.ports.PresenceStore` in a file.

    Args:
        database: This store's share of it; `close` gives that back.
        namespace: The fleet's; others may share the file.
        clock: Of this machine.

    Attributes:
        unreadable: Reports found that were too large or no reports.
    """

    def __init__(self, database: Database, namespace: str, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._is_closed = False
        self._prefix = key_prefix(namespace)
        self._sweep = ClaimSweep()
        self.unreadable = 0

    async def report(self, report: WorkerReport, *, keep_ms: int) -> None:
        """Report that a worker is alive."""
        key, value = self._key(report.worker_id), encode_report(report)

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
        """Remove the report of a worker that left."""
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
            report = decode_report(text)
            if report is None:
                self.unreadable += 1
            else:
                reports.append(report)
            if len(reports) == MAX_WORKERS:
                break
        return reports

    def _key(self, worker_id: str) -> bytes:
        return self._prefix + bounded(worker_id).encode()
