"""Events of jobs on their way to the log: a bounded queue, and what writes it.

Nothing waits for an event. A caller appends to a queue in memory; a task of a worker,
or a thread of a service, writes what is queued in batches, one append at a time. An
event is lost when the queue is full, when the log does not take it, and when the
process is killed. Lost events are counted, and a log line gives the count.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from shifter.errors import ShifterError
from shifter.ports import AppendAnswer, Appended, Clock, LaneLog, Record, Refused
from shifter.runtime.forking import renew_in_child
from shifter.runtime.threads import BackgroundLoop, stopped_within
from shifter.telemetry.log import Event, Log
from shifter.wire.job_event import JobEvent, encode_events

WRITTEN: Final = "written"
LOST: Final = "lost"

_MOST: Final = 20_000
"""Events in the queue; about 10 MB."""
_BATCH: Final = 1_000
"""Events that are encoded in one turn of the event loop: about 1 ms."""
_EVERY_S: Final = 0.25
"""How long events wait for others; a process that is killed loses as much."""
_APPEND_S: Final = 5.0
_PAUSE_S: Final = 2.0
"""After the log did not take a batch."""
_REPORT_S: Final = 10.0
"""Before the first log line about lost events, and between two."""
_END_S: Final = 1.0
"""How long the end of a process waits for the log."""

Counted: TypeAlias = Callable[[str, int], None]
"""Called with ``written`` or ``lost``, and how many events."""


class JobEventStream:
    """The events of one process. `put` is safe to call from any thread.

    Args:
        log: Where events are written; not closed by this.
        clock: Paces the writing.
        topic: The topic of events.
        process: The name of this process in each batch.
        counted: Called for written and lost events, by the writer.
        is_all: Whether jobs are recorded that succeed as they should.

    Attributes:
        is_all: The same one.
    """

    def __init__(
        self,
        log: LaneLog,
        clock: Clock,
        *,
        topic: str,
        process: str,
        counted: Counted,
        is_all: bool = False,
    ) -> None:
        self._log, self._clock, self._topic = log, clock, topic
        self._process, self._counted, self.is_all = process, counted, is_all
        self._lines = Log(process=process)
        self._begin()
        renew_in_child(self._begin)

    def _begin(self) -> None:
        """Begin empty; in a forked child, since what is queued is the parent's."""
        self._queue: deque[JobEvent] = deque()
        self._full_lock = threading.Lock()
        self._refused = self._lost = 0
        self._why = ""
        self._silent_until = 0.0
        self._reported_at: float = self._clock.monotonic()

    def has_room(self) -> bool:
        """Whether the queue takes another event; if not, one is counted as lost."""
        if len(self._queue) < _MOST:
            return True
        with self._full_lock:
            self._refused += 1
        return False

    def put(self, event: JobEvent) -> None:
        """Queue an event, or count it as lost; never blocks, never raises."""
        if self.has_room():
            self._queue.append(event)

    @property
    def queued(self) -> int:
        """Events that are not written yet."""
        return len(self._queue)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._clock.sleep(_EVERY_S)
            await self.write()

    async def serve(self, stopped: asyncio.Event) -> None:
        """Write until asked to stop, then write the rest, for a bounded time."""
        while not stopped.is_set():
            await stopped_within(stopped, _EVERY_S)
            if not stopped.is_set():
                await self.write()
        await self.close()

    async def close(self) -> None:
        """Write the rest, for a bounded time; what is left is lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self.write()
        if self._queue:
            self._lose(len(self._queue), "the process ended")
            self._queue.clear()
        self._reported_at = float("-inf")
        # A short command has its own error to report, and these need not hide it.
        self._report(logging.INFO)

    async def write(self) -> None:
        """Write what is queued, unless the log did not take a batch just now."""
        while self._queue and self._clock.monotonic() >= self._silent_until:
            taken = min(len(self._queue), _BATCH)
            batch = [self._queue.popleft() for _ in range(taken)]
            parts = list(encode_events(self._process, batch))
            records = [Record(self._topic, value, []) for value, _ in parts]
            try:
                answers = await self._log.append(records, timeout_s=_APPEND_S)
            except asyncio.CancelledError:
                self._lose(len(batch), "the process ended")
                raise
            except ShifterError as error:
                self._failed(len(batch), str(error))
                continue
            for (_, count), answer in zip(parts, answers, strict=True):
                self._answered(count, answer)
        self._report()

    def _answered(self, count: int, answer: AppendAnswer) -> None:
        if isinstance(answer, Appended):
            self._counted(WRITTEN, count)
            return
        why = answer.detail
        if isinstance(answer, Refused):
            why = f"{answer.reason}: {why}"
        self._failed(count, why)

    def _failed(self, count: int, why: str) -> None:
        self._silent_until = self._clock.monotonic() + _PAUSE_S
        self._lose(count, why)

    def _lose(self, count: int, why: str) -> None:
        self._lost += count
        self._why = why
        self._counted(LOST, count)

    def _report(self, level: int = logging.WARNING) -> None:
        """Count what found no room, and write a line about what was lost."""
        if self._refused:
            with self._full_lock:
                refused, self._refused = self._refused, 0
            self._lose(refused, self._why or "the queue was full")
        now = self._clock.monotonic()
        if self._lost and now >= self._reported_at + _REPORT_S:
            facts = {"count": self._lost, "detail": self._why}
            self._lines.write(level, Event.EVENTS_LOST, **facts)
            self._lost, self._why, self._reported_at = 0, "", now


class ServiceEvents:
    """The events of a service, written by a thread that starts with the first one.

    Safe to share between threads. A forked child starts a thread of its own.

    Args:
        stream: Of this process.
        prepare: Called before the thread starts, in the thread that starts it.
    """

    def __init__(self, stream: JobEventStream, prepare: Callable[[], None]) -> None:
        self._stream, self._prepare = stream, prepare
        self.is_all = stream.is_all
        self._begin()
        renew_in_child(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._thread: BackgroundLoop | None = None
        self._is_closed = False

    def put(self, event: JobEvent) -> None:
        """Queue an event, or count it as lost; never blocks, never raises."""
        self._stream.put(event)
        if self._thread is None:
            self._start()

    def close(self) -> None:
        """Write what is queued, for a bounded time, and stop."""
        with self._lock:
            self._is_closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop(2 * _END_S)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._prepare()
                thread = BackgroundLoop(self._stream.serve, name="shifter-events")
                thread.start()
                self._thread = thread
