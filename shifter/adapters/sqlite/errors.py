"""SQLite's errors as the house's, each with the file and what to do about it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from shifter.errors import StoreError, StoreRefusedError, StoreUnavailableError

_DAMAGED = (
    "the file is damaged; stop what uses it and run shifter log fsck (of a spool: "
    "shifter spool fsck), which makes a sound one and keeps a copy of this"
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


class FileGoneError(StoreRefusedError):
    """The file was taken away under this process; nothing was written."""

    def __init__(self, path: Path, op: str) -> None:
        detail = (
            "the file was removed or replaced while in use; nothing more is accepted "
            "here: look for the old one, which may hold jobs, and restart this process"
        )
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
