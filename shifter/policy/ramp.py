"""How a dependency that came back is called again: at a rate that doubles.

While its circuit was open calls piled up, and all of them would come at once. So each
process begins with few calls, and doubles their rate with each eighth of the ramp's
length while calls succeed, until nobody is turned away: a process that never saw
healthy traffic, or only that of a quiet hour, is soon back as well. Where it is known
how many calls there were at most before, the rate does not exceed that by more than a
tenth for as long as what piled up usually takes (`HOLD_MS`). When most calls fail, it
begins again at once.

The ramp is over when its time is and nobody was turned away for a while, in which there
were calls.

Source: TCP slow start (RFC 5681, 3.1), by time instead of by round trips, since calls
of one dependency may take from milliseconds to minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HOLD_MS: Final = 7_000
"""So long the old peak bounds the rate; a busy queue of two seconds is gone by then."""

_FIRST_PER_MS: Final = 0.005
_FIRST_SHARE: Final = 1 / 16
_DOUBLINGS: Final = 8
_MORE: Final = 1.1
_BURST_MS: Final = 50
_CALM_MS: Final = 500
"""Longer than a caller that was turned away stays away."""
_GAP_MS: Final = 50
"""A longer pause between two calls is no calm: the process may have stood still."""
_LEAST_FAILURES: Final = 2


@dataclass(slots=True)
class Ramp:
    """One ramp. Belongs to one thread.

    Attributes:
        peak_per_ms: Calls a millisecond of this process in its busiest second before;
            0 if that is not known.
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

    def __post_init__(self) -> None:
        self._per_ms = self._first_per_ms

    @property
    def is_over(self) -> bool:
        """Whether everybody may call again."""
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
        if self._tokens < 1:
            self._calm_ms = 0
            return False
        self._calm_ms += min(gap_ms, _GAP_MS)
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """A call that was let in is not made."""
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
            if self.peak_per_ms and self._at_ms < HOLD_MS:
                self._per_ms = min(self._per_ms, _MORE * self.peak_per_ms)
            self._begin_step()

    def _begin_step(self) -> None:
        self._doubled_ms, self._successes, self._failures = self._at_ms, 0, 0
