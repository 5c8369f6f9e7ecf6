"""Checks the SQLite library for `shifter doctor`."""

from __future__ import annotations

import sqlite3

from shifter.adapters.sqlite.admin import wal_is_fixed
from shifter.model.advice import OK, WARN, Finding


def check_library() -> Finding:
    """Whether the library of this process is free of the WAL-reset bug."""
    found = sqlite3.sqlite_version
    if wal_is_fixed(sqlite3.sqlite_version_info):
        return Finding("sqlite", OK, found)
    # Our lock around writes and checkpoints keeps the bug out; another program that
    # opens the file does not take it.
    detail = f"{found} has the WAL-reset bug, which shifter locks out of its files"
    fix = "use SQLite 3.51.3 or newer; until then other tools only read these files"
    return Finding("sqlite", WARN, detail, fix)
