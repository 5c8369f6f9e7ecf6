"""A clock that moves only by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools

from shifter.model.time import EpochMs, Monotonic

# A chain of callbacks takes one round of the loop for each link; the longest of the
# tests has about ten.
_SETTLING_ROUNDS = 50
_START_EPOCH_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


class FakeClock:
    """`shifter.ports.Clock` for tests. Owned by one event loop.

    Time is kept in whole microseconds, so that many small steps add up exactly.

    Args:
        epoch_ms: Wall clock at the start, >= 0.

    >>> clock = FakeClock(epoch_ms=1_000)
    >>> clock.advance(1.5)
    >>> clock.epoch_ms(), clock.monotonic()
    (2500, 1.5)
    """

    def __init__(self, epoch_ms: int = _START_EPOCH_MS) -> None:
        self._offset_ms, self._now_us = epoch_ms, 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    def epoch_ms(self) -> EpochMs:
        """Wall clock, milliseconds."""
        return EpochMs(self._offset_ms + self._now_us // 1_000)

    def monotonic(self) -> Monotonic:
        """Seconds since the clock was made; never go back."""
        return Monotonic(self._now_us / 1_000_000)

    @property
    def sleepers(self) -> int:
        """How many wait in `sleep`."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved this far; 0 gives way once."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        await self.timer(seconds)

    def timer(self, seconds: float) -> asyncio.Future[None]:
        """A future that is done when the clock was moved this far, > 0.

        A caller that needs it no more cancels it.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due_us = self._now_us + max(1, round(seconds * 1_000_000))
        heapq.heappush(self._sleepers, (due_us, next(self._count), future))
        return future

    def advance(self, seconds: float) -> None:
        """Move the clock at once and wake each sleeper whose time has come, in order.

        A sleeper that wakes finds the clock at the end of the move, as after a pause of
        the process; use `elapse` where each must wake at its own time.

        Raises:
            ValueError: ``seconds`` is below 0.
        """
        self._wake_until(self._after(seconds))

    async def elapse(self, seconds: float) -> None:
        """Let time pass: stop at each sleeper's time and let it go on.

        A task that begins to sleep meanwhile wakes in time too. Waiting for anything
        but this clock (a thread, a socket) is not noticed.

        Raises:
            ValueError: ``seconds`` is below 0.
        """
        until_us = self._after(seconds)
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= until_us:
            self._wake_until(self._sleepers[0][0])
            await self._settle()
        self._wake_until(until_us)
        await self._settle()

    def shift_wall(self, ms: int) -> None:
        """Set the wall clock forward, or back (< 0); no sleeper wakes."""
        self._offset_ms += ms

    def next_wake_s(self) -> float | None:
        """Seconds until the next sleeper is due; ``None`` without sleepers."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        if not self._sleepers:
            return None
        return (self._sleepers[0][0] - self._now_us) / 1_000_000

    def _after(self, seconds: float) -> int:
        if seconds < 0:
            raise ValueError(f"a clock cannot go back by {-seconds} s")
        return self._now_us + round(seconds * 1_000_000)

    def _wake_until(self, until_us: int) -> None:
        while self._sleepers and self._sleepers[0][0] <= until_us:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
        self._now_us = until_us

    @staticmethod
    async def _settle() -> None:
        # A chain of callbacks needs one round per link until it sleeps again.
        for _ in range(_SETTLING_ROUNDS):
            await asyncio.sleep(0)
