"""The right to run one attempt of a job: what is asked, what is answered.

A claim is kept per *identity*: the job id, or the job type and the user's idempotency
key. ``turn`` grows with every hand-over of a job to the log (retries and waits that
are not charged alike), so that a record delivered twice is recognised; ``attempt`` is
what the job is charged. ``fence`` grows with every grant, also across a store that
lost its memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from shifter.model.state import JobState


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
    """Run it.

    Attributes:
        fence: Grows with every grant of this identity.
        losses: How often a worker vanished while running this very turn, >= 0.
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
    """Somebody cancelled the job: settle it as cancelled."""


ClaimAnswer: TypeAlias = Granted | Finished | HandedOver | Busy | Cancelled


class ClaimUpdate(NamedTuple):
    """The end of a turn, written only while ``fence`` is still the newest.

    Attributes:
        identity: As claimed.
        fence: As granted.
        state: A terminal state, or ``WAITING`` when the job goes on later.
        turn: The turn that may run next (``WAITING``), else the one that ended.
        attempt: Its attempt number.
        keep_ms: How long the store remembers this, > 0.
    """

    identity: str
    fence: int
    state: JobState
    turn: int
    attempt: int
    keep_ms: int


class Renewal(NamedTuple):
    """What a renewed lease says: still held, and whether a cancel was asked for."""

    held: bool
    cancel_requested: bool


def claim_identity(job_type: str, job_id: str, idempotency_key: str | None) -> str:
    """The identity under which "once" is decided for a job.

    A plain job is its id; a user's idempotency key counts per job type.
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
    """The same jobs in fewer groups: those alike in all but their ids are one. Pure."""
    groups: dict[tuple[int, str | None], list[str]] = {}
    for job_ids, keep_ms, identity in jobs:
        groups.setdefault((keep_ms, identity), []).extend(job_ids)
    return [WaitingJobs(ids, keep_ms, key) for (keep_ms, key), ids in groups.items()]
