"""The record that a claim store keeps for one identity, and the job states it yields.

`shifter.policy.delivery.claim` has the decisions on such a record.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shifter.model.claim import Cancelled, ClaimAnswer, Finished, JobState, JobStatus
from shifter.model.fleet import MAX_COUNT, MAX_INSTANT_MS
from shifter.model.time import MAX_DURATION_MS, StoreMs

RUNNING_GRACE_MS: Final = 3_600_000
"""How long a running claim outlives its lease; losses are counted until then.

The record of a job whose worker vanished is delivered again within minutes, so an hour
has room for a restart of the machine. It bounds the claims of jobs that never return.
"""

WAITING_KEEP_MS: Final = 7 * 86_400_000
"""How long after its due time a waiting plain job keeps its state.

The record in the log, not this state, keeps the job: a job that waits for more than a
week is run all the same, but its state is unknown.
"""

OTHER_JOB_RETRY_MS: Final = 1_000
"""Time to the next request while another job of the same key waits.

A store does not announce the end of a claim, so the worker asks again; once a second
is one request a second for each such job.
"""

MAX_LEASE_MS: Final = 3_600_000
"""The longest lease; the setting ``lease`` has the same bound."""

NO_EFFECT: Final = frozenset(
    (JobState.DEAD, JobState.EXPIRED, JobState.CANCELLED, JobState.DISCARDED)
)
"""Ends after which the next job of an idempotency key may run."""

FENCES_PER_MS: Final = 1_000
"""Fences start at the store's clock times this: they grow also when a store forgot
everything, and stay whole below 2**53 until the year 2255."""


class Claim(NamedTuple):
    """What the store keeps for one identity.

    Attributes:
        state: ``RUNNING``, ``WAITING`` or a terminal one.
        fence: Of the newest grant, >= 0; 0 before the first.
        turn: The turn that runs, may run next, or ended; 0 before the first.
        attempt: Its attempt number, >= 1.
        losses: How often a worker vanished while running this turn, >= 0.
        lease_end_ms: When the lease ends, excluded; 0 unless ``RUNNING``.
        updated_ms: Last change.
        cancel_keep_ms: How long to remember a cancel that was asked for while
            ``RUNNING``, > 0; 0 when none was.
        op: The call that granted it; empty unless ``RUNNING``.
        owner: The worker that runs it; empty unless ``RUNNING``.
        job_id: The job it belongs to where that is not the identity, else empty.
    """

    state: JobState
    fence: int
    turn: int
    attempt: int
    losses: int = 0
    lease_end_ms: int = 0
    updated_ms: int = 0
    cancel_keep_ms: int = 0
    op: str = ""
    owner: str = ""
    job_id: str = ""


def is_sound(claim: Claim) -> bool:
    """Whether a claim read from a store is one that these rules can have written.

    Counts are whole numbers that a double holds, instants lie before the year 10000, a
    lease is at most an hour long, and a cancel is remembered for at most 366 days and
    only while the job runs. Any other claim counts as absent. Pure.
    """
    state, fence, turn, attempt, losses, lease_end, updated, cancel_keep, *_ = claim
    counts = (fence, turn, attempt, losses)
    return (
        min(*counts, lease_end, updated, cancel_keep) >= 0
        and max(counts) <= MAX_COUNT
        and max(lease_end, updated) <= MAX_INSTANT_MS
        and lease_end - updated <= MAX_LEASE_MS
        and (not cancel_keep or state is JobState.RUNNING)
        and cancel_keep <= MAX_DURATION_MS
    )


def answer_own(own: Claim | None) -> ClaimAnswer | None:
    """The answer to a keyed job by the claim under its own id; ``None``: ask its key's.

    A job that was cancelled before it ran, or ended without an effect, has one. Pure.
    """
    if own is None or not own.state.is_terminal:
        return None
    return Cancelled() if own.state is JobState.CANCELLED else Finished(own.state)


def own_end(claim: Claim) -> Claim | None:
    """What a keyed job's end leaves under its own id; ``None`` where a pointer stays.

    The claim of its key may be another job's soon. Pure.
    """
    return claim._replace(job_id="") if claim.state in NO_EFFECT else None


def done_job(claim: Claim | None) -> str | None:
    """The job that had the effect of the idempotency key of a claim. Pure."""
    if claim is None or claim.state is not JobState.DONE:
        return None
    return claim.job_id or None


def waiting_claim(now: StoreMs) -> Claim:
    """The record of a plain job that was accepted and never claimed. Pure.

    Its fence and turn lie below those of every grant, so that `decide_claim` grants
    any turn over it. A keyed job has a pointer instead.
    """
    return Claim(JobState.WAITING, 0, 0, 1, updated_ms=now)


def status_of(job_id: str, claim: Claim, *, alias: str = "") -> JobStatus:
    """The state of a job by a claim.

    Args:
        job_id: The job's id.
        claim: Under its id, or under its idempotency key.
        alias: Its id as claims keep it, where the claim lies under its key; else empty.

    A job whose key another job holds waits for that one's end, and is done with it.
    Pure.
    """
    if alias and claim.job_id != alias and claim.state is not JobState.DONE:
        return JobStatus(job_id, JobState.WAITING, 1, None, claim.updated_ms)
    owner, started_ms = None, None
    if claim.state is JobState.RUNNING:
        # A renewal changes the instant of the last change, and never the fence.
        owner, started_ms = claim.owner, claim.fence // FENCES_PER_MS
    is_new = claim.state is JobState.WAITING and not claim.turn
    attempt = 0 if is_new else claim.attempt
    return JobStatus(job_id, claim.state, attempt, owner, claim.updated_ms, started_ms)


def status_found(job_id: str, claim: Claim | None, *, alias: str) -> JobStatus | None:
    """The state of a job by what a store found.

    A keyed job that has a pointer to no claim was accepted and waits. Pure.

    Args:
        job_id: The job's id.
        claim: Under its id, or where its pointer leads; ``None`` if there is none.
        alias: Its id as claims keep it, where a pointer was found; else empty.

    Returns:
        The state; ``None`` if the store has neither claim nor pointer.
    """
    if claim is not None:
        return status_of(job_id, claim, alias=alias)
    return JobStatus(job_id, JobState.WAITING, 0, None, 0) if alias else None
