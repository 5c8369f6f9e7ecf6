"""The claim store in SQLite: one transaction for a batch.

`shifter.policy.delivery.claim_batch` is what a call does to its rows. One machine has
one clock, so instants are of this process's wall clock. It is read inside the
transaction: the time that a call waited for its turn shortens no lease.

A transaction may run again from the start where it failed, so its body keeps nothing
but the place of the sweep and the count of unreadable values.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from shifter.adapters.sqlite.admin import find_waiting
from shifter.adapters.sqlite.claim_rows import ClaimRows, ClaimSweep, key_prefix
from shifter.adapters.sqlite.database import Database
from shifter.model.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    JobStatus,
    Renewal,
    WaitingJobs,
)
from shifter.model.time import StoreMs
from shifter.policy.delivery.claim import ClaimAsk
from shifter.policy.delivery.claim_batch import (
    cancel_job,
    claim_batch,
    find_status,
    finish_batch,
    renew_batch,
)
from shifter.policy.delivery.claim_state import done_job
from shifter.ports import ClaimCalls, Clock, understood
from shifter.wire.untrusted import bounded

T = TypeVar("T")

# The file then holds at most a third more claims than live.
_SWEPT_PER_CLAIM: Final = 4


class SqliteClaimStore:
    """`shifter.ports.ClaimStore` in a file. Owned by one event loop.

    Args:
        database: This store's share of it; `close` gives that back.
        namespace: The fleet's; others may share the file.
        clock: Of this machine.
        finds_waiting: Whether `status` also looks into the log, which is in the same
            file, for a job that waits there and was never claimed.

    Attributes:
        resets: Values found that are no claim; they count as absent.
    """

    def __init__(
        self,
        database: Database,
        namespace: str,
        clock: Clock,
        *,
        finds_waiting: bool = False,
    ) -> None:
        self._database, self._is_closed = database, False
        self._namespace, self._finds_waiting = namespace, finds_waiting
        self._prefix, self._clock = key_prefix(namespace), clock
        self._calls, self._sweep = ClaimCalls(), ClaimSweep()
        self.resets = 0

    async def claim(
        self, requests: Sequence[ClaimRequest], *, owner: str, lease_ms: int
    ) -> list[ClaimAnswer]:
        """Ask to run; answers in order."""
        if not requests:
            return []
        with self._calls.named() as op:
            lost = frozenset(self._calls.unanswered)
            first = ClaimAsk(1, 1, bounded(owner), lease_ms, op, lost)
            return await self._write(
                "claim",
                lambda rows: claim_batch(rows, requests, first),
                swept=_SWEPT_PER_CLAIM * len(requests),
            )

    async def renew(
        self, held: Sequence[tuple[str, int]], *, lease_ms: int
    ) -> list[Renewal]:
        """Extend leases, given as (identity, fence), from the store's now."""
        if not held:
            return []
        return await self._write(
            "claim.renew", lambda rows: renew_batch(rows, held, lease_ms)
        )

    async def finish(self, updates: Sequence[ClaimUpdate]) -> list[bool]:
        """Write ends of turns; ``False`` where the fence was no longer the newest."""
        if not updates:
            return []
        return await self._write(
            "claim.finish", lambda rows: finish_batch(rows, updates)
        )

    async def cancel(self, job_id: str, *, keep_ms: int) -> JobStatus:
        """Ask that a job not run (again); returns its state after the call."""
        return await self._write(
            "claim.cancel", lambda rows: cancel_job(rows, job_id, keep_ms)
        )

    async def add_waiting(self, jobs: Sequence[WaitingJobs]) -> int:
        """Record that jobs wait, unless something is recorded; all are taken."""
        if jobs:
            await self._write("claim.add_waiting", lambda rows: rows.wait(jobs))
        return 0

    async def status(self, job_id: str) -> JobStatus | None:
        """The state of a job; ``None`` when nothing is recorded, or not any more."""
        with understood("sqlite", "claim.status"):
            return await self._database.read(partial(self._status, job_id))

    async def done_by(self, identity: str) -> str | None:
        """The id of the job that had the effect of an idempotency key."""

        def read(connection: sqlite3.Connection) -> str | None:
            rows = self._rows(connection)
            key = rows.key(bounded(identity))
            rows.load([key])
            return done_job(rows.get(key))

        with understood("sqlite", "claim.done_by"):
            return await self._database.read(read)

    async def note(self, name: str, word: str, *, keep_ms: int) -> str:
        """Keep a word under a name, unless one is kept there; returns what is kept."""
        return await self._write(
            "claim.note", lambda rows: rows.note(name, word, keep_ms)
        )

    async def ping(self) -> str:
        """One line that describes the store."""
        return await self._database.read(_describe)

    async def close(self) -> None:
        """Leave the database; it goes on for the others that share it."""
        if not self._is_closed:
            self._is_closed = True
            await self._database.close()

    def _rows(self, connection: sqlite3.Connection) -> ClaimRows:
        return ClaimRows(connection, StoreMs(self._clock.epoch_ms()), self._prefix)

    async def _write(
        self, op: str, change: Callable[[ClaimRows], T], *, swept: int = 0
    ) -> T:
        """Change rows in one transaction, which also sweeps some of the others."""

        def write(connection: sqlite3.Connection) -> T:
            rows = self._rows(connection)
            answer = change(rows)
            rows.save()
            self.resets += rows.unreadable
            if swept:
                self._sweep.step(connection, rows.now, rows=swept)
            return answer

        with understood("sqlite", op):
            return await self._database.write(write)

    def _status(self, job_id: str, connection: sqlite3.Connection) -> JobStatus | None:
        # One view of claims and log: a job that starts in between is seen before or
        # after.
        connection.execute("BEGIN")
        try:
            known = find_status(self._rows(connection), job_id)
            if known is None and self._finds_waiting:
                return find_waiting(connection, self._namespace, job_id)
            return known
        finally:
            connection.execute("COMMIT")


def _describe(connection: sqlite3.Connection) -> str:
    connection.execute("SELECT 1 FROM claim LIMIT 1").fetchone()
    _, _, path = connection.execute("PRAGMA database_list").fetchone()
    return f"sqlite {sqlite3.sqlite_version}, {path}"
