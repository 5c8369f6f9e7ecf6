"""The states of a job, as the claim store knows them."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


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
    """

    job_id: str
    state: JobState
    attempt: int
    owner: str | None
    updated_ms: int
