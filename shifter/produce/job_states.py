"""What a service asks the state store about jobs, and records there, behind its calls.

*Accepted jobs are recorded as waiting.* A call appends to a queue in memory and
returns; a background loop writes what is queued in batches. A job is lost to the record
when the queue is full, when the state store does not answer, and when that store's
memory is scarce. A lost job runs as any other, and its state is unknown until a worker
claims it. The minutes in which lost jobs were accepted are written to the store when it
answers again, so that such an id is not taken for one that no job has.

*The store is asked, before a job is written, which job had the effect of its key.* A
repeat of an idempotency key that is done would be written, fetched, claimed and then
settled without an effect; it is answered at once instead. Only a job with such a key
asks. The answer comes within a quarter of a second or counts as none, and the store is
not asked for some seconds: the job is written as any other, and the claim decides.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from shifter.errors import ShifterError
from shifter.model.claim import WaitingJobs, merged
from shifter.model.job import gap_name
from shifter.policy.delivery.claim_state import WAITING_KEEP_MS
from shifter.ports import ClaimStore, Clock
from shifter.runtime.forking import renew_in_child
from shifter.runtime.threads import BackgroundLoop, stopped_within

_MAX_QUEUED: Final = 100_000
"""Jobs; about 10 MB. One burst of `Job.defer_many` of that size fits."""
_BATCH: Final = 2_000
_MAX_GAPS: Final = 2_000
_GATHER_S: Final = 0.2
"""How long jobs wait for others: a batch costs 0.4 ms, whatever its size."""
_PAUSE_S: Final = 1.0
"""After the store did not answer."""
_ANSWER_S: Final = 0.25
"""How long a call waits for the store; a repeat that is written costs little more."""
_SILENT_S: Final = 5.0
"""How long the store is not asked after a question without an answer."""
_END_S: Final = 0.3
"""How long the end waits for the store."""


class JobStates(Protocol):
    """Where a publisher records the jobs that it accepted, and asks about keys."""

    def add(self, jobs: WaitingJobs) -> None:
        """Take accepted jobs; never blocks, never raises."""

    def add_plain(self, job_id: str) -> None:
        """Take the usual job, which has no key and is due at once."""

    def holds(self, job_id: str) -> bool:
        """Whether a job was taken and is not written yet."""

    async def done_by(self, identity: str) -> str | None:
        """The id of the job that had the effect of a key.

        ``None`` where none is known in time; never raises.
        """

    def done_by_sync(self, identity: str) -> str | None:
        """`done_by` for callers without an event loop; blocks for a bounded time."""

    def close(self) -> None:
        """Write what is queued, for a bounded time, and stop."""


class StoredJobStates:
    """`JobStates` in a claim store. Safe to share between threads.

    One background loop with one connection serves the callers of every event loop and
    of none. It starts with the first job or question. A forked child starts its own;
    what was queued is the parent's.

    Args:
        open_store: Called on the loop.
        clock: Times the pause after a question without an answer.
        is_recording: Whether accepted jobs are recorded.
        prepare: Called before the loop starts, in the thread that starts it.

    Attributes:
        lost: How many jobs were not recorded.
    """

    def __init__(
        self,
        open_store: Callable[[], ClaimStore],
        clock: Clock,
        *,
        is_recording: bool = True,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._open_store, self._clock, self._prepare = open_store, clock, prepare
        self._is_recording, self.lost = is_recording, 0
        self._background: BackgroundLoop | None = None
        self._is_closed = False
        self._begin()
        renew_in_child(self._begin)

    def add(self, jobs: WaitingJobs) -> None:
        """Take jobs, or count them as lost: all or none."""
        if not self._is_recording:
            return
        job_ids, keep_ms, identity = jobs
        queued = len(self._plain) + sum(
            len(some.job_ids) for some in self._queue.copy()
        )
        if queued >= _MAX_QUEUED or self._is_closed:
            self._lose(job_ids, job_ids[:1], job_ids[-1:])
            return
        if identity is None and keep_ms == WAITING_KEEP_MS:
            self._plain.extend(job_ids)
        else:
            self._queue.append(jobs)
        if self._is_idle:
            self._wake()

    def add_plain(self, job_id: str) -> None:
        """Take the usual job, which has no key and is due at once."""
        if not self._is_recording:
            return
        if len(self._plain) >= _MAX_QUEUED or self._is_closed:
            self._lose((job_id,), (job_id,))
            return
        self._plain.append(job_id)
        if self._is_idle:
            self._wake()

    def holds(self, job_id: str) -> bool:
        """Whether a job was taken and is not written yet."""
        # What is moved on meanwhile is seen in one of them: it is copied, then taken.
        if job_id in self._plain.copy():
            return True
        return any(
            job_id in jobs.job_ids for jobs in (*self._queue.copy(), *self._writing)
        )

    async def done_by(self, identity: str) -> str | None:
        """The id of the job that had the effect of a key; ``None`` if not known."""
        if not self._may_ask():
            return None
        try:
            async with asyncio.timeout(_ANSWER_S):
                loop = await asyncio.shield(asyncio.wrap_future(self._loop))
                return await asyncio.wrap_future(self._asked(identity, loop))
        except (ShifterError, TimeoutError, RuntimeError):
            self._pause()
            return None

    def done_by_sync(self, identity: str) -> str | None:
        """`done_by` for callers without an event loop; blocks for a bounded time."""
        if not self._may_ask():
            return None
        asked: concurrent.futures.Future[str | None] | None = None
        try:
            asked = self._asked(identity, self._loop.result(_ANSWER_S))
            return asked.result(_ANSWER_S)
        except (ShifterError, TimeoutError, RuntimeError):
            if asked is not None:
                asked.cancel()
            self._pause()
            return None

    def close(self) -> None:
        """Write what is queued, for a bounded time, and stop.

        Jobs that are accepted afterwards are lost; no key is known then.
        """
        self._is_closed = True
        with self._starting:
            background, self._background = self._background, None
        if background is not None:
            background.stop(2 * _END_S)

    def _begin(self) -> None:
        self._starting, self._silent_until = threading.Lock(), 0.0
        self._loop: concurrent.futures.Future[asyncio.AbstractEventLoop] = (
            concurrent.futures.Future()
        )
        self._plain: deque[str] = deque()
        self._queue: deque[WaitingJobs] = deque()
        self._writing: list[WaitingJobs] = []
        self._gaps: set[str] = set()
        self._is_idle, self._background = True, None
        self._resume: Callable[[], object] = _nothing
        self._store: ClaimStore | None = None

    def _wake(self) -> None:
        with self._starting:
            if not self._is_idle:
                return
            self._is_idle = False
            self._start()
        # The loop is gone when the interpreter ends.
        with contextlib.suppress(RuntimeError):
            self._resume()

    def _start(self) -> None:
        if self._background is None:
            if self._prepare is not None:
                self._prepare()
            self._background = BackgroundLoop(self._run, name="shifter-states")
            self._background.start()

    def _may_ask(self) -> bool:
        if self._is_closed or self._clock.monotonic() < self._silent_until:
            return False
        if self._background is None:
            with self._starting:
                self._start()
        return True

    def _pause(self) -> None:
        self._silent_until = self._clock.monotonic() + _SILENT_S

    def _asked(
        self, identity: str, loop: asyncio.AbstractEventLoop
    ) -> concurrent.futures.Future[str | None]:
        return asyncio.run_coroutine_threadsafe(self._ask(identity), loop)

    async def _ask(self, identity: str) -> str | None:
        return await self._opened().done_by(identity)

    def _opened(self) -> ClaimStore:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    async def _run(self, stopped: asyncio.Event) -> None:
        loop, work = asyncio.get_running_loop(), asyncio.Event()
        self._resume = partial(loop.call_soon_threadsafe, work.set)
        self._loop.set_result(loop)
        ending = loop.create_task(_set_after(stopped, work))
        try:
            while not stopped.is_set():
                await stopped_within(stopped, _GATHER_S)
                is_taken = True
                while is_taken and len(self._plain) >= _BATCH:
                    is_taken = await self._write()
                # What is no whole batch waits for more: each costs a round trip.
                if is_taken and self._has_some:
                    is_taken = await self._write()
                if not is_taken:
                    await stopped_within(stopped, _PAUSE_S)
                elif not self._has_some:
                    await self._rest(work, stopped)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_S):
                    while self._has_some and await self._write():
                        pass
        finally:
            ending.cancel()
            self._resume, self._is_idle = _nothing, True
            store, self._store = self._store, None
            if store is not None:
                await store.close()

    async def _rest(self, work: asyncio.Event, stopped: asyncio.Event) -> None:
        """Wait for a job, or the end."""
        work.clear()
        self._is_idle = True
        # Looked at after the flag: a job that came before it wakes nothing.
        if not self._has_some and not stopped.is_set():
            await work.wait()
        self._is_idle = False

    @property
    def _has_some(self) -> bool:
        return bool(self._plain or self._queue or self._gaps)

    async def _write(self) -> bool:
        """Write one batch; ``False`` where the store did not take it."""
        batch, gaps = self._take(), set(self._gaps)
        if gaps:
            batch = [*batch, WaitingJobs(list(gaps), WAITING_KEEP_MS)]
        try:
            left_out = await self._opened().add_waiting(batch)
        except ShifterError:
            left_out = -1
        self._writing = []
        if left_out == 0:
            self._gaps -= gaps
            return True
        for jobs in batch[: len(batch) - bool(gaps)]:
            self._lose(jobs.job_ids, jobs.job_ids)
        return False

    def _take(self) -> list[WaitingJobs]:
        """One batch."""
        # Taken from the queues last, so that `holds` always sees it.
        plain = list(itertools.islice(self._plain.copy(), _BATCH))
        others = list(itertools.islice(self._queue.copy(), _BATCH))
        self._writing = [WaitingJobs(plain, WAITING_KEEP_MS), *others]
        for _ in plain:
            self._plain.popleft()
        for _ in others:
            self._queue.popleft()
        return merged(self._writing)

    def _lose(self, job_ids: Sequence[str], *noted: Sequence[str]) -> None:
        """Count jobs as lost, and note the minutes in which they were accepted."""
        self.lost += len(job_ids)
        if len(self._gaps) < _MAX_GAPS:
            self._gaps.update(gap_name(job_id) for some in noted for job_id in some)
        else:
            self._gaps.add(gap_name(""))


def _nothing() -> None:
    """Do nothing: stands for waking a thread that does not run."""


async def _set_after(first: asyncio.Event, second: asyncio.Event) -> None:
    await first.wait()
    second.set()
