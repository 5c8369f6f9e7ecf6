"""The claims of one namespace, as bodies of transactions on a connection.

The rules are `shifter.policy.delivery.claim`; here they meet rows. One machine has one
clock, so instants are of this process's wall clock, read inside the transaction: the
time a call waited for its turn shortens no lease.

A body may run again from the start where its transaction failed, so it keeps nothing
but the place of the sweep.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Final

from shifter.adapters.sqlite.claim_rows import ClaimRows, ClaimSweep, write_waiting
from shifter.adapters.sqlite.schema import bounded, key_prefix
from shifter.model.claim import (
    Cancelled,
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    JobState,
    JobStatus,
    Renewal,
    WaitingJobs,
)
from shifter.model.time import StoreMs
from shifter.policy.delivery.claim import (
    ClaimAsk,
    ClaimWrite,
    decide_cancel,
    decide_claim,
    decide_finish,
    decide_renew,
)
from shifter.policy.delivery.claim_state import (
    RUNNING_GRACE_MS,
    Claim,
    answer_own,
    done_job,
    status_found,
    status_of,
)
from shifter.ports import Clock

_NOTE: Final = b"\0note\0"
"""No claim's key has it: identities are printable."""
_READ_NOTE: Final = "SELECT value FROM claim WHERE key = ? AND until_ms > ?"
_WRITE_NOTE: Final = "REPLACE INTO claim (key, until_ms, value) VALUES (?, ?, ?)"

# The file then holds at most a third more claims than live.
_SWEPT_PER_CLAIM: Final = 4


