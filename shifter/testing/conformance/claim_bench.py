"""The bench of the claim suites, the base class of the suites, and shared requests."""

from __future__ import annotations

from functools import cached_property
from typing import Final, Protocol

import pytest

from shifter.model.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    Granted,
    JobState,
    JobStatus,
    Renewal,
)
from shifter.ports import ClaimStore

LEASE_MS: Final = 30_000
KEEP_MS: Final = 300_000
HOUR_MS: Final = 3_600_000

HELD: Final = Renewal(held=True, cancel_requested=False)
HELD_BUT_CANCELLED: Final = Renewal(held=True, cancel_requested=True)
LOST: Final = Renewal(held=False, cancel_requested=False)
ENDS: Final = (JobState.DONE, JobState.DEAD, JobState.EXPIRED, JobState.DISCARDED)
WITHOUT_EFFECT: Final = (*ENDS[1:], JobState.CANCELLED)


class ClaimBench(Protocol):
    """Access of a suite to the store under test."""

    def open(self) -> ClaimStore:
        """Another worker's handle to the same claims; the bench closes it."""

    async def advance(self, ms: int) -> None:
        """Move the store's clock forward, > 0."""

    async def set_back(self, ms: int) -> None:
        """Set the store's clock back, > 0."""

    async def forget(self) -> None:
        """Lose all claims, as a store does that restarts empty."""


class ClaimSuite:
    """Base of the claim suites; needs the fixture ``claim_bench``."""

    bench: ClaimBench

    @pytest.fixture(autouse=True)
    def _take_bench(self, claim_bench: ClaimBench) -> None:
        self.bench = claim_bench

    # Opened at its first use, so that the handle belongs to the event loop of the test.
    @cached_property
    def store(self) -> ClaimStore:
        """The handle of a test that needs one only."""
        return self.bench.open()


async def ask(  # noqa: PLR0913  # the fields of a request, most of them usual
    store: ClaimStore,
    identity: str = "j1",
    *,
    turn: int = 1,
    attempt: int = 1,
    job_id: str | None = None,
    owner: str = "w1",
    lease_ms: int = LEASE_MS,
) -> ClaimAnswer:
    """Send one request and return its answer.

    Args:
        store: The store under test.
        identity: The job's id, or its idempotency key.
        turn: The turn asked for, >= 1.
        attempt: The attempt asked for, >= 1.
        job_id: The job's id, where ``identity`` is its key.
        owner: The worker that asks.
        lease_ms: How long the lease lasts, if it is granted.
    """
    job_id = identity if job_id is None else job_id
    request = ClaimRequest(identity, job_id, turn, attempt)
    (answer,) = await store.claim([request], owner=owner, lease_ms=lease_ms)
    return answer


async def granted(
    store: ClaimStore, identity: str = "j1", *, turn: int = 1, job_id: str | None = None
) -> Granted:
    """Send one request that must be granted; any other answer fails the test.

    Args:
        store: The store under test.
        identity: The job's id, or its idempotency key.
        turn: The turn and the attempt asked for, >= 1.
        job_id: The job's id, where ``identity`` is its key.
    """
    answer = await ask(store, identity, turn=turn, job_id=job_id)
    assert isinstance(answer, Granted), answer
    return answer


async def end(
    store: ClaimStore,
    fence: int,
    state: JobState = JobState.DONE,
    *,
    identity: str = "j1",
    turn: int = 1,
    keep_ms: int = KEEP_MS,
) -> bool:
    """End one turn.

    Args:
        store: The store under test.
        fence: The fence of the grant.
        state: The state in which the turn ends.
        identity: The job's id, or its idempotency key.
        turn: The turn and the attempt that the job is at afterwards.
        keep_ms: How long the store keeps the end.

    Returns:
        Whether the end was written.
    """
    update = ClaimUpdate(identity, fence, state, turn, turn, keep_ms)
    (written,) = await store.finish([update])
    return written


async def cancel(store: ClaimStore, job_id: str = "j1") -> JobStatus:
    """Cancel a job; returns its state after the call."""
    return await store.cancel(job_id, keep_ms=KEEP_MS)


async def renew(store: ClaimStore, fence: int, identity: str = "j1") -> Renewal:
    """Renew one lease.

    Args:
        store: The store under test.
        fence: The fence of the grant.
        identity: The job's id, or its idempotency key.
    """
    (renewal,) = await store.renew([(identity, fence)], lease_ms=LEASE_MS)
    return renewal


async def state_of(store: ClaimStore, job_id: str = "j1") -> JobState | None:
    """The state of a job; ``None`` for an unknown one."""
    status = await store.status(job_id)
    return None if status is None else status.state
