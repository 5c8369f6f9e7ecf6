"""What keeps a worker still between two drains, and within the time asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence, Set as AbstractSet

from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneFeed
from shifter.model.time import EpochMs, Monotonic
from shifter.ports import AppendAnswer, Clock, Delivery, LostRange, Record


class HorizonClock:
    """The log's clock: what is due after the horizon is not due.

    Handlers may take the test's time past the end of a drain; what became due
    meanwhile waits for the next one.

    Attributes:
        horizon_ms: Epoch milliseconds, included.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.horizon_ms: int = clock.epoch_ms()

    def epoch_ms(self) -> EpochMs:
        """Wall clock, milliseconds, but never past the horizon."""
        return EpochMs(min(self._clock.epoch_ms(), self.horizon_ms))

    def monotonic(self) -> Monotonic:
        """Seconds that never go back."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait; >= 0."""
        await self._clock.sleep(seconds)


class Gate:
    """Opened while a test drains; makes feeds look again."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.changed: list[asyncio.Event] = []

    def look(self) -> None:
        """Say that time went on: delayed records may be due."""
        for changed in self.changed:
            changed.set()


class GatedFeed:
    """`shifter.ports.LaneFeed` that hands records over only while its gate is open.

    It never waits for time, only for records, so that an idle worker has no timers.
    """

    def __init__(self, log: MemoryLog, topics: Sequence[str], gate: Gate) -> None:
        self._inner = MemoryLaneFeed(log, topics)
        self._log, self._gate = log, gate
        self._changed = asyncio.Event()
        self._watch = contextlib.ExitStack()

    async def open(self) -> None:
        """Join the group."""
        await self._inner.open()
        self._watch.enter_context(self._log.watching(self._changed))
        self._gate.changed.append(self._changed)

    async def fetch(self, max_records: int, *, wait_s: float) -> list[Delivery]:
        """At least one delivery, however long that takes."""
        del wait_s
        while True:
            await self._gate.is_open.wait()
            self._changed.clear()
            batch = await self._inner.fetch(max_records, wait_s=0)
            if batch:
                return batch
            await self._changed.wait()

    def rest(self, topics: AbstractSet[str]) -> None:
        """Hand out nothing of these lanes from now on, and of all others again."""
        self._inner.rest(topics)

    def begin(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those deliveries this member still owns."""
        return self._inner.begin(deliveries)

    async def hand_over(
        self, pairs: Sequence[tuple[Delivery, Record]], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Append each delivery's successor."""
        return await self._inner.hand_over(pairs, timeout_s=timeout_s)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """End deliveries."""
        await self._inner.settle(deliveries)

    def losses(self) -> list[LostRange]:
        """Ranges found lost since the last call."""
        return self._inner.losses()

    def idle(self) -> bool:
        """Whether every owned record was settled and none waits."""
        return self._inner.idle()

    async def close(self, *, timeout_s: float) -> None:
        """Leave the group."""
        self._watch.close()
        await self._inner.close(timeout_s=timeout_s)
