"""How a dependency that came back is called again: little by little.

While its circuit was open calls piled up, and all of them would come at once. So each
process lets in a growing share of what it used to call before: from nothing to all of
it within the ramp, then a tenth more than that while calls still stand in line, and
more with time, since what used to be may have been a quiet hour. The ramp is over when
its time is and nobody was turned away for a while, in which there were calls.

Source: Envoy's slow start (a share that grows linearly with time).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_LEAST_PER_MS: Final = 0.01
_BURST_MS: Final = 50
_MORE: Final = 1.1
_PATIENCE: Final = 15
_CALM_MS: Final = 500
"""Longer than whoever was turned away stays away."""


@dataclass(slots=True)
class Ramp:
    """One ramp. Belongs to one thread.

    Attributes:
        usual_per_ms: Calls a millisecond as they used to be; 0 if that is not known.
        length_ms: Until the share is all of it, >= 1.
        from_ms: When the circuit closed.
    """

    usual_per_ms: float
    length_ms: int
    from_ms: int
    _tokens: float = 1.0
    _at_ms: int = 0
    _turned_away_ms: int = 0
    _since: int = 0

    @property
    def is_over(self) -> bool:
        """Whether everybody may call again."""
        has_calm = self._at_ms - self._turned_away_ms >= _CALM_MS
        has_calls = self._since >= self._per_ms * _CALM_MS / 2
        return self._at_ms >= self.length_ms and has_calm and has_calls

    @property
    def _per_ms(self) -> float:
        return max(self.usual_per_ms, _LEAST_PER_MS)

    def admit(self, now_ms: int) -> bool:
        """Whether one call may be made now."""
        passed_ms = max(0, now_ms - self.from_ms)
        per_ms = self._per_ms
        gained = per_ms * share(passed_ms / self.length_ms) * (passed_ms - self._at_ms)
        most = max(1.0, per_ms * _BURST_MS)
        self._tokens = min(most, self._tokens + max(0.0, gained))
        self._at_ms = passed_ms
        if self._tokens < 1:
            self._turned_away_ms, self._since = passed_ms, 0
            return False
        self._tokens -= 1
        self._since += 1
        return True


def share(passed: float) -> float:
    """The share of the usual calls that is let in.

    Args:
        passed: Since the circuit closed; 1 is the ramp's length.

    >>> share(0.25), share(1.0), share(2.0), share(30.0)
    (0.25, 1.0, 1.1, 2.2)
    """
    return min(passed, _MORE * max(1.0, passed / _PATIENCE))
