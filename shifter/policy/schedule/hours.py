"""When jobs of one type may start on one lane: its hours, and what somebody set.

A job starts while a window of its own *and* a window of its lane is open; who has none
is always open. Somebody may set either aside for a while, for a queue, for one of its
lanes or for a type of job. Where two say different things, *closed* wins: who closes
has a reason not to go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from shifter.model.time import EpochMs
from shifter.model.window import WeeklyWindow
from shifter.policy.schedule.calendar import is_open, next_opening_ms

Windows: TypeAlias = Sequence[WeeklyWindow]

_TURNS: Final = 64
"""Two sets of hours that meet at all do so within a few weeks."""
_JANUARY_MS: Final = EpochMs(1_767_571_200_000)
"""2026-01-05, a Monday: winter time in the north, summer time in the south."""

_JULY_MS: Final = EpochMs(1_783_296_000_000)
"""2026-07-06, a Monday: the other half of the year."""

_WEEK_MS: Final = 8 * 86_400_000
"""A week and a day: a window that is open on the first day is seen to close."""


class HoursOverride(NamedTuple):
    """Somebody set hours aside.

    Attributes:
        is_open: Whether all may start; else nothing does.
        until_ms: From here on the windows count again; epoch milliseconds.
    """

    is_open: bool
    until_ms: int


def opening_ms(
    windows: Sequence[Windows], by_hand: Sequence[HoursOverride], now: EpochMs
) -> EpochMs:
    """The first instant from now on at which a job may start.

    Args:
        windows: Those of the job and of its lane; all of them must be open.
        by_hand: What somebody set; what is over does not count.
        now: Wall clock.

    Pure.
    """
    at = now
    while closed := [s.until_ms for s in by_hand if not s.is_open and s.until_ms > at]:
        at = EpochMs(max(closed))
    if any(setting.is_open and setting.until_ms > at for setting in by_hand):
        return at
    return joint_opening_ms(windows, at)


def joint_opening_ms(windows: Sequence[Windows], now: EpochMs) -> EpochMs:
    """The first instant from now on at which all of them are open. Pure."""
    at = now
    for _ in range(_TURNS):
        latest = max((next_opening_ms(own, at) for own in windows), default=at)
        if latest == at:
            break
        at = latest
    return at


def ever_meet(first: Windows, second: Windows) -> bool:
    """Whether two sets of hours are ever open at once, in winter or in summer. Pure."""
    if not first or not second:
        return True
    for start in (_JANUARY_MS, _JULY_MS):
        at = joint_opening_ms((first, second), start)
        if at < start + _WEEK_MS and is_open(first, at) and is_open(second, at):
            return True
    return False
