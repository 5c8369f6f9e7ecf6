"""What a drain is made of, and how far it says it has come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shifter.fleet.board import FleetBoard
from shifter.fleet.hours import Hours
from shifter.model.lane import Lane
from shifter.model.priority import Priority
from shifter.ports import ClaimStore, Clock, DelayMover, LaneFeed
from shifter.work.attempt import Attempt
from shifter.work.executor import ProcessRunner
from shifter.work.item import Runnable
from shifter.work.ledger import Ledger


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
        grace_ms: How long a job waits for a worker that knows its type and fields.
    """

    feeds: Mapping[Priority, LaneFeed]
    lanes: Mapping[str, Lane]
    jobs: Mapping[str, Runnable]
    claims: ClaimStore
    clock: Clock
    processes: ProcessRunner | None
    ledger: Ledger
    board: FleetBoard | None = None
    hours: Hours | None = None
    mover: DelayMover | None = None
    grace_ms: int = 900_000


class Standing(NamedTuple):
    """How far a drain has come, for whoever moves its clock by hand.

    Attributes:
        goes_on: Whether it has something to do without any time passing.
        attempts: What runs.
        next_at: When time alone will change something, monotonic; ``None`` never.
    """

    goes_on: bool
    attempts: list[Attempt]
    next_at: float | None
