"""Execution windows: when they are open, and when a job of one lane may start.

A window is a span between two instants: the first at which a zone's wall clock reaches
its opening time, and the last at which it reaches its closing time. If the clock jumps
over one of them, it is reached at the jump; if an hour comes twice, the window opens
with the first and closes with the second, so that it never opens twice in a night.
Zones are arguments: this module reads no files.

A job starts while a window of its own *and* a window of its lane are open; without
windows, a job or a lane is always open. An operator may override either for a while,
for a queue, for one of its lanes or for a type of job. If two overrides contradict each
other, *closed* wins, since a start cannot be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, NamedTuple, TypeAlias

from shifter.model.job import DAY_MIN, WeeklyWindow
from shifter.model.time import EpochMs

Windows: TypeAlias = Sequence[WeeklyWindow]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_WEEK_MIN: Final = 7 * DAY_MIN
_AHEAD_DAYS: Final = 9
"""A window of one day a week opens within eight days, and one was yesterday."""

_TURNS: Final = 64
"""Two sets of hours that meet at all do so within a few weeks."""
_JANUARY_MS: Final = EpochMs(1_767_571_200_000)
"""2026-01-05, a Monday: winter time in the north, summer time in the south."""

_JULY_MS: Final = EpochMs(1_783_296_000_000)
"""2026-07-06, a Monday: the other half of the year."""

_WEEK_MS: Final = 8 * 86_400_000
"""A week and a day: a window that is open on the first day is seen to close."""


class HoursOverride(NamedTuple):
    """An operator's override of windows.

    Attributes:
        is_open: Whether every job may start; else none may.
        until_ms: When the override ends, excluded; epoch milliseconds.
    """

    is_open: bool
    until_ms: int


def opening_ms(
    windows: Sequence[Windows], by_hand: Sequence[HoursOverride], now: EpochMs
) -> EpochMs:
    """The first instant from now on at which a job may start.

    Args:
        windows: Those of the job and of its lane; all of them must be open.
        by_hand: Overrides of operators; those that have ended do not count.
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


def is_open(windows: Sequence[WeeklyWindow], now: EpochMs) -> bool:
    """Whether one of them is open; always without windows."""
    return not windows or any(
        opens <= now < closes
        for window in windows
        for opens, closes in _spans(window, now, days=2)
    )


def next_opening_ms(windows: Sequence[WeeklyWindow], now: EpochMs) -> EpochMs:
    """The first instant from now on at which one of them is open.

    Args:
        windows: May be empty: always open.
        now: Wall clock.

    Returns:
        ``now`` while one is open; else an instant within eight days.

    Pure.
    """
    if is_open(windows, now):
        return now
    return EpochMs(
        min(
            opens
            for window in windows
            for opens, closes in _spans(window, now, days=_AHEAD_DAYS)
            if opens > now and closes > opens
        )
    )


def overlap(windows: Sequence[WeeklyWindow]) -> tuple[str, str] | None:
    """The texts of two windows that are open at once, or of different zones.

    Windows of one job are meant to add up; two that overlap, or that follow different
    clocks, are taken for a mistake.
    """
    for number, first in enumerate(windows):
        for second in windows[number + 1 :]:
            if first.zone != second.zone or _meet(first, second):
                return first.text, second.text
    return None


def _meet(first: WeeklyWindow, second: WeeklyWindow) -> bool:
    return any(
        a < d + shift and c + shift < b
        for a, b in _weekly(first)
        for c, d in _weekly(second)
        for shift in (-_WEEK_MIN, 0, _WEEK_MIN)
    )


def _weekly(window: WeeklyWindow) -> Iterable[tuple[int, int]]:
    for day in window.days:
        yield day * DAY_MIN + window.open_min, day * DAY_MIN + window.close_min


def _spans(
    window: WeeklyWindow, now: EpochMs, *, days: int
) -> Iterable[tuple[int, int]]:
    """Spans that open from yesterday on, as instants."""
    today = (_EPOCH + now * _MS).astimezone(window.zone).date()
    for ahead in range(-1, days):
        day = today + timedelta(days=ahead)
        if day.weekday() in window.days:
            yield (
                _reached(day, window.open_min, window.zone, fold=0),
                _reached(day, window.close_min, window.zone, fold=1),
            )


def _reached(day: date, minute: int, zone: tzinfo, *, fold: int) -> int:
    """When the zone's clock reaches a minute; epoch milliseconds."""
    more_days, rest = divmod(minute, DAY_MIN)
    start = datetime(day.year, day.month, day.day) + timedelta(days=more_days)  # noqa: DTZ001  # a wall clock's
    local = start + timedelta(minutes=rest)
    instant = local.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None, fold=0) != local:
        instant = _jump(local, zone)
    return (instant - _EPOCH) // _MS


def _jump(local: datetime, zone: tzinfo) -> datetime:
    """When a clock that jumps over a time does so."""
    # Read with the offset after the jump a skipped time lies before it, and the other
    # way round; the jump is the first minute that reads as later than what it skipped.
    before = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    after = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    while after - before > timedelta(minutes=1):
        middle = before + (after - before) // 2
        middle = middle.replace(second=0, microsecond=0)
        if middle.astimezone(zone).replace(tzinfo=None) < local:
            before = middle
        else:
            after = middle
    return after
