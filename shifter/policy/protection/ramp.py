"""How a dependency that came back is called again: at a rate that doubles.

While its circuit was open calls piled up, and all of them would come at once. So each
process begins with few calls, and doubles their rate with each eighth of the ramp's
length while calls succeed, until no call is turned away: a process that never saw
healthy traffic, or only that of a quiet hour, is soon back as well. Where it is known
how many calls there were at most before, the rate does not exceed that by more than a
tenth while what piled up is worked off: for as long as fewer calls are turned away in
the last second of each `HOLD_MS` than in its first. When they are not fewer, more is
offered than there used to be, and the rate doubles again. When most calls fail, it
begins anew at once.

The ramp is over when its time has passed and, for a while in which there were calls,
no call was turned away.

Source: TCP slow start (RFC 5681, 3.1), by time instead of by round trips, since calls
of one dependency may take from milliseconds to minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HOLD_MS: Final = 5_000
"""The old peak bounds the rate for so long at least."""

_FIRST_PER_MS: Final = 0.005
"""First rate if the peak before the outage is unknown: five calls a second."""

_FIRST_SHARE: Final = 1 / 16
"""First rate as a share of the peak: four doublings, half of the ramp, reach it."""

_DOUBLINGS: Final = 8
"""Doublings in the ramp's length: from the first rate to 256 times of it."""

_MORE: Final = 1.1
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

_FEWER: Final = 0.95
"""Ratio of refusals, last second to first, from which on the backlog does not shrink.

Refused callers ask again at random times, so equal backlogs differ by a few percent.
"""


@dataclass(slots=True)
class Ramp:
    """One ramp. Belongs to one thread.

    Attributes:
        peak_per_ms: Calls a millisecond of this process before; 0 if that is not
            known.
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
    _away_first: int = 0
    _away_last: int = 0

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
            self._turned_away()
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
            most_per_ms = _MORE * self.peak_per_ms
            if most_per_ms and self._per_ms >= most_per_ms:
                self._hold(most_per_ms)
            self._begin_step()

    def _hold(self, most_per_ms: float) -> None:
        """Stay at the most, or let it go: more is offered than there used to be."""
        if self._held_ms is None:
            self._held_ms = self._at_ms
        elif self._at_ms - self._held_ms >= HOLD_MS:
            if self._away_last >= _FEWER * self._away_first:
                self.peak_per_ms = 0.0
                return
            self._held_ms, self._away_first, self._away_last = self._at_ms, 0, 0
        self._per_ms = most_per_ms

    def _turned_away(self) -> None:
        if self._held_ms is None:
            return
        held_ms = self._at_ms - self._held_ms
        self._away_first += held_ms < _SECOND_MS
        self._away_last += HOLD_MS - _SECOND_MS <= held_ms < HOLD_MS

    def _begin_step(self) -> None:
        self._doubled_ms, self._successes, self._failures = self._at_ms, 0, 0
