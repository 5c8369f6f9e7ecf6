"""How many jobs become due a second: observed now, and on earlier days at this hour.

A job that becomes due is in the next reading's ``due``, or it has ended meanwhile. The
rate is smoothed, since a reading is a sample. What is expected is the mean of the same
hour of earlier days, newer days with more weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

_SMOOTHING_S: Final = 30.0
"""Time constant of the smoothing; the default target."""
_LONGEST_S: Final = 600.0
"""Two readings further apart say nothing about the rate between them."""
_DAY_WEIGHT: Final = 0.5
_HOUR_MS: Final = 3_600_000
_HOURS: Final = 24
_LEAST_S: Final = 1_800.0
"""An hour is learnt from if half of it was observed."""


class Arrivals(NamedTuple):
    """What was observed of a lane.

    Attributes:
        at_s: When, monotonic seconds.
        due: Records that were due then.
        per_s: Jobs that become due a second, smoothed; ``None`` after one reading.
    """

    at_s: float
    due: int
    per_s: float | None = None


def observe_arrivals(
    before: Arrivals | None, *, due: int, ended_per_s: float, now_s: float
) -> Arrivals:
    """The state after a reading.

    Args:
        before: The state so far; ``None`` before the first reading.
        due: Records that are due, >= 0.
        ended_per_s: Jobs that end a second, >= 0.
        now_s: Monotonic seconds. A clock that went back begins anew.

    Pure.
    """
    if before is None or not 0 < now_s - before.at_s <= _LONGEST_S:
        is_same = before is not None and now_s == before.at_s
        return before if before is not None and is_same else Arrivals(now_s, due)
    passed_s = now_s - before.at_s
    per_s = max(0.0, (due - before.due) / passed_s + ended_per_s)
    if before.per_s is not None:
        weight = passed_s / (passed_s + _SMOOTHING_S)
        per_s = before.per_s + weight * (per_s - before.per_s)
    return Arrivals(now_s, due, per_s)


class HourlyRates(NamedTuple):
    """Jobs that became due a second, by hour of the day in UTC.

    Attributes:
        means: Of earlier days, by hour.
        hour: The hour that is being observed, counted from the epoch.
        seconds: How much of it was observed.
        jobs: Jobs that became due in it.
    """

    means: Mapping[int, float] = {}
    hour: int = 0
    seconds: float = 0.0
    jobs: float = 0.0


def learn_hour(
    rates: HourlyRates, *, per_s: float, passed_s: float, now_ms: int
) -> HourlyRates:
    """The rates after an observation; an hour counts once it has ended.

    Args:
        rates: The rates so far.
        per_s: Jobs that become due a second.
        passed_s: Seconds for which that held, >= 0.
        now_ms: Epoch milliseconds; a jump to another hour ends the one observed.

    Pure.
    """
    hour = now_ms // _HOUR_MS
    if hour == rates.hour:
        jobs = rates.jobs + per_s * passed_s
        return rates._replace(seconds=rates.seconds + passed_s, jobs=jobs)
    means = dict(rates.means)
    if rates.seconds >= _LEAST_S:
        mean, of_day = rates.jobs / rates.seconds, rates.hour % _HOURS
        before = means.get(of_day)
        means[of_day] = (
            mean if before is None else before + _DAY_WEIGHT * (mean - before)
        )
    return HourlyRates(means, hour, passed_s, per_s * passed_s)


def expected_per_s(rates: HourlyRates, *, at_ms: int) -> float | None:
    """Jobs a second at an instant, by earlier days; ``None`` without history. Pure."""
    return rates.means.get(at_ms // _HOUR_MS % _HOURS)
