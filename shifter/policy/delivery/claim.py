"""Which worker may run a job now: the rules of a claim store, as pure functions.

This is the specification. The memory store calls it, the Redis scripts mirror it, and
a test drives both with the same random sequences and demands equal answers.

A claim belongs to the job that made it until it ends or fades. Where the identity is a
user's idempotency key, other jobs with the same key wait while the first one goes on:
two jobs would count each other's turns and losses. Once the first one is done, they are
done as well. Where it ended without an effect, the next job of the key is granted its
claim; the end of the first is kept under its own id from then on.

All instants are of the store's clock. Where that clock went back, a lease lasts its
full length from the new time on, so that a vanished worker blocks a job for one lease
and not for the size of the jump.

Source: Gray and Cheriton, "Leases", 1989; Kleppmann on fencing tokens, 2016.
"""

from __future__ import annotations

from typing import NamedTuple

from shifter.model.claim import (
    Busy,
    Cancelled,
    ClaimAnswer,
    ClaimUpdate,
    Finished,
    Granted,
    HandedOver,
    JobState,
    Renewal,
)
from shifter.model.time import StoreMs
from shifter.policy.delivery.claim_state import (
    FENCES_PER_MS,
    MAX_LEASE_MS,
    NO_EFFECT,
    OTHER_JOB_RETRY_MS,
    RUNNING_GRACE_MS,
    Claim,
)


class ClaimAsk(NamedTuple):
    """One job that wants to start.

    Attributes:
        turn: >= 1.
        attempt: >= 1.
        owner: The worker that asks.
        lease_ms: For so long, > 0.
        op: Names this call; never used again.
        unanswered: Calls whose answer never arrived: no worker runs what they were
            granted, so their leases count as ended, and not as a loss.
        job_id: Where it is not the identity, else empty.
    """

    turn: int
    attempt: int
    owner: str
    lease_ms: int
    op: str = ""
    unanswered: frozenset[str] = frozenset()
    job_id: str = ""


class ClaimWrite(NamedTuple):
    """A claim to write, and for how long to keep it, in ms."""

    claim: Claim
    keep_ms: int


def decide_claim(
    claim: Claim | None, ask: ClaimAsk, *, now: StoreMs
) -> tuple[ClaimAnswer, ClaimWrite | None]:
    """Answer a worker that wants to run a turn.

    A turn below the claim's is handed over, also when the job was cancelled since: the
    later turn is the one that is settled as cancelled, once.

    Pure, like the decisions below; each returns its answer, and the claim to write, if
    any.

    Args:
        claim: The claim that is kept; ``None`` without one.
        ask: The turn, and the worker that asks.
        now: The store's clock.
    """
    if claim is None:
        return _grant(ask, fence=0, losses=0, now=now)
    if claim.job_id != ask.job_id:
        if claim.state in NO_EFFECT:
            return _grant(ask, fence=claim.fence, losses=0, now=now)
        return _answer_other_job(claim, now), None
    return _claim_again(claim, ask, now)


def decide_renew(
    claim: Claim | None, *, fence: int, lease_ms: int, now: StoreMs
) -> tuple[Renewal, ClaimWrite | None]:
    """Extend a lease from now; also an ended one whose job no other worker took.

    Args:
        claim: The claim that is kept; ``None`` without one.
        fence: The fence of the grant.
        lease_ms: How long the lease lasts from now on.
        now: The store's clock.
    """
    if claim is None or claim.state is not JobState.RUNNING or claim.fence != fence:
        return Renewal(held=False, cancel_requested=False), None
    renewed = claim._replace(lease_end_ms=now + lease_ms, updated_ms=now)
    answer = Renewal(held=True, cancel_requested=claim.cancel_keep_ms > 0)
    return answer, ClaimWrite(renewed, lease_ms + RUNNING_GRACE_MS)


def decide_finish(
    claim: Claim | None, update: ClaimUpdate, *, now: StoreMs
) -> tuple[bool, ClaimWrite | None]:
    """Write the end of a turn, if ``update.fence`` is still the newest.

    A job with a requested cancel that would go on later ends here, since no worker runs
    it now. An end whose answer was lost is confirmed when it is written again. A job
    that ran unclaimed, while the store was away, ends here with a fence of 0 where it
    is recorded as waiting and was never claimed.

    Args:
        claim: The claim that is kept; ``None`` without one.
        update: The end: its fence, state and keep time.
        now: The store's clock.

    Returns:
        Whether the end holds, and what to write, if anything.
    """
    if claim is None or claim.fence != update.fence:
        return False, None
    is_unclaimed = claim[:3] == (JobState.WAITING, 0, 0) and update.state.is_terminal
    if claim.state is not JobState.RUNNING and not is_unclaimed:
        return _is_same_end(claim, update), None
    state, keep_ms = update.state, update.keep_ms
    if claim.cancel_keep_ms and state is JobState.WAITING:
        state, keep_ms = JobState.CANCELLED, max(keep_ms, claim.cancel_keep_ms)
    moved_on = claim._replace(turn=update.turn, attempt=update.attempt)
    return True, ClaimWrite(_ended(moved_on, state, now), keep_ms)


