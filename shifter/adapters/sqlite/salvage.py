"""Makes a sound file out of a damaged one: whatever can be read is written anew.

A page that cannot be read takes the rows on it along, and no others: a table is read
from both ends towards the damage, and what lies between is asked for in halves, since
there may be sound pages between two damaged ones. The damaged file is kept beside the
new one, for a person.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from shifter.adapters.sqlite.connection import closed_on_error, make
from shifter.adapters.sqlite.file import FileLock
from shifter.adapters.sqlite.lane_table import SHIFT

# Each is one read around a damaged page; a file with more damage is read in part.
_PROBES: Final = 20_000
_LAST: Final = (1 << 63) - 1
_ALL: Final = -1
_BY_NUMBER: Final = (
    "topic",
    "lane",
    "job",
    "lease",
    "member",
    "delayed",
    "damaged",
    "spool",
    "refused",
)
_BY_KEY: Final = ("claim", "presence")


class Rebuilt(NamedTuple):
    """What a damaged file became.

    Attributes:
        kept: Where it is now.
        unreadable: Records that the counters include and that cannot be read.
    """

    kept: Path
    unreadable: int


def rebuild(path: Path, lock: FileLock, now_ms: int) -> Rebuilt:
    """Put a sound file in the place of a damaged one.

    A process that has the damaged one open is refused from then on, and must restart.

    Args:
        path: The file.
        lock: Of the file; held meanwhile, so that no process writes.
        now_ms: For the name of what is kept.

    Raises:
        sqlite3.Error: Not even its list of tables can be read, or no space is left.
        OSError: It cannot be moved.
    """
    new, kept = Path(f"{path}.mended"), Path(f"{path}.damaged-{now_ms}")
    with lock.held():
        _forget(new)
        make(new)
        with (
            contextlib.closing(_opened(path)) as old,
            contextlib.closing(_opened(new)) as sound,
        ):
            sound.execute("BEGIN IMMEDIATE")
            for table in _BY_NUMBER:
                _copy(sound, table, rows_by_number(old, table))
            for table in _BY_KEY:
                _copy(sound, table, _rows_by_key(old, table))
            unreadable = _known(old, sound) - _found(sound)
            _set_strays_aside(sound, now_ms)
            _count_again(sound)
            sound.execute("COMMIT")
            sound.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        # A log beside a file it does not belong to would be read as its own.
        kept.hardlink_to(path)
        for end in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{path}{end}").rename(f"{kept}{end}")
        # Private, like the file that it replaces.
        new.chmod(0o600)
        new.replace(path)
        _forget(new)
        _sync(path.parent)
    return Rebuilt(kept, max(0, unreadable))


def rows_by_number(
    connection: sqlite3.Connection, table: str
) -> Iterator[tuple[Any, ...]]:
    """Rows of a table with a number as its key, as far as they can be read.

    Some may come twice, and of a damaged one any value may be a lie.
    """
    gaps, probes = deque([(-1, _LAST)]), _PROBES
    while gaps and probes:
        probes -= 1
        after, before = gaps.popleft()
        upwards = _Sweep(after)
        yield from upwards.rows(connection, table, after, before, "ASC")
        if upwards.is_whole:
            continue
        downwards = _Sweep(before)
        yield from downwards.rows(connection, table, upwards.sure, before, "DESC")
        last, first = upwards.reached, downwards.reached
        if last >= first:
            # One of the two followed a number that lies.
            last, first = upwards.sure, downwards.sure
        if first - last > 1:
            middle = (last + first) // 2
            gaps += [(last, middle + 1), (middle, first)]


class _Sweep:
    """Reads a range from one end until something cannot be read.

    Attributes:
        sure: The last number of which others followed.
        reached: The last number.
        is_whole: Whether nothing stood in the way.
    """

    def __init__(self, start: int) -> None:
        self.sure = self.reached = start
        self.is_whole = False

    def rows(
        self,
        connection: sqlite3.Connection,
        table: str,
        after: int,
        before: int,
        order: str,
    ) -> Iterator[tuple[Any, ...]]:
        asked = (
            f"SELECT * FROM {table} WHERE id > ? AND id < ? ORDER BY id {order} LIMIT ?"  # noqa: S608  # our names
        )
        with contextlib.suppress(sqlite3.DatabaseError):
            for row in connection.execute(asked, (after, before, _ALL)):
                yield row
                self.sure = row[0]
            self.is_whole = True
            return
        # The client reads one row ahead: the last sound one is still to come.
        self.reached = self.sure
        with contextlib.suppress(sqlite3.DatabaseError):
            while True:
                low, high = (
                    (self.reached, before) if order == "ASC" else (after, self.reached)
                )
                row = connection.execute(asked, (low, high, 1)).fetchone()
                if row is None:
                    return
                yield row
                self.reached = row[0]


def _rows_by_key(
    connection: sqlite3.Connection, table: str
) -> Iterator[tuple[Any, ...]]:
    """Rows of a table whose keys are no numbers: from both ends up to the damage."""
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.DatabaseError):
            yield from connection.execute(f"SELECT * FROM {table} ORDER BY key {order}")  # noqa: S608  # our names
            return


def _copy(
    sound: sqlite3.Connection, table: str, rows: Iterator[tuple[Any, ...]]
) -> None:
    width = len(sound.execute(f"PRAGMA table_info({table})").fetchall())
    marks = ",".join("?" * width)
    sound.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)  # noqa: S608  # our names


def _known(old: sqlite3.Connection, sound: sqlite3.Connection) -> int:
    """How many records there should be."""
    known = sound.execute(
        "SELECT (SELECT total(live) FROM lane) + (SELECT total(delayed) FROM topic)"
    ).fetchone()[0]
    with contextlib.suppress(sqlite3.DatabaseError):
        known += old.execute("SELECT total(waiting) FROM spool_count").fetchone()[0]
    return int(known)


def _found(sound: sqlite3.Connection) -> int:
    (found,) = sound.execute(
        "SELECT (SELECT count(*) FROM job) + (SELECT count(*) FROM delayed) "
        "+ (SELECT count(*) FROM spool)"
    ).fetchone()
    return int(found)


def _set_strays_aside(sound: sqlite3.Connection, now_ms: int) -> None:
    """Set aside records whose topic or lane is unreadable: no fetch would find them."""
    sound.execute("DELETE FROM lane WHERE topic NOT IN (SELECT id FROM topic)")
    for table, place, home in (
        ("job", f"id >> {SHIFT}", "lane"),
        ("delayed", "topic", "topic"),
    ):
        strays = f"FROM {table} WHERE {place} NOT IN (SELECT id FROM {home})"  # noqa: S608  # our names
        sound.execute(
            "INSERT INTO damaged (source, noted_ms, body) "
            f"SELECT '{table} ' || id, ?, body {strays}",
            (now_ms,),
        )
        sound.execute(f"DELETE {strays}")


def _count_again(sound: sqlite3.Connection) -> None:
    """Correct counters that are not corrected by draining, as those of a lane are."""
    sound.execute("UPDATE spool_count SET waiting = (SELECT count(*) FROM spool)")
    sound.execute(
        "UPDATE topic SET delayed = "
        "(SELECT count(*) FROM delayed WHERE delayed.topic = topic.id)"
    )


def _opened(path: Path) -> sqlite3.Connection:
    # Cells are not checked beforehand: a page with one bad cell gives up the others.
    connection = sqlite3.connect(path, isolation_level=None)
    with closed_on_error(connection):
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _forget(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
