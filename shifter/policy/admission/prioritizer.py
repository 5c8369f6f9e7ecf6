"""The threshold of levels below which arrivals are turned away under overload.

The measurements of a window yield the share of arrivals that must be turned away. The
levels of the last arrivals turn that share into a threshold: a job is let in if its
level is not below it. So the least important jobs are turned away first, smoothly
within a priority, and the test costs one comparison. ``CRITICAL`` is never below the
threshold.

The share is an integral of the worst of four errors, each 0 when all is as it should
be: work that was let in beyond what ended and what is free (as Cinnamon has it); the
mean queueing time over its bound (as DAGOR has it: not latency, which grows with the
work itself); the event loop's lag; and whatever signal the user plugs in. An error
turns away a part of what is still let in, so that at ten times the capacity the share
settles near nine tenths and slots stay in use; it is let go of within seconds.

Source: Zhou et al., "Overload Control for Scaling WeChat Microservices", SoCC 2018
(queueing time, thresholds from a histogram of levels); Uber's Cinnamon (the error);
failsafe-go's prioritizer (a hundred levels in each class, last arrivals).
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from shifter.errors import ConfigError
from shifter.model.lane import LEVELS_PER_PRIORITY, Priority

_DRAWS: Final = 1 << 32
"""Values of CRC-32, which spreads users evenly enough over a hundred levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrioritizerPolicy:
    """Settings of the threshold.

    Attributes:
        window_ms: Time between two computations of the threshold, >= 1.
        arrivals: Number of last arrivals whose levels count, >= 1.
        gain: How much of an error one window takes up, 0 < gain <= 1.
        max_ratio: Largest share turned away, 0 <= ratio < 1: some arrivals must get
            in, as only they show that the load has gone.
        queueing_ms: Mean queueing time that is still well, > 0; 20 ms is the threshold
            of DAGOR.
        lag_ms: Mean event-loop lag that is still well, > 0.

    Raises:
        ConfigError: A value is out of its range.
    """

    window_ms: int = 500
    arrivals: int = 1_000
    gain: float = 0.5
    max_ratio: float = 0.95
    queueing_ms: float = 20.0
    lag_ms: float = 50.0

    def __post_init__(self) -> None:
        if self.window_ms < 1:
            raise ConfigError("window_ms", self.window_ms, "use at least 1 ms")
        if self.arrivals < 1:
            raise ConfigError("arrivals", self.arrivals, "use at least 1")
        if not 0 < self.gain <= 1:
            raise ConfigError("gain", self.gain, "use more than 0, at most 1")
        if not 0 <= self.max_ratio < 1:
            raise ConfigError("max_ratio", self.max_ratio, "use 0 to less than 1")
        if not self.queueing_ms > 0:
            raise ConfigError("queueing_ms", self.queueing_ms, "use more than 0")
        if not self.lag_ms > 0:
            raise ConfigError("lag_ms", self.lag_ms, "use more than 0")


class Signals(NamedTuple):
    """What one window measured.

    Attributes:
        arrived: Jobs that asked to run here, and were not below the threshold.
        ended: Jobs that ended here.
        free: Slots free at its end, >= 0.
        limit: All slots, >= 1.
        queueing_ms: Mean time from arrival to start, >= 0.
        lag_ms: Mean event-loop lag, >= 0.
        outside: The worst of the user's own signals; 1 means at capacity.
    """

    arrived: int = 0
    ended: int = 0
    free: int = 0
    limit: int = 1
    queueing_ms: float = 0.0
    lag_ms: float = 0.0
    outside: float = 0.0


class Levels:
    """The levels of the last arrivals. Owned by one process.

    Args:
        policy: How many are remembered.

    Attributes:
        record: Notes the level of an arrival, let in or not; constant time.
    """

    __slots__ = ("_line", "record")

    def __init__(self, policy: PrioritizerPolicy) -> None:
        self._line: deque[int] = deque(maxlen=policy.arrivals)
        self.record: Callable[[int], None] = self._line.append

    def threshold(self, ratio: float) -> int:
        """The highest level that turns away no more than this share of arrivals.

        Args:
            ratio: 0 <= ratio < 1.

        Returns:
            0 to the lowest level of ``CRITICAL``; 0 while none has arrived.
        """
        if ratio <= 0 or not self._line:
            return 0
        last = sorted(self._line)[int(ratio * len(self._line))]
        return min(last, Priority.CRITICAL.base_level)


def error_of(policy: PrioritizerPolicy, signals: Signals) -> float:
    """The overload of a window: above 0 for too much work, below 0 for room.

    Returns:
        -0.5 to 1; the worst of the signals.
    """
    arrived, ended, free, limit = signals[:4]
    worst = max(
        (arrived - ended - free) / max(ended, limit),
        signals.queueing_ms / policy.queueing_ms - 1,
        signals.lag_ms / policy.lag_ms - 1,
        signals.outside - 1,
    )
    return min(1.0, max(-0.5, worst))


def next_ratio(policy: PrioritizerPolicy, ratio: float, signals: Signals) -> float:
    """The share to turn away in the next window.

    Args:
        policy: Gain and bounds.
        ratio: The share of the last one.
        signals: What the last one measured.

    Returns:
        0 to ``policy.max_ratio``.

    Pure.

    >>> busy = Signals(arrived=100, ended=40, free=0, limit=20)
    >>> next_ratio(PrioritizerPolicy(), 0.0, busy)
    0.5
    """
    step = policy.gain * error_of(policy, signals)
    after = ratio + (step * (1 - ratio) if step > 0 else step)
    return min(policy.max_ratio, max(0.0, after))


def level_of(priority: Priority, u: float) -> int:
    """A level within a priority.

    Args:
        priority: Whose hundred levels.
        u: One draw from [0, 1), or `stable_draw`.
    """
    return priority.base_level + int(u * LEVELS_PER_PRIORITY)


def stable_draw(user: str, *, hour: int) -> float:
    """The same draw for all calls of a user within an hour, in [0, 1).

    All parts of one request are then admitted or refused together; with independent
    draws hardly any request would be served whole. The draw changes each hour, so that
    no user is the last one for ever.

    >>> stable_draw("ann", hour=7) == stable_draw("ann", hour=7)
    True
    """
    return zlib.crc32(f"{hour}:{user}".encode()) / _DRAWS


def granted_priority(
    own: Priority, asked: Priority | None, *, highest: Priority | None
) -> tuple[Priority, bool]:
    """Grant a request the priority that its caller asked for, within a bound.

    A caller may always make its request less urgent. It may make it more urgent only
    if callers are trusted.

    Args:
        own: The priority that the service gives such requests.
        asked: The priority that the caller asked for; ``None`` if it asked for none.
        highest: The highest priority that a trusted caller may ask for; ``None`` if
            callers are not trusted.

    Returns:
        The priority, and whether it is lower than the one asked for.

    >>> normal, asked = Priority.NORMAL, Priority.CRITICAL
    >>> granted_priority(normal, asked, highest=None)[0].value
    'NORMAL'
    >>> granted_priority(normal, asked, highest=Priority.HIGH)[0].value
    'HIGH'
    """
    if asked is None:
        return own, False
    most = own if highest is None or highest.rank < own.rank else highest
    if asked.rank <= most.rank:
        return asked, False
    return most, True
