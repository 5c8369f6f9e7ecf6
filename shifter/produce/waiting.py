"""Records accepted jobs as waiting in the state store, behind the calls.

A call appends to a queue in memory and returns. A thread of its own writes what is
queued in batches. A job is lost to it when the queue is full, when the state store does
not answer, and when that store's memory is scarce. A lost job runs as any other, and
its state is unknown until a worker claims it. The minutes in which lost jobs were
accepted are written to the store when it answers again, so that nobody takes such an
id for one that no job has.
"""

from __future__ import annotations

import asyncio
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
from shifter.ports import ClaimStore
from shifter.runtime.forking import renew_in_child
from shifter.runtime.threads import BackgroundLoop

_MAX_QUEUED: Final = 100_000
"""Jobs; about 10 MB. One burst of `Job.defer_many` of that size fits."""
_BATCH: Final = 2_000
_MAX_GAPS: Final = 2_000
_GATHER_S: Final = 0.2
"""How long jobs wait for others: a batch costs 0.4 ms, whatever its size."""
_PAUSE_S: Final = 1.0
"""After the store did not answer."""
_END_S: Final = 0.3
"""How long the end waits for the store."""


class WaitingSink(Protocol):
    """Where a publisher records the jobs that it accepted."""

    def add(self, jobs: WaitingJobs) -> None:
        """Take jobs; never blocks, never raises."""

    def add_plain(self, job_id: str) -> None:
        """The same for the usual one, of no key and due at once."""

    def holds(self, job_id: str) -> bool:
        """Whether a job was taken and is not written yet."""

    def close(self) -> None:
        """Write what is queued, for a bounded time, and stop."""


class WaitingWriter:
    """`WaitingSink` over a claim store. Safe to share between threads.

    Its thread starts with the first job. A forked child starts its own; what was
    queued is the parent's.

    Args:
        open_store: Called in the thread.

    Attributes:
        lost: How many jobs were not recorded.
    """

    def __init__(self, open_store: Callable[[], ClaimStore]) -> None:
        self._open_store, self.lost = open_store, 0
        self._thread: BackgroundLoop | None = None
        self._is_closed = False
        self._begin()
        renew_in_child(self._begin)

    def add(self, jobs: WaitingJobs) -> None:
        """Take jobs, or count them as lost: all or none."""
        job_ids, keep_ms, identity = jobs
        queued = len(self._plain) + sum(len(some.job_ids) for some in self._others())
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
        """The same for the usual one, of no key and due at once."""
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
        return any(job_id in jobs.job_ids for jobs in (*self._others(), *self._writing))

    def close(self) -> None:
        """Write what is queued, for a bounded time, and stop.

        Jobs that are accepted afterwards are lost.
        """
        self._is_closed = True
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop(2 * _END_S)

    def _begin(self) -> None:
        self._starting = threading.Lock()
        self._plain: deque[str] = deque()
        self._queue: deque[WaitingJobs] = deque()
        self._writing: list[WaitingJobs] = []
        self._gaps: set[str] = set()
        self._is_idle, self._thread = True, None
        self._resume: Callable[[], object] = _nothing
        self._store: ClaimStore | None = None

    def _wake(self) -> None:
        with self._starting:
            if not self._is_idle:
                return
            self._is_idle = False
            if self._thread is None:
                self._thread = BackgroundLoop(self._run, name="shifter-waiting")
                self._thread.start()
                return
        # The loop is gone when the interpreter ends.
        with contextlib.suppress(RuntimeError):
            self._resume()

    async def _run(self, stopped: asyncio.Event) -> None:
        loop, work = asyncio.get_running_loop(), asyncio.Event()
        self._resume = partial(loop.call_soon_threadsafe, work.set)
        ending = loop.create_task(_set_after(stopped, work))
        try:
            while not stopped.is_set():
                await _stopped_within(stopped, _GATHER_S)
                is_taken = True
                while is_taken and len(self._plain) >= _BATCH:
                    is_taken = await self._write()
                # What is no whole batch waits for more: each costs a round trip.
                if is_taken and self._has_some:
                    is_taken = await self._write()
                if not is_taken:
                    await _stopped_within(stopped, _PAUSE_S)
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

    def _others(self) -> deque[WaitingJobs]:
        return self._queue.copy()

    async def _write(self) -> bool:
        """Write one batch; ``False`` where the store did not take it."""
        batch, gaps = self._take(), set(self._gaps)
        if gaps:
            batch = [*batch, WaitingJobs(list(gaps), WAITING_KEEP_MS)]
        try:
            if self._store is None:
                self._store = self._open_store()
            left_out = await self._store.add_waiting(batch)
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
        others = list(itertools.islice(self._others(), _BATCH))
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
    """What wakes a thread that does not run."""


async def _set_after(first: asyncio.Event, second: asyncio.Event) -> None:
    await first.wait()
    second.set()


async def _stopped_within(stopped: asyncio.Event, wait_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await stopped.wait()
