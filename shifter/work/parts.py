"""What a drain is made of, and what it reports about its progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from shifter.fleet.hours import Hours
from shifter.fleet.replica import FleetReplica
from shifter.jobs.registered import RegisteredJob
from shifter.model.lane import Lane, Priority
from shifter.policy.schedule.lane_choice import LaneChoicePolicy
from shifter.ports import ClaimStore, Clock, DelayMover, LaneFeed
from shifter.work.attempt import Attempt
from shifter.work.executor import ProcessRunner
from shifter.work.job_observer import JobObserver

WAITING_BYTES: Final = 64 << 20


class DrainParts(NamedTuple):
    """What a drain is made of; all of it opened by the caller.

    Attributes:
        feeds: One per priority served.
        lanes: Lanes served, by topic.
        jobs: Registered jobs, by name.
        claims: Where "once" is decided.
        clock: Reads and waits.
        processes: For jobs with ``isolate="process"``, if there are any.
        observer: Counts and logs what happens to jobs.
        board: The fleet's state of dependencies; ``None``: this process shares none.
        hours: Execution windows; ``None``: those that the jobs declare.
        mover: Moves delayed records; ``None`` where the log does so by itself.
        waiting_bytes: What may wait here, fetched and not started, about; > 0.
        choice: How slots are shared; ``None``: by the default weights.
        grace_ms: How long a job waits for a worker that has its type and fields.
    """

    feeds: Mapping[Priority, LaneFeed]
    lanes: Mapping[str, Lane]
    jobs: Mapping[str, RegisteredJob]
    claims: ClaimStore
    clock: Clock
    processes: ProcessRunner | None
    observer: JobObserver
    board: FleetReplica | None = None
    hours: Hours | None = None
    mover: DelayMover | None = None
    grace_ms: int = 900_000
    waiting_bytes: int = WAITING_BYTES
    choice: LaneChoicePolicy | None = None


class DrainProgress(NamedTuple):
    """What a drain does now; a test that moves its clock by hand reads it.

    Attributes:
        goes_on: Whether it has something to do without any time passing.
        attempts: What runs.
        next_at: When time alone will change something, monotonic; ``None`` never.
    """

    goes_on: bool
    attempts: list[Attempt]
    next_at: float | None
