"""How long a call to a dependency usually takes, so that a call that was cut is judged.

A caller that stops waiting got no answer: its timeout passed, its deadline passed, or
it left. If the call had already run longer than calls usually do, the dependency did
not answer in time, and the cut is a failure; else the caller was early, and the cut
says nothing.

The estimate is that of TCP for a lost segment: the smoothed duration of successful
calls plus four times their smoothed deviation. The first calls are averaged, so that
one slow call at the start is soon outweighed.

Source: RFC 6298 (Computing TCP's Retransmission Timer), gains of 1/8 and 1/4.
"""

from __future__ import annotations

from typing import Final

FLOOR_MS: Final = 10
"""A call that was cut sooner is ignored: pauses of the process itself are as long."""

CEILING_MS: Final = 600_000
"""A call that was cut after ten minutes has failed, whatever is usual."""

_MEAN_GAIN: Final = 1 / 8
"""Gain of the mean. Source: RFC 6298, section 2 (alpha)."""

_DEVIATION_GAIN: Final = 1 / 4
"""Gain of the deviation. Source: RFC 6298, section 2 (beta)."""

_DEVIATIONS: Final = 4
"""Deviations above the mean that are still usual. Source: RFC 6298, section 2 (K)."""


class UsualDuration:
    """Learns from successful calls. Belongs to one thread.

    Attributes:
        limit_ms: A call that takes so long takes longer than usual, from `FLOOR_MS`
            (which it is until the first success) to `CEILING_MS`.
    """

    __slots__ = ("_deviation_ms", "_known", "_mean_ms", "limit_ms")

    def __init__(self) -> None:
        self._known, self._mean_ms, self._deviation_ms = 0, 0.0, 0.0
        self.limit_ms: float = FLOOR_MS

    def learn(self, took_ms: int) -> None:
        """Take in one success, >= 0 ms."""
        if not self._known:
            self._mean_ms, self._deviation_ms = float(took_ms), took_ms / 2
        else:
            error_ms = took_ms - self._mean_ms
            gain = max(_MEAN_GAIN, 1 / (self._known + 1))
            spread_ms = abs(error_ms) - self._deviation_ms
            self._deviation_ms += spread_ms * _DEVIATION_GAIN
            self._mean_ms += error_ms * gain
        self._known += 1
        limit_ms = self._mean_ms + _DEVIATIONS * self._deviation_ms
        self.limit_ms = min(max(FLOOR_MS, limit_ms), CEILING_MS)
