"""SQLite's errors as the house's, each with the file and what to do about it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from shifter.errors import StoreError, StoreRefusedError, StoreUnavailableError

_NO_ROOM = "no space is left; free some, nothing that was accepted is lost"
_DAMAGED = (
    "the file is damaged; stop writing, keep a copy, and see shifter doctor and "
    "shifter spool fsck"
)
_REFUSED = {
    "SQLITE_FULL": _NO_ROOM,
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": "not a database; choose another path",
    "SQLITE_READONLY": "the file or its directory cannot be written",
    "SQLITE_CANTOPEN": "cannot be opened; check the directory and its rights",
    "SQLITE_PERM": "not permitted; check the rights of the file",
    "SQLITE_AUTH": "not permitted; check the rights of the file",
}


def store_error(error: sqlite3.Error, path: Path, op: str) -> StoreError:
    """The house's error for one of SQLite's."""
    name = getattr(error, "sqlite_errorname", "") or ""
    for prefix, advice in _REFUSED.items():
        if name.startswith(prefix):
            return StoreRefusedError(f"sqlite {path}", op, f"{name}: {advice}")
    return StoreUnavailableError(f"sqlite {path}", op, f"{name or 'error'}: {error}")
