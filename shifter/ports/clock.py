"""Time, as the product asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from shifter.model.time import EpochMs, Monotonic

if TYPE_CHECKING:
    import asyncio


class Clock(Protocol):
    """The only reader of clocks; a fake one moves by hand."""

    def epoch_ms(self) -> EpochMs:
        """Wall clock, milliseconds."""

    def monotonic(self) -> Monotonic:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Wait; >= 0."""


async def sleep_or_wake(clock: Clock, seconds: float, woken: asyncio.Event) -> None:
    """Wait for so long, or until the event is set; it is set afterwards either way.

    Args:
        clock: Waits.
        seconds: At most, >= 0.
        woken: Cuts it short.
    """
    import asyncio  # noqa: PLC0415  # `import shifter` does without

    async with asyncio.TaskGroup() as group:
        timer = group.create_task(clock.sleep(seconds))
        timer.add_done_callback(lambda _: woken.set())
        await woken.wait()
        timer.cancel()
