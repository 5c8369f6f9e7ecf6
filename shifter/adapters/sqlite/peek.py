"""The first records of a lane in the file, and what is delayed; nothing is taken."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from shifter.adapters.sqlite.lane_table import (
    DUE_SHIFT,
    SHIFT,
    WHOLE,
    read_records,
    topic_id,
    unpack,
)
from shifter.ports import DelayTier, Delivery, LanePeek

_MOST_BYTES: Final = 4_000_000
"""Of the bodies of delayed records that are read at once."""
_LOOKED_AT: Final = 100_000
"""Delayed records of all lanes that are looked at; there is no index by lane."""


def peek(connection: sqlite3.Connection, topic: str, most: int) -> LanePeek:
    """The first records of a lane; damaged ones are passed over.

    Args:
        connection: Needs no transaction.
        topic: The lane's name.
        most: The most waiting, and the most delayed records.
    """
    at = topic_id(connection, topic)
    if at is None:
        return LanePeek([], [], is_complete=True)
    parts = connection.execute(
        "SELECT id, part FROM lane WHERE topic = ? AND live > 0 ORDER BY part", (at,)
    ).fetchall()
    waiting, is_complete = list[Delivery](), True
    for lane, part in parts:
        base = lane << SHIFT
        rows, is_cut = read_records(connection, base, base + WHOLE.end, most)
        is_complete = is_complete and not is_cut
        waiting += [
            body.delivery(topic, part, job_id)
            for job_id, crc, raw in rows
            if (body := unpack(crc, raw)) is not None
        ]
    waiting.sort(key=lambda one: one.appended_ms)
    delayed, is_whole = _delayed(connection, topic, at, most)
    return LanePeek(waiting[:most], delayed, is_complete and is_whole)


def _delayed(
    connection: sqlite3.Connection, topic: str, at: int, most: int
) -> tuple[list[tuple[int, Delivery]], bool]:
    """Delayed records of a topic, and whether they are the first ones."""
    found, size, count = list[tuple[int, Delivery]](), 0, 0
    rows = connection.execute(
        "SELECT id, crc, body FROM "
        "(SELECT id, topic, crc, body FROM delayed ORDER BY id LIMIT ?) "
        "WHERE topic = ? LIMIT ?",
        (_LOOKED_AT, at, most),
    )
    for number, crc, raw in rows:
        count += 1
        body = unpack(crc, raw)
        if body is not None:
            due_ms = number >> DUE_SHIFT
            found.append((due_ms, body.delivery(topic, 0, number)))
            size += len(raw)
        if size >= _MOST_BYTES:
            break
    rows.close()
    (total,) = connection.execute(
        "SELECT delayed FROM topic WHERE id = ?", (at,)
    ).fetchone()
    return found, count >= min(most, total)


def delay_tiers(
    connection: sqlite3.Connection, topics: Sequence[str]
) -> list[DelayTier]:
    """The delayed records of lanes, all in one place.

    Args:
        connection: Needs no transaction.
        topics: The lanes.
    """
    wanted = set(topics)
    rows = connection.execute(
        "SELECT id, name, delayed FROM topic WHERE delayed > 0"
    ).fetchall()
    counts = {at: delayed for at, name, delayed in rows if name in wanted}
    with_first = connection.execute("SELECT id, topic FROM delayed ORDER BY id")
    # Records of others come first only where namespaces share the file.
    first = next((number for number, at in with_first if at in counts), None)
    with_first.close()
    if first is None:
        return []
    return [DelayTier(None, sum(counts.values()), first >> DUE_SHIFT)]
