"""Reads the history of a job and lists of jobs: events, lanes, and the state store."""

from __future__ import annotations

from typing import Final

from shifter.model.claim import JobState, JobStatus
from shifter.model.job import canonical_id, made_ms
from shifter.ops.event_scan import NEWEST, EventScan, OnProgress, ScanLimit
from shifter.ops.job_history import (
    JobFilter,
    JobHistory,
    JobList,
    ListedJob,
    story_of,
)
from shifter.ops.unsettled_jobs import (
    StatusOf,
    add_now,
    find_job,
    read_unsettled,
)
from shifter.ports import Clock, LogAdmin
from shifter.wire.job_event import JobEvent

_AHEAD_MS: Final = 600_000
"""How far the clocks of the processes of a fleet may differ."""
_JOBS_MOST: Final = 200_000
"""Jobs that are distinguished in one list; about 100 MB."""


class JobReader:
    """Reads what happened to jobs, and which of them wait or run now.

    Args:
        admin: Admin of the log.
        namespace: Namespace of the jobs.
        clock: Tells the time, and measures the time that a reading takes.
        limit: How many events are read at most.
        on_progress: Called after each batch of events.
        status: Tells the state of a job by its id; without it, jobs that run now are
            not distinguished from those that wait.
    """

    def __init__(  # one keyword a part
        self,
        admin: LogAdmin,
        namespace: str,
        clock: Clock,
        *,
        limit: ScanLimit = NEWEST,
        on_progress: OnProgress | None = None,
        status: StatusOf | None = None,
    ) -> None:
        self._admin, self._namespace, self._clock = admin, namespace, clock
        self._limit, self._on_progress, self._status = limit, on_progress, status

    async def history(self, job_id: str, now: JobStatus | None = None) -> JobHistory:
        """What happened to one job, where it waits, and the attempt that runs.

        Args:
            job_id: Its id, in the canonical spelling.
            now: Its state; ``None`` where that is not known.

        Raises:
            StoreError: The log does not answer.
        """
        found = await self.recorded(job_id)
        place = await find_job(self._admin, self._namespace, job_id, now)
        add_now(found.story, place, now)
        return found._replace(is_waiting=place is not None)

    async def recorded(self, job_id: str) -> JobHistory:
        """What the events tell of one job.

        Args:
            job_id: Its id, in the canonical spelling.

        Raises:
            StoreError: The log does not answer.
        """
        made = made_ms(job_id)
        since_ms = None if made is None else max(0, made - _AHEAD_MS)
        if made is not None and made > self._clock.epoch_ms() + _AHEAD_MS:
            # The clock that made the id is wrong, so its time shows no place.
            since_ms = None
        scan = self._scan()
        mark, found = job_id.encode(), list[tuple[str, JobEvent]]()
        async for process, events in scan.batches(since_ms, containing=mark):
            found += [
                (process, event)
                for event in events
                if job_id in (event.id, event.replay_of)
            ]
        return JobHistory(job_id, story_of(job_id, found), scan.extent)

    async def jobs(self, wanted: JobFilter) -> JobList:
        """The jobs that a filter selects, newest first.

        Args:
            wanted: The filter.

        Raises:
            StoreError: The log or the state store does not answer.
        """
        since_ms = max(0, self._clock.epoch_ms() - wanted.since_ms)
        scan = self._scan()
        jobs: dict[str, ListedJob] = {}
        async for _, events in scan.batches(since_ms):
            for event in events:
                if event.at_ms < since_ms or canonical_id(event.id) != event.id:
                    continue
                found = jobs.get(event.id)
                if found is None:
                    if len(jobs) >= _JOBS_MOST:
                        continue
                    found = jobs[event.id] = ListedJob(event.id)
                found.note(event)
        left_out = 0
        if wanted.state in (None, JobState.WAITING, JobState.RUNNING):
            left_out = await self._add_unsettled(jobs, wanted.queue)
        fitting = [job for job in jobs.values() if job.fits(wanted)]
        fitting.sort(key=ListedJob.place, reverse=True)
        is_cut = len(fitting) > wanted.limit
        return JobList(fitting[: wanted.limit], is_cut, scan.extent, left_out)

    def _scan(self) -> EventScan:
        return EventScan(
            self._admin, self._namespace, self._clock, self._limit, self._on_progress
        )

    async def _add_unsettled(
        self, jobs: dict[str, ListedJob], queue: str | None
    ) -> int:
        """Add the jobs that wait or run now; how many of them were left out."""
        unsettled = await read_unsettled(
            self._admin, self._namespace, queue, self._status
        )
        for job in unsettled.jobs:
            found = jobs.setdefault(job.job_id, ListedJob(job.job_id))
            found.job, found.queue, found.priority = job.job, job.queue, job.priority
            found.state, found.worker = job.state.value, job.worker
            found.attempt = max(found.attempt, job.attempt)
            found.at_ms, found.due_ms = max(found.at_ms, job.at_ms), job.due_ms
        return unsettled.left_out
