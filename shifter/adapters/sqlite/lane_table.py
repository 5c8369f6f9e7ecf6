"""Lanes in the file: records as rows, appended, promoted when they are due, and read.

Every function that writes works inside a transaction of its caller. Keyed records lie
in parts of their topic that one live member at a time drains, so that the order of a
key holds across processes; records without a key lie in part 0, for any member.

No function remembers an id: a transaction that is undone takes its ids back, and the
next topic would get the id of one that is not there.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from shifter.model.lane import parse_lane
from shifter.ports import HEAD, Delivery, Record, Span
from shifter.wire.headers import Headers

SHIFT: Final = 40
"""A job's id: its lane's, shifted by this, plus its place there."""

DUE_SHIFT: Final = 20
"""A delayed record's number: its due time, shifted by this, plus a count."""

WHOLE: Final = Span(0, 1 << SHIFT)
"""Every place of a lane."""

_MOST_BYTES: Final = 4_000_000
"""Of the bodies that are read at once; one record is read, however large."""

# As many members can drain keyed records of a topic at once; the number is part of the
# file's format, since it decides where a key's records lie.
_KEY_PARTS: Final = 8
# 4 to 6 µs each, within a transaction that hands out records.
_PROMOTED: Final = 1_000
# 1 µs each where records are small; a record above a page takes some pages of its own.
_COUNTED: Final = 10_000
# The year 2109, so that a shifted instant fits in a row's id.
_LAST_MS: Final = 1 << 42


class Body(NamedTuple):
    """What a row keeps of a record.

    Attributes:
        topic: Where it goes; empty in a row of a lane, whose topic is in its own row.
        appended_ms: When it was accepted.
    """

    topic: str
    key: bytes | None
    headers: Headers
    value: bytes
    appended_ms: int
    due_ms: int | None

    def record(self, due_ms: int | None = None) -> Record:
        """The record to be appended again, at once or when it is due."""
        return Record(self.topic, self.value, self.headers, self.key, due_ms)

    def delivery(self, topic: str, part: int, job_id: int, lease: int = 0) -> Delivery:
        """The record as a feed or a scan hands it out.

        Args:
            topic: The topic's name.
            part: The part of the topic.
            job_id: The record's row.
            lease: The lease under which it is handed out; 0 for a scan, which has none.
        """
        return Delivery(
            topic=topic,
            key=self.key,
            value=self.value,
            headers=self.headers,
            appended_ms=self.appended_ms,
            partition=part,
            offset=place_of(job_id),
            epoch=lease,
        )


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(Body).decode


def pack(record: Record, now: int, *, topic: str = "") -> tuple[int, bytes]:
    """Checksum and bytes of a record.

    Args:
        record: What to write.
        now: When it was appended.
        topic: Its topic, where the row does not tell it: a delayed or spooled record.
    """
    raw = _ENCODE((topic, record.key, record.headers, record.value, now, record.due_ms))
    return zlib.crc32(raw), raw


def unpack(crc: int, raw: object) -> Body | None:
    """What `pack` was given; ``None`` if any bit of it changed."""
    if not isinstance(raw, bytes) or zlib.crc32(raw) != crc:
        return None
    try:
        return _DECODE(raw)
    except msgspec.MsgspecError:
        return None


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


def topic_id(connection: sqlite3.Connection, name: str) -> int | None:
    """The id of a topic; ``None`` if there is no such topic."""
    row = connection.execute("SELECT id FROM topic WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def make_topic(
    connection: sqlite3.Connection, name: str, settings: tuple[int, int, int]
) -> None:
    """Make a topic, unless it exists.

    Args:
        connection: In a transaction.
        name: The topic's name.
        settings: Partitions, retention in milliseconds, bytes of the largest record.
    """
    connection.execute(
        "INSERT OR IGNORE INTO topic "
        "(name, partitions, retention_ms, max_record_bytes) VALUES (?, ?, ?, ?)",
        (name, *settings),
    )


def _lane(connection: sqlite3.Connection, topic: str, part: int) -> int:
    ids = (topic_id(connection, topic), part)
    asked = "SELECT id FROM lane WHERE topic = ? AND part = ?"
    row = connection.execute(asked, ids).fetchone()
    if row is None:
        connection.execute("INSERT INTO lane (topic, part) VALUES (?, ?)", ids)
        row = connection.execute(asked, ids).fetchone()
    return int(row[0])


def append_rows(connection: sqlite3.Connection, rows: Iterable[RecordRow]) -> None:
    """Write records whose topics exist; those that are not due wait elsewhere."""
    of_lane: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
    for row in rows:
        if row.due_ms is not None:
            _delay(connection, row, row.due_ms)
        else:
            of_lane.setdefault(row[:2], []).append(row[3:])
    for place, bodies in of_lane.items():
        _extend(connection, _lane(connection, *place), bodies)


