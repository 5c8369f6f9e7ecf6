"""The claim store in SQLite: one transaction for a batch.

A claim whose answer was lost (a cancelled call, a timeout) may have been granted. Each
call therefore has a name of its own, and the next call of this store lists the names
that were never answered: what those were granted does not run, so it is granted again
at once instead of standing still for a lease.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections import deque
from collections.abc import Sequence
from typing import Final

from shifter.adapters.sqlite.claim_table import ClaimTable
from shifter.adapters.sqlite.schema import bounded
from shifter.adapters.sqlite.transactions import Transactions
from shifter.adapters.sqlite.waiting_job import find_waiting
from shifter.model.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    JobStatus,
    Renewal,
    WaitingJobs,
)
from shifter.policy.delivery.claim import (
    ClaimAsk,
)
from shifter.ports import Clock, understood

_UNANSWERED: Final = 64


class SqliteClaimStore:
    """`shifter.ports.ClaimStore` in a file. Owned by one event loop.

    Args:
        database: This store's share of it; `close` gives that back.
        namespace: The fleet's; others may share the file.
        clock: Of this machine.
        finds_waiting: Whether `status` also looks into the log, which is in the same
            file, for a job that waits there and was never claimed.
    """

    def __init__(
        self,
        database: Transactions,
        namespace: str,
        clock: Clock,
        *,
        finds_waiting: bool = False,
    ) -> None:
        self._database, self._is_closed = database, False
        self._namespace, self._finds_waiting = namespace, finds_waiting
        self._table = ClaimTable(namespace, clock)
        self._name, self._calls = secrets.token_hex(4), 0
        self._unanswered: deque[str] = deque(maxlen=_UNANSWERED)

    @property
    def resets(self) -> int:
        """Values found that are no claim; they count as absent."""
        return self._table.resets

    async def claim(
        self, requests: Sequence[ClaimRequest], *, owner: str, lease_ms: int
    ) -> list[ClaimAnswer]:
        """Ask to run; answers in order."""
        if not requests:
            return []
        self._calls += 1
        op = f"{self._name}.{self._calls}"
        first = ClaimAsk(
            1, 1, bounded(owner), lease_ms, op, frozenset(self._unanswered)
        )
        try:
            with understood("sqlite", "claim"):
                return await self._database.write(
                    lambda connection: self._table.claim(connection, requests, first)
                )
        except BaseException:
            self._unanswered.append(op)
            raise

    async def renew(
        self, held: Sequence[tuple[str, int]], *, lease_ms: int
    ) -> list[Renewal]:
        """Extend leases, given as (identity, fence), from the store's now."""
        if not held:
            return []
        with understood("sqlite", "claim.renew"):
            return await self._database.write(
                lambda connection: self._table.renew(connection, held, lease_ms)
            )

    async def finish(self, updates: Sequence[ClaimUpdate]) -> list[bool]:
        """Write ends of turns; ``False`` where the fence was no longer the newest."""
        if not updates:
            return []
        with understood("sqlite", "claim.finish"):
            return await self._database.write(
                lambda connection: self._table.finish(connection, updates)
            )

    async def cancel(self, job_id: str, *, keep_ms: int) -> JobStatus:
        """Ask that a job not run (again); returns its state after the call."""
        with understood("sqlite", "claim.cancel"):
            return await self._database.write(
                lambda connection: self._table.cancel(connection, job_id, keep_ms)
            )

    async def add_waiting(self, jobs: Sequence[WaitingJobs]) -> int:
        """Record that jobs wait, unless something is recorded; all are taken."""
        if jobs:
            with understood("sqlite", "claim.add_waiting"):
                await self._database.write(
                    lambda connection: self._table.add_waiting(connection, jobs)
                )
        return 0

    async def status(self, job_id: str) -> JobStatus | None:
        """The state of a job; ``None`` when nothing is recorded, or not any more."""
        with understood("sqlite", "claim.status"):
            return await self._database.read(
                lambda connection: self._status(connection, job_id)
            )

    def _status(self, connection: sqlite3.Connection, job_id: str) -> JobStatus | None:
        if not self._finds_waiting:
            return self._table.status(connection, job_id)
        # One view of both: a job that starts in between is seen before or after.
        connection.execute("BEGIN")
        try:
            known = self._table.status(connection, job_id)
            return known or find_waiting(connection, self._namespace, job_id)
        finally:
            connection.execute("COMMIT")

    async def done_by(self, identity: str) -> str | None:
        """The id of the job that had the effect of an idempotency key."""
        with understood("sqlite", "claim.done_by"):
            return await self._database.read(
                lambda connection: self._table.done_by(connection, identity)
            )

    async def note(self, name: str, word: str, *, keep_ms: int) -> str:
        """Keep a word under a name, unless one is kept there; returns what is kept."""
        with understood("sqlite", "claim.note"):
            return await self._database.write(
                lambda connection: self._table.note(connection, name, word, keep_ms)
            )

    async def ping(self) -> str:
        """One line that describes the store."""
        return await self._database.read(_describe)

    async def close(self) -> None:
        """Leave the database; it goes on for the others that share it."""
        if not self._is_closed:
            self._is_closed = True
            await self._database.close()


def _describe(connection: sqlite3.Connection) -> str:
    connection.execute("SELECT 1 FROM claim LIMIT 1").fetchone()
    _, _, path = connection.execute("PRAGMA database_list").fetchone()
    return f"sqlite {sqlite3.sqlite_version}, {path}"
