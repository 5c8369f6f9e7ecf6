"""The state of a fleet in memory: claims, live workers and shared decisions.

Every rule is in `policy.delivery.claim_batch` and `policy.protection.fleet_table`. Here
are the clock, the rows and their expiry. Tests compare the scripts of Redis with these
stores.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shifter.model.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    JobStatus,
    Renewal,
    WaitingJobs,
)
from shifter.model.fleet import MAX_PRESENCE_MS, FleetReport, FleetView
from shifter.model.time import StoreMs
from shifter.policy.delivery.claim import ClaimAsk, ClaimWrite
from shifter.policy.delivery.claim_batch import (
    cancel_job,
    claim_batch,
    find_status,
    finish_batch,
    renew_batch,
)
from shifter.policy.delivery.claim_state import Claim, done_job, waiting_claim
from shifter.policy.protection.fleet_table import FleetTable
from shifter.ports import Clock, WorkerReport


class _Pointer(NamedTuple):
    """Where the claim of a job lies whose identity is a user's key."""

    identity: str


class _Entry(NamedTuple):
    value: Claim | _Pointer | str
    until_ms: int


class _Rows:
    """`shifter.policy.delivery.claim_batch.ClaimRows` in a dictionary."""

    def __init__(self, entries: dict[str, _Entry]) -> None:
        self.entries, self.now = entries, StoreMs(0)
        self._fading: list[tuple[int, str]] = []

    def name(self, text: str) -> str:
        return text

    def key(self, name: str) -> str:
        return name

    def load(self, keys: Sequence[str]) -> None:
        pass

    def get(self, key: str) -> Claim | None:
        entry = self.entries.get(key)
        if entry is None or not isinstance(entry.value, Claim):
            return None
        return entry.value

    def follow(self, key: str) -> str:
        entry = self.entries.get(key)
        if entry is not None and isinstance(entry.value, _Pointer):
            return entry.value.identity
        return key

    def keep(self, key: str, kept: ClaimWrite) -> None:
        claim, keep_ms = kept
        left_ms = keep_ms or self.entries[key].until_ms - self.now
        self.put(key, claim, left_ms)

    def point(self, key: str, target: str, keep_ms: int) -> None:
        self.put(key, _Pointer(target), keep_ms)

    def put(self, key: str, value: Claim | _Pointer | str, keep_ms: int) -> None:
        until_ms = self.now + keep_ms
        self.entries[key] = _Entry(value, until_ms)
        heapq.heappush(self._fading, (until_ms, key))

    def forget(self, now: StoreMs) -> None:
        """Forget what has expired by now, from which on calls count."""
        self.now = now
        while self._fading and self._fading[0][0] <= now:
            _, key = heapq.heappop(self._fading)
            entry = self.entries.get(key)
            if entry is not None and entry.until_ms <= now:
                del self.entries[key]


class MemoryClaimStore:
    """`shifter.ports.ClaimStore` in this process; its clock is the given one.

    Several workers of one test share one store. No call gives way to another task.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._kept = _Rows(self._entries)

    async def claim(
        self, requests: Sequence[ClaimRequest], *, owner: str, lease_ms: int
    ) -> list[ClaimAnswer]:
        """Ask to run; answers in order."""
        first = self._ask(ClaimAsk(1, 1, owner, lease_ms))
        return claim_batch(self._rows(), requests, first)

    async def renew(
        self, held: Sequence[tuple[str, int]], *, lease_ms: int
    ) -> list[Renewal]:
        """Extend leases, given as (identity, fence), from now."""
        return renew_batch(self._rows(), held, lease_ms)

    async def finish(self, updates: Sequence[ClaimUpdate]) -> list[bool]:
        """Write ends of turns; ``False`` where the fence was no longer the newest."""
        return finish_batch(self._rows(), updates)

    async def cancel(self, job_id: str, *, keep_ms: int) -> JobStatus:
        """Ask that a job not run (again); returns its state after the call."""
        return cancel_job(self._rows(), job_id, keep_ms)

    async def add_waiting(self, jobs: Sequence[WaitingJobs]) -> int:
        """Record that jobs wait, unless something is recorded; all are taken."""
        for some in jobs:
            self.put_waiting(some)
        return 0

    def put_waiting(self, jobs: WaitingJobs) -> None:
        """Record one group of jobs as `add_waiting` does, without an event loop."""
        rows, (job_ids, keep_ms, identity) = self._rows(), jobs
        value = waiting_claim(rows.now) if identity is None else _Pointer(identity)
        for job_id in job_ids:
            if job_id not in rows.entries:
                rows.put(job_id, value, keep_ms)

    async def status(self, job_id: str) -> JobStatus | None:
        """The state of a job; ``None`` when nothing is recorded, or not any more."""
        return find_status(self._rows(), job_id)

    async def done_by(self, identity: str) -> str | None:
        """The id of the job that had the effect of an idempotency key."""
        return self.done_now(identity)

    def done_now(self, identity: str) -> str | None:
        """Answer as `done_by` does, without an event loop."""
        return done_job(self._rows().get(identity))

    async def note(self, name: str, word: str, *, keep_ms: int) -> str:
        """Keep a word under a name, unless one is kept there; returns what is kept."""
        rows, key = self._rows(), f"\0note\0{name}"
        entry = rows.entries.get(key)
        if entry is not None and isinstance(entry.value, str):
            return entry.value
        rows.put(key, word, keep_ms)
        return word

    async def ping(self) -> str:
        """One line that describes the store."""
        return f"memory, {len(self._entries)} claims"

    async def close(self) -> None:
        """Forget nothing: other workers of the same test may go on."""

    def _ask(self, ask: ClaimAsk) -> ClaimAsk:
        """For twins of stores that lose answers: here no call needs a name."""
        return ask

    def _rows(self) -> _Rows:
        self._kept.forget(StoreMs(self._clock.epoch_ms()))
        return self._kept


class MemoryPresenceStore:
    """`shifter.ports.PresenceStore` in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reports: dict[str, tuple[int, WorkerReport]] = {}

    async def report(self, report: WorkerReport, *, keep_ms: int) -> None:
        """Report that a worker is alive."""
        until_ms = self._clock.epoch_ms() + min(keep_ms, MAX_PRESENCE_MS)
        self._reports[report.worker_id] = (until_ms, report)

    async def withdraw(self, worker_id: str) -> None:
        """Remove the report of a worker that left."""
        self._reports.pop(worker_id, None)

    async def workers(self) -> list[WorkerReport]:
        """All that live, by worker id."""
        now = self._clock.epoch_ms()
        self._reports = {k: v for k, v in self._reports.items() if v[0] > now}
        return [report for _, (_, report) in sorted(self._reports.items())]

    async def close(self) -> None:
        """Do nothing: memory holds no connection."""


class MemoryFleetStore:
    """`shifter.ports.FleetStore` in this process.

    Args:
        clock: The store's.
        table: Shared with the other processes of the fleet, if there are any.
    """

    def __init__(self, clock: Clock, table: FleetTable | None = None) -> None:
        self._clock = clock
        self.table = FleetTable() if table is None else table

    async def sync(self, report: FleetReport) -> FleetView:
        """Exchange a report of this process for the state of the fleet."""
        now_ms = self._clock.epoch_ms()
        return self.table.sync(report, now_ms=now_ms, now_us=now_ms * 1_000)

    async def listen(self, changed: Callable[[], None]) -> None:
        """Return at once: changes are seen at the next sync."""

    async def close(self) -> None:
        """Do nothing: memory holds no connection."""
