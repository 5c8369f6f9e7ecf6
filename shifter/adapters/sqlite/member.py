"""Who drains: one row a feed, with an end that it puts off again and again.

The ends are of the machine's monotonic clock, which all its processes share: neither a
wall clock that is set nor a machine that sleeps makes anybody look dead. A restart of
the machine begins that clock anew, so an end further ahead than anybody puts it is of
before, and counts as over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from shifter.ports import Clock

ALIVE_MS: Final = 10_000
"""How long a member counts as alive without a sign of life."""


class LiveMember(NamedTuple):
    """One that lives.

    Attributes:
        number: Never given twice in a file.
        topics: What it drains.
    """

    number: int
    topics: frozenset[str]


class MemberTable:
    """The members of a file; every function works inside a transaction.

    Args:
        clock: Of this machine.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def join(
        self, connection: sqlite3.Connection, topics: Sequence[str], socket: str
    ) -> int:
        """Become a member; returns its number, and forgets those that are over."""
        now = self._now()
        connection.execute(
            "DELETE FROM member WHERE until_ms <= ? OR until_ms > ?",
            (now, now + ALIVE_MS),
        )
        joined = connection.execute(
            "INSERT INTO member (until_ms, topics, socket, waiting) "
            "VALUES (?, ?, ?, 0)",
            (now + ALIVE_MS, "\n".join(topics), socket),
        )
        return joined.lastrowid or 0

    def stay(self, connection: sqlite3.Connection, number: int) -> bool:
        """Put the end off; ``False`` where it was over before."""
        now = self._now()
        until = now + ALIVE_MS
        kept = connection.execute(
            "UPDATE member SET until_ms = ? "
            "WHERE id = ? AND until_ms > ? AND until_ms <= ?",
            (until, number, now, until),
        )
        return kept.rowcount == 1

    def leave(self, connection: sqlite3.Connection, *numbers: int) -> None:
        """Be over now, or say so of members that have ended."""
        connection.executemany(
            "DELETE FROM member WHERE id = ?", [(number,) for number in numbers]
        )

    def bells(self, connection: sqlite3.Connection) -> list[tuple[int, str]]:
        """Number and socket of every member that has one."""
        return connection.execute(
            "SELECT id, socket FROM member WHERE socket <> ''"
        ).fetchall()

    def alive(self, connection: sqlite3.Connection) -> list[LiveMember]:
        """All that live, the oldest first."""
        now = self._now()
        rows = connection.execute(
            "SELECT id, topics FROM member WHERE until_ms > ? AND until_ms <= ? "
            "ORDER BY id",
            (now, now + ALIVE_MS),
        )
        return [
            LiveMember(number, frozenset(names.split("\n")))
            for number, names in rows.fetchall()
        ]

    def _now(self) -> int:
        return int(self._clock.monotonic() * 1_000)


def note_waiting(connection: sqlite3.Connection, number: int) -> None:
    """Say that a member wants to be rung from now on."""
    connection.execute(
        "UPDATE member SET waiting = 1 WHERE id = ? AND waiting = 0", (number,)
    )


def waiting(connection: sqlite3.Connection, topics: Iterable[str]) -> list[str]:
    """Sockets of the members to be rung for one of these topics."""
    rows = connection.execute("SELECT socket, topics FROM member WHERE waiting = 1")
    wanted = set(topics)
    return [
        path
        for path, names in rows.fetchall()
        if path and not wanted.isdisjoint(names.split("\n"))
    ]
