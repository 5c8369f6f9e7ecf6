"""The spool in a file: what a service accepted while the log is away."""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Generator, Sequence
from typing import Final

from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.file import FileLock
from shifter.adapters.sqlite.lane_table import pack, set_aside, unpack
from shifter.ports import Clock, SpoolDepth, SpoolEntry

# Three million records of 300 bytes: hours of an outage at hundreds of jobs a second.
MAX_BYTES: Final = 1 << 30
_END: Final = (1 << 63) - 1
# One transaction; appends of the service wait for it.
_PUT_BACK_MOST: Final = 10_000


class SqliteSpool:
    """`shifter.ports.Spool` in a file of its own; several processes may share it.

    Args:
        database: Of this process; closed with this.
        clock: Dates the records.
        max_bytes: How large the file may become, > 0.
    """

    def __init__(
        self, database: Database, clock: Clock, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self.database, self._clock, self._max_bytes = database, clock, max_bytes

    def put(self, entries: Sequence[SpoolEntry], *, timeout_s: float) -> list[int]:
        """Make records durable, all or none; returns their numbers."""

        def write(connection: sqlite3.Connection) -> list[int]:
            now = self._clock.epoch_ms()
            numbers = [_insert(connection, entry, now) for entry in entries]
            _count(connection, len(numbers))
            return numbers

        return self.database.write_sync(write, timeout_s=timeout_s)

    def take(self, most: int, *, before: int | None = None) -> list[SpoolEntry]:
        """The oldest records that wait, in order; damaged ones are set aside."""
        rows = self.database.read_sync(
            lambda connection: connection.execute(
                "SELECT id, crc, body FROM spool WHERE id < ? ORDER BY id LIMIT ?",
                (_END if before is None else before, most),
            ).fetchall()
        )
        found, bad = [], []
        for number, crc, raw in rows:
            body = unpack(crc, raw)
            if body is None:
                bad.append((number, raw))
                continue
            found.append(SpoolEntry(number, body.record(body.due_ms)))
        if bad:
            self._damaged(bad)
        return found

    def drop(self, numbers: Sequence[int]) -> None:
        """Forget records that are in the log."""
        if numbers:
            self.database.write_sync(lambda connection: _delete(connection, numbers))

    def set_aside(self, number: int, detail: str) -> None:
        """Keep a record that the log refuses apart from those that wait."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO refused (id, spooled_ms, detail, body) "
                "SELECT id, spooled_ms, ?, body FROM spool WHERE id = ?",
                (detail, number),
            )
            _delete(connection, [number])

        self.database.write_sync(write)

    def put_back(self) -> int:
        """Let what the log refused wait again; damaged records stay where they are."""

        def write(connection: sqlite3.Connection) -> int:
            rows = connection.execute(
                "SELECT id, spooled_ms, body FROM refused ORDER BY id LIMIT ?",
                (_PUT_BACK_MOST,),
            ).fetchall()
            for number, spooled_ms, raw in rows:
                _place(connection, number, zlib.crc32(raw), raw, spooled_ms)
            connection.executemany(
                "DELETE FROM refused WHERE id = ?", [(row[0],) for row in rows]
            )
            _count(connection, len(rows))
            return len(rows)

        return self.database.write_sync(write)

    def depth(self) -> SpoolDepth:
        """What is there now; counts no rows but those the log refused."""

        def read(connection: sqlite3.Connection) -> SpoolDepth:
            (waiting,) = connection.execute(
                "SELECT waiting FROM spool_count"
            ).fetchone()
            (refused,) = connection.execute("SELECT count(*) FROM refused").fetchone()
            first, oldest_ms = connection.execute(
                "SELECT id, spooled_ms FROM spool ORDER BY id LIMIT 1"
            ).fetchone() or (None, None)
            size_bytes = _used_bytes(connection)
            used = size_bytes / self._max_bytes
            return SpoolDepth(waiting, refused, oldest_ms, first, used, size_bytes)

        return self.database.read_sync(read)

    @contextlib.contextmanager
    def forwarding(self) -> Generator[bool]:
        """Be the one process that forwards; yields ``False`` while another does."""
        lock = FileLock(self.database.path, suffix=".forward")
        try:
            with lock.tried() as is_ours:
                yield is_ours
        finally:
            lock.close()

    def close(self) -> None:
        """Free everything; what was put stays."""
        self.database.close_sync()

    def _damaged(self, rows: Sequence[tuple[int, object]]) -> None:
        def write(connection: sqlite3.Connection) -> None:
            now = self._clock.epoch_ms()
            for number, raw in rows:
                set_aside(connection, f"spool {number}", now, raw)
            _delete(connection, [number for number, _ in rows])

        self.database.write_sync(write)


def _insert(connection: sqlite3.Connection, entry: SpoolEntry, now: int) -> int:
    number, record = entry
    return _place(connection, number, *pack(record, now, topic=record.topic), now)


def _place(
    connection: sqlite3.Connection, number: int, crc: int, raw: bytes, spooled_ms: int
) -> int:
    while not connection.execute(
        "INSERT OR IGNORE INTO spool (id, crc, spooled_ms, body) VALUES (?, ?, ?, ?)",
        (number, crc, spooled_ms, raw),
    ).rowcount:
        number += 1
    return number


def _delete(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    before = connection.total_changes
    connection.executemany(
        "DELETE FROM spool WHERE id = ?", [(number,) for number in numbers]
    )
    _count(connection, before - connection.total_changes)


def _count(connection: sqlite3.Connection, change: int) -> None:
    connection.execute("UPDATE spool_count SET waiting = waiting + ?", (change,))


def _used_bytes(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)
