"""What one call of a claim store does to its rows, wherever they lie.

`shifter.policy.delivery.claim` decides for one claim. Here those decisions meet the
rows of a batch. The claim of a plain job lies at the job's id. The claim of a keyed job
lies at its idempotency key: a pointer at the job's id leads there, and lives as long as
the claim. Where a keyed job ended without an effect, the end takes the pointer's place,
since the claim of the key may be another job's soon.

The stores in memory and in a file call these functions; the scripts of Redis do the
same to its keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Protocol, TypeAlias, TypeVar

from shifter.model.claim import (
    Cancelled,
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    JobState,
    JobStatus,
    Renewal,
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
    own_end,
    status_found,
    status_of,
)

K = TypeVar("K")

_Decide: TypeAlias = Callable[
    [Claim | None, ClaimAsk], tuple[ClaimAnswer, ClaimWrite | None]
]


class ClaimRows(Protocol[K]):
    """The rows of one call, by their keys.

    Attributes:
        now: The store's clock; what has expired by now is absent.
    """

    now: StoreMs

    def name(self, text: str) -> str:
        """An identity or a job's id as the store keeps it."""

    def key(self, name: str) -> K:
        """Where the row of such a name lies."""

    def load(self, keys: Sequence[K]) -> None:
        """Read rows; only what was loaded is seen."""

    def get(self, key: K) -> Claim | None:
        """The claim that lies at a key."""

    def follow(self, key: K) -> K:
        """Where the claim of a job lies: where its pointer leads, else its own key."""

    def keep(self, key: K, kept: ClaimWrite) -> None:
        """Put a claim; a keep time of 0 leaves the time that it had left."""

    def point(self, key: K, target: K, keep_ms: int) -> None:
        """Put a pointer from a job's own key to its claim.

        Args:
            key: Where the pointer lies.
            target: Where the claim lies.
            keep_ms: How long to keep the pointer.
        """


def claim_batch(
    rows: ClaimRows[K], requests: Sequence[ClaimRequest], first: ClaimAsk
) -> list[ClaimAnswer]:
    """Ask to run; the answers are in the order of the requests.

    Args:
        rows: The rows of this call.
        requests: Jobs that a worker wants to start.
        first: What is asked for the first turn of a job without a key; turn, attempt
            and job of the other requests replace its own.
    """
    keys = [rows.key(rows.name(request.identity)) for request in requests]
    keyed = [request.job_id for request in requests if request.job_id != request[0]]
    rows.load([*keys, *(rows.key(rows.name(job_id)) for job_id in keyed)])
    # The rules are pure, and most of a batch are alike: those are decided once.
    decide = cache(partial(decide_claim, now=rows.now))
    answers: list[ClaimAnswer] = []
    for key, request in zip(keys, requests, strict=True):
        identity, job_id, turn, attempt = request
        if identity != job_id:
            answers.append(_claim_keyed(rows, key, request, first, decide))
            continue
        is_first = turn == attempt == 1
        ask = first if is_first else first._replace(turn=turn, attempt=attempt)
        answer, kept = decide(rows.get(key), ask)
        _keep(rows, key, kept)
        answers.append(answer)
    return answers


def renew_batch(
    rows: ClaimRows[K], held: Sequence[tuple[str, int]], lease_ms: int
) -> list[Renewal]:
    """Extend leases from now; the answers are in the order of the leases.

    Args:
        rows: The rows of this call.
        held: Identity and fence of each lease.
        lease_ms: How long the leases last from now on.
    """
    keys = _load_with_pointers(rows, [identity for identity, _ in held])
    decide = cache(partial(decide_renew, lease_ms=lease_ms, now=rows.now))
    answers: list[Renewal] = []
    for key, (_, fence) in zip(keys, held, strict=True):
        answer, kept = decide(rows.get(key), fence=fence)
        _keep(rows, key, kept)
        answers.append(answer)
    return answers


