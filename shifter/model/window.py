"""When a job may run: hours of the week by a zone's wall clock, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo

DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN = 1_440


@dataclass(frozen=True, slots=True)
class WeeklyWindow:
    """One span of the day, on some days of the week.

    A span past midnight belongs to the day it opens on.

    Attributes:
        open_min: Minute of the day it opens, 0-1439.
        close_min: Minute it closes, itself excluded; more than ``open_min``, up to a
            day later.
        days: Days it opens on, 0 for Monday; never empty.
        zone: Whose wall clock is meant.
        text: As it was written, for messages.
    """

    open_min: int
    close_min: int
    days: frozenset[int]
    zone: tzinfo
    text: str


@dataclass(frozen=True, slots=True)
class LaneRule:
    """When a lane is drained.

    Attributes:
        windows: Only while one of them is open; always if there are none.
        is_opportunistic: Only while the fleet is idle.
    """

    windows: tuple[WeeklyWindow, ...] = ()
    is_opportunistic: bool = False
