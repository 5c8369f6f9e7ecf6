"""Leases: which member has which records, for as long as the member lives.

A fetch moves a lane's cursor and writes one row, whatever its size; a settled record is
deleted, so that what is there is unsettled, and no order of settling needs more rows.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from shifter.adapters.sqlite.body import Body, unpack
from shifter.adapters.sqlite.lane_table import SHIFT, set_aside
from shifter.adapters.sqlite.member import LiveMember

_NOBODY: Final = 0
_MOST_BYTES: Final = 4_000_000
"""Of one lane in one fetch; at least one record is taken, however large."""


class LeasedRecord(NamedTuple):
    """A record of a lease."""

    job_id: int
    topic: str
    part: int
    lease: int
    body: Body


class LeaseTable:
    """Works inside a transaction of its caller; keeps nothing itself."""

    def lease(
        self,
        connection: sqlite3.Connection,
        who: tuple[int, Sequence[LiveMember]],
        topics: Sequence[str],
        most: int,
        now: int,
        turn: int,
    ) -> list[LeasedRecord]:
        """Take up to ``most`` records for a member: first what dead members left.

        Args:
            connection: In a transaction.
            who: The member's number, and all that live.
            topics: What it drains.
            most: >= 0.
            now: Wall clock, milliseconds.
            turn: Which lane is asked first.
        """
        member, alive = who
        places: list[tuple[tuple[str, int, int], tuple[int, int]]] = []
        for topic in topics:
            mates = [one.number for one in alive if topic in one.topics]
            places += [
                ((topic, part, lane), (cur, end))
                for lane, part, cur, end in _busy_lanes(connection, topic)
                if _may_drain(connection, lane, part, member, mates)
            ]
        at = turn % max(1, len(places))
        places = places[at:] + places[:at]
        everybody = [one.number for one in alive]
        taken: list[LeasedRecord] = []
        # Each lane gets its share, so that a flood of one starves none of the others;
        # what a short one leaves over goes to those behind it.
        for left, (place, span) in zip(range(len(places), 0, -1), places, strict=True):
            share = -(-(most - len(taken)) // left)
            if share > 0:
                taken += self._from_lane(
                    connection, place, span, (member, everybody), share, now
                )
        return taken

    def _from_lane(
        self,
        connection: sqlite3.Connection,
        at: tuple[str, int, int],
        span: tuple[int, int],
        who: tuple[int, Sequence[int]],
        most: int,
        now: int,
    ) -> list[LeasedRecord]:
        """Lease first what dead members left, oldest first, then what is new."""
        lane, (cur, end), (member, alive) = at[2], span, who
        marks = ",".join("?" * len(alive))
        left_over = connection.execute(
            "SELECT id, first, last, left FROM lease WHERE lane = ? "  # noqa: S608  # marks
            f"AND member NOT IN ({marks}) ORDER BY first",
            (lane, *alive),
        ).fetchall()
        taken: list[LeasedRecord] = []
        for lease, first, last, left in left_over:
            room = most - len(taken)
            if room <= 0:
                return taken
            # A new lease, so that its old holder's word counts no more.
            connection.execute("DELETE FROM lease WHERE id = ?", (lease,))
            taken += self._take(
                connection, at, member, (first, last), (room, left), now
            )
        room = most - len(taken)
        if room > 0 and cur < end:
            last = min(end, cur + room)
            connection.execute("UPDATE lane SET cur = ? WHERE id = ?", (last, lane))
            span = (cur, last)
            taken += self._take(connection, at, member, span, (room, last - cur), now)
        return taken

    def _take(
        self,
        connection: sqlite3.Connection,
        at: tuple[str, int, int],
        member: int,
        span: tuple[int, int],
        counts: tuple[int, int],
        now: int,
    ) -> list[LeasedRecord]:
        """Lease a range to a member.

        Args:
            connection: In a transaction.
            at: Topic, part and id of the lane.
            member: Who takes it.
            span: First place, included, and last, excluded.
            counts: The most to take, and how many records should be there.
            now: Dates what is set aside.
        """
        topic, part, lane = at
        base, (first, last), (most, wanted) = lane << SHIFT, span, counts
        rows, is_cut = _within(
            connection.execute(
                "SELECT id, crc, body FROM job WHERE id >= ? AND id < ? "
                "ORDER BY id LIMIT ?",
                (base + first, base + last, most),
            )
        )
        if (is_cut or len(rows) == most) and len(rows) < wanted:
            # The rest is left without a lease.
            rest, last = (rows[-1][0] - base + 1, last), rows[-1][0] - base + 1
            _write_lease(connection, lane, rest, _NOBODY, wanted - len(rows))
        elif len(rows) < wanted:
            # The file lost them: they must not be waited for.
            connection.execute(
                "UPDATE lane SET live = live - ? WHERE id = ?",
                (wanted - len(rows), lane),
            )
        if not rows:
            return []
        lease = _write_lease(connection, lane, (first, last), member, len(rows))
        taken, bad = [], []
        for job_id, crc, raw in rows:
            body = unpack(crc, raw)
            if body is None:
                set_aside(connection, f"{topic} {part}/{job_id - base}", now, raw)
                bad.append(job_id)
            else:
                taken.append(LeasedRecord(job_id, topic, part, lease, body))
        if bad:
            self.settle(connection, {lease: bad}, member)
        return taken

    def settle(
        self,
        connection: sqlite3.Connection,
        of_lease: Mapping[int, Sequence[int]],
        member: int,
    ) -> None:
        """End records of leases that the member still holds; again is harmless."""
        for lease, job_ids in of_lease.items():
            row = connection.execute(
                "SELECT lane FROM lease WHERE id = ? AND member = ?", (lease, member)
            ).fetchone()
            if row is None:
                continue
            gone = sum(
                connection.execute(
                    "DELETE FROM job WHERE id >= ? AND id < ?", span
                ).rowcount
                for span in _spans(job_ids)
            )
            connection.execute(
                "UPDATE lane SET live = live - ? WHERE id = ?", (gone, row[0])
            )
            connection.execute(
                "UPDATE lease SET left = left - ? WHERE id = ?", (gone, lease)
            )
            connection.execute("DELETE FROM lease WHERE id = ? AND left <= 0", (lease,))


def _may_drain(
    connection: sqlite3.Connection,
    lane: int,
    part: int,
    member: int,
    mates: Sequence[int],
) -> bool:
    """Part 0 is open to all members; the other parts change owner once settled."""
    if part == 0:
        return True
    if not mates or mates[part % len(mates)] != member:
        return False
    marks = ",".join("?" * len(mates))
    held = connection.execute(
        "SELECT 1 FROM lease WHERE lane = ? AND member <> ? "  # noqa: S608  # marks
        f"AND member IN ({marks}) LIMIT 1",
        (lane, member, *mates),
    ).fetchone()
    return held is None


def _busy_lanes(
    connection: sqlite3.Connection, topic: str
) -> list[tuple[int, int, int, int]]:
    return connection.execute(
        "SELECT lane.id, part, cur, next FROM lane JOIN topic "
        "ON topic.id = lane.topic WHERE name = ? AND live > 0 ORDER BY part",
        (topic,),
    ).fetchall()


def _write_lease(
    connection: sqlite3.Connection,
    lane: int,
    span: tuple[int, int],
    member: int,
    left: int,
) -> int:
    written = connection.execute(
        "INSERT INTO lease (lane, first, last, member, left) VALUES (?, ?, ?, ?, ?)",
        (lane, *span, member, left),
    )
    return written.lastrowid or 0


def _within(cursor: sqlite3.Cursor) -> tuple[list[tuple[int, int, bytes]], bool]:
    """The first rows, up to `_MOST_BYTES` of bodies, and whether that cut them off."""
    rows: list[tuple[int, int, bytes]] = []
    size = 0
    with contextlib.closing(cursor):
        for row in cursor:
            rows.append(row)
            size += len(row[2])
            if size >= _MOST_BYTES:
                return rows, True
    return rows, False


def _spans(job_ids: Iterable[int]) -> list[tuple[int, int]]:
    """Runs of neighbours, first included, last excluded.

    >>> _spans([4, 2, 3, 9])
    [(2, 5), (9, 10)]
    """
    spans: list[tuple[int, int]] = []
    for job_id in sorted(job_ids):
        if spans and spans[-1][1] == job_id:
            spans[-1] = (spans[-1][0], job_id + 1)
        else:
            spans.append((job_id, job_id + 1))
    return spans
