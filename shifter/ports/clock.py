"""The port of time: wall clock, monotonic clock and sleep."""

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
        """Wait for ``seconds``, >= 0."""


async def sleep_or_wake(clock: Clock, seconds: float, woken: asyncio.Event) -> None:
    """Wait for some seconds or until an event is set; the event is set afterwards.

    Args:
        clock: Measures the wait.
        seconds: The longest wait, >= 0.
        woken: Ends the wait early.
    """
    import asyncio  # noqa: PLC0415  # `import shifter` does without

    # The clock may be a fake one, so asyncio.timeout cannot measure the wait.
    async with asyncio.TaskGroup() as group:
        timer = group.create_task(clock.sleep(seconds))
        timer.add_done_callback(lambda _: woken.set())
        await woken.wait()
        timer.cancel()
