"""Brings records to their lanes that only wait for their hours, once they are wanted.

Every fetch promotes what is due. This moves what is not due yet and waits for a window
that an operator has opened by hand. Any number of movers share the work: the mover that
deletes a record moves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Final

from shifter.adapters.sqlite.lane_table import (
    DUE_SHIFT,
    Body,
    append_rows,
    row_of,
    unpack,
)
from shifter.adapters.sqlite.log import SqliteLaneLog
from shifter.adapters.sqlite.member import waiting, wake_members
from shifter.errors import StoreError
from shifter.ports import Clock, Record, Rushed
from shifter.wire.headers import hastened_ms

# A batch is one read, and one transaction if anything is moved.
_BATCH: Final = 500
_AGAIN_S: Final = 0.5
_EASE: Final = 20
"""A look that took long is followed by a pause of so many times that."""


class SqliteDelayMover:
    """`shifter.ports.DelayMover` in a file. Owned by one event loop.

    Args:
        log: Where the delayed records are.
        clock: Of this machine.
    """

    def __init__(self, log: SqliteLaneLog, clock: Clock) -> None:
        self._log, self._clock = log, clock
        self._wanted: Rushed | None = None
        self._changed = asyncio.Event()

    def rush(self, wanted: Rushed | None) -> None:
        """From now on also move what only waits for its hours, and is wanted now."""
        self._wanted = wanted
        self._changed.set()

    async def run(self) -> None:
        """Look for wanted records while there may be any, until cancelled."""
        while True:
            self._changed.clear()
            if self._wanted is None:
                await self._changed.wait()
                continue
            began = self._clock.monotonic()
            with contextlib.suppress(StoreError):
                # What fails is found by the next look.
                await self._look(self._wanted)
            took_s = self._clock.monotonic() - began
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(_AGAIN_S, _EASE * took_s)):
                    await self._changed.wait()

    async def _look(self, wanted: Rushed) -> None:
        """Look through all that is delayed, a batch at a time."""
        after = -1
        while True:
            find = partial(self._find, after=after, wanted=wanted)
            found, last = await self._log.database.read(find)
            if found:
                move = partial(self._move, numbers=found)
                wake_members(await self._log.database.write(move))
            if last is None:
                return
            after = last

    def _find(
        self, connection: sqlite3.Connection, after: int, wanted: Rushed
    ) -> tuple[list[int], int | None]:
        """Numbers of wanted records behind ``after``, and where the batch ended."""
        now = self._clock.epoch_ms()
        rows = connection.execute(
            "SELECT id, crc, body FROM delayed WHERE id > ? ORDER BY id LIMIT ?",
            (after, _BATCH),
        ).fetchall()
        found = [
            number
            for number, crc, raw in rows
            if (body := unpack(crc, raw)) is not None
            and self._is_wanted(number, body, wanted, now)
        ]
        return found, rows[-1][0] if len(rows) == _BATCH else None

    @staticmethod
    def _is_wanted(number: int, body: Body, wanted: Rushed, now: int) -> bool:
        due_ms = number >> DUE_SHIFT
        return now < due_ms and now >= hastened_ms(
            body.topic, body.headers, due_ms, wanted=wanted, now=now
        )

    def _move(
        self, connection: sqlite3.Connection, numbers: Sequence[int]
    ) -> list[str]:
        now, records = self._clock.epoch_ms(), list[Record]()
        for number in numbers:
            row = connection.execute(
                "DELETE FROM delayed WHERE id = ? RETURNING topic, crc, body", (number,)
            ).fetchone()
            body = None if row is None else unpack(*row[1:])
            if body is None:
                continue
            connection.execute(
                "UPDATE topic SET delayed = delayed - 1 WHERE id = ?", (row[0],)
            )
            records.append(body.record())
        append_rows(connection, [row_of(record, now) for record in records])
        return waiting(connection, {record.topic for record in records})
