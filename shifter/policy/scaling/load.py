"""What is measured of a worker group and of its lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Bottleneck(NamedTuple):
    """A dependency that bears no more calls.

    Attributes:
        dependency: Its name.
        by: What refuses them: ``circuit``, ``limit``, ``rate`` or ``budget``.
        is_whole: Whether it keeps all of a lane's jobs from starting. Otherwise it is
            one cause among others, and counts while workers have room to spare.
    """

    dependency: str
    by: str
    is_whole: bool


class LaneLoad(NamedTuple):
    """What is measured of a lane.

    Attributes:
        lane: Its name.
        due: Records that are due and not settled, >= 0; running ones are among them.
        running: Attempts that run, >= 0.
        delayed: Records that wait for their due time, >= 0.
        ended_per_s: Jobs that end a second, >= 0.
        busy: Workers that the lane uses now, >= 0: the sum of its parts of each.
        arrivals_per_s: Jobs that become due a second; ``None`` where that was not
            observed.
        forecast_per_s: Jobs a second that are expected at the time at which a worker
            asked for now has started; ``None`` without history.
        cost_s: What a job of the lane cost before, seconds of one worker; ``None`` if
            that is not known. Used while nothing ends.
        deadline_s: Seconds until the tightest deadline; ``None`` without one.
        opens_s: Seconds until its jobs may start; 0 while they may.
        is_low: Whether its priority is LOW.
        starts_before_s: Of opportunistic work: how close its deadline must be for it
            to start although the fleet is busy; ``None`` for other work.
        partitions: Partitions of its topic; ``None`` where processes share it freely.
        bottleneck: What keeps its jobs from starting; ``None`` if nothing does.
    """

    lane: str
    due: int
    running: int = 0
    delayed: int = 0
    ended_per_s: float = 0.0
    busy: float = 0.0
    arrivals_per_s: float | None = None
    forecast_per_s: float | None = None
    cost_s: float | None = None
    deadline_s: float | None = None
    opens_s: float = 0.0
    is_low: bool = False
    starts_before_s: float | None = None
    partitions: int | None = None
    bottleneck: Bottleneck | None = None


class GroupLoad(NamedTuple):
    """What is measured of a worker group.

    Attributes:
        name: Its name.
        workers: Live workers, >= 0.
        lead_s: Seconds that a new worker takes to its first job, >= 0.
        lanes: Its lanes.
        fires_s: Seconds until the next cron job of the group fires, for which a worker
            must run; ``None`` without one.
    """

    name: str
    workers: int
    lead_s: float
    lanes: Sequence[LaneLoad]
    fires_s: float | None = None