def decide_cancel(
    claim: Claim | None, *, job_id: str, keep_ms: int, now: StoreMs
) -> tuple[Claim, ClaimWrite | None]:
    """Ask that a job not run (again).

    Args:
        claim: The job's own, never another job's of the same key; ``None`` without one.
        job_id: The job's id where the claim lies under its key, else empty.
        keep_ms: How long to keep the claim; 0 leaves the time that it had left.
        now: The store's clock.

    Returns:
        The job's claim after the call, and what to write, if anything.
    """
    if claim is None:
        claim = Claim(JobState.WAITING, 0, 0, 1, job_id=job_id)
    if claim.state.is_terminal:
        return claim, None
    if claim.state is JobState.RUNNING:
        asked = claim._replace(cancel_keep_ms=keep_ms)
        return asked, ClaimWrite(asked, 0)
    cancelled = _ended(claim, JobState.CANCELLED, now)
    return cancelled, ClaimWrite(cancelled, keep_ms)


def _claim_again(
    claim: Claim, ask: ClaimAsk, now: StoreMs
) -> tuple[ClaimAnswer, ClaimWrite | None]:
    if claim.state.is_terminal and claim.state is not JobState.CANCELLED:
        return Finished(claim.state), None
    if ask.turn < claim.turn:
        return HandedOver(claim.turn), None
    if claim.state is JobState.CANCELLED:
        return Cancelled(), None
    if claim.state is JobState.WAITING:
        return _grant(ask, fence=claim.fence, losses=0, now=now)
    return _claim_running(claim, ask, now)


def _claim_running(
    claim: Claim, ask: ClaimAsk, now: StoreMs
) -> tuple[ClaimAnswer, ClaimWrite | None]:
    is_unanswered = claim.op in ask.unanswered
    moved = _after_a_clock_jump(claim, now)
    left_ms = moved.lease_end_ms - now
    if left_ms > 0 and not is_unanswered:
        kept = None if moved is claim else ClaimWrite(moved, left_ms + RUNNING_GRACE_MS)
        return Busy(left_ms), kept
    if claim.cancel_keep_ms:
        ended = _ended(claim, JobState.CANCELLED, now)
        return Cancelled(), ClaimWrite(ended, claim.cancel_keep_ms)
    losses = claim.losses + (not is_unanswered) if ask.turn == claim.turn else 0
    return _grant(ask, fence=claim.fence, losses=losses, now=now)


def _after_a_clock_jump(claim: Claim, now: StoreMs) -> Claim:
    if now >= claim.updated_ms:
        return claim
    lease_ms = claim.lease_end_ms - claim.updated_ms
    return claim._replace(lease_end_ms=now + lease_ms, updated_ms=now)


def _ended(claim: Claim, state: JobState, now: StoreMs) -> Claim:
    """A claim after its end: without a lease, losses and an owner."""
    _, fence, turn, attempt, *_, job_id = claim
    return Claim(state, fence, turn, attempt, updated_ms=now, job_id=job_id)


def _answer_other_job(claim: Claim, now: StoreMs) -> ClaimAnswer:
    if claim.state.is_terminal:
        return Finished(claim.state)
    left_ms = min(claim.lease_end_ms - now, MAX_LEASE_MS)
    return Busy(left_ms if left_ms > 0 else OTHER_JOB_RETRY_MS)


def _grant(
    ask: ClaimAsk, *, fence: int, losses: int, now: StoreMs
) -> tuple[ClaimAnswer, ClaimWrite | None]:
    claim = Claim(
        JobState.RUNNING,
        max(fence + 1, now * FENCES_PER_MS),
        ask.turn,
        ask.attempt,
        losses,
        lease_end_ms=now + ask.lease_ms,
        updated_ms=now,
        op=ask.op,
        owner=ask.owner,
        job_id=ask.job_id,
    )
    return Granted(claim.fence, losses), ClaimWrite(
        claim, ask.lease_ms + RUNNING_GRACE_MS
    )


def _is_same_end(claim: Claim, update: ClaimUpdate) -> bool:
    if claim.turn != update.turn:
        return False
    if update.state is JobState.WAITING:
        return claim.state in (JobState.WAITING, JobState.CANCELLED)
    return claim.state is update.state
