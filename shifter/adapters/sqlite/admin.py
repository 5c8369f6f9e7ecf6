"""Looking after the log in a file: what waits, and which topics there are."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Final

from shifter.adapters.sqlite.body import unpack
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.lane_table import LaneTable, place_of
from shifter.ports import (
    Delivery,
    LaneDepth,
    Span,
    Spans,
    TopicChange,
    TopicSpec,
    widening,
)

_PAGE: Final = 500
_PAGE_BYTES: Final = 4_000_000
_SHIFT: Final = 40
_NOTHING: Final = Span(0, 0)
_SAFE_SINCE: Final = (3, 51, 3)
_SAFE_IN: Final = frozenset({(3, 50): 7, (3, 44): 6}.items())


class SqliteLogAdmin:
    """`shifter.ports.LogAdmin` in a file.

    Args:
        database: Of this process; closed with this.
        makes_topics: Whether the first record of a topic makes it, so that a topic that
            is not there needs nothing.
    """

    def __init__(self, database: Database, *, makes_topics: bool = False) -> None:
        self._database, self._table = database, LaneTable()
        self._makes_topics, self._is_closed = makes_topics, False

    async def depths(self, topics: Sequence[str]) -> list[LaneDepth]:
        """What waits on each lane, in the order asked; counts no rows."""
        return await self._database.read(
            lambda connection: [_depth(connection, topic) for topic in topics]
        )

    async def count(self, topic: str) -> int:
        """Records kept in a topic."""
        [depth] = await self.depths([topic])
        return depth.waiting

    async def diff(self, specs: Sequence[TopicSpec]) -> list[TopicChange]:
        """What `apply` would change."""
        plan = await self._database.read(lambda connection: _plan(connection, specs))
        return [
            change
            for change in plan
            if change.action != "create" or not self._makes_topics
        ]

    async def apply(self, specs: Sequence[TopicSpec]) -> list[TopicChange]:
        """Make and widen topics; returns what was done."""

        def write(connection: sqlite3.Connection) -> list[TopicChange]:
            changes = _plan(connection, specs)
            for spec in specs:
                settings = (spec.partitions, spec.retention_ms, spec.max_record_bytes)
                self._table.make_topic(connection, spec.name, settings)
                connection.execute(
                    "UPDATE topic SET partitions = max(partitions, ?), "
                    "retention_ms = max(retention_ms, ?), "
                    "max_record_bytes = max(max_record_bytes, ?) WHERE name = ?",
                    (*settings, spec.name),
                )
            return changes

        return await self._database.write(write)

    async def topics(self) -> list[str]:
        """Names of all topics, ascending."""
        return await self._database.read(
            lambda connection: [
                name
                for (name,) in connection.execute(
                    "SELECT name FROM topic ORDER BY name"
                )
            ]
        )

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Ids by topic, of those that exist; another file may use the same ones."""

        def read(connection: sqlite3.Connection) -> dict[str, str]:
            found = {topic: self._table.topic_id(connection, topic) for topic in topics}
            return {topic: str(at) for topic, at in found.items() if at is not None}

        return await self._database.read(read)

    async def spans(
        self, topic: str, *, since_ms: int | None = None, until_ms: int | None = None
    ) -> dict[int, Span]:
        """The places of a topic that hold or held a record, part by part.

        Records of a part lie in the order of their instants, so an instant is found by
        halving; a clock that went back makes the bounds as wrong as it was.
        """

        def read(connection: sqlite3.Connection) -> dict[int, Span]:
            found = {}
            for lane, part, next_ in _lanes(connection, topic):
                first = _place(connection, lane, 0)
                span = Span(next_ if first is None else first[0], next_)
                low = _since(connection, lane, span, since_ms, span.first)
                high = _since(connection, lane, span, until_ms, span.end)
                found[part] = Span(low, max(low, high))
            return found

        return await self._database.read(read)

    async def scan(
        self, topic: str, spans: Spans | None = None
    ) -> AsyncGenerator[list[Delivery]]:
        """Records of a topic that are not settled, in batches."""
        lanes = await self._database.read(lambda connection: _lanes(connection, topic))
        for lane, part, end in lanes:
            span = Span(0, end) if spans is None else spans.get(part, _NOTHING)
            after, last = lane << _SHIFT | span.first, lane << _SHIFT | span.end
            while True:
                rows = await self._database.read(partial(_page, after, last))
                if not rows:
                    break
                after = rows[-1][0] + 1
                found = [_delivery(topic, part, row) for row in rows]
                yield [delivery for delivery in found if delivery is not None]

    async def ping(self) -> str:
        """The file, SQLite's version and whether its WAL is safe; in one line."""
        mode, damaged = await self._database.read(_about)
        verdict = "fixed" if wal_is_fixed(sqlite3.sqlite_version_info) else "locked out"
        line = (
            f"sqlite {self._database.path}: SQLite {sqlite3.sqlite_version}, "
            f"journal {mode}, WAL-reset bug {verdict}"
        )
        return f"{line}; {damaged} damaged records set aside" if damaged else line

    async def close(self) -> None:
        """Free everything; again is harmless to others that share the file."""
        if not self._is_closed:
            self._is_closed = True
            await self._database.close()


