"""Time, as the product asks for it."""

from __future__ import annotations

from typing import Protocol

from shifter.model.time import EpochMs, Monotonic


class Clock(Protocol):
    """The only reader of clocks; a fake one moves by hand."""

    def epoch_ms(self) -> EpochMs:
        """Wall clock, milliseconds."""

    def monotonic(self) -> Monotonic:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Wait; >= 0."""
