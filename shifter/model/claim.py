"""A job's state, and the right to run one attempt of it: questions and answers.

A claim is kept per *identity*: the job id, or the job type and the user's idempotency
key. ``turn`` grows each time a job is handed over to the log, also when it is not
charged an attempt, so that a record that is delivered twice is recognised; ``attempt``
is what the job is charged. ``fence`` grows with every grant, also after the store lost
its memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeAlias


class JobState(StrEnum):
    """Where a job stands: two states that go on, and five terminal ones.

    Attributes:
        RUNNING: A worker holds the job's claim.
        WAITING: The job waits for its first or its next attempt.
        DONE: Its handler returned.
        DEAD: It became a dead letter.
        EXPIRED: Its deadline passed.
        CANCELLED: It was cancelled.
        DISCARDED: Its handler raised `Discard`.
    """

    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    DEAD = "dead"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"

    @property
    def is_terminal(self) -> bool:
        """Whether no further attempt will be made."""
        return self not in (JobState.RUNNING, JobState.WAITING)


class JobStatus(NamedTuple):
    """What ``app.status`` answers.

    Attributes:
        job_id: The job's id.
        state: Its state now.
        attempt: The attempt running or awaited, 1-based; 0 while none was started.
        owner: The worker that runs it, while ``running``.
        updated_ms: When the store last changed it, epoch milliseconds of the store;
            0 where that is not recorded.
        started_ms: When its attempt began, while ``running``, by the store's clock.
    """

    job_id: str
    state: JobState
    attempt: int
    owner: str | None
    updated_ms: int
    started_ms: int | None = None


class ClaimRequest(NamedTuple):
    """One job about to start.

    Attributes:
        identity: From `claim_identity`.
        job_id: The job's id; when it is not the identity the store keeps a pointer
            from it, so that status and cancel find the claim.
        turn: Hand-over number of the record at hand, >= 1.
        attempt: Attempt number, >= 1.
    """

    identity: str
    job_id: str
    turn: int
    attempt: int


class Granted(NamedTuple):
    """The attempt may run.

    Attributes:
        fence: Grows with every grant of this identity.
        losses: How many workers vanished while they ran this turn, >= 0.
    """

    fence: int
    losses: int


class Finished(NamedTuple):
    """The job already ended: settle the record without running it."""

    state: JobState


class HandedOver(NamedTuple):
    """A later turn exists: settle the record without running it."""

    turn: int


class Busy(NamedTuple):
    """Another worker holds a live lease; look again after ``retry_in_ms``, > 0."""

    retry_in_ms: int


class Cancelled(NamedTuple):
    """The job was cancelled: settle it as cancelled."""


ClaimAnswer: TypeAlias = Granted | Finished | HandedOver | Busy | Cancelled


class ClaimUpdate(NamedTuple):
    """The end of a turn, written only while ``fence`` is still the newest.

    Attributes:
        identity: Identity of the claim.
        fence: Fence of the grant.
        state: A terminal state, or ``WAITING`` when the job goes on later.
        turn: The turn that may run next (``WAITING``), else the one that ended.
        attempt: Attempt number of that turn.
        keep_ms: How long the store keeps the state, > 0.
    """

    identity: str
    fence: int
    state: JobState
    turn: int
    attempt: int
    keep_ms: int


class Renewal(NamedTuple):
    """The answer to a renewal: is the lease still held, and was a cancel asked for?"""

    held: bool
    cancel_requested: bool


def claim_identity(job_type: str, job_id: str, idempotency_key: str | None) -> str:
    """The identity of which at most one attempt runs at a time.

    It is the job's id, or the job type with the user's idempotency key.

    Args:
        job_type: Name of the job type.
        job_id: The job's id.
        idempotency_key: The user's key; ``None`` if the job has none.
    """
    if idempotency_key is None:
        return job_id
    return f"{job_type}:{idempotency_key}"


class WaitingJobs(NamedTuple):
    """Accepted jobs that no worker has claimed yet.

    Attributes:
        job_ids: Their ids.
        keep_ms: How long their state is kept while no worker claims them, > 0.
        identity: From `claim_identity`, where all have one idempotency key; ``None``
            where each job is its own identity.
    """

    job_ids: Sequence[str]
    keep_ms: int
    identity: str | None = None


def merged(jobs: Iterable[WaitingJobs]) -> list[WaitingJobs]:
    """The same jobs in fewer groups: groups that differ in ids only are one. Pure."""
    groups: dict[tuple[int, str | None], list[str]] = {}
    for job_ids, keep_ms, identity in jobs:
        groups.setdefault((keep_ms, identity), []).extend(job_ids)
    return [WaitingJobs(ids, keep_ms, key) for (keep_ms, key), ids in groups.items()]
