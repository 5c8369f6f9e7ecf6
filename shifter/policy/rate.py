"""How often a dependency is called: the generic cell rate algorithm.

One number says all: the instant at which the calls granted so far would have been
spread out evenly. A call may be early by the burst. Over any stretch of time the calls
granted are at most the burst and what the rate allows in it.

A process takes several calls at once (a lease), so that none waits for the store.
Waiting for the rate is never an attempt. Sources: ITU-T I.371 (GCRA, virtual
scheduling).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from shifter.errors import ConfigError
from shifter.policy.bounds import check_at_least, check_ratio

_SECOND_US = 1_000_000
_MOST_PER_S = 1_000_000


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


class Granted(NamedTuple):
    """So many calls may be made now.

    Attributes:
        calls: How many, >= 1.
        spread_us: The state afterwards.
    """

    calls: int
    spread_us: int


class Wait(NamedTuple):
    """None now; the first one in ``wait_us``, > 0."""

    wait_us: int


def acquire(
    policy: RatePolicy, spread_us: int, *, now_us: int, want: int = 1
) -> Granted | Wait:
    """Take up to ``want`` calls.

    Args:
        policy: Rate and burst.
        spread_us: The state: when the calls so far would be spread out; 0 at first.
        now_us: Microseconds of the clock that the state is kept by.
        want: Calls wanted, >= 1.

    Pure.
    """
    interval_us = policy.interval_us
    start_us = max(spread_us, now_us)
    room_us = now_us + policy.burst * interval_us - start_us
    calls = min(want, room_us // interval_us)
    if calls >= 1:
        return Granted(calls, start_us + calls * interval_us)
    return Wait(interval_us - room_us)
