"""A week of jobs, made of the recorded hour.

No day of these two services is recorded, so a day is the recorded hour, stretched: each
of its 57 whole minutes is played 25 or 26 times in a row, each time turned by a random
part of the minute, so that bursts within a minute stay as they were and do not come in
step. The load of a minute, its mix and each job's service time are the recorded ones.
At weekends every second job is left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from examples.inference.trace import Arrival

DAY_S: Final = 86_400
_FIRST, _MINUTES = 1, 57  # the first and the last minute were not recorded whole
_OF_DAY: Final = 1_440
_WEEKDAYS: Final = 5


class Job(NamedTuple):
    """One job.

    Attributes:
        at_s: When it is submitted, seconds since the week began.
        service_s: Seconds for which it keeps a slot busy.
        is_low: Whether it is LOW work, which has time, or HIGH.
    """

    at_s: float
    service_s: float
    is_low: bool


def jobs_of_day(arrivals: list[Arrival], day: int) -> Iterator[Job]:
    """The jobs of a day, in order.

    Args:
        arrivals: The recorded hour.
        day: Days since the week began on a Monday, >= 0.
    """
    rng = random.Random(day)
    recorded = _by_minute(arrivals)
    is_weekend = day % 7 >= _WEEKDAYS
    for minute in range(_OF_DAY):
        at_s, turn_s = day * DAY_S + minute * 60.0, rng.random() * 60
        found = sorted(
            Job(at_s + (offset_s + turn_s) % 60, service_s, is_low)
            for offset_s, service_s, is_low in recorded[minute * _MINUTES // _OF_DAY]
        )
        yield from found[::2] if is_weekend else found


def _by_minute(arrivals: list[Arrival]) -> list[list[Job]]:
    found: list[list[Job]] = [[] for _ in range(_MINUTES)]
    for one in arrivals:
        minute = int(one.at_s // 60) - _FIRST
        if 0 <= minute < _MINUTES:
            job = Job(one.at_s % 60, one.service_s, one.job == "complete")
            found[minute].append(job)
    return found
