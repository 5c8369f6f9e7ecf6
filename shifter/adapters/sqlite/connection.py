"""Connections: how a file is made, and what every connection to it is told."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from shifter.adapters.sqlite.errors import store_error
from shifter.adapters.sqlite.file import (
    APPLICATION_ID,
    FILE,
    FileLock,
    check_file,
    create_file,
)
from shifter.adapters.sqlite.schema import VERSION, migrate
from shifter.errors import ConfigError, StoreRefusedError

_BUSY_S: Final = 5.0
_PAGE_BYTES: Final = 8_192
_STATEMENTS: Final = 256
_PRAGMAS: Final = (
    ("synchronous", "FULL"),
    ("wal_autocheckpoint", "0"),
    ("trusted_schema", "OFF"),
    ("cell_size_check", "ON"),
    ("mmap_size", "0"),
    ("fullfsync", "1"),
    ("checkpoint_fullfsync", "1"),
)


def prepare(path: Path, *, mounts: str | None = None) -> FileLock:
    """Check the place, make the directory and the file; returns the lock beside it.

    Args:
        path: Absolute.
        mounts: As `check_file` takes it.

    Raises:
        ConfigError: Not a file of ours, of a newer version, or on a network.
        StoreRefusedError, StoreUnavailableError: It cannot be made or written.
    """
    check_file(path, mounts=mounts)
    try:
        create_file(path)
        _check_owner(path)
        lock = FileLock(path)
        with lock.held():
            _make(path)
    except sqlite3.Error as error:
        raise store_error(error, path, "open") from None
    except OSError as error:
        detail = f"{error.strerror}: {error.filename}"
        raise StoreRefusedError(f"sqlite {path}", "open", detail) from None
    return lock


def _check_owner(path: Path) -> None:
    """Look without touching: another program's file stays as it is."""
    uri = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_NOTADB":
            raise
        want = "not a SQLite database; choose another path"
        raise ConfigError(FILE, str(path), want) from None
    finally:
        connection.close()
    if pages and application != APPLICATION_ID:
        want = "a database of another program; choose another path"
        raise ConfigError(FILE, str(path), want)


def _make(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_S)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version < VERSION:
            # Only where the file is new: pages are of this size for ever.
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _write_ahead(connection, path)
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            migrate(connection, path)
        _write_ahead(connection, path)
    finally:
        connection.close()


def _write_ahead(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        want = f"SQLite cannot share memory here (journal mode {mode}); another disk"
        raise ConfigError(FILE, str(path), want)


def connect(path: Path) -> sqlite3.Connection:
    """A connection as all of ours are; used by one thread at a time.

    ``synchronous=FULL``: what is committed survives a power cut. No connection
    checkpoints by itself.

    Raises:
        StoreRefusedError, StoreUnavailableError: It cannot be opened.
    """
    uri = f"file:{quote(str(path))}?mode=rw"
    try:
        connection = sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            timeout=_BUSY_S,
            cached_statements=_STATEMENTS,
            check_same_thread=False,
        )
        for name, value in _PRAGMAS:
            connection.execute(f"PRAGMA {name} = {value}")
    except sqlite3.Error as error:
        raise store_error(error, path, "open") from None
    return connection