def _extend(
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


def _delay(connection: sqlite3.Connection, row: RecordRow, due_ms: int) -> None:
    first = due_ms << DUE_SHIFT
    (last,) = connection.execute(
        "SELECT max(id) FROM delayed WHERE id >= ? AND id < ?",
        (first, first + (1 << DUE_SHIFT)),
    ).fetchone()
    topic = topic_id(connection, row.topic)
    connection.execute(
        "INSERT INTO delayed (id, topic, crc, body) VALUES (?, ?, ?, ?)",
        (first if last is None else last + 1, topic, row.crc, row.raw),
    )
    connection.execute("UPDATE topic SET delayed = delayed + 1 WHERE id = ?", (topic,))


def promote(connection: sqlite3.Connection, now: int) -> list[str]:
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
        due.append(body.record())
    if rows:
        connection.execute("DELETE FROM delayed WHERE id <= ?", (rows[-1][0],))
        append_rows(connection, [row_of(record, now) for record in due])
    return sorted({record.topic for record in due})


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
    """Keep bytes that are no record any more, so that an operator can look at them.

    Args:
        connection: In a transaction.
        source: Where the bytes were, as ``fsck`` shows it.
        now: Wall clock, in milliseconds.
        raw: The bytes, of whatever type the column held.
    """
    connection.execute(
        "INSERT INTO damaged (source, noted_ms, body) VALUES (?, ?, ?)",
        (source, now, raw),
    )


def read_records(
    connection: sqlite3.Connection, first: int, last: int, most: int
) -> tuple[list[tuple[int, int, bytes]], bool]:
    """Id, checksum and bytes of records in a range of ids.

    Args:
        connection: Needs no transaction.
        first: The first id, included.
        last: The last id, excluded.
        most: The most records; fewer are read if they are large.

    Returns:
        The records, and whether their size cut them off.
    """
    rows: list[tuple[int, int, bytes]] = []
    size = 0
    with contextlib.closing(
        connection.execute(
            "SELECT id, crc, body FROM job WHERE id >= ? AND id < ? "
            "ORDER BY id LIMIT ?",
            (first, last, most),
        )
    ) as found:
        for row in found:
            rows.append(row)
            size += len(row[2])
            if size >= _MOST_BYTES:
                return rows, True
    return rows, False


def first_record(
    connection: sqlite3.Connection, lane: int, span: Span = WHOLE
) -> tuple[int, Body] | None:
    """The first record of a span that can be read; damaged ones are passed over.

    Args:
        connection: Any connection to the file.
        lane: The lane's row.
        span: Places to look at.

    Returns:
        Place and body; ``None`` without such a record.
    """
    base = lane << SHIFT
    with contextlib.closing(
        connection.execute(
            "SELECT id, crc, body FROM job WHERE id >= ? AND id < ? ORDER BY id",
            (base + span.first, base + span.end),
        )
    ) as rows:
        for job_id, crc, raw in rows:
            body = unpack(crc, raw)
            if body is not None:
                return place_of(job_id), body
    return None


def first_records(connection: sqlite3.Connection, lane: int) -> list[Body]:
    """What can be read of the first `shifter.ports.HEAD` records of a lane's row."""
    base = lane << SHIFT
    rows, _ = read_records(connection, base, base + WHOLE.end, HEAD)
    bodies = [unpack(crc, raw) for _, crc, raw in rows]
    return [body for body in bodies if body is not None]


def count_overdue(connection: sqlite3.Connection, now: int) -> dict[int, int]:
    """Delayed records that are due, by the row of their topic; of the first 10,000."""
    return dict(
        connection.execute(
            "SELECT topic, count(*) FROM "
            "(SELECT topic FROM delayed WHERE id < ? ORDER BY id LIMIT ?) "
            "GROUP BY topic",
            ((now + 1) << DUE_SHIFT, _COUNTED),
        )
    )


def first_since(
    connection: sqlite3.Connection, lane: int, span: Span, instant_ms: int
) -> int:
    """The first place of a span whose record is not older than an instant.

    Records of a lane lie in the order of their instants, so the place is found by
    halving; a clock that went back makes the answer as wrong as it was.

    Args:
        connection: Any connection to the file.
        lane: The lane's row.
        span: Places to look at.
        instant_ms: The instant, by the clock of those that append.

    Returns:
        The place; the span's end if all records are older.
    """
    low, high = span
    while low < high:
        middle = (low + high) // 2
        found = first_record(connection, lane, Span(middle, high))
        if found is not None and found[1].appended_ms < instant_ms:
            low = found[0] + 1
        else:
            high = middle
    return low
