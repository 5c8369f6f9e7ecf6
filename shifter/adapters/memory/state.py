"""The state of a fleet in memory: claims, live workers and shared decisions.

Every rule stands in `policy.delivery.claim` and `policy.protection.fleet_table`. These
stores add the clock, the keeping and the expiry, so that tests compare the stores in
Redis and SQLite with them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shifter.model.claim import (
    Cancelled,
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    JobState,
    JobStatus,
    Renewal,
    WaitingJobs,
)
from shifter.model.fleet import MAX_PRESENCE_MS, FleetReport, FleetView
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
    done_job,
    own_end,
    status_found,
    status_of,
    waiting_claim,
)
from shifter.policy.protection.fleet_table import FleetTable
from shifter.ports import Clock, WorkerReport


class _Pointer(NamedTuple):
    """Where the claim of a job lies whose identity is a user's key."""

    identity: str


class _Entry(NamedTuple):
    value: Claim | _Pointer | str
    until_ms: int


class MemoryClaimStore:
    """`shifter.ports.ClaimStore` in this process; its clock is the given one.

    Several workers of one test share one store. No call gives way to another task.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._fading: list[tuple[int, str]] = []

    async def claim(
        self, requests: Sequence[ClaimRequest], *, owner: str, lease_ms: int
    ) -> list[ClaimAnswer]:
        """Ask to run; answers in order."""
        now = self._now()
        return [self._claim(request, owner, lease_ms, now) for request in requests]

    async def renew(
        self, held: Sequence[tuple[str, int]], *, lease_ms: int
    ) -> list[Renewal]:
        """Extend leases, given as (identity, fence), from now."""
        now = self._now()
        answers: list[Renewal] = []
        for identity, fence in held:
            answer, kept = decide_renew(
                self._claim_of(identity), fence=fence, lease_ms=lease_ms, now=now
            )
            self._keep(identity, kept, now)
            answers.append(answer)
        return answers

    async def finish(self, updates: Sequence[ClaimUpdate]) -> list[bool]:
        """Write ends of turns; ``False`` where the fence was no longer the newest."""
        now = self._now()
        answers: list[bool] = []
        for update in updates:
            identity = update.identity
            answer, kept = decide_finish(self._claim_of(identity), update, now=now)
            self._keep(identity, kept, now)
            if kept is not None and kept.claim.job_id:
                self._end(kept.claim.job_id, kept.claim, kept.keep_ms, now)
            answers.append(answer)
        return answers

    async def cancel(self, job_id: str, *, keep_ms: int) -> JobStatus:
        """Ask that a job not run (again); returns its state after the call."""
        now, identity = self._now(), self._follow(job_id)
        claim, alias = self._claim_of(identity), "" if identity == job_id else job_id
        if alias and claim is not None and claim.job_id != job_id:
            # Another job holds the key: this one is cancelled under its own id.
            identity, alias, claim = job_id, "", None
        after, kept = decide_cancel(claim, job_id=alias, keep_ms=keep_ms, now=now)
        self._keep(identity, kept, now)
        if alias and after.state is JobState.CANCELLED:
            self._end(alias, after, keep_ms, now)
        return status_of(job_id, after)

    async def add_waiting(self, jobs: Sequence[WaitingJobs]) -> int:
        """Record that jobs wait, unless something is recorded; all are taken."""
        for some in jobs:
            self.put_waiting(some)
        return 0

    def put_waiting(self, jobs: WaitingJobs) -> None:
        """The same without an event loop."""
        now, (job_ids, keep_ms, identity) = self._now(), jobs
        value = waiting_claim(now) if identity is None else _Pointer(identity)
        for job_id in job_ids:
            if job_id not in self._entries:
                self._put(job_id, value, now + keep_ms)

    async def status(self, job_id: str) -> JobStatus | None:
        """The state of a job; ``None`` when nothing is recorded, or not any more."""
        self._now()
        identity = self._follow(job_id)
        alias = "" if identity == job_id else job_id
        return status_found(job_id, self._claim_of(identity), alias=alias)

    async def done_by(self, identity: str) -> str | None:
        """The id of the job that had the effect of an idempotency key."""
        return self.done_now(identity)

    def done_now(self, identity: str) -> str | None:
        """The same without an event loop."""
        self._now()
        return done_job(self._claim_of(identity))

    async def note(self, name: str, word: str, *, keep_ms: int) -> str:
        """Keep a word under a name, unless one is kept there; returns what is kept."""
        now, key = self._now(), f"\0note\0{name}"
        entry = self._entries.get(key)
        if entry is not None and isinstance(entry.value, str):
            return entry.value
        self._put(key, word, now + keep_ms)
        return word

    async def ping(self) -> str:
        """One line that describes the store."""
        return f"memory, {len(self._entries)} claims"

    async def close(self) -> None:
        """Forget nothing: other workers of the same test may go on."""

    def _claim(
        self, request: ClaimRequest, owner: str, lease_ms: int, now: StoreMs
    ) -> ClaimAnswer:
        identity, job_id, turn, attempt = request
        alias, keep_ms = "", lease_ms + RUNNING_GRACE_MS
        if identity != job_id:
            alias = job_id
            own = answer_own(self._point(alias, identity, keep_ms, now))
            if own is not None:
                return own
        ask = self._ask(ClaimAsk(turn, attempt, owner, lease_ms, job_id=alias))
        answer, kept = decide_claim(self._claim_of(identity), ask, now=now)
        self._keep(identity, kept, now)
        if alias and isinstance(answer, Cancelled):
            ended = Claim(JobState.CANCELLED, 0, turn, attempt, updated_ms=now)
            self._end(alias, ended, keep_ms, now)
        return answer

    def _ask(self, ask: ClaimAsk) -> ClaimAsk:
        """For twins of stores that lose answers: here no call needs a name."""
        return ask

    def _point(
        self, job_id: str, identity: str, keep_ms: int, now: StoreMs
    ) -> Claim | None:
        """Leave a pointer, unless a claim lies there already: returns that."""
        claim = self._claim_of(job_id)
        if claim is None:
            self._put(job_id, _Pointer(identity), now + keep_ms)
        return claim

    def _end(self, job_id: str, claim: Claim, keep_ms: int, now: StoreMs) -> None:
        """Keep a keyed job's end under its own id, in place of its pointer."""
        if self._claim_of(job_id) is None and (end := own_end(claim)) is not None:
            self._put(job_id, end, now + keep_ms)

    def _follow(self, job_id: str) -> str:
        """The identity of a job."""
        entry = self._entries.get(job_id)
        if entry is not None and isinstance(entry.value, _Pointer):
            return entry.value.identity
        return job_id

    def _claim_of(self, identity: str) -> Claim | None:
        entry = self._entries.get(identity)
        if entry is None or not isinstance(entry.value, Claim):
            return None
        return entry.value

    def _keep(self, identity: str, kept: ClaimWrite | None, now: StoreMs) -> None:
        if kept is None:
            return
        claim, keep_ms = kept
        if not keep_ms:
            until_ms = self._entries[identity].until_ms
            self._entries[identity] = _Entry(claim, until_ms)
            return
        self._put(identity, claim, now + keep_ms)
        if claim.job_id:
            self._point(claim.job_id, identity, keep_ms, now)

    def _put(self, key: str, value: Claim | _Pointer | str, until_ms: int) -> None:
        self._entries[key] = _Entry(value, until_ms)
        heapq.heappush(self._fading, (until_ms, key))

    def _now(self) -> StoreMs:
        """The time, after forgetting what has faded by it."""
        now = StoreMs(self._clock.epoch_ms())
        while self._fading and self._fading[0][0] <= now:
            _, key = heapq.heappop(self._fading)
            entry = self._entries.get(key)
            if entry is not None and entry.until_ms <= now:
                del self._entries[key]
        return now


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
        """Nothing to free."""


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
        """Nothing to free."""
