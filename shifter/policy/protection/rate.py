"""How often a dependency is called: the generic cell rate algorithm.

One number is the whole state: the instant at which the calls granted so far would have
been spread out evenly. A call may be early by the burst. Over any stretch of time the
calls granted are at most the burst and what the rate allows in it.

A process takes several calls at once (a lease), so that none waits for the store.
Waiting for the rate is never an attempt. Sources: ITU-T I.371 (GCRA, virtual
scheduling).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from shifter.errors import ConfigError
from shifter.model.fleet import RateWish
from shifter.policy.bounds import check_at_least, check_ratio

_SECOND_US = 1_000_000

_MOST_PER_S = 1_000_000
"""Largest rate: intervals are whole microseconds."""

_SLACK_US = 60 * _SECOND_US
"""A stored instant further ahead than this was written by a clock that was wrong.

It is then ignored; otherwise a clock that was an hour ahead would stop all calls for
an hour.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePolicy:
    """Settings of a rate limit.

    Attributes:
        per_s: Calls a second, in (0, 1000000].
        burst: Calls that may come at once, >= 1.

    Raises:
        ConfigError: A value is out of its range.
    """

    per_s: float
    burst: int = 1

    def __post_init__(self) -> None:
        check_ratio("per_s", self.per_s, most=_MOST_PER_S)
        check_at_least("burst", self.burst, 1)
        if self.interval_us > 86_400 * _SECOND_US:
            raise ConfigError("per_s", self.per_s, "use at least one call a day")

    @property
    def interval_us(self) -> int:
        """Microseconds from call to call, rounded up: never faster than ``per_s``."""
        return -int(-_SECOND_US // self.per_s)

    def wish(self, name: str, want: int) -> RateWish:
        """What asks for so many calls to a dependency, >= 1."""
        return RateWish(name, self.interval_us, self.burst, want)


class TakenCalls(NamedTuple):
    """What was granted.

    Attributes:
        calls: How many may be made now, >= 0.
        wait_us: Until the first one, > 0 where none is granted; else 0.
        spread_us: The state afterwards.
    """

    calls: int
    wait_us: int
    spread_us: int


def take(asked: RateWish, spread_us: int, *, now_us: int) -> TakenCalls:
    """Take up to the calls that are wanted.

    Args:
        asked: Interval, burst and how many.
        spread_us: The state: when the calls so far would be spread out; 0 at first.
        now_us: Microseconds of the clock that the state is kept by.

    Pure.
    """
    interval_us = asked.interval_us
    if spread_us > now_us + asked.burst * interval_us + _SLACK_US:
        spread_us = 0  # no rate leads so far ahead: the clock was wrong
    start_us = max(spread_us, now_us)
    room_us = now_us + asked.burst * interval_us - start_us
    calls = max(0, min(asked.want, room_us // interval_us))
    if calls:
        return TakenCalls(calls, 0, start_us + calls * interval_us)
    return TakenCalls(0, interval_us - room_us, spread_us)
