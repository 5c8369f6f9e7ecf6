"""The members that drain a file: one row each with an end, and how they are woken.

A member puts its end off again and again. The ends are of the machine's monotonic
clock, which all its processes share: neither a wall clock that is set nor a machine
that sleeps makes a member look dead. A restart of the machine begins that clock anew,
so an end further ahead than any member puts it is of before, and counts as over.

Each member binds a socket. Its first transaction that finds no record stores the
socket's path, and from then on every append to one of its topics sends a datagram after
the commit; removing the path whenever the member does not wait would cost a sync each
time. Without members an append makes no system call. If a datagram is lost, the member
finds the record when it looks by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import socket
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from shifter.ports import Clock

_BYTE: Final = b"!"
_PREFIX: Final = "shifter-"

ALIVE_MS: Final = 10_000
"""How long a member counts as alive without a sign of life."""


class LiveMember(NamedTuple):
    """A member that lives.

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
        """Become a member, and forget the members whose time is over.

        Args:
            connection: In a transaction.
            topics: The topics that the member reads.
            socket: Name of the socket that wakes the member.

        Returns:
            The member's number.
        """
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
        """Remove this member, or members that have ended."""
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
    """Send this member a datagram for every append from now on."""
    connection.execute(
        "UPDATE member SET waiting = 1 WHERE id = ? AND waiting = 0", (number,)
    )


def waiting(connection: sqlite3.Connection, topics: Iterable[str]) -> list[str]:
    """Sockets of the members that wait for one of these topics."""
    rows = connection.execute("SELECT socket, topics FROM member WHERE waiting = 1")
    wanted = set(topics)
    return [
        path
        for path, names in rows.fetchall()
        if path and not wanted.isdisjoint(names.split("\n"))
    ]


class WakeupSocket:
    """The socket of one member; its path is short, whatever the file's is."""

    def __init__(self, database: Path) -> None:
        mark = hashlib.sha256(str(database).encode()).hexdigest()[:8]
        name = f"{_PREFIX}{mark}-{secrets.token_hex(6)}"
        self.path = str(Path(tempfile.gettempdir()) / name)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        try:
            self.socket.bind(self.path)
            Path(self.path).chmod(0o600)
        except OSError:
            # The socket cannot be made there, or its path is too long: the member then
            # finds records by looking at intervals.
            self.path = ""

    def drain(self) -> None:
        """Discard the datagrams that arrived."""
        with contextlib.suppress(OSError):
            while self.socket.recv(64):
                pass

    def close(self) -> None:
        """Close the socket; its path stays, and shows that the member has ended."""
        self.socket.close()


def wake_members(paths: Iterable[str]) -> None:
    """Wake members; never blocks, never fails."""
    paths = list(paths)
    if not paths:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for path in paths:
            with contextlib.suppress(OSError):
                sender.sendto(_BYTE, path)


def is_dead(path: str) -> bool:
    """Whether the member with this socket has certainly ended.

    A path that does not exist proves nothing: the member may run in a container whose
    temporary folder is another one.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
        caller.setblocking(False)
        try:
            caller.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False


def take_down(paths: Iterable[str]) -> None:
    """Remove the sockets of members that the file no longer lists; never fails.

    A member that the file lists keeps its socket, since one without a socket counts as
    alive until its lease ends. The paths were read from the file, which is not trusted:
    anything that is not named like a socket of ours is left alone.
    """
    for path in map(Path, paths):
        if str(path.parent) == tempfile.gettempdir() and path.name.startswith(_PREFIX):
            with contextlib.suppress(OSError):
                path.unlink()
