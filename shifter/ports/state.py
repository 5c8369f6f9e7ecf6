"""The ports of claims, and of the presence of workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from shifter.model.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    JobStatus,
    Renewal,
    WaitingJobs,
)
from shifter.wire.number import Count, InstantMs, Rate


class ClaimStore(Protocol):
    """Where "once" is decided. Every call is one round trip, or fails as a whole.

    Raises:
        StoreUnavailableError: From any method; the outcome is then unknown.
    """

    async def claim(
        self, requests: Sequence[ClaimRequest], *, owner: str, lease_ms: int
    ) -> list[ClaimAnswer]:
        """Ask to run; answers in order. No identity may be asked for twice at once."""

    async def renew(
        self, held: Sequence[tuple[str, int]], *, lease_ms: int
    ) -> list[Renewal]:
        """Extend leases, given as (identity, fence), from the store's now."""

    async def finish(self, updates: Sequence[ClaimUpdate]) -> list[bool]:
        """Write ends of turns; ``False`` where the fence was no longer the newest."""

    async def cancel(self, job_id: str, *, keep_ms: int) -> JobStatus:
        """Ask that a job not run (again); returns its state after the call."""

    async def add_waiting(self, jobs: Sequence[WaitingJobs]) -> int:
        """Record that jobs wait, except those of which anything is recorded already.

        A claim replaces the record, and never fails because of it.

        Returns:
            How many jobs the store left out because its memory is scarce.
        """

    async def status(self, job_id: str) -> JobStatus | None:
        """The state of a job; ``None`` when nothing is recorded, or not any more."""

    async def done_by(self, identity: str) -> str | None:
        """The id of the job that had the effect of an idempotency key.

        ``None`` where no job has had it yet, or that is forgotten.
        """

    async def note(self, name: str, word: str, *, keep_ms: int) -> str:
        """Keep a word under a name, unless one is kept there; returns what is kept.

        Args:
            name: In a namespace of its own, beside claims.
            word: 1-128 printable ASCII characters.
            keep_ms: How long, from the first call on, > 0.
        """

    async def ping(self) -> str:
        """One line that describes the store."""

    async def close(self) -> None:
        """Free everything."""


class WorkerReport(msgspec.Struct, frozen=True, gc=False):
    """What a worker process reports, about once a second.

    Attributes:
        worker_id: Unique per process and start.
        host: Host name.
        pid: Process id.
        started_ms: Epoch milliseconds.
        reported_ms: When it reported, epoch milliseconds.
        concurrency: Slots.
        running: Attempts running now, per lane name.
        rate_per_s: Jobs ended a second, per lane name, over the last seconds.
        uses: Names of the dependencies that its jobs call, per job type.
    """

    worker_id: str
    host: str
    pid: Count
    started_ms: InstantMs
    reported_ms: InstantMs
    concurrency: Count
    running: dict[str, Count]
    rate_per_s: dict[str, Rate]
    uses: dict[str, str] = {}


class PresenceStore(Protocol):
    """Which worker processes are alive. A report expires unless it is renewed."""

    async def report(self, report: WorkerReport, *, keep_ms: int) -> None:
        """Report that a worker is alive."""

    async def withdraw(self, worker_id: str) -> None:
        """Remove the report of a worker that leaves."""

    async def workers(self) -> list[WorkerReport]:
        """All live workers, by worker id."""

    async def close(self) -> None:
        """Free everything; reports expire by themselves."""
