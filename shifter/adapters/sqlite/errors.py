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
    "SQLITE_READONLY": "the file or its directory cannot be written",
    "SQLITE_CANTOPEN": "cannot be opened; check the directory and its rights",
    "SQLITE_PERM": "not permitted; check the rights of the file",
    "SQLITE_AUTH": "not permitted; check the rights of the file",
}


class NoSpaceError(StoreRefusedError):
    """The disk is full, for now; nothing was written."""

    def __init__(self, path: Path, op: str) -> None:
        detail = "no space is left; free some, nothing that was accepted is lost"
        super().__init__(f"sqlite {path}", op, detail)


def store_error(error: sqlite3.Error, path: Path, op: str) -> StoreError:
    """The house's error for one of SQLite's."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name == "SQLITE_FULL":
        return NoSpaceError(path, op)
    for prefix, advice in _REFUSED.items():
        if name.startswith(prefix):
            return StoreRefusedError(f"sqlite {path}", op, f"{name}: {advice}")
    return StoreUnavailableError(f"sqlite {path}", op, f"{name or 'error'}: {error}")
