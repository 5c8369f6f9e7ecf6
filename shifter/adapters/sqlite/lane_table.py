"""Lanes in the file: append, promote what is due, lease a batch, end it.

Every function here works inside a transaction of its caller. A fetch moves a cursor
and writes one lease row, whatever its size; a settled record is deleted. Keyed records
lie in parts of their topic that one live member at a time drains, so that the order of
a key holds across processes.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from shifter.adapters.sqlite.body import Body, pack, unpack
from shifter.model.lane import parse_lane
from shifter.ports import Record

_SHIFT: Final = 40
_DUE_SHIFT: Final = 20
_KEY_PARTS: Final = 8
_PROMOTED: Final = 1_000
_NOBODY: Final = 0


class Taken(NamedTuple):
    """A record of a lease."""

    job_id: int
    topic: str
    part: int
    lease: int
    body: Body


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

    def append(
        self, connection: sqlite3.Connection, records: Iterable[Record], now: int
    ) -> None:
        """Write records whose topics exist; those that are not due wait elsewhere."""
        of_lane: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
        for record in records:
            if record.due_ms is not None and record.due_ms > now:
                self._delay(connection, record, now)
                continue
            place = (record.topic, _part(record))
            of_lane.setdefault(place, []).append(pack(record, now))
        for place, rows in of_lane.items():
            self._extend(connection, self._lane(connection, *place), rows)

    def _extend(
        self,
        connection: sqlite3.Connection,
        lane: int,
        rows: Sequence[tuple[int, bytes]],
    ) -> None:
        (first,) = connection.execute(
            "UPDATE lane SET next = next + ?1, live = live + ?1 WHERE id = ?2 "
            "RETURNING next - ?1",
            (len(rows), lane),
        ).fetchone()
        at = lane << _SHIFT | first
        connection.executemany(
            "INSERT INTO job (id, crc, body) VALUES (?, ?, ?)",
            [(number, crc, raw) for number, (crc, raw) in enumerate(rows, at)],
        )

    def _delay(self, connection: sqlite3.Connection, record: Record, now: int) -> None:
        first = (record.due_ms or 0) << _DUE_SHIFT
        (last,) = connection.execute(
            "SELECT max(id) FROM delayed WHERE id >= ? AND id < ?",
            (first, first + (1 << _DUE_SHIFT)),
        ).fetchone()
        topic_id = self.topic_id(connection, record.topic)
        crc, raw = pack(record, now, topic=record.topic)
        connection.execute(
            "INSERT INTO delayed (id, topic, crc, body) VALUES (?, ?, ?, ?)",
            (first if last is None else last + 1, topic_id, crc, raw),
        )
        connection.execute(
            "UPDATE topic SET delayed = delayed + 1 WHERE id = ?", (topic_id,)
        )

    def promote(self, connection: sqlite3.Connection, now: int) -> list[str]:
        """Move what is due to its lanes; returns the topics that got something."""
        rows = connection.execute(
            "SELECT id, topic, crc, body FROM delayed WHERE id < ? ORDER BY id LIMIT ?",
            ((now + 1) << _DUE_SHIFT, _PROMOTED),
        ).fetchall()
        due: list[Record] = []
        for number, topic_id, crc, raw in rows:
            body = unpack(crc, raw)
            connection.execute(
                "UPDATE topic SET delayed = delayed - 1 WHERE id = ?", (topic_id,)
            )
            if body is None:
                _set_aside(connection, f"delayed {number}", now, raw)
                continue
            due.append(Record(body.topic, body.value, body.headers, body.key))
        if rows:
            connection.execute("DELETE FROM delayed WHERE id <= ?", (rows[-1][0],))
            self.append(connection, due, now)
        return sorted({record.topic for record in due})

    # --- leasing --------------------------------------------------------------------

    def lease(
        self,
        connection: sqlite3.Connection,
        topics: Sequence[str],
        member: int,
        most: int,
        now: int,
        turn: int,
    ) -> list[Taken]:
        """Take up to ``most`` records for a member: first what dead members left.

        ``turn`` says which lane is asked first.
        """
        alive = [
            (number, names.split("\n"))
            for number, names in connection.execute(
                "SELECT id, topics FROM member WHERE until_ms > ? ORDER BY id", (now,)
            )
        ]
        places: list[tuple[tuple[str, int, int], tuple[int, int]]] = []
        for topic in topics:
            mates = [number for number, names in alive if topic in names]
            places += [
                ((topic, part, lane), (cur, end))
                for lane, part, cur, end in _busy_lanes(connection, topic)
                if _may_drain(connection, lane, part, member, mates)
            ]
        at = turn % max(1, len(places))
        places = places[at:] + places[:at]
        everybody = [number for number, _ in alive]
        taken: list[Taken] = []
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
    ) -> list[Taken]:
        """First what dead members left, oldest first, then what nobody had yet."""
        lane, (cur, end), (member, alive) = at[2], span, who
        marks = ",".join("?" * len(alive))
        left_over = connection.execute(
            "SELECT id, first, last, left FROM lease WHERE lane = ? "  # noqa: S608  # marks
            f"AND member NOT IN ({marks}) ORDER BY first",
            (lane, *alive),
        ).fetchall()
        taken: list[Taken] = []
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
    ) -> list[Taken]:
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
        base, (first, last), (most, wanted) = lane << _SHIFT, span, counts
        rows = connection.execute(
            "SELECT id, crc, body FROM job WHERE id >= ? AND id < ? "
            "ORDER BY id LIMIT ?",
            (base + first, base + last, most),
        ).fetchall()
        if len(rows) == most and most < wanted:
            # The rest stays with nobody.
            rest, last = (rows[-1][0] - base + 1, last), rows[-1][0] - base + 1
            _write_lease(connection, lane, rest, _NOBODY, wanted - most)
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
                _set_aside(connection, f"{topic} {job_id - base}", now, raw)
                bad.append(job_id)
            else:
                taken.append(Taken(job_id, topic, part, lease, body))
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

    def holds(self, connection: sqlite3.Connection, lease: int, member: int) -> bool:
        """Whether a lease is still this member's."""
        row = connection.execute(
            "SELECT 1 FROM lease WHERE id = ? AND member = ?", (lease, member)
        ).fetchone()
        return row is not None

    @staticmethod
    def next_due_ms(connection: sqlite3.Connection) -> int | None:
        """When the next delayed record is due."""
        (first,) = connection.execute("SELECT min(id) FROM delayed").fetchone()
        return None if first is None else first >> _DUE_SHIFT


def place_of(job_id: int) -> int:
    """Where in its lane a record stands."""
    return job_id & ((1 << _SHIFT) - 1)


def _part(record: Record) -> int:
    # What is no lane is read by scans only: one part keeps its order.
    if record.key is None or parse_lane(record.topic) is None:
        return 0
    return zlib.crc32(record.key) % _KEY_PARTS + 1


def _may_drain(
    connection: sqlite3.Connection,
    lane: int,
    part: int,
    member: int,
    mates: Sequence[int],
) -> bool:
    """Part 0 is anybody's; the others change hands when the old owner is through."""
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


def _set_aside(
    connection: sqlite3.Connection, source: str, now: int, raw: object
) -> None:
    connection.execute(
        "INSERT INTO damaged (source, noted_ms, body) VALUES (?, ?, ?)",
        (source, now, raw),
    )
