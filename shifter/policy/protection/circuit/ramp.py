"""How a dependency is called again after its circuit closed: at a rate that doubles.

While the circuit was open calls piled up, and all of them would come at once. So each
process begins with few calls, and doubles their rate with each eighth of the ramp's
length while calls succeed, until no call is refused: a process without a healthy past,
or with that of a quiet hour, is soon back as well. If the peak before the outage is
known, the rate exceeds it by at most a tenth while the backlog shrinks: for as long as
fewer calls are refused in the last second of each `HOLD_MS` than in its first. If they
are not fewer, demand has grown, and the rate doubles again. When most calls fail, the
ramp begins anew.

The ramp is over when its length has passed and, for a while with calls, no call was
refused.

Source: TCP slow start (RFC 5681, 3.1), by time instead of by round trips, since calls
of one dependency may take from milliseconds to minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HOLD_MS: Final = 5_000
"""For so long at least, the peak before the outage bounds the rate of a ramp.

A ramp that is held compares refusals of the first and the last second of this time.
"""

_FIRST_PER_MS: Final = 0.005
"""First rate if the peak before the outage is unknown: five calls a second."""

_FIRST_SHARE: Final = 1 / 16
"""First rate as a share of the peak: four doublings, half of the ramp, reach it."""

_DOUBLINGS: Final = 8
"""Doublings in the ramp's length: from the first rate to 256 times of it."""

_OVERSHOOT: Final = 1.1
"""The rate may exceed the old peak by a tenth, so that a backlog is worked off."""

_BURST_MS: Final = 50
"""Calls that may come at once: those of this many milliseconds."""

_CALM_MS: Final = 500
"""Time without a refusal that ends the ramp.

A refused caller asks again within about 450 ms (300 ms, stretched by up to a half), so
a shorter calm may only mean that every caller waits.
"""

_GAP_MS: Final = 50
"""A longer pause between two calls is no calm: the process may have been suspended."""

_LEAST_FAILURES: Final = 2
"""Failures that restart the ramp: a single one does not."""

_SECOND_MS: Final = 1_000
"""The first and the last second of each `HOLD_MS` are compared."""

_STEADY: Final = 0.95
"""Ratio of refusals, last second to first, from which on the backlog does not shrink.

Refused callers ask again at random times, so equal backlogs differ by a few percent.
"""


@dataclass(slots=True)
class Ramp:
    """Bounds the calls of one process after its circuit closed. One thread only.

    Attributes:
        peak_per_ms: Calls a millisecond of this process before the outage; 0 if that
            is not known.
        length_ms: In an eighth of it the rate doubles, >= 1.
        from_ms: When the circuit closed.
    """

    peak_per_ms: float
    length_ms: int
    from_ms: int
    _per_ms: float = 0.0
    _tokens: float = 1.0
    _at_ms: int = 0
    _doubled_ms: int = 0
    _calm_ms: int = 0
    _successes: int = 0
    _failures: int = 0
    _held_ms: int | None = None
    _refused_first: int = 0
    _refused_last: int = 0

    def __post_init__(self) -> None:
        self._per_ms = self._first_per_ms

    @property
    def is_over(self) -> bool:
        """Whether calls are not bounded any more."""
        return self._at_ms >= self.length_ms and self._calm_ms >= _CALM_MS

    @property
    def _first_per_ms(self) -> float:
        return self.peak_per_ms * _FIRST_SHARE or _FIRST_PER_MS

    def admit(self, now_ms: int) -> bool:
        """Whether one call may be made now."""
        passed_ms = max(self._at_ms, now_ms - self.from_ms)
        gap_ms, self._at_ms = passed_ms - self._at_ms, passed_ms
        self._double()
        most = max(1.0, self._per_ms * _BURST_MS)
        self._tokens = min(most, self._tokens + self._per_ms * gap_ms)
        if self._tokens >= 1:
            self._calm_ms += min(gap_ms, _GAP_MS)
            self._tokens -= 1
            return True
        self._calm_ms = 0
        if self._held_ms is not None:
            held_ms = passed_ms - self._held_ms
            self._refused_first += held_ms < _SECOND_MS
            self._refused_last += HOLD_MS - _SECOND_MS <= held_ms < HOLD_MS
        return False

    def give_back(self) -> None:
        """Return an admitted call that is not made."""
        self._tokens += 1

    def ended(self, *, ok: bool) -> None:
        """Note how a call ended."""
        if ok:
            self._successes += 1
            return
        self._failures += 1
        if self._failures >= max(_LEAST_FAILURES, self._successes):
            self._per_ms, self._tokens = self._first_per_ms, 0.0
            self._begin_step()

    def _double(self) -> None:
        """Double the rate, if it is time and calls succeeded meanwhile."""
        if (self._at_ms - self._doubled_ms) * _DOUBLINGS < self.length_ms:
            return
        if self._successes > self._failures:
            self._per_ms *= 2
            most_per_ms = _OVERSHOOT * self.peak_per_ms
            if most_per_ms and self._per_ms >= most_per_ms:
                self._hold(most_per_ms)
            self._begin_step()

    def _hold(self, most_per_ms: float) -> None:
        """Hold the rate at the peak; drop the bound if the backlog does not shrink."""
        if self._held_ms is None:
            self._held_ms = self._at_ms
        elif self._at_ms - self._held_ms >= HOLD_MS:
            if self._refused_last >= _STEADY * self._refused_first:
                self.peak_per_ms = 0.0
                return
            self._held_ms = self._at_ms
            self._refused_first = self._refused_last = 0
        self._per_ms = most_per_ms

    def _begin_step(self) -> None:
        self._doubled_ms, self._successes, self._failures = self._at_ms, 0, 0
