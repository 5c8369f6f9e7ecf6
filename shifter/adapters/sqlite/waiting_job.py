"""Finds a job that waits, by its id, in the log's own rows.

An index over ids costs 1.4 us more for each record that is appended (2.3 without one)
and 0.5 us for each that is drained, so there is none. An id that the service made is a
UUID of version 7 and begins with the time; the records of a lane lie in the order of
their times. So the place of an id is found by halving, and few records are read.

This finds what lies in a lane since the time of its id: not what was delayed, was put
off, or has an id that its caller chose. Those are recorded as waiting in the claims.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from shifter.adapters.sqlite.body import unpack
from shifter.adapters.sqlite.lane_table import SHIFT
from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.model.claim import JobState, JobStatus
from shifter.model.job import made_ms
from shifter.model.lane import parse_lane
from shifter.wire.headers import read_headers

_SOON_MS: Final = 500
"""Nearly all records are appended so soon after their ids were made."""
_LATE_MS: Final = 15_000
"""A service waits 10 s for the log, unless ``accept_timeout`` says otherwise."""
_CLOCK_BACK_MS: Final = 2_000
"""How far a clock may have gone back between the making of an id and the append."""
_MOST_PLACES: Final = 50_000
"""Rows read of a lane and a span of time: an id that no job has costs 0.1 s at most.

A record is appended in the same transactions as those whose ids are a little older: in
0.5 s few files take so many.
"""


def find_waiting(
    connection: sqlite3.Connection, namespace: str, job_id: str
) -> JobStatus | None:
    """The state of a job whose record waits in a lane; ``None`` where none is found.

    Args:
        connection: Needs no transaction.
        namespace: The fleet's; others may share the file.
        job_id: In the canonical spelling.
    """
    made = made_ms(job_id)
    if made is None:
        return None
    lanes = _lanes(connection, namespace)
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


def _lanes(connection: sqlite3.Connection, namespace: str) -> list[tuple[int, int]]:
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
    low = _since(connection, lane, (0, end), span_ms[0])
    span = (low, min(end, low + _MOST_PLACES))
    high = _since(connection, lane, span, span_ms[1])
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


def _since(
    connection: sqlite3.Connection, lane: int, span: tuple[int, int], instant_ms: int
) -> int:
    """The first place of a span of a lane whose record is not older; else its end."""
    (low, high), base = span, lane << SHIFT
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT id, crc, body FROM job WHERE id >= ? AND id < ? "
            "ORDER BY id LIMIT 1",
            (base + middle, base + high),
        ).fetchone()
        body = None if row is None else unpack(row[1], row[2])
        if row is None:
            high = middle
        elif body is not None and body.appended_ms < instant_ms:
            low = row[0] - base + 1
        else:
            high = middle
    return low
