"""Latency of endpoints: an average that follows peaks, and percentiles.

Source of the average: Finagle's ``PeakEwma``. A call that took longer than the average
replaces it at once; one that was quicker moves it by the time that has passed since the
last call. While no call ends, the average decays towards 0, so that an endpoint that
was slow is tried again.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

_KEPT: Final = 256
"""Durations of which percentiles are taken: the 95th leaves 13 above it."""

_SORT_EVERY: Final = 16
"""Sorting 256 numbers takes 10 microseconds; a call pays a sixteenth of it."""

_LEAST: Final = 20
"""Durations below which there is no percentile: the 95th of fewer is the largest."""


class PeakEwma:
    """The latency of one endpoint, in seconds. Belongs to one thread.

    Args:
        decay_s: After so long a peak counts for a third, > 0.

    Attributes:
        last: The average when the last call ended; 0 before the first call.
    """

    __slots__ = ("_at", "_decay_s", "last")

    def __init__(self, decay_s: float) -> None:
        self._decay_s, self.last, self._at = decay_s, 0.0, 0.0

    def observe(self, now: float, took_s: float) -> None:
        """Note a call that ended.

        Args:
            now: Monotonic seconds.
            took_s: How long the call took, >= 0.
        """
        cost = self.last
        if took_s >= cost:
            self.last = took_s
        else:
            kept = math.exp(-max(0.0, now - self._at) / self._decay_s)
            # Rounding must not lift it above the peak.
            self.last = min(cost, took_s + (cost - took_s) * kept)
        self._at = now

    def cost(self, now: float) -> float:
        """The average now, seconds; 0 before the first call."""
        cost, passed = self.last, now - self._at
        if not cost or passed <= 0:
            return cost
        return cost * math.exp(-passed / self._decay_s)


class Percentiles:
    """Percentiles of the last 256 durations. Belongs to one thread."""

    __slots__ = ("_fresh", "_last", "_sorted")

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=_KEPT)
        self._sorted: list[float] = []
        self._fresh = 0

    def observe(self, took_s: float) -> None:
        """Note a duration, in seconds, >= 0."""
        self._last.append(took_s)
        self._fresh += 1

    def at(self, share: float) -> float | None:
        """The duration that this share of the calls does not exceed.

        Args:
            share: From 0 to 1.

        Returns:
            Seconds; ``None`` while fewer than 20 calls have ended.
        """
        if len(self._last) < _LEAST:
            return None
        if self._fresh >= _SORT_EVERY or not self._sorted:
            self._sorted, self._fresh = sorted(self._last), 0
        place = math.ceil(share * len(self._sorted)) - 1
        return self._sorted[max(0, place)]


class Share:
    """Keeps extra calls at a share of the calls. Belongs to one thread.

    Each call earns a part of an extra one, and at most ten may be saved up.

    Args:
        share: Extra calls a call, above 0, up to 1.
    """

    __slots__ = ("_saved", "_share")

    _MOST: Final = 10.0

    def __init__(self, share: float) -> None:
        self._share, self._saved = share, 0.0

    def earn(self) -> None:
        """Note a call."""
        self._saved = min(self._MOST, self._saved + self._share)

    def spend(self) -> bool:
        """Take an extra call; ``False`` if there is none."""
        # A sum of floats: twenty times 0.05 is a little less than 1.
        if self._saved < 1 - 1e-9:
            return False
        self._saved -= 1
        return True
