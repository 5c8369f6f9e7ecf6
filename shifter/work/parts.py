"""What a drain is made of, and how far it says it has come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from shifter.fleet.hours import Hours
from shifter.fleet.replica import FleetReplica
from shifter.model.lane import Lane
from shifter.model.priority import Priority
from shifter.policy.schedule.lane_choice import LaneChoicePolicy
from shifter.ports import ClaimStore, Clock, DelayMover, LaneFeed
from shifter.work.attempt import Attempt
from shifter.work.executor import ProcessRunner
from shifter.work.item import Runnable
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
        ledger: Hears what happened.
        board: What is known of dependencies; ``None``: this process goes by itself.
        hours: Of lanes and jobs; ``None``: what the jobs say.
        mover: Moves delayed records, if somebody has to.
        waiting_bytes: What may wait here, fetched and not started, about; > 0.
        choice: How slots are shared; ``None``: by the usual weights.
        grace_ms: How long a job waits for a worker that knows its type and fields.
    """

    feeds: Mapping[Priority, LaneFeed]
    lanes: Mapping[str, Lane]
    jobs: Mapping[str, Runnable]
    claims: ClaimStore
    clock: Clock
    processes: ProcessRunner | None
    ledger: JobObserver
    board: FleetReplica | None = None
    hours: Hours | None = None
    mover: DelayMover | None = None
    grace_ms: int = 900_000
    waiting_bytes: int = WAITING_BYTES
    choice: LaneChoicePolicy | None = None


class DrainProgress(NamedTuple):
    """How far a drain has come, for whoever moves its clock by hand.

    Attributes:
        goes_on: Whether it has something to do without any time passing.
        attempts: What runs.
        next_at: When time alone will change something, monotonic; ``None`` never.
    """

    goes_on: bool
    attempts: list[Attempt]
    next_at: float | None
