"""Looks after the log in a file: what waits, the topics, and SQLite's own state."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Final

from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.lane_table import (
    SHIFT,
    first_record,
    first_since,
    make_topic,
    topic_id,
    unpack,
)
from shifter.model.advice import OK, WARN, Finding
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
        self._database = database
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
                make_topic(connection, spec.name, settings)
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
            found = {topic: topic_id(connection, topic) for topic in topics}
            return {topic: str(at) for topic, at in found.items() if at is not None}

        return await self._database.read(read)

    async def spans(
        self, topic: str, *, since_ms: int | None = None, until_ms: int | None = None
    ) -> dict[int, Span]:
        """The places of a topic that hold or held a record, part by part."""

        def read(connection: sqlite3.Connection) -> dict[int, Span]:
            found = {}
            for lane, part, next_ in _lanes(connection, topic):
                first = first_record(connection, lane)
                span = Span(next_ if first is None else first[0], next_)
                low, high = span
                if since_ms is not None:
                    low = first_since(connection, lane, span, since_ms)
                if until_ms is not None:
                    high = first_since(connection, lane, span, until_ms)
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
            after, last = lane << SHIFT | span.first, lane << SHIFT | span.end
            while True:
                rows = await self._database.read(partial(_page, after, last))
                if not rows:
                    break
                after = rows[-1][0] + 1
                yield [
                    body.delivery(topic, part, job_id)
                    for job_id, crc, raw in rows
                    if (body := unpack(crc, raw)) is not None
                ]

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


def _depth(connection: sqlite3.Connection, topic: str) -> LaneDepth:
    row = connection.execute(
        "SELECT id, delayed FROM topic WHERE name = ?", (topic,)
    ).fetchone()
    if row is None:
        return LaneDepth(topic, 0, 0, None)
    lanes = connection.execute(
        "SELECT id, live FROM lane WHERE topic = ? AND live > 0", (row[0],)
    ).fetchall()
    oldest = [first_record(connection, lane) for lane, _ in lanes]
    known = [found[1].appended_ms for found in oldest if found is not None]
    waiting = sum(live for _, live in lanes)
    return LaneDepth(topic, waiting, row[1], min(known, default=None))


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


def check_library() -> Finding:
    """Whether the library of this process is free of the WAL-reset bug."""
    found = sqlite3.sqlite_version
    if wal_is_fixed(sqlite3.sqlite_version_info):
        return Finding("sqlite", OK, found)
    # Our lock around writes and checkpoints keeps the bug out; another program that
    # opens the file does not take it.
    detail = f"{found} has the WAL-reset bug, which shifter locks out of its files"
    fix = "use SQLite 3.51.3 or newer; until then other tools only read these files"
    return Finding("sqlite", WARN, detail, fix)
