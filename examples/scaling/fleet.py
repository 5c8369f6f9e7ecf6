"""Workers that come and go, in virtual time: the same fleet for every autoscaler.

A worker is a process with some slots. One that is asked for has its slots after the
start-up time and costs from the moment it is asked for. HIGH jobs go first; nothing
runs in a slot that is left, and jobs that run end. LOW jobs call a dependency; while
its circuit is open they stay in the queue.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from examples.scaling.day import Job

EVERY_S: Final = 15
"""Seconds between two decisions: the sync period of Kubernetes' autoscaler."""
IN_TIME_S: Final = (1.0, 1_800.0)
"""Within how many seconds a HIGH job and a LOW one must start."""


class Class(NamedTuple):
    """One priority, as an autoscaler may measure it.

    Attributes:
        waiting: Jobs that wait.
        running: Jobs that run.
        ended: Jobs that ended since the reading before.
        busy_s: Seconds of slots that they used since then.
        left_s: Seconds until the first one that waits is late; ``None`` without one.
    """

    waiting: int
    running: int
    ended: int
    busy_s: float
    left_s: float | None


class Reading(NamedTuple):
    """The fleet at one moment.

    Attributes:
        now_s: Seconds since the week began.
        ready: Workers that have their slots.
        starting: Workers that start.
        high: HIGH jobs.
        low: LOW jobs.
        is_down: Whether the circuit of the dependency of LOW jobs is open.
    """

    now_s: float
    ready: int
    starting: int
    high: Class
    low: Class
    is_down: bool

    @property
    def workers(self) -> int:
        """Workers that were asked for."""
        return self.ready + self.starting


class Minute(NamedTuple):
    """The end of one minute: workers, busy slots, and jobs that wait."""

    workers: float
    busy: float
    waiting_high: int
    waiting_low: int


class Outcome(NamedTuple):
    """What one autoscaler led to.

    Attributes:
        offered: HIGH and LOW jobs.
        late: Those of them that started late.
        worker_hours: Hours of workers, from the moment they were asked for.
        changes: How often the number changed.
        wasted_s: While the dependency was down, seconds of workers in which they had
            nothing to do.
        scale_outs_down: While it was down, workers that were added.
        minutes: For a picture.
    """

    offered: tuple[int, int]
    late: tuple[int, int]
    worker_hours: float
    changes: int
    wasted_s: float
    scale_outs_down: int
    minutes: list[Minute]


Autoscaler = Callable[[Reading], int]


class Fleet:
    """One fleet under one autoscaler.

    Args:
        slots: Of each worker, >= 1.
        start_up_s: Seconds until a worker that is asked for has its slots.
        autoscaler: Says how many workers there should be, every `EVERY_S`.
        outages: When the circuit of LOW jobs is open: begin and end, seconds.
        workers: How many there are at the beginning.
    """

    def __init__(
        self,
        slots: int,
        start_up_s: float,
        autoscaler: Autoscaler,
        outages: Iterable[tuple[float, float]] = (),
        workers: int = 1,
    ) -> None:
        self._slots, self._start_up_s = slots, start_up_s
        self._autoscaler, self._outages = autoscaler, tuple(outages)
        self._ready = workers
        self._starting: deque[float] = deque()
        self._queues: tuple[deque[Job], deque[Job]] = (deque(), deque())
        self._running: list[tuple[float, float, bool]] = []
        self._busy = [0, 0]
        self._ended, self._busy_s = [0, 0], [0.0, 0.0]
        self._offered, self._late = [0, 0], [0, 0]
        self._worker_s = self._wasted_s = 0.0
        self._changes = self._scale_outs_down = 0
        self._minutes: list[Minute] = []
        self._now = 0.0

    def play(self, jobs: Iterable[Job], seconds: float) -> Outcome:
        """Play jobs, in order, for some time."""
        coming = iter(jobs)
        job = next(coming, None)
        while self._now < seconds:
            until = self._now + EVERY_S
            while job is not None and job.at_s < until:
                self._run_until(job.at_s)
                self._offered[job.is_low] += 1
                self._queues[job.is_low].append(job)
                self._start_jobs(job.at_s)
                job = next(coming, None)
            self._run_until(until)
            self._decide(until)
        return Outcome(
            offered=(self._offered[0], self._offered[1]),
            late=(self._late[0], self._late[1]),
            worker_hours=self._worker_s / 3_600,
            changes=self._changes,
            wasted_s=self._wasted_s,
            scale_outs_down=self._scale_outs_down,
            minutes=self._minutes,
        )

    def _is_down(self, now: float) -> bool:
        return any(begin <= now < end for begin, end in self._outages)

    def _run_until(self, now: float) -> None:
        """Let jobs end and start."""
        while self._running and self._running[0][0] <= now:
            at_s, began_s, is_low = heapq.heappop(self._running)
            self._busy[is_low] -= 1
            self._ended[is_low] += 1
            self._busy_s[is_low] += at_s - max(began_s, self._now)
            self._start_jobs(at_s)

    def _start_jobs(self, now: float) -> None:
        free = self._ready * self._slots - len(self._running)
        if free <= 0:
            return
        high, low = self._queues
        while free > 0 and (high or (low and not self._is_down(now))):
            job = (high or low).popleft()
            self._late[job.is_low] += now - job.at_s > IN_TIME_S[job.is_low]
            self._busy[job.is_low] += 1
            entry = now + job.service_s, now, job.is_low
            heapq.heappush(self._running, entry)
            free -= 1

    def _decide(self, now: float) -> None:
        """Account for the time since the last decision, and make the next one."""
        for _, began_s, is_low in self._running:
            self._busy_s[is_low] += now - max(began_s, self._now)
        self._account(now)
        while self._starting and self._starting[0] <= now:
            self._starting.popleft()
            self._ready += 1
        before = self._ready + len(self._starting)
        wanted = self._autoscaler(self._reading(now))
        if wanted != before:
            self._changes += 1
            self._resize(wanted, now)
            if wanted > before and self._is_down(now):
                self._scale_outs_down += wanted - before
        self._ended, self._busy_s, self._now = [0, 0], [0.0, 0.0], now
        self._start_jobs(now)

    def _account(self, now: float) -> None:
        workers, busy_s = self._ready + len(self._starting), sum(self._busy_s)
        self._worker_s += workers * EVERY_S
        if self._is_down(now - EVERY_S):
            self._wasted_s += max(0.0, workers * EVERY_S - busy_s / self._slots)
        if now % 60 < EVERY_S:
            sizes = len(self._queues[0]), len(self._queues[1])
            self._minutes.append(Minute(workers, busy_s / EVERY_S, *sizes))

    def _resize(self, wanted: int, now: float) -> None:
        """Workers that start are ended first: they do nothing yet."""
        while self._starting and self._ready + len(self._starting) > wanted:
            self._starting.pop()
        self._ready = min(self._ready, wanted)
        missing = wanted - self._ready - len(self._starting)
        self._starting.extend([now + self._start_up_s] * missing)

    def _reading(self, now: float) -> Reading:
        return Reading(
            now_s=now,
            ready=self._ready,
            starting=len(self._starting),
            high=self._class(0, now),
            low=self._class(1, now),
            is_down=self._is_down(now),
        )

    def _class(self, which: int, now: float) -> Class:
        queue = self._queues[which]
        left_s = queue[0].at_s + IN_TIME_S[which] - now if queue else None
        return Class(
            waiting=len(queue),
            running=self._busy[which],
            ended=self._ended[which],
            busy_s=self._busy_s[which],
            left_s=left_s,
        )
