"""Connections and tables: how a file is made, and the settings of each connection.

One file serves as log, as shared state and as spool, in any combination: an unused
table costs a page.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from shifter.adapters.sqlite.file import (
    APPLICATION_ID,
    FileGoneError,
    FileLock,
    Identity,
    check_file,
    identity,
    store_error,
)
from shifter.errors import ConfigError, StoreRefusedError
from shifter.runtime.forking import NoForkMeanwhile

VERSION: Final = 1
"""The version of the tables, in ``user_version`` of a file."""

# A lane is a part of a topic: records without a key in part 0, for any member; keyed
# in parts that one member at a time drains. A job's id is its lane's, shifted, plus its
# place, so that each lane is one run of the b-tree: `next` is where the next record
# goes, `cur` where the next fetch begins, `live` how many are not settled.
_LOG_DDL: Final = (
    """CREATE TABLE topic (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
        partitions INTEGER NOT NULL, retention_ms INTEGER NOT NULL,
        max_record_bytes INTEGER NOT NULL, delayed INTEGER NOT NULL DEFAULT 0
    )""",
    """CREATE TABLE lane (
        id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, part INTEGER NOT NULL,
        next INTEGER NOT NULL DEFAULT 0, cur INTEGER NOT NULL DEFAULT 0,
        live INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, part)
    )""",
    "CREATE TABLE job (id INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB)",
    # One row a fetched batch; `first` included, `last` excluded.
    """CREATE TABLE lease (
        id INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL,
        first INTEGER NOT NULL, last INTEGER NOT NULL,
        member INTEGER NOT NULL, left INTEGER NOT NULL
    )""",
    """CREATE TABLE member (
        id INTEGER PRIMARY KEY AUTOINCREMENT, until_ms INTEGER NOT NULL,
        topics TEXT NOT NULL, socket TEXT NOT NULL, waiting INTEGER NOT NULL
    )""",
    # id: due time in milliseconds, shifted, plus a number.
    """CREATE TABLE delayed (
        id INTEGER PRIMARY KEY, topic INTEGER NOT NULL,
        crc INTEGER NOT NULL, body BLOB
    )""",
    """CREATE TABLE damaged (
        id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL,
        noted_ms INTEGER NOT NULL, body BLOB
    )""",
)
_SPOOL_DDL: Final = (
    """CREATE TABLE spool (
        id INTEGER PRIMARY KEY AUTOINCREMENT, crc INTEGER NOT NULL,
        spooled_ms INTEGER NOT NULL, body BLOB
    )""",
    """CREATE TABLE refused (
        id INTEGER PRIMARY KEY, spooled_ms INTEGER NOT NULL,
        detail TEXT NOT NULL, body BLOB
    )""",
    """CREATE TABLE spool_count (
        id INTEGER PRIMARY KEY CHECK (id = 1), waiting INTEGER NOT NULL
    )""",
    "INSERT INTO spool_count VALUES (1, 0)",
)

# Keys begin with the namespace, since namespaces may share a file. Claims have no index
# on `until_ms`: keys of jobs grow with time and lie side by side, and a second index
# would cost five times the write (19,000 claims a second instead of 113,000). What has
# expired is removed in slices of the primary key instead (`claim_rows.ClaimSweep`).
CLAIMS_DDL: Final = (
    """CREATE TABLE claim (
        key BLOB NOT NULL PRIMARY KEY,
        until_ms INTEGER NOT NULL,
        value BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE presence (
        key BLOB NOT NULL PRIMARY KEY,
        until_ms INTEGER NOT NULL,
        report BLOB NOT NULL
    ) WITHOUT ROWID""",
)


# Processes of this package wait for the lock of the file; only another program makes a
# connection busy.
_BUSY_S: Final = 5.0
# Appending and draining take 10 to 15 % less processor time than with 4 KiB; 16 KiB is
# better for draining only.
_PAGE_BYTES: Final = 8_192
_STATEMENTS: Final = 256
_OPENING: Final = NoForkMeanwhile()
_PRAGMAS: Final = (
    ("synchronous", "FULL"),
    ("wal_autocheckpoint", "0"),
    # What one huge transaction left is cut to this; the rest stays allocated,
    # so that work can be ended while the disk is full.
    ("journal_size_limit", "16777216"),
    # Some distributions have it on: what is deleted is then written once more,
    # as zeros, and draining fills a disk that is nearly full.
    ("secure_delete", "OFF"),
    ("trusted_schema", "OFF"),
    ("cell_size_check", "ON"),
    ("mmap_size", "0"),
    ("fullfsync", "1"),
    ("checkpoint_fullfsync", "1"),
)


def make_file(path: Path, lock: FileLock) -> None:
    """Create the file, or bring it to this version.

    Raises:
        ConfigError: It is of a newer version.
        StoreRefusedError: It cannot be made, or is damaged.
        StoreUnavailableError: Another process holds its lock for 10 s.
    """
    try:
        with lock.soon_held():
            make(path)
    except sqlite3.Error as error:
        raise store_error(error, path, "open") from None


def make(path: Path) -> None:
    """Do the work of `make_file`, for a caller that holds the lock.

    Raises:
        ConfigError: It is of a newer version.
        sqlite3.Error: It cannot be made, or is damaged.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_S)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        _check_owner(connection, path)
        check_schema(connection, path)
        if version == VERSION:
            return
        if version > VERSION:
            want = f"its version is {version}, this program reads up to {VERSION}"
            raise ConfigError("sqlite file", str(path), f"{want}; upgrade shifter")
        # Only where the file is new: pages are counted in this size for ever.
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            want = f"this file system has no shared memory (journal mode {mode})"
            raise ConfigError("sqlite file", str(path), want)
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            for statement in (*_LOG_DDL, *_SPOOL_DDL, *CLAIMS_DDL):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
    finally:
        connection.close()


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application == 0 and not tables:
        # The file is new, or its making was cut short.
        return
    if pages and application != APPLICATION_ID:
        want = "a database of another program; choose another path"
        raise ConfigError("sqlite file", str(path), want)


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Return if a file holds tables and indexes only.

    A view in the place of a table answers without an end, and a trigger deletes jobs.

    Raises:
        ConfigError: It holds something else, which shifter never made.
    """
    strange = connection.execute(
        "SELECT type, name FROM sqlite_schema WHERE type NOT IN ('table', 'index') "
        "OR (type = 'table' AND sql LIKE 'CREATE VIRTUAL%') LIMIT 1"
    ).fetchone()
    if strange is not None:
        want = f"it holds a {strange[0]} {strange[1]!r} that shifter did not make"
        raise ConfigError("sqlite file", str(path), f"{want}; choose another path")


def prepare(path: Path) -> FileLock:
    """Check the place, make the directory and the file; returns the lock beside it.

    Raises:
        ConfigError: Not a file of ours.
        StoreUnavailableError: Another process holds its lock for 10 s.
        StoreRefusedError: The directory or the file cannot be made or written.
    """
    check_file(path)
    # A child would inherit the connection that makes the file, and the umask.
    with _OPENING:
        before = os.umask(0o077)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(path)
            try:
                make_file(path, lock)
            except BaseException:
                # Nothing else closes its descriptor.
                lock.close()
                raise
        except OSError as error:
            detail = f"{error.strerror}: {error.filename}"
            raise StoreRefusedError(f"sqlite {path}", "open", detail) from None
        finally:
            os.umask(before)
    return lock


def check_same(path: Path, before: Identity | None, op: str) -> None:
    """Return if the file at a path is the one it was before.

    Args:
        path: The file's path.
        before: What `identity` answered when the file was opened.
        op: The operation that needs the file, for the error.

    Raises:
        FileGoneError: The file was removed or replaced.
    """
    if identity(path) != before:
        raise FileGoneError(path, op)


def connect(path: Path) -> sqlite3.Connection:
    """A connection as all of ours are; used by one thread at a time.

    ``synchronous=FULL``: what is committed survives a power cut. No connection
    checkpoints by itself.

    Raises:
        StoreRefusedError, StoreUnavailableError: It cannot be opened.
    """
    try:
        # Never made here: a file that went away must not come back empty.
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=_BUSY_S,
            cached_statements=_STATEMENTS,
            check_same_thread=False,
        )
        with closed_on_error(connection):
            connection.text_factory = _text
            for name, value in _PRAGMAS:
                connection.execute(f"PRAGMA {name} = {value}")
    except sqlite3.Error as error:
        raise store_error(error, path, "open") from None
    return connection


@contextlib.contextmanager
def closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Close a new connection if its setup in the block fails.

    The error keeps the frames that it passed, and these keep the connection: it would
    stay open, with its locks, for as long as anyone holds the error.
    """
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _text(raw: bytes) -> str:
    # A flipped bit of a row's header makes a text of a record's bytes. The checksum is
    # compared later, so decoding must not fail.
    return raw.decode(errors="replace")
