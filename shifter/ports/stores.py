"""The ports of stores: claims, presence, the fleet's state, and the local spool.

Every value of a store is checked where it is read, and one that this package does not
write is ignored. A value that the checks miss must still end no process: `understood`
converts its error to the one that every caller of a store expects.
"""

from __future__ import annotations

import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from shifter.errors import StoreRefusedError
from shifter.model.claim import (
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    JobStatus,
    Renewal,
    WaitingJobs,
)
from shifter.model.fleet import FleetReport, FleetView
from shifter.ports.record import Record
from shifter.wire.untrusted import Count, InstantMs, Rate, ShortText

NUMBER_SHIFT: Final = 20
"""Bits of a number that count the records of one millisecond."""

_MISREAD: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


# Every later call sends these names, so only the last are kept: what an older call was
# granted is free again when its lease ends.
_UNANSWERED: Final = 64


class ClaimStore(Protocol):
    """Where "once" is decided. Every call is one round trip, or fails as a whole.

    Raises:
        StoreUnavailableError: From any method; the outcome is then unknown.
    """

    async def claim(
        self, requests: Sequence[ClaimRequest], *, owner: str, lease_ms: int
    ) -> list[ClaimAnswer]:
        """Ask to run attempts; the answers are in order.

        Args:
            requests: At most one for an identity.
            owner: The worker that asks.
            lease_ms: How long a granted claim lasts unless it is renewed, > 0.
        """

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


class ClaimCalls:
    """The names of a claim store's calls, and of those that had no answer.

    A claim whose answer was lost (a timeout, a cancelled call) may have been granted.
    Each call therefore has a name of its own, and the next call lists the names that
    had no answer: no process runs what those were granted, so it is granted again at
    once instead of standing still for a lease.

    Attributes:
        unanswered: The names of the last calls that failed.
    """

    def __init__(self) -> None:
        self._store, self._count = secrets.token_hex(4), 0
        self.unanswered: deque[str] = deque(maxlen=_UNANSWERED)

    @contextlib.contextmanager
    def named(self) -> Generator[str]:
        """Yield the name of a new call, and list it if the block fails."""
        name = self.next_name()
        self._count += 1
        try:
            yield name
        except BaseException:
            self.unanswered.append(name)
            raise

    def next_name(self) -> str:
        """The name that the next call has."""
        return f"{self._store}.{self._count + 1}"


PartitionNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]


class SlowestJob(msgspec.Struct, frozen=True, gc=False):
    """The attempt of a worker that has run longest so far.

    Attributes:
        job_id: The job's id.
        type: The job type's name.
        running_s: Seconds since the attempt began.
    """

    job_id: ShortText
    type: ShortText
    running_s: Rate


class WorkerReport(msgspec.Struct, frozen=True, gc=False):
    """What a worker process reports, about once a second.

    A worker of an older release reports none of the optional fields.

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
        queues: Queues that it serves; empty where a worker of an older release reports.
        priorities: Priorities that it serves.
        busy: Part of the process that each lane used over the last seconds, 0 to 1
            together (`shifter.work.usage.shares`).
        start_up_ms: Milliseconds from its start to the start of its first job; ``None``
            where no job waited for it.
        version: Its release of shifter; ``None`` if it does not report it.
        app_version: The version of the app, as the setting ``app_version`` has it.
        slowest: The attempt that has run longest; ``None`` while none runs.
        progress_ms: When a job last ended there, epoch milliseconds, to about a
            second; ``None`` before the first.
        is_draining: Whether it takes no more work and ends.
        crons: The cron expressions of the jobs that it fires, by job.
        partitions: Partitions of lanes whose records are given to it alone, by lane
            name; those of further lanes are left out where they are many.
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
    queues: list[str] = []
    priorities: list[str] = []
    busy: dict[str, Rate] = {}
    start_up_ms: Count | None = None
    version: ShortText | None = None
    app_version: ShortText | None = None
    slowest: SlowestJob | None = None
    progress_ms: InstantMs | None = None
    is_draining: bool = False
    crons: dict[ShortText, ShortText] = {}
    partitions: dict[str, list[PartitionNumber]] = {}


_DECODE_REPORT: Final = msgspec.json.Decoder(WorkerReport).decode
encode_report: Final = msgspec.json.Encoder().encode
"""A worker's report as bytes in a store."""


def decode_report(raw: bytes | None) -> WorkerReport | None:
    """The report in a store's bytes; ``None`` for anything else, so a lie is no worker.

    >>> decode_report(b"[]") is decode_report(None) is None
    True
    """
    with contextlib.suppress(msgspec.MsgspecError, ValueError, RecursionError):
        return None if raw is None else _DECODE_REPORT(raw)
    return None


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


class FleetStore(Protocol):
    """State that the processes of a fleet share. One call is one round trip.

    Raises:
        StoreUnavailableError: From any method; the outcome is then unknown.
    """

    async def sync(self, report: FleetReport) -> FleetView:
        """Report, and return the state; see `shifter.policy.protection.fleet_table`."""

    async def listen(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever cells may have changed; runs until cancelled.

        A store without notifications returns at once; the next `sync` reads the cells.
        """

    async def close(self) -> None:
        """Free everything; reports expire by themselves."""


class SpoolEntry(NamedTuple):
    """A record in a spool.

    Attributes:
        number: Ascending in the order in which records were handed over: the epoch
            milliseconds of that, shifted by `NUMBER_SHIFT`, and a count.
        record: As it goes to the log.
    """

    number: int
    record: Record


class SpoolDepth(NamedTuple):
    """What is in a spool.

    Attributes:
        waiting: Records to be forwarded.
        refused: Records that the log refused; tried again when nothing else waits.
        oldest_ms: When the oldest waiting one was spooled; ``None`` if none.
        first: Its number; ``None`` if none.
        used: Part of the allowed size that is used, from 0.0.
        size_bytes: Bytes that are used, >= 0.
    """

    waiting: int
    refused: int
    oldest_ms: int | None
    first: int | None
    used: float
    size_bytes: int


class Spool(Protocol):
    """Records kept on this machine while the log is away. Everything here blocks.

    Safe to share between threads; several processes may share one place.

    Raises:
        StoreUnavailableError, StoreRefusedError: From any method.
    """

    def put(self, entries: Sequence[SpoolEntry], *, timeout_s: float) -> list[int]:
        """Make records durable, all or none.

        Returns:
            Their numbers: those wanted, or the next that are free.
        """

    def take(self, most: int, *, before: int | None = None) -> list[SpoolEntry]:
        """The oldest records that wait, below a number, in order; they stay."""

    def drop(self, numbers: Sequence[int]) -> None:
        """Forget records that are in the log."""

    def set_aside(self, number: int, detail: str) -> None:
        """Keep a record that the log refuses apart from those that wait."""

    def put_back(self) -> int:
        """Let refused records wait again, in their places; returns their number."""

    def depth(self) -> SpoolDepth:
        """The present contents; cheap."""

    def forwarding(self) -> AbstractContextManager[bool]:
        """Hold the right to forward; yields ``False`` while another process has it."""

    def close(self) -> None:
        """Free everything; the records stay."""


@contextlib.contextmanager
def understood(store: str, op: str) -> Generator[None]:
    """Read a store's answer while the block runs.

    Args:
        store: The store with its address, without credentials.
        op: The operation.

    Raises:
        StoreRefusedError: The block could not read the answer.
    """
    try:
        yield
    except _MISREAD as error:
        detail = f"its answer cannot be read: {type(error).__name__}: {error}"[:200]
        raise StoreRefusedError(store, op, detail) from error
