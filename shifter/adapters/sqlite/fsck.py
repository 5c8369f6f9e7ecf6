"""Reads every record of a file, and sets aside what is damaged.

Two kinds of damage: a record whose bytes no longer fit their checksum is moved to the
table of damaged ones; a page that SQLite cannot read costs the rows on it, and the rest
is written into a sound file (`shifter.adapters.sqlite.salvage`). Log and spool are
checked alike, since one file may serve as both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from shifter.adapters.sqlite.connection import prepare
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.file import store_error
from shifter.adapters.sqlite.lane_table import SHIFT, place_of, set_aside, unpack
from shifter.adapters.sqlite.salvage import Rebuilt, rebuild
from shifter.errors import ConfigError, StoreRefusedError
from shifter.model.lane import parse_lane
from shifter.ports import Clock

_PAGE: Final = 1_000
_TABLES: Final = ("job", "delayed", "spool")
_CORRUPT: Final = "SQLITE_CORRUPT"


class _Malformed(sqlite3.DatabaseError):
    sqlite_errorname = _CORRUPT


class SetAside(NamedTuple):
    """A damaged record, kept for a person.

    Attributes:
        source: Where it was: a topic and place, ``delayed`` or ``spool`` and a number.
        noted_ms: When it was found.
        size_bytes: Of what is left of it.
    """

    source: str
    noted_ms: int
    size_bytes: int


class Checked(NamedTuple):
    """What a check found.

    Attributes:
        records: Sound ones.
        damaged: Records set aside by this check.
        unreadable: Records on pages that could not be read.
        kept: Where the damaged file is, if a sound one took its place.
        set_aside: All that were ever set aside in this file, the oldest first.
    """

    records: int
    damaged: int
    unreadable: int
    kept: Path | None
    set_aside: list[SetAside]


def check(path: Path, clock: Clock) -> Checked:
    """Check a file; it may be in use, unless a page of it cannot be read.

    Raises:
        ConfigError: There is no such file, or it is not ours.
        StoreRefusedError: Not even its list of tables can be read, or it cannot be
            written.
    """
    if not path.exists():
        raise ConfigError("sqlite file", str(path), "there is no such file")
    try:
        return _checked(path, clock, None)
    except StoreRefusedError as error:
        if not error.detail.startswith(_CORRUPT):
            raise
    lock = prepare(path)
    try:
        rebuilt = rebuild(path, lock, clock.epoch_ms())
    except sqlite3.Error as error:
        raise store_error(error, path, "mend") from None
    except OSError as error:
        detail = f"{error.strerror}: {error.filename}"
        raise StoreRefusedError(f"sqlite {path}", "mend", detail) from None
    finally:
        lock.close()
    return _checked(path, clock, rebuilt)


def _checked(path: Path, clock: Clock, rebuilt: Rebuilt | None) -> Checked:
    database = Database(path)
    try:
        database.read_sync(_whole)
        sound = damaged = 0
        for table in _TABLES:
            good, bad = _check_table(database, table, clock.epoch_ms())
            sound, damaged = sound + good, damaged + bad
        aside = database.read_sync(_all_set_aside)
    finally:
        database.close_sync()
    kept, unreadable = (None, 0) if rebuilt is None else rebuilt
    return Checked(sound, damaged, unreadable, kept, aside)


def _whole(connection: sqlite3.Connection) -> None:
    """Return if SQLite can read all of the file.

    Raises:
        sqlite3.DatabaseError: It cannot.
    """
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        # The check reports damage as text, without an error code of SQLite.
        raise _Malformed(verdict)


def _check_table(database: Database, table: str, now: int) -> tuple[int, int]:
    """How many rows are sound and how many were set aside."""
    after, sound, damaged = -1, 0, 0
    while rows := database.read_sync(partial(_page, table, after)):
        after = rows[-1][0]
        bad = [(number, raw) for number, crc, raw in rows if unpack(crc, raw) is None]
        sound += len(rows) - len(bad)
        if bad:
            damaged += database.write_sync(partial(_set_aside, table, bad, now))
    return sound, damaged


def _page(
    table: str, after: int, connection: sqlite3.Connection
) -> list[tuple[int, int, object]]:
    return connection.execute(
        f"SELECT id, crc, body FROM {table} WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608  # our names
        (after, _PAGE),
    ).fetchall()


def _set_aside(
    table: str,
    bad: Sequence[tuple[int, object]],
    now: int,
    connection: sqlite3.Connection,
) -> int:
    """Move rows to the damaged ones; returns how many were still there."""
    moved = 0
    for number, raw in bad:
        source = _taken_out(connection, table, number)
        if source is not None:
            set_aside(connection, source, now, raw)
            moved += 1
    return moved


def _taken_out(connection: sqlite3.Connection, table: str, number: int) -> str | None:
    """Delete a row and count it out; where it was, or ``None`` if it is not to go."""
    if table == "job":
        return _job_taken_out(connection, number)
    if table == "delayed":
        connection.execute(
            "UPDATE topic SET delayed = delayed - 1 "
            "WHERE id = (SELECT topic FROM delayed WHERE id = ?)",
            (number,),
        )
    else:
        connection.execute(
            "UPDATE spool_count SET waiting = waiting - "
            "(SELECT count(*) FROM spool WHERE id = ?)",
            (number,),
        )
    return f"{table} {number}" if _is_deleted(connection, table, number) else None


def _job_taken_out(connection: sqlite3.Connection, number: int) -> str | None:
    lane, place = number >> SHIFT, place_of(number)
    topic, part, cur = connection.execute(
        "SELECT name, part, cur FROM lane JOIN topic ON topic.id = lane.topic "
        "WHERE lane.id = ?",
        (lane,),
    ).fetchone()
    is_lane = parse_lane(topic) is not None
    # What is leased is its worker's; if that ends, the next sets the record aside.
    if (is_lane and place < cur) or not _is_deleted(connection, "job", number):
        return None
    if not is_lane:
        # A lane's counter is put right where it is drained past the gap.
        connection.execute("UPDATE lane SET live = live - 1 WHERE id = ?", (lane,))
    return f"{topic} {part}/{place}"


def _is_deleted(connection: sqlite3.Connection, table: str, number: int) -> bool:
    gone = connection.execute(f"DELETE FROM {table} WHERE id = ?", (number,))  # noqa: S608  # our names
    return gone.rowcount == 1


def _all_set_aside(connection: sqlite3.Connection) -> list[SetAside]:
    rows = connection.execute(
        "SELECT source, noted_ms, length(body) FROM damaged ORDER BY id"
    )
    return [SetAside(source, noted, size or 0) for source, noted, size in rows]
