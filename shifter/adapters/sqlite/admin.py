"""Looks into the log in a file without draining it: what waits, and in which topics."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.lane_table import (
    SHIFT,
    count_overdue,
    first_record,
    first_records,
    first_since,
    make_topic,
    read_records,
    topic_id,
    unpack,
)
from shifter.adapters.sqlite.peek import delay_tiers, peek
from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.model.advice import OK, WARN, Finding
from shifter.model.claim import JobState, JobStatus
from shifter.model.job import made_ms
from shifter.model.lane import parse_lane
from shifter.ports import (
    Clock,
    DelayTier,
    Delivery,
    LaneDepth,
    LanePeek,
    Span,
    Spans,
    TopicChange,
    TopicSpec,
    widening,
)
from shifter.wire.headers import deadline_of, read_headers

# A scan holds so many records, or 4 MB of them, in memory at once.
_PAGE: Final = 500
_NOTHING: Final = Span(0, 0)
# The releases that have the fix of the WAL-reset bug, and the lines it was ported to.
_SAFE_SINCE: Final = (3, 51, 3)
_SAFE_IN: Final = frozenset({(3, 50): 7, (3, 44): 6}.items())


_SOON_MS: Final = 500
"""Nearly all records are appended so soon after their ids were made."""
_LATE_MS: Final = 15_000
"""A service waits 10 s for the log by default (``accept_timeout``)."""
_CLOCK_BACK_MS: Final = 2_000
"""How far a clock may have gone back between the making of an id and the append."""
_MOST_PLACES: Final = 50_000
"""Rows read of a lane and a span of time: an id that no job has costs 0.1 s at most.

