"""Lanes in the file: topics, appending, and promoting what is due.

Every function here works inside a transaction of its caller. Keyed records lie in parts
of their topic that one live member at a time drains, so that the order of a key holds
across processes; records without a key lie in part 0, for anybody.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from shifter.adapters.sqlite.body import pack, unpack
from shifter.model.lane import parse_lane
from shifter.ports import Record

SHIFT: Final = 40
"""A job's id: its lane's, shifted by this, plus its place there."""

DUE_SHIFT: Final = 20
"""A delayed record's number: its due time, shifted by this, plus a count."""

_KEY_PARTS: Final = 8
_PROMOTED: Final = 1_000
# The year 2109, so that a shifted instant fits in a row's id.
_LAST_MS: Final = 1 << 42


class RecordRow(NamedTuple):
    """A record as it is written.

    Attributes:
        topic: Where it goes; must exist.
        part: Of the topic.
        due_ms: Before when it waits elsewhere; ``None`` for at once.
        crc: Of ``raw``.
        raw: As `pack` made it.
    """

    topic: str
    part: int
    due_ms: int | None
    crc: int
    raw: bytes


class LaneTable:
    """The log's tables.

    It remembers no ids: a transaction that is undone takes them back, and the next
    topic would get the id of one that is not there.
    """

    # --- topics ---------------------------------------------------------------------

    def topic_id(self, connection: sqlite3.Connection, name: str) -> int | None:
        """Its id; ``None`` if there is no such topic."""
        row = connection.execute(
            "SELECT id FROM topic WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else int(row[0])

    def make_topic(
        self, connection: sqlite3.Connection, name: str, settings: tuple[int, int, int]
    ) -> None:
        """Make a topic: partitions, retention in milliseconds, largest record."""
        connection.execute(
            "INSERT OR IGNORE INTO topic "
            "(name, partitions, retention_ms, max_record_bytes) VALUES (?, ?, ?, ?)",
            (name, *settings),
        )

    def _lane(self, connection: sqlite3.Connection, topic: str, part: int) -> int:
        ids = (self.topic_id(connection, topic), part)
        asked = "SELECT id FROM lane WHERE topic = ? AND part = ?"
        row = connection.execute(asked, ids).fetchone()
        if row is None:
            connection.execute("INSERT INTO lane (topic, part) VALUES (?, ?)", ids)
            row = connection.execute(asked, ids).fetchone()
        return int(row[0])

    # --- writing --------------------------------------------------------------------

    def append(self, connection: sqlite3.Connection, rows: Iterable[RecordRow]) -> None:
        """Write records whose topics exist; those that are not due wait elsewhere."""
        of_lane: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
        for row in rows:
            if row.due_ms is not None:
                self._delay(connection, row, row.due_ms)
            else:
                of_lane.setdefault(row[:2], []).append(row[3:])
        for place, bodies in of_lane.items():
            self._extend(connection, self._lane(connection, *place), bodies)

    def _extend(
        self,
        connection: sqlite3.Connection,
        lane: int,
        rows: Sequence[tuple[int, bytes]],
    ) -> None:
        count = len(rows)
        (first,) = connection.execute(
            "UPDATE lane SET next = next + ?, live = live + ? WHERE id = ? "
            "RETURNING next - ?",
            (count, count, lane, count),
        ).fetchone()
        at = lane << SHIFT | first
        connection.executemany(
            "INSERT INTO job (id, crc, body) VALUES (?, ?, ?)",
            [(number, crc, raw) for number, (crc, raw) in enumerate(rows, at)],
        )

    def _delay(
        self, connection: sqlite3.Connection, row: RecordRow, due_ms: int
    ) -> None:
        first = due_ms << DUE_SHIFT
        (last,) = connection.execute(
            "SELECT max(id) FROM delayed WHERE id >= ? AND id < ?",
            (first, first + (1 << DUE_SHIFT)),
        ).fetchone()
        topic_id = self.topic_id(connection, row.topic)
        connection.execute(
            "INSERT INTO delayed (id, topic, crc, body) VALUES (?, ?, ?, ?)",
            (first if last is None else last + 1, topic_id, row.crc, row.raw),
        )
        connection.execute(
            "UPDATE topic SET delayed = delayed + 1 WHERE id = ?", (topic_id,)
        )

    def promote(self, connection: sqlite3.Connection, now: int) -> list[str]:
        """Move what is due to its lanes; returns the topics that got something."""
        rows = connection.execute(
            "SELECT id, topic, crc, body FROM delayed WHERE id < ? ORDER BY id LIMIT ?",
            ((now + 1) << DUE_SHIFT, _PROMOTED),
        ).fetchall()
        due: list[Record] = []
        for number, topic_id, crc, raw in rows:
            body = unpack(crc, raw)
            connection.execute(
                "UPDATE topic SET delayed = delayed - 1 WHERE id = ?", (topic_id,)
            )
            if body is None:
                set_aside(connection, f"delayed {number}", now, raw)
                continue
            due.append(Record(body.topic, body.value, body.headers, body.key))
        if rows:
            connection.execute("DELETE FROM delayed WHERE id <= ?", (rows[-1][0],))
            self.append(connection, [row_of(record, now) for record in due])
        return sorted({record.topic for record in due})

    @staticmethod
    def next_due_ms(connection: sqlite3.Connection) -> int | None:
        """When the next delayed record is due."""
        (first,) = connection.execute("SELECT min(id) FROM delayed").fetchone()
        return None if first is None else first >> DUE_SHIFT


def place_of(job_id: int) -> int:
    """Where in its lane a record stands."""
    return job_id & ((1 << SHIFT) - 1)


def row_of(record: Record, now: int) -> RecordRow:
    """A record as it is written; one that is due is not delayed.

    Raises:
        ValueError: No row can hold it.
    """
    due_ms = record.due_ms
    if due_ms is None or due_ms <= now:
        return RecordRow(record.topic, _part(record), None, *pack(record, now))
    if due_ms >= _LAST_MS:
        raise ValueError(f"due at {due_ms} ms; before {_LAST_MS} only")
    return RecordRow(record.topic, 0, due_ms, *pack(record, now, topic=record.topic))


def _part(record: Record) -> int:
    # What is no lane is read by scans only: one part keeps its order.
    if record.key is None or parse_lane(record.topic) is None:
        return 0
    return zlib.crc32(record.key) % _KEY_PARTS + 1


def set_aside(
    connection: sqlite3.Connection, source: str, now: int, raw: object
) -> None:
    """Keep bytes that are no record any more, for a person."""
    connection.execute(
        "INSERT INTO damaged (source, noted_ms, body) VALUES (?, ?, ?)",
        (source, now, raw),
    )
