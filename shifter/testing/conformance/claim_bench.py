"""What the suites for claim stores need of a store, and how they ask it."""

from __future__ import annotations

from typing import Final, Protocol

from shifter.model.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    Granted,
    JobState,
    Renewal,
)
from shifter.ports import ClaimStore

LEASE_MS: Final = 30_000
KEEP_MS: Final = 300_000
HOUR_MS: Final = 3_600_000

HELD: Final = Renewal(held=True, cancel_requested=False)
HELD_BUT_CANCELLED: Final = Renewal(held=True, cancel_requested=True)
LOST: Final = Renewal(held=False, cancel_requested=False)
ENDS: Final = (
    JobState.DONE,
    JobState.DEAD,
    JobState.EXPIRED,
    JobState.DISCARDED,
)
WITHOUT_EFFECT: Final = (
    JobState.DEAD,
    JobState.EXPIRED,
    JobState.CANCELLED,
    JobState.DISCARDED,
)


class ClaimBench(Protocol):
    """What a suite needs of the store under test."""

    def open(self) -> ClaimStore:
        """Another worker's handle to the same claims; the bench closes it."""

    async def advance(self, ms: int) -> None:
        """Let the store's clock go on, > 0."""

    async def set_back(self, ms: int) -> None:
        """Set the store's clock back, > 0."""

    async def forget(self) -> None:
        """Lose everything, as a store does that restarts empty."""


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
    """The answer to one request."""
    job_id = identity if job_id is None else job_id
    request = ClaimRequest(identity, job_id, turn, attempt)
    (answer,) = await store.claim([request], owner=owner, lease_ms=lease_ms)
    return answer


async def granted(
    store: ClaimStore, identity: str = "j1", *, turn: int = 1, job_id: str | None = None
) -> Granted:
    """The grant of one request; anything else fails the test."""
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
    """Whether the end of one turn was written."""
    update = ClaimUpdate(identity, fence, state, turn, turn, keep_ms)
    (written,) = await store.finish([update])
    return written


async def state_of(store: ClaimStore, job_id: str = "j1") -> JobState | None:
    """The state of a job."""
    status = await store.status(job_id)
    return None if status is None else status.state
