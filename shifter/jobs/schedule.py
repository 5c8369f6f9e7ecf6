"""When a job runs, as people write it: hours of the week, and five fields of cron."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from shifter.errors import ConfigError
from shifter.model.advice import nearest
from shifter.model.job import DAY_MIN, DAY_NAMES, WeeklyWindow
from shifter.model.time import EpochMs
from shifter.policy.schedule.hours import overlap

_TEXT: Final = re.compile(r"([0-2][0-9]):([0-5][0-9])-([0-2][0-9]):([0-5][0-9])\Z")
_WANT: Final = "use HH:MM-HH:MM, such as 22:00-06:00, or 00:00-24:00 for whole days"
_WANT_DAYS: Final = "use days such as mon-fri, sat,sun or daily"


class Window:
    """Hours of the week in which a job may run.

    ``Window("22:00-06:00", tz="Europe/Berlin", days="mon-fri")`` opens on five evenings
    and closes on the mornings after them, by Berlin's wall clock.

    Args:
        text: Opening and closing time; a span past midnight belongs to the day it
            opens on.
        tz: A zone of the IANA database.
        days: ``daily``, a day, a range, or several of these with commas.

    Raises:
        ConfigError: One of the texts cannot be understood, the zone is not known, or
            the window is empty; the error names the text.

    Attributes:
        weekly: The hours as numbers of a week.
    """

    def __init__(self, text: str, *, tz: str = "UTC", days: str = "daily") -> None:
        opens, closes = _times(text)
        shown = f"{text} {days} {tz}"
        self.weekly = WeeklyWindow(opens, closes, _days(days), _zone(tz), shown)

    def __repr__(self) -> str:
        return f"Window({self.weekly.text!r})"


def read_windows(option: str, value: object) -> tuple[WeeklyWindow, ...]:
    """The windows of a job: one, or several that do not overlap.

    Raises:
        ConfigError: Something else was given, or two of them contradict each other.
    """
    given = [value] if isinstance(value, Window) else value
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise ConfigError(option, value, 'use a Window("22:00-06:00"), or some of them')
    if not all(isinstance(window, Window) for window in given):
        raise ConfigError(option, value, 'use a Window("22:00-06:00"), or some of them')
    windows = tuple(window.weekly for window in given)
    if (pair := overlap(windows)) is not None:
        want = f"contradicts {pair[1]!r}: they overlap, or their zones differ"
        raise ConfigError(option, pair[0], want)
    return windows


def _times(text: object) -> tuple[int, int]:
    match = _TEXT.match(text) if isinstance(text, str) else None
    if match is None:
        raise ConfigError("window", text, _WANT)
    first, last = (int(match[n]) * 60 + int(match[n + 1]) for n in (1, 3))
    if first >= DAY_MIN or last > DAY_MIN:
        raise ConfigError("window", text, _WANT)
    if first == last:
        want = "it is empty; whole days are 00:00-24:00"
        raise ConfigError("window", text, want)
    return first, last if last > first else last + DAY_MIN


def _zone(name: object) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(str(name))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        want = nearest(str(name), zoneinfo.available_timezones(), "time zones")
        if len(want) > 200:
            want = "use a name of the IANA database, such as Europe/Berlin"
        raise ConfigError("tz", name, want) from None


def _days(text: object) -> frozenset[int]:
    if text == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in str(text).lower().split(","):
        ends = [end.strip() for end in part.split("-")]
        if len(ends) > 2 or not all(end in DAY_NAMES for end in ends):
            raise ConfigError("days", text, _WANT_DAYS)
        first, last = DAY_NAMES.index(ends[0]), DAY_NAMES.index(ends[-1])
        found |= {
            day % 7 for day in range(first, last + (7 if last < first else 0) + 1)
        }
    return frozenset(found)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def read_cron(option: str, text: object) -> str:
    """Return the text, if it is a cron expression that fires at all.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(text, str) and len(text.split()) == 5:
        try:
            next_firing_ms(text, EpochMs(0))
        except ValueError as error:
            raise ConfigError(option, text, f"{error}; five fields, by UTC") from None
        return text
    raise ConfigError(option, text, "use five fields by UTC, such as '0 3 * * *'")


def next_firing_ms(expression: str, now: EpochMs) -> EpochMs:
    """The first instant after ``now``; epoch milliseconds.

    Raises:
        ValueError: The expression cannot be understood, or never fires.
    """
    from cronsim import CronSim, CronSimError  # noqa: PLC0415  # only where it is used

    try:
        found = next(CronSim(expression, _EPOCH + now * _MS))
    except CronSimError as error:
        raise ValueError(str(error)) from None
    except StopIteration:
        raise ValueError("it never fires") from None
    return EpochMs((found - _EPOCH) // _MS)