def finish_batch(rows: ClaimRows[K], updates: Sequence[ClaimUpdate]) -> list[bool]:
    """Write ends of turns; ``False`` where the fence was no longer the newest."""
    keys = _load_with_pointers(rows, [update.identity for update in updates])
    # Without the identity, which decides nothing, most ends are alike.
    decide = cache(
        lambda claim, end: decide_finish(claim, ClaimUpdate("", *end), now=rows.now)
    )
    answers: list[bool] = []
    for key, update in zip(keys, updates, strict=True):
        answer, kept = decide(rows.get(key), update[1:])
        _keep(rows, key, kept)
        if kept is not None and kept.claim.job_id:
            _end(rows, rows.key(kept.claim.job_id), *kept)
        answers.append(answer)
    return answers


def cancel_job(rows: ClaimRows[K], job_id: str, keep_ms: int) -> JobStatus:
    """Ask that a job not run (again).

    Args:
        rows: The rows of this call.
        job_id: The job's id.
        keep_ms: How long to keep its claim; 0 leaves the time that it had left.

    Returns:
        The job's state after the call.
    """
    own, key, alias = _load_job(rows, job_id)
    claim = rows.get(key)
    if alias and claim is not None and claim.job_id != alias:
        # Another job holds the key: this one is cancelled under its own id.
        key, alias, claim = own, "", None
    after, kept = decide_cancel(claim, job_id=alias, keep_ms=keep_ms, now=rows.now)
    _keep(rows, key, kept)
    if alias and after.state is JobState.CANCELLED:
        _end(rows, own, after, keep_ms)
    return status_of(job_id, after)


def find_status(rows: ClaimRows[K], job_id: str) -> JobStatus | None:
    """The state of a job; ``None`` when there is no row."""
    _, key, alias = _load_job(rows, job_id)
    return status_found(job_id, rows.get(key), alias=alias)


def _claim_keyed(
    rows: ClaimRows[K], key: K, request: ClaimRequest, first: ClaimAsk, decide: _Decide
) -> ClaimAnswer:
    """Ask to run a job whose identity is an idempotency key."""
    _, job_id, turn, attempt = request
    alias, keep_ms = rows.name(job_id), first.lease_ms + RUNNING_GRACE_MS
    own = rows.key(alias)
    found = rows.get(own)
    if found is None:
        rows.point(own, key, keep_ms)
    elif (ended := answer_own(found)) is not None:
        return ended
    ask = first._replace(turn=turn, attempt=attempt, job_id=alias)
    answer, kept = decide(rows.get(key), ask)
    _keep(rows, key, kept)
    if isinstance(answer, Cancelled):
        claim = Claim(JobState.CANCELLED, 0, turn, attempt, updated_ms=rows.now)
        _end(rows, own, claim, keep_ms)
    return answer


def _load_with_pointers(rows: ClaimRows[K], identities: Sequence[str]) -> list[K]:
    """Read claims, and the pointers of those that have one; returns the keys."""
    keys = [rows.key(rows.name(identity)) for identity in identities]
    rows.load(keys)
    found = [claim for key in keys if (claim := rows.get(key)) is not None]
    rows.load([rows.key(claim.job_id) for claim in found if claim.job_id])
    return keys


def _load_job(rows: ClaimRows[K], job_id: str) -> tuple[K, K, str]:
    """Read the claim of a job.

    Returns:
        The job's own key, the key of its claim, and its name where these differ.
    """
    name = rows.name(job_id)
    own = rows.key(name)
    rows.load([own])
    key = rows.follow(own)
    if key == own:
        return own, own, ""
    rows.load([key])
    return own, key, name


def _keep(rows: ClaimRows[K], key: K, kept: ClaimWrite | None) -> None:
    if kept is None:
        return
    rows.keep(key, kept)
    claim, keep_ms = kept
    if claim.job_id and keep_ms:
        # The pointer lives as long as its claim.
        own = rows.key(claim.job_id)
        if rows.get(own) is None:
            rows.point(own, key, keep_ms)


def _end(rows: ClaimRows[K], own: K, claim: Claim, keep_ms: int) -> None:
    """Keep a keyed job's end under its own id, in place of its pointer."""
    ended = own_end(claim)
    if ended is not None and rows.get(own) is None:
        rows.keep(own, ClaimWrite(ended, keep_ms))
