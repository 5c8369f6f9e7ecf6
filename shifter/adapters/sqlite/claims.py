"""The claim store in SQLite: the rules of `shifter.policy.claim` in a transaction.

One machine has one clock, so instants are of this process's wall clock, read inside
the transaction: the time that a call waited for its turn shortens no lease.

A claim whose answer was lost (a cancelled call, a timeout) may have been granted. Each
call therefore has a name of its own, and the next call of this store says which names
were never answered: nobody runs what those were granted, so it is granted again at
once instead of standing still for a lease.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections import deque
from collections.abc import Sequence
from typing import Final

from shifter.adapters.sqlite.claim_rows import ClaimRows
from shifter.adapters.sqlite.claims_schema import bounded, key_prefix
from shifter.adapters.sqlite.sweep import ClaimSweep
from shifter.adapters.sqlite.transactions import Transactions
from shifter.model.claim import (
    Cancelled,
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    Renewal,
)
from shifter.model.state import JobState, JobStatus
from shifter.model.time import StoreMs
from shifter.policy.claim import (
    RUNNING_GRACE_MS,
    Ask,
    Claim,
    Kept,
    decide_cancel,
    decide_claim,
    decide_finish,
    decide_renew,
)
from shifter.ports import Clock

_UNANSWERED: Final = 64
# A claim pays for four rows of the sweep: the file then holds at most a third more
# claims than live.
_SWEPT_PER_CLAIM: Final = 4


class SqliteClaimStore:
    """`shifter.ports.ClaimStore` in a file. Owned by one event loop.

    Args:
        database: Of this process; `close` closes it, for all that share it.
        namespace: The fleet's; others may share the file.
        clock: Of this machine.

    Attributes:
        resets: Values found that are no claim; they count as absent.
    """

    def __init__(self, database: Transactions, namespace: str, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._prefix = key_prefix(namespace)
        self._sweep = ClaimSweep()
        self._name, self._calls = secrets.token_hex(4), 0
        self._unanswered: deque[str] = deque(maxlen=_UNANSWERED)
        self.resets = 0

    async def claim(
        self, requests: Sequence[ClaimRequest], *, owner: str, lease_ms: int
    ) -> list[ClaimAnswer]:
        """Ask to run; answers in order."""
        if not requests:
            return []
        self._calls += 1
        op = f"{self._name}.{self._calls}"
        ask = Ask(1, 1, bounded(owner), lease_ms, op, frozenset(self._unanswered))
        try:
            return await self._database.write(lambda c: self._claim(c, requests, ask))
        except BaseException:
            self._unanswered.append(op)
            raise

    async def renew(
        self, held: Sequence[tuple[str, int]], *, lease_ms: int
    ) -> list[Renewal]:
        """Extend leases, given as (identity, fence), from the store's now."""
        if not held:
            return []
        return await self._database.write(lambda c: self._renew(c, held, lease_ms))

    async def finish(self, updates: Sequence[ClaimUpdate]) -> list[bool]:
        """Write ends of turns; ``False`` where the fence was no longer the newest."""
        if not updates:
            return []
        return await self._database.write(lambda c: self._finish(c, updates))

    async def cancel(self, job_id: str, *, keep_ms: int) -> JobStatus:
        """Ask that a job not run (again); returns its state after the call."""
        return await self._database.write(lambda c: self._cancel(c, job_id, keep_ms))

    async def status(self, job_id: str) -> JobStatus | None:
        """What is known of a job; ``None`` when it has not started, or is forgotten."""
        return await self._database.read(lambda c: self._status(c, job_id))

    async def ping(self) -> str:
        """One line that describes the store."""
        return await self._database.read(_describe)

    async def close(self) -> None:
        """Close the database, for every store that shares it."""
        await self._database.close()

    def _claim(
        self,
        connection: sqlite3.Connection,
        requests: Sequence[ClaimRequest],
        usual: Ask,
    ) -> list[ClaimAnswer]:
        rows, now = self._rows(connection)
        keys = [self._key(request.identity) for request in requests]
        aliased = [r.job_id for r in requests if r.job_id != r.identity]
        rows.load([*keys, *map(self._key, aliased)])
        answers = [
            self._answer(rows, key, request, usual, now)
            for key, request in zip(keys, requests, strict=True)
        ]
        self._save(rows)
        self._sweep.step(connection, now, rows=_SWEPT_PER_CLAIM * len(keys))
        return answers

    def _answer(
        self,
        rows: ClaimRows,
        key: bytes,
        request: ClaimRequest,
        usual: Ask,
        now: StoreMs,
    ) -> ClaimAnswer:
        identity, job_id, turn, attempt = request
        _, _, owner, lease_ms, op, unanswered, alias = usual
        if identity != job_id:
            alias = bounded(job_id)
            found = rows.point(self._key(job_id), key, lease_ms + RUNNING_GRACE_MS)
            if found is not None and found.state is JobState.CANCELLED:
                return Cancelled()
        ask = Ask(turn, attempt, owner, lease_ms, op, unanswered, alias)
        answer, kept = decide_claim(rows.claim(key), ask, now=now)
        self._keep(rows, key, kept)
        return answer

    def _renew(
        self,
        connection: sqlite3.Connection,
        held: Sequence[tuple[str, int]],
        lease_ms: int,
    ) -> list[Renewal]:
        rows, now = self._rows(connection)
        keys = [self._key(identity) for identity, _ in held]
        self._load(rows, keys)
        answers: list[Renewal] = []
        for key, (_, fence) in zip(keys, held, strict=True):
            answer, kept = decide_renew(
                rows.claim(key), fence=fence, lease_ms=lease_ms, now=now
            )
            self._keep(rows, key, kept)
            answers.append(answer)
        self._save(rows)
        return answers

    def _finish(
        self, connection: sqlite3.Connection, updates: Sequence[ClaimUpdate]
    ) -> list[bool]:
        rows, now = self._rows(connection)
        keys = [self._key(update.identity) for update in updates]
        self._load(rows, keys)
        answers: list[bool] = []
        for key, update in zip(keys, updates, strict=True):
            answer, kept = decide_finish(rows.claim(key), update, now=now)
            self._keep(rows, key, kept)
            answers.append(answer)
        self._save(rows)
        return answers

    def _cancel(
        self, connection: sqlite3.Connection, job_id: str, keep_ms: int
    ) -> JobStatus:
        rows, now = self._rows(connection)
        own = self._key(job_id)
        rows.load([own])
        key, alias = rows.follow(own), ""
        rows.load([key] if key != own else [])
        claim = rows.claim(key)
        if key != own:
            alias = bounded(job_id)
            if claim is not None and claim.job_id != alias:
                # Another job holds the key: this one is cancelled under its own id.
                key, alias, claim = own, "", None
        after, kept = decide_cancel(claim, job_id=alias, keep_ms=keep_ms, now=now)
        self._keep(rows, key, kept)
        self._save(rows)
        return _job_status(job_id, after)

    def _status(self, connection: sqlite3.Connection, job_id: str) -> JobStatus | None:
        rows, _ = self._rows(connection)
        own = self._key(job_id)
        rows.load([own])
        key = rows.follow(own)
        rows.load([key] if key != own else [])
        claim = rows.claim(key)
        return None if claim is None else _job_status(job_id, claim)

    def _rows(self, connection: sqlite3.Connection) -> tuple[ClaimRows, StoreMs]:
        now = StoreMs(self._clock.epoch_ms())
        return ClaimRows(connection, now), now

    def _load(self, rows: ClaimRows, keys: Sequence[bytes]) -> None:
        """Read claims, and the pointers of those that have one."""
        rows.load(keys)
        claims = [rows.claim(key) for key in keys]
        rows.load(
            self._prefix + claim.job_id.encode()
            for claim in claims
            if claim is not None and claim.job_id
        )

    def _keep(self, rows: ClaimRows, key: bytes, kept: Kept | None) -> None:
        if kept is None:
            return
        rows.keep(key, kept)
        claim, keep_ms = kept
        if claim.job_id and keep_ms:
            # The pointer lives as long as its claim.
            rows.point(self._prefix + claim.job_id.encode(), key, keep_ms)

    def _save(self, rows: ClaimRows) -> None:
        rows.save()
        self.resets += rows.unreadable

    def _key(self, name: str) -> bytes:
        return self._prefix + bounded(name).encode()


def _job_status(job_id: str, claim: Claim) -> JobStatus:
    owner = claim.owner if claim.state is JobState.RUNNING else None
    return JobStatus(job_id, claim.state, claim.attempt, owner, claim.updated_ms)


def _describe(connection: sqlite3.Connection) -> str:
    connection.execute("SELECT 1 FROM claim LIMIT 1").fetchone()
    _, _, path = connection.execute("PRAGMA database_list").fetchone()
    return f"sqlite {sqlite3.sqlite_version}, {path}"
