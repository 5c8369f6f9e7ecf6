"""Removes claims that have faded, a slice of the primary key at a time.

Every claim pays for a few rows of the sweep, and every report of a live worker for one
slice, so that a file also shrinks while nothing is claimed. A sweep starts anew in each
process; two that meet do each other's work.
"""

from __future__ import annotations

import sqlite3

from shifter.model.time import StoreMs


class ClaimSweep:
    """How far this process has come; every namespace of the file is swept."""

    def __init__(self) -> None:
        self._after = b""

    def step(self, connection: sqlite3.Connection, now: StoreMs, *, rows: int) -> int:
        """Look at the next ``rows`` rows, >= 1; returns how many had faded.

        The step after the last row begins again with the first.
        """
        last = connection.execute(
            "SELECT key FROM claim WHERE key > ? ORDER BY key LIMIT 1 OFFSET ?",
            (self._after, rows - 1),
        ).fetchone()
        if last is None:
            swept = connection.execute(
                "DELETE FROM claim WHERE key > ? "
                "AND (until_ms <= ? OR typeof(until_ms) <> 'integer')",
                (self._after, now),
            )
            self._after = b""
        else:
            swept = connection.execute(
                "DELETE FROM claim WHERE key > ? AND key <= ? "
                "AND (until_ms <= ? OR typeof(until_ms) <> 'integer')",
                (self._after, *last, now),
            )
            (self._after,) = last
        return swept.rowcount