A record is appended in the same transactions as those whose ids are a little older: in
0.5 s few files take so many.
"""


class SqliteLogAdmin:
    """`shifter.ports.LogAdmin` in a file.

    Args:
        database: Of this process; closed with this.
        clock: Decides which delayed records are due.
        makes_topics: Whether the first record of a topic makes it, so that a topic that
            is not there needs nothing.
    """

    def __init__(
        self, database: Database, clock: Clock, *, makes_topics: bool = False
    ) -> None:
        self._database, self._clock = database, clock
        self._makes_topics, self._is_closed = makes_topics, False

    async def depths(self, topics: Sequence[str]) -> list[LaneDepth]:
        """What waits on each lane, in the order asked.

        Counters of the file are read, the first records of each lane, and of the
        records that are due and not on their lanes yet the first 10,000.
        """

        def read(connection: sqlite3.Connection) -> list[LaneDepth]:
            overdue = count_overdue(connection, self._clock.epoch_ms())
            return [_depth(connection, topic, overdue) for topic in topics]

        return await self._database.read(read)

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

    async def kept(self, topics: Sequence[str]) -> dict[str, dict[int, Span]]:
        """The places of topics that hold or held a record; absent ones are left out."""

        def read(connection: sqlite3.Connection) -> dict[str, dict[int, Span]]:
            found = {topic: _kept(connection, topic) for topic in topics}
            return {topic: spans for topic, spans in found.items() if spans}

        return await self._database.read(read)

    async def spans(
        self, topic: str, *, since_ms: int | None = None, until_ms: int | None = None
    ) -> dict[int, Span]:
        """The places of a topic that hold or held a record, part by part."""

        def read(connection: sqlite3.Connection) -> dict[int, Span]:
            return _kept(connection, topic, since_ms, until_ms)

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
                page = partial(read_records, first=after, last=last, most=_PAGE)
                rows, _ = await self._database.read(page)
                if not rows:
                    break
                after = rows[-1][0] + 1
                yield [
                    body.delivery(topic, part, job_id)
                    for job_id, crc, raw in rows
                    if (body := unpack(crc, raw)) is not None
                ]

    async def peek(self, topic: str, most: int) -> LanePeek:
        """The first records of a lane; nothing is taken."""
        return await self._database.read(partial(peek, topic=topic, most=most))

    async def delay_tiers(self, topics: Sequence[str]) -> list[DelayTier] | None:
        """The delayed records of lanes, all in one place."""
        return await self._database.read(partial(delay_tiers, topics=topics))

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


def _about(connection: sqlite3.Connection) -> tuple[str, int]:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    (damaged,) = connection.execute("SELECT count(*) FROM damaged").fetchone()
    return mode, damaged


def _kept(
    connection: sqlite3.Connection,
    topic: str,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> dict[int, Span]:
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


def _lanes(connection: sqlite3.Connection, topic: str) -> list[tuple[int, int, int]]:
    return connection.execute(
        "SELECT lane.id, part, next FROM lane JOIN topic ON topic.id = lane.topic "
        "WHERE name = ? ORDER BY part",
        (topic,),
    ).fetchall()


def _depth(
    connection: sqlite3.Connection, topic: str, overdue: Mapping[int, int]
) -> LaneDepth:
    row = connection.execute(
        "SELECT id, delayed FROM topic WHERE name = ?", (topic,)
    ).fetchone()
    if row is None:
        return LaneDepth(topic, 0, 0, None)
    lanes = connection.execute(
        "SELECT id, live FROM lane WHERE topic = ? AND live > 0", (row[0],)
    ).fetchall()
    heads = [body for lane, _ in lanes for body in first_records(connection, lane)]
    deadlines = (deadline_of(body.headers) for body in heads)
    return LaneDepth(
        topic,
        waiting=sum(live for _, live in lanes),
        delayed=row[1],
        oldest_ms=min((body.appended_ms for body in heads), default=None),
        overdue=overdue.get(row[0], 0),
        deadline_ms=min((at for at in deadlines if at is not None), default=None),
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


def find_waiting(
    connection: sqlite3.Connection, namespace: str, job_id: str
) -> JobStatus | None:
    """The state of a job whose record waits in a lane; ``None`` where none is found.

    An index over ids costs 1.4 us more for each record that is appended (2.3 without
    one) and 0.5 us for each that is drained, so there is none. An id that the service
    made is a UUID of version 7 and begins with the time, so its place is found by
    halving, and few records are read.

    This finds what has been in a lane since the time of its id. A job that was delayed,
    was put off, or has an id of its caller is recorded as waiting in the claims.

    Args:
        connection: Needs no transaction.
        namespace: The fleet's; others may share the file.
        job_id: In the canonical spelling.
    """
    made = made_ms(job_id)
    if made is None:
        return None
    lanes = _lanes_of(connection, namespace)
    for since, until in (
        (made, made + _SOON_MS),
        (made + _SOON_MS, made + _LATE_MS),
        (made - _CLOCK_BACK_MS, made),
    ):
        for lane, end in lanes:
            found = _between(connection, (lane, end), (since, until), job_id)
            if found is not None:
                return found
    return None


def _lanes_of(connection: sqlite3.Connection, namespace: str) -> list[tuple[int, int]]:
    """Ids of the lanes of a namespace in which records wait, and where they end."""
    rows = connection.execute(
        "SELECT name, lane.id, next FROM lane JOIN topic ON topic.id = lane.topic "
        "WHERE live > 0"
    ).fetchall()
    found = []
    for name, lane, end in rows:
        of = parse_lane(name)
        if of is not None and of.namespace == namespace:
            found.append((lane, end))
    return found


def _between(
    connection: sqlite3.Connection,
    at: tuple[int, int],
    span_ms: tuple[int, int],
    job_id: str,
) -> JobStatus | None:
    """A job's state, if it was appended to a lane within a span of time."""
    lane, end = at
    low = first_since(connection, lane, Span(0, end), span_ms[0])
    span = Span(low, min(end, low + _MOST_PLACES))
    high = first_since(connection, lane, span, span_ms[1])
    base = lane << SHIFT
    # The text of an id may occur in the payload of another job.
    rows = connection.execute(
        "SELECT crc, body FROM job WHERE id >= ? AND id < ? AND instr(body, ?) > 0",
        (base + low, base + high, job_id.encode()),
    )
    return next(_states(rows, job_id), None)


def _states(rows: sqlite3.Cursor, job_id: str) -> Iterator[JobStatus]:
    for crc, raw in rows:
        body = unpack(crc, raw)
        if body is None:
            continue
        try:
            envelope = read_headers(body.headers).envelope
        except (DecodeError, UnsupportedVersionError):
            continue
        if envelope.id == job_id:
            # A later one was started before; its claim is forgotten.
            attempt = envelope.attempt if envelope.attempt > 1 else 0
            state = JobState.WAITING
            yield JobStatus(job_id, state, attempt, None, body.appended_ms)
