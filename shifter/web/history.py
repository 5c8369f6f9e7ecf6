"""What earlier readings showed: sums for a chart."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from shifter.ops.status import Overview

_KEPT: Final = 600
"""Readings that a chart can show."""


class Point(NamedTuple):
    """The sums of one reading, for a chart.

    Attributes:
        at_ms: Epoch milliseconds.
        waiting: Records that wait, in all lanes.
        delayed: Records that wait for their due time.
        running: Attempts that run.
        rate_per_s: Jobs that end a second.
        dead: Dead letters to be handled.
        shed: Jobs that services have shed since they began.
    """

    at_ms: int
    waiting: int
    delayed: int
    running: int
    rate_per_s: float
    dead: int
    shed: int


class History:
    """What earlier readings of this process showed; bounded."""

    def __init__(self) -> None:
        self.points: deque[Point] = deque(maxlen=_KEPT)

    def note(self, overview: Overview) -> None:
        """Add a reading."""
        self.points.append(_point(overview))


def _point(overview: Overview) -> Point:
    lanes, admission = overview.lanes, overview.admission
    return Point(
        at_ms=overview.as_of_ms,
        waiting=sum(lane.waiting for lane in lanes),
        delayed=sum(lane.delayed or 0 for lane in lanes),
        running=sum(lane.running or 0 for lane in lanes),
        rate_per_s=round(sum(lane.rate_per_s or 0.0 for lane in lanes), 2),
        dead=sum(row.count for row in overview.dead_letters),
        shed=0 if admission is None else sum(admission.shed.values()),
    )