class ClaimTable:
    """Reads and writes claims in a transaction that the caller began and ends.

    Args:
        namespace: The fleet's; others may share the file.
        clock: Of this machine.

    Attributes:
        resets: Values found that are no claim; they count as absent.
    """

    def __init__(self, namespace: str, clock: Clock) -> None:
        self._prefix, self._clock = key_prefix(namespace), clock
        self._sweep = ClaimSweep()
        self.resets = 0

    def claim(
        self,
        connection: sqlite3.Connection,
        requests: Sequence[ClaimRequest],
        first: ClaimAsk,
    ) -> list[ClaimAnswer]:
        """Ask to run, as ``first`` does for the first turn of a plain job."""
        rows, now = self._rows(connection)
        keys = [self._key(request.identity) for request in requests]
        aliased = [r.job_id for r in requests if r.job_id != r.identity]
        rows.load([*keys, *map(self._key, aliased)])
        # The rules are pure, and most of a batch are alike: those are decided once.
        decide = cache(partial(decide_claim, now=now))
        answers = [
            self._answer(rows, key, request, first, decide)
            for key, request in zip(keys, requests, strict=True)
        ]
        self._save(rows)
        self._sweep.step(connection, now, rows=_SWEPT_PER_CLAIM * len(keys))
        return answers

    def renew(
        self,
        connection: sqlite3.Connection,
        held: Sequence[tuple[str, int]],
        lease_ms: int,
    ) -> list[Renewal]:
        """Extend leases, given as (identity, fence), from now."""
        rows, now = self._rows(connection)
        keys = [self._key(identity) for identity, _ in held]
        self._load(rows, keys)
        decide = cache(partial(decide_renew, lease_ms=lease_ms, now=now))
        answers: list[Renewal] = []
        for key, (_, fence) in zip(keys, held, strict=True):
            answer, kept = decide(rows.claims.get(key), fence=fence)
            self._keep(rows, key, kept)
            answers.append(answer)
        self._save(rows)
        return answers

    def finish(
        self, connection: sqlite3.Connection, updates: Sequence[ClaimUpdate]
    ) -> list[bool]:
        """Write ends of turns; ``False`` where the fence was no longer the newest."""
        rows, now = self._rows(connection)
        keys = [self._key(update.identity) for update in updates]
        self._load(rows, keys)
        # Without the identity, which decides nothing, most ends are alike.
        decide = cache(
            lambda claim, end: decide_finish(claim, ClaimUpdate("", *end), now=now)
        )
        answers: list[bool] = []
        for key, update in zip(keys, updates, strict=True):
            answer, kept = decide(rows.claims.get(key), update[1:])
            self._keep(rows, key, kept)
            if kept is not None and kept.claim.job_id:
                own = self._prefix + kept.claim.job_id.encode()
                rows.end(own, kept.claim, kept.keep_ms)
            answers.append(answer)
        self._save(rows)
        return answers

    def cancel(
        self, connection: sqlite3.Connection, job_id: str, keep_ms: int
    ) -> JobStatus:
        """Ask that a job not run (again); returns its state after the call."""
        rows, now = self._rows(connection)
        own, alias = self._key(job_id), ""
        key = self._load_job(rows, own)
        claim = rows.claims.get(key)
        if key != own:
            alias = bounded(job_id)
            if claim is not None and claim.job_id != alias:
                # Another job holds the key: this one is cancelled under its own id.
                key, alias, claim = own, "", None
        after, kept = decide_cancel(claim, job_id=alias, keep_ms=keep_ms, now=now)
        self._keep(rows, key, kept)
        if alias and after.state is JobState.CANCELLED:
            rows.end(own, after, keep_ms)
        self._save(rows)
        return status_of(job_id, after)

    def add_waiting(
        self, connection: sqlite3.Connection, jobs: Sequence[WaitingJobs]
    ) -> None:
        """Record that jobs wait, unless something is recorded of them."""
        targets: dict[bytes, tuple[bytes, int]] = {}
        for job_ids, keep_ms, identity in jobs:
            target = b"" if identity is None else self._key(identity)
            targets |= {self._key(job_id): (target, keep_ms) for job_id in job_ids}
        write_waiting(connection, StoreMs(self._clock.epoch_ms()), targets)

    def status(self, connection: sqlite3.Connection, job_id: str) -> JobStatus | None:
        """What is known of a job; needs no transaction."""
        rows, _ = self._rows(connection)
        own = self._key(job_id)
        key = self._load_job(rows, own)
        alias = "" if key == own else bounded(job_id)
        return status_found(job_id, rows.claims.get(key), alias=alias)

    def done_by(self, connection: sqlite3.Connection, identity: str) -> str | None:
        """Who had the effect of an idempotency key; needs no transaction."""
        (rows, _), key = self._rows(connection), self._key(identity)
        rows.load([key])
        return done_job(rows.claims.get(key))

    def _answer(
        self,
        rows: ClaimRows,
        key: bytes,
        request: ClaimRequest,
        first: ClaimAsk,
        decide: Callable[
            [Claim | None, ClaimAsk], tuple[ClaimAnswer, ClaimWrite | None]
        ],
    ) -> ClaimAnswer:
        identity, job_id, turn, attempt = request
        if identity != job_id:
            return self._answer_keyed(rows, key, request, first, decide)
        if turn == attempt == 1:
            ask = first
        else:
            ask = first._replace(turn=turn, attempt=attempt)
        answer, kept = decide(rows.claims.get(key), ask)
        self._keep(rows, key, kept)
        return answer

    def _answer_keyed(
        self,
        rows: ClaimRows,
        key: bytes,
        request: ClaimRequest,
        first: ClaimAsk,
        decide: Callable[
            [Claim | None, ClaimAsk], tuple[ClaimAnswer, ClaimWrite | None]
        ],
    ) -> ClaimAnswer:
        _, job_id, turn, attempt = request
        own, keep_ms = self._key(job_id), first.lease_ms + RUNNING_GRACE_MS
        answer = answer_own(rows.point(own, key, keep_ms))
        if answer is not None:
            return answer
        ask = first._replace(turn=turn, attempt=attempt, job_id=bounded(job_id))
        answer, kept = decide(rows.claims.get(key), ask)
        self._keep(rows, key, kept)
        if isinstance(answer, Cancelled):
            ended = Claim(JobState.CANCELLED, 0, turn, attempt, updated_ms=rows.now)
            rows.end(own, ended, keep_ms)
        return answer

    def note(
        self, connection: sqlite3.Connection, name: str, word: str, keep_ms: int
    ) -> str:
        """Keep a word under a name, unless one is kept there; returns what is kept."""
        key, now = self._prefix + _NOTE + bounded(name).encode(), self._clock.epoch_ms()
        row = connection.execute(_READ_NOTE, (key, now)).fetchone()
        if row is not None and type(row[0]) is bytes:
            return str(row[0], "ascii", "replace")
        connection.execute(_WRITE_NOTE, (key, now + keep_ms, word.encode("ascii")))
        return word

    def _rows(self, connection: sqlite3.Connection) -> tuple[ClaimRows, StoreMs]:
        now = StoreMs(self._clock.epoch_ms())
        return ClaimRows(connection, now), now

    def _load(self, rows: ClaimRows, keys: Sequence[bytes]) -> None:
        """Read claims, and the pointers of those that have one."""
        rows.load(keys)
        named = {claim.job_id for claim in rows.claims.values()} - {""}
        rows.load([self._prefix + job_id.encode() for job_id in named])

    def _load_job(self, rows: ClaimRows, own: bytes) -> bytes:
        """Read the claim of a job; returns where it lies."""
        rows.load([own])
        key = rows.follow(own)
        if key != own:
            rows.load([key])
        return key

    def _keep(self, rows: ClaimRows, key: bytes, kept: ClaimWrite | None) -> None:
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
