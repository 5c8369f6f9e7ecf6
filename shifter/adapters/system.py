"""The one reader of clocks."""

from __future__ import annotations

import time

from shifter.model.time import EpochMs, Monotonic


class SystemClock:
    """Wall and monotonic time of this machine."""

    def epoch_ms(self) -> EpochMs:
        """Wall clock, milliseconds."""
        return EpochMs(time.time_ns() // 1_000_000)

    def monotonic(self) -> Monotonic:
        """Seconds that never go back."""
        return Monotonic(time.monotonic())

    async def sleep(self, seconds: float) -> None:
        """Wait; >= 0."""
        import asyncio  # noqa: PLC0415  # `import shifter` does without

        await asyncio.sleep(seconds)