def wal_is_fixed(version: tuple[int, ...]) -> bool:
    """Whether this SQLite is free of the WAL-reset bug; our lock keeps it out anyway.

    >>> wal_is_fixed((3, 40, 1)), wal_is_fixed((3, 50, 7)), wal_is_fixed((3, 53, 0))
    (False, True, True)
    """
    least = dict(_SAFE_IN).get((version[0], version[1]))
    return version >= _SAFE_SINCE or (least is not None and version[2] >= least)


def _page(
    after: int, last: int, connection: sqlite3.Connection
) -> list[tuple[int, int, bytes]]:
    rows: list[tuple[int, int, bytes]] = []
    size = 0
    for row in connection.execute(
        "SELECT id, crc, body FROM job WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (after, last, _PAGE),
    ):
        rows.append(row)
        size += len(row[2])
        if size >= _PAGE_BYTES:
            break
    return rows


def _about(connection: sqlite3.Connection) -> tuple[str, int]:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    (damaged,) = connection.execute("SELECT count(*) FROM damaged").fetchone()
    return mode, damaged


def _lanes(connection: sqlite3.Connection, topic: str) -> list[tuple[int, int, int]]:
    return connection.execute(
        "SELECT lane.id, part, next FROM lane JOIN topic ON topic.id = lane.topic "
        "WHERE name = ? ORDER BY part",
        (topic,),
    ).fetchall()


def _place(
    connection: sqlite3.Connection, lane: int, place: int
) -> tuple[int, int | None] | None:
    """The first record at or behind a place: where it is, and its instant."""
    row = connection.execute(
        "SELECT id, crc, body FROM job WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
        (lane << _SHIFT | place, (lane + 1) << _SHIFT),
    ).fetchone()
    if row is None:
        return None
    body = unpack(row[1], row[2])
    return place_of(row[0]), None if body is None else body.appended_ms


def _since(
    connection: sqlite3.Connection,
    lane: int,
    span: Span,
    instant_ms: int | None,
    otherwise: int,
) -> int:
    """The first place whose record came at or after an instant."""
    if instant_ms is None:
        return otherwise
    low, high = span
    while low < high:
        middle = (low + high) // 2
        found = _place(connection, lane, middle)
        if found is None or found[0] >= high:
            high = middle
        elif found[1] is None or found[1] < instant_ms:
            low = found[0] + 1
        else:
            high = middle
    return low


def _depth(connection: sqlite3.Connection, topic: str) -> LaneDepth:
    row = connection.execute(
        "SELECT id, delayed FROM topic WHERE name = ?", (topic,)
    ).fetchone()
    if row is None:
        return LaneDepth(topic, 0, 0, None)
    lanes = connection.execute(
        "SELECT id, live FROM lane WHERE topic = ? AND live > 0", (row[0],)
    ).fetchall()
    oldest = [_oldest_ms(connection, lane) for lane, _ in lanes]
    known = [when for when in oldest if when is not None]
    waiting = sum(live for _, live in lanes)
    return LaneDepth(topic, waiting, row[1], min(known, default=None))


def _oldest_ms(connection: sqlite3.Connection, lane: int) -> int | None:
    row = connection.execute(
        "SELECT crc, body FROM job WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
        (lane << _SHIFT, (lane + 1) << _SHIFT),
    ).fetchone()
    body = None if row is None else unpack(*row)
    return None if body is None else body.appended_ms


def _delivery(topic: str, part: int, row: tuple[int, int, bytes]) -> Delivery | None:
    body = unpack(row[1], row[2])
    if body is None:
        return None
    return Delivery(
        topic=topic,
        key=body.key,
        value=body.value,
        headers=body.headers,
        appended_ms=body.appended_ms,
        partition=part,
        offset=place_of(row[0]),
    )


def _plan(
    connection: sqlite3.Connection, specs: Sequence[TopicSpec]
) -> list[TopicChange]:
    changes: list[TopicChange] = []
    for spec in specs:
        row = connection.execute(
            "SELECT name, partitions, retention_ms, max_record_bytes FROM topic "
            "WHERE name = ?",
            (spec.name,),
        ).fetchone()
        have = None if row is None else TopicSpec(*row)
        changes += widening(have, spec, created="in this file")
    return changes
