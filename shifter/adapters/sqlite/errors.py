"""SQLite's errors as the house's, each with the file and what to do about it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from shifter.errors import StoreError, StoreRefusedError, StoreUnavailableError

_DAMAGED = (
    "the file is damaged; stop writing, keep a copy, and see shifter doctor and "
    "shifter spool fsck"
)
_REFUSED = {
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": "not a database; choose another path",
    "SQLITE_READONLY": "the file or its directory cannot be written; check its rights",
    "SQLITE_CANTOPEN": "cannot be opened; check the directory and its rights",
    "SQLITE_PERM": "not permitted; check the rights of the file",
    "SQLITE_AUTH": "not permitted; check the rights of the file",
    "SQLITE_TOOBIG": "a row is larger than SQLite takes",
}
_LOCKED = "another program holds the file; close it, or open it read-only there"


class NoSpaceError(StoreRefusedError):
    """The disk is full, for now; nothing was written, what was accepted is there."""

    def __init__(self, path: Path, op: str, detail: str) -> None:
        advice = "free some space, nothing that was accepted is lost"
        super().__init__(f"sqlite {path}", op, f"{detail}; {advice}")


def store_error(error: sqlite3.Error, path: Path, op: str) -> StoreError:
    """The house's error for one of SQLite's."""
    name = getattr(error, "sqlite_errorname", "") or ""
    store = f"sqlite {path}"
    if name == "SQLITE_FULL":
        return NoSpaceError(path, op, "no space is left on the disk")
    for prefix, advice in _REFUSED.items():
        if name.startswith(prefix):
            return StoreRefusedError(store, op, f"{name}: {advice}")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreUnavailableError(store, op, f"{name}: {_LOCKED}")
    return StoreUnavailableError(store, op, f"{name or 'error'}: {error}")


def is_broken(error: sqlite3.Error) -> bool:
    """Whether the connection is better opened anew."""
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB"))
