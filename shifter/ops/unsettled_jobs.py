"""Jobs that wait or run now, as their lanes and the claim store have them.

A lane has a record of each job that waits in it or runs from it. The first records of
each lane are read, up to a stated number, and the state store is asked which of them
run. Records are untrusted: their texts are made printable and bounded here.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from shifter.errors import WireError
from shifter.model.claim import JobState, JobStatus
from shifter.model.job import made_ms
from shifter.model.lane import parse_lane
from shifter.ports import Delivery, LaneDepth, LogAdmin
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import read_headers
from shifter.wire.job_event import EventKind, WaitCause, shown_text

_MOST: Final = 1_000
"""Records that are read of each lane, and delayed ones of each."""
_ASKED_MOST: Final = 5_000
"""Jobs about which the state store is asked, the first ones of all lanes in turn."""
_AT_ONCE: Final = 50
"""Questions to the state store that are under way at once."""
_SCANNED_MOST: Final = 20_000
"""Records that are read of a lane to find one job."""
_BEFORE_MS: Final = 2_000
_AFTER_MS: Final = 15_000
"""A service waits 10 s for the log by default (``accept_timeout``)."""

_WAITS: Final = (EventKind.WAITING, EventKind.RETRYING)

StatusOf: TypeAlias = Callable[[str], Awaitable[JobStatus | None]]
"""Tells the state of a job by its id; ``None`` where none is recorded."""


class UnsettledJob(NamedTuple):
    """A job that waits or runs; texts are printable and bounded.

    Attributes:
        job_id: Its id.
        job: Name of its type.
        queue: Queue of its lane.
        priority: Priority of its lane.
        state: Waiting or running.
        attempt: The attempt that runs, or those that were started; 0 if none was.
        at_ms: When its attempt began, or when it came to its lane.
        worker: The worker that runs it; empty if it waits.
        due_ms: When it may start, if it is delayed; else 0.
        created_ms: When it was submitted; ``None`` if its record does not tell.
    """

    job_id: str
    job: str
    queue: str
    priority: str
    state: JobState
    attempt: int
    at_ms: int
    worker: str
    due_ms: int
    created_ms: int | None


class _Record(NamedTuple):
    """A record of a lane; ``due_ms`` is 0 where it is not delayed."""

    lane: str
    delivery: Delivery
    due_ms: int


class UnsettledJobs(NamedTuple):
    """Jobs that wait or run.

    Attributes:
        jobs: In the order of their lanes.
        left_out: How many records of the lanes are not among them.
    """

    jobs: list[UnsettledJob]
    left_out: int


async def read_unsettled(
    admin: LogAdmin, namespace: str, queue: str | None, status: StatusOf | None
) -> UnsettledJobs:
    """The first jobs of all lanes, and delayed ones.

    Args:
        admin: Admin of the log.
        namespace: Namespace of the jobs.
        queue: Only jobs of this queue; ``None`` for any.
        status: Tells which of them run; ``None`` where there is no state store.

    Raises:
        StoreError: The log or the state store does not answer.
    """
    lanes = await _lanes(admin, namespace, queue)
    depths = await admin.depths(lanes)
    total = sum(depth.waiting + (depth.delayed or 0) for depth in depths)
    records = await _first_of(admin, depths)
    jobs = _in_turn([job for record in records if (job := _job_of(record))])
    left_out = max(0, total - min(len(records), _ASKED_MOST))
    jobs = jobs[:_ASKED_MOST]
    if status is not None:
        jobs = [job async for job in _with_states(jobs, status)]
    return UnsettledJobs(jobs, left_out)


async def find_job(
    admin: LogAdmin, namespace: str, job_id: str, now: JobStatus | None
) -> UnsettledJob | None:
    """The job of a record that waits in a lane, or whose job runs; else ``None``.

    It is looked for among the first records of each lane. A job that is known to wait
    or run, and whose id tells when it was made, is also looked for among the records
    that were appended then.

    Args:
        admin: Admin of the log.
        namespace: Namespace of the job.
        job_id: Its id, in the canonical spelling.
        now: Its state; ``None`` where that is not known.

    Raises:
        StoreError: The log does not answer.
    """
    if now is not None and now.state.is_terminal:
        return None
    lanes = await _lanes(admin, namespace, None)
    for record in await _first_of(admin, await admin.depths(lanes)):
        if (job := _job_of(record)) is not None and job.job_id == job_id:
            return job
    made = made_ms(job_id)
    if now is None or made is None:
        return None
    for lane in lanes:
        if (job := await _appended(admin, lane, job_id, made)) is not None:
            return job
    return None


async def _appended(
    admin: LogAdmin, lane: str, job_id: str, made: int
) -> UnsettledJob | None:
    """The job of a record that was appended to a lane when its id was made."""
    spans = await admin.spans(
        lane, since_ms=max(0, made - _BEFORE_MS), until_ms=made + _AFTER_MS
    )
    left = _SCANNED_MOST
    async for deliveries in admin.scan(lane, spans):
        for delivery in deliveries:
            record = _Record(lane, delivery, 0)
            if (job := _job_of(record)) is not None and job.job_id == job_id:
                return job
        left -= len(deliveries)
        if left <= 0:
            break
    return None


def add_now(
    story: list[dict[str, Any]], place: UnsettledJob | None, status: JobStatus | None
) -> None:
    """Add to the history of a job what no event tells yet.

    That is the acceptance and the wait of a job whose record is in a lane, and the
    attempt that runs, of which events tell at its end.

    Args:
        story: In order of time; added to.
        place: The job, if its record is in a lane.
        status: Its state, if that is known.
    """
    is_running = status is not None and status.state is JobState.RUNNING
    if place is not None:
        lane = {"job": place.job, "queue": place.queue, "priority": place.priority}
        has_begun = any(entry["event"] == EventKind.SUBMITTED for entry in story)
        if place.created_ms is not None and not has_begun:
            begun = {"at_ms": place.created_ms, "event": EventKind.SUBMITTED.value}
            story.insert(0, begun | lane)
        # An event has told of a wait that is not its first one.
        if not is_running and (not story or story[-1]["event"] not in _WAITS):
            story.append(_wait(place) | lane)
    if status is not None and is_running:
        at_ms = status.updated_ms if status.started_ms is None else status.started_ms
        story.append(
            {
                "at_ms": at_ms,
                "event": EventKind.STARTED.value,
                "attempt": status.attempt,
                "process": shown_text(status.owner or ""),
            }
        )


def _wait(place: UnsettledJob) -> dict[str, Any]:
    entry: dict[str, Any] = {"at_ms": place.at_ms, "event": EventKind.WAITING.value}
    if not place.due_ms:
        return entry | {"cause": WaitCause.QUEUE.value}
    # Before its first attempt it waits for what its caller asked for, or for a window.
    cause = {"cause": WaitCause.RETRY.value} if place.attempt else {}
    return entry | cause | {"until_ms": place.due_ms}


async def _first_of(admin: LogAdmin, depths: Sequence[LaneDepth]) -> list[_Record]:
    """The first records of lanes, and the delayed ones that are due first."""
    records: list[_Record] = []
    for depth in depths:
        lane = depth.topic
        # The count is unknown where counting took too long.
        if depth.waiting or depth.delayed != 0:
            found = await admin.peek(lane, _MOST)
            records += [_Record(lane, delivery, 0) for delivery in found.waiting]
            records += [_Record(lane, one, due_ms) for due_ms, one in found.delayed]
    return records


async def _lanes(admin: LogAdmin, namespace: str, queue: str | None) -> list[str]:
    found = [parse_lane(topic) for topic in await admin.topics()]
    return [
        lane.name
        for lane in found
        if lane is not None
        and lane.namespace == namespace
        and queue in (None, lane.queue)
    ]


def _job_of(record: _Record) -> UnsettledJob | None:
    """The job of a record; ``None`` if its envelope cannot be read."""
    lane = parse_lane(record.lane)
    try:
        envelope: EnvelopeV1 = read_headers(record.delivery.headers).envelope
    except WireError:
        return None
    if lane is None:
        return None
    return UnsettledJob(
        envelope.id,
        shown_text(envelope.type),
        lane.queue,
        lane.priority.value,
        JobState.WAITING,
        envelope.attempt - 1,
        record.delivery.appended_ms or envelope.created_ms or 0,
        "",
        record.due_ms,
        envelope.created_ms,
    )


def _in_turn(jobs: Sequence[UnsettledJob]) -> list[UnsettledJob]:
    """The same jobs, the first of each lane before the second of any."""
    by_lane: dict[tuple[str, str], list[UnsettledJob]] = {}
    for job in jobs:
        by_lane.setdefault((job.queue, job.priority), []).append(job)
    rounds = itertools.zip_longest(*by_lane.values())
    return [job for each in rounds for job in each if job is not None]


async def _with_states(
    jobs: Sequence[UnsettledJob], status: StatusOf
) -> AsyncGenerator[UnsettledJob]:
    """The jobs that have not ended meanwhile, with their states."""
    for at in range(0, len(jobs), _AT_ONCE):
        part = jobs[at : at + _AT_ONCE]
        found = await asyncio.gather(*(status(job.job_id) for job in part))
        for job, state in zip(part, found, strict=True):
            if state is None:
                yield job
            elif state.state is JobState.RUNNING:
                at_ms = state.started_ms or state.updated_ms
                worker = shown_text(state.owner or "")
                yield job._replace(
                    state=state.state,
                    attempt=state.attempt,
                    at_ms=at_ms,
                    worker=worker,
                )
            elif not state.state.is_terminal:
                yield job
