"""Whole appends to a file: one transaction, which only the newest sender may write."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Final

from shifter.adapters.sqlite.log import SqliteLaneLog
from shifter.adapters.sqlite.member import waiting
from shifter.adapters.sqlite.notify import wake_members
from shifter.errors import StoreUnavailableError
from shifter.ports import Record, Refused

# Beside the tables of `shifter.adapters.sqlite.schema`, made when it is first needed:
# a program that does not know it can do without.
_DDL: Final = (
    "CREATE TABLE IF NOT EXISTS sender "
    "(name TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID"
)


class _NoneWritten(Exception):  # noqa: N818  # undoes a transaction, never seen outside
    """Not all records can be written."""

    def __init__(self, refused: dict[int, Refused]) -> None:
        self.refused = refused
        super().__init__(refused)


class SqliteAtomicLog:
    """`shifter.ports.AtomicLog` in a file.

    Args:
        log: Of the file; closed with this.
        name: Of the sender.
    """

    def __init__(self, log: SqliteLaneLog, name: str) -> None:
        self._log, self._name, self._epoch = log, name, 0

    async def open(self) -> None:
        """Take the name over.

        Raises:
            StoreRefusedError, StoreUnavailableError: The file cannot be written.
        """

        def take(connection: sqlite3.Connection) -> int:
            connection.execute(_DDL)
            (epoch,) = connection.execute(
                "INSERT INTO sender VALUES (?, 1) ON CONFLICT (name) "
                "DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                (self._name,),
            ).fetchone()
            return int(epoch)

        self._epoch = await self._log.database.write(take)

    async def append(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> dict[int, Refused]:
        """Write all of these, or none of them.

        Raises:
            StoreUnavailableError: The outcome is unknown, or another sender has the
                name.
            StoreRefusedError: The file cannot be written.
        """

        def write(connection: sqlite3.Connection) -> list[str]:
            self._check_name(connection)
            answers = self._log.write(connection, records)
            refused = {
                place: answer
                for place, answer in enumerate(answers)
                if isinstance(answer, Refused)
            }
            if refused:
                raise _NoneWritten(refused)
            return waiting(connection, {record.topic for record in records})

        try:
            async with asyncio.timeout(timeout_s):
                wake_members(await self._log.database.write(write))
        except _NoneWritten as none:
            return none.refused
        except TimeoutError:
            raise self._unknown("no answer from the file in time") from None
        return {}

    async def close(self) -> None:
        """Free everything; closing twice is harmless."""
        self._log.close(timeout_s=0)

    def _check_name(self, connection: sqlite3.Connection) -> None:
        (epoch,) = connection.execute(
            "SELECT epoch FROM sender WHERE name = ?", (self._name,)
        ).fetchone()
        if epoch != self._epoch:
            raise self._unknown(f"another process sends as {self._name!r} now")

    def _unknown(self, detail: str) -> StoreUnavailableError:
        store = f"sqlite {self._log.database.path}"
        return StoreUnavailableError(store, "append", detail)
