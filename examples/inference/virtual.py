"""An event loop whose hours take seconds: nothing waits, the clock is moved instead.

Where an ordinary loop would wait for its next timer, this one sets its time to that
timer. All of asyncio works as usual, order and instants included; only waiting costs
nothing. Nothing outside the process may be waited for, since no time passes meanwhile.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

from shifter.model.time import EpochMs, Monotonic

_EPOCH_MS = 1_700_156_700_000  # the day the trace was recorded


class _Selector(selectors.SelectSelector):
    """Moves a clock instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits and nothing is due: a deadlock")
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop."""

    def __init__(self) -> None:
        self._moved = _Selector()
        super().__init__(self._moved)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._moved.now


class VirtualClock:
    """`shifter.ports.Clock` of a `VirtualLoop`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def epoch_ms(self) -> EpochMs:
        """Wall clock, milliseconds; rounded, or a timer would seem to come early."""
        return EpochMs(_EPOCH_MS + round(self._loop.time() * 1_000))

    def monotonic(self) -> Monotonic:
        """Seconds since the loop was made."""
        return Monotonic(self._loop.time())

    async def sleep(self, seconds: float) -> None:
        """Wait; >= 0."""
        await asyncio.sleep(seconds)
