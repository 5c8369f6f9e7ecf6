"""Leases: which member has which records, for as long as the member lives.

A fetch moves a lane's cursor and writes one row, whatever its size. A settled record is
deleted, so every record that is there is unsettled, and no order of settling needs more
rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from shifter.adapters.sqlite.lane_table import (
    SHIFT,
    Body,
    read_records,
    set_aside,
    unpack,
)
from shifter.adapters.sqlite.member import LiveMember

# No member has this number, so the next fetch takes what is leased to it.
_NO_MEMBER: Final = 0


class LeasedRecord(NamedTuple):
    """A record of a lease."""

    job_id: int
    topic: str
    part: int
    lease: int
    body: Body


class _Lane(NamedTuple):
    """A lane with records; the places from ``cur`` to ``end`` are not leased yet."""

    topic: str
    lane: int
    part: int
    cur: int
    end: int


class Fetch:
    """One fetch of a member, inside a transaction of its caller.

    Args:
        connection: In a transaction.
        member: The member's number.
        alive: All members that live.
        now: Wall clock, milliseconds; dates what is set aside.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        member: int,
        alive: Sequence[LiveMember],
        now: int,
    ) -> None:
        self._connection, self._member, self._now = connection, member, now
        self._alive = alive

    def lease(
        self, topics: Sequence[str], most: int, *, turn: int
    ) -> list[LeasedRecord]:
        """Take up to ``most`` records: in each lane first what dead members left.

        Args:
            topics: What the member drains.
            most: >= 0.
            turn: Which lane is asked first.
        """
        lanes = [lane for topic in topics for lane in self._lanes(topic)]
        at = turn % max(1, len(lanes))
        lanes = lanes[at:] + lanes[:at]
        taken: list[LeasedRecord] = []
        # Each lane gets its share, so that a flood of one starves none of the others;
        # what a short one leaves over goes to those behind it.
        for left, lane in zip(range(len(lanes), 0, -1), lanes, strict=True):
            share = -(-(most - len(taken)) // left)
            if share > 0:
                taken += self._from_lane(lane, share)
        return taken

    def _lanes(self, topic: str) -> list[_Lane]:
        """The lanes of a topic in which records wait that the member may have."""
        mates = [one.number for one in self._alive if topic in one.topics]
        rows = self._connection.execute(
            "SELECT name, lane.id, part, cur, next FROM lane JOIN topic "
            "ON topic.id = lane.topic WHERE name = ? AND live > 0 ORDER BY part",
            (topic,),
        ).fetchall()
        return [lane for lane in map(_Lane._make, rows) if self._may_drain(lane, mates)]

    def _may_drain(self, at: _Lane, mates: Sequence[int]) -> bool:
        """Part 0 is open to all members; the other parts change owner once settled."""
        if at.part == 0:
            return True
        if not mates or mates[at.part % len(mates)] != self._member:
            return False
        marks = ",".join("?" * len(mates))
        held = self._connection.execute(
            "SELECT 1 FROM lease WHERE lane = ? AND member <> ? "  # noqa: S608  # marks
            f"AND member IN ({marks}) LIMIT 1",
            (at.lane, self._member, *mates),
        ).fetchone()
        return held is None

    def _from_lane(self, at: _Lane, most: int) -> list[LeasedRecord]:
        """Lease first what dead members left, oldest first, then what is new."""
        alive = [one.number for one in self._alive]
        marks = ",".join("?" * len(alive))
        left_over = self._connection.execute(
            "SELECT id, first, last, left FROM lease WHERE lane = ? "  # noqa: S608  # marks
            f"AND member NOT IN ({marks}) ORDER BY first",
            (at.lane, *alive),
        ).fetchall()
        taken: list[LeasedRecord] = []
        for lease, first, last, left in left_over:
            room = most - len(taken)
            if room <= 0:
                return taken
            # A new lease, so that the old holder can settle nothing of it any more.
            self._connection.execute("DELETE FROM lease WHERE id = ?", (lease,))
            taken += self._take(at, (first, last), room, left)
        room = most - len(taken)
        if room > 0 and at.cur < at.end:
            last = min(at.end, at.cur + room)
            self._connection.execute(
                "UPDATE lane SET cur = ? WHERE id = ?", (last, at.lane)
            )
            taken += self._take(at, (at.cur, last), room, last - at.cur)
        return taken

    def _take(
        self, at: _Lane, span: tuple[int, int], most: int, wanted: int
    ) -> list[LeasedRecord]:
        """Lease a range of places.

        Args:
            at: The lane.
            span: First place, included, and last, excluded.
            most: The most to take.
            wanted: How many records should be there.
        """
        connection, base, (first, last) = self._connection, at.lane << SHIFT, span
        rows, is_cut = read_records(connection, base + first, base + last, most)
        if (is_cut or len(rows) == most) and len(rows) < wanted:
            # The rest is left without a lease.
            rest, last = (rows[-1][0] - base + 1, last), rows[-1][0] - base + 1
            _write_lease(connection, at.lane, rest, _NO_MEMBER, wanted - len(rows))
        elif len(rows) < wanted:
            # The file lost them: they must not be waited for.
            connection.execute(
                "UPDATE lane SET live = live - ? WHERE id = ?",
                (wanted - len(rows), at.lane),
            )
        if not rows:
            return []
        span = (first, last)
        lease = _write_lease(connection, at.lane, span, self._member, len(rows))
        taken, bad = [], []
        for job_id, crc, raw in rows:
            body = unpack(crc, raw)
            if body is None:
                source = f"{at.topic} {at.part}/{job_id - base}"
                set_aside(connection, source, self._now, raw)
                bad.append(job_id)
            else:
                taken.append(LeasedRecord(job_id, at.topic, at.part, lease, body))
        if bad:
            settle(connection, {lease: bad}, self._member)
        return taken


def settle(
    connection: sqlite3.Connection, of_lease: Mapping[int, Sequence[int]], member: int
) -> None:
    """End the records of leases that a member still holds.

    A record or a lease that is gone already is passed over, so a repeat is harmless.

    Args:
        connection: In a transaction.
        of_lease: Rows of the records, by lease.
        member: The member's number.
    """
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
