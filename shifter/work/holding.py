"""Items that wait a short while in memory: not yet due, claimed by another, retried.

Only for waits that are short or must keep their place (a keyed job's retry); longer
ones go back to the log.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from shifter.ports import Clock
from shifter.work.item import Item


class Holding:
    """A heap of items by the time they may go on. Owned by one event loop.

    Args:
        clock: Reads and waits.
        ready: Called with each item whose time has come.
    """

    def __init__(self, clock: Clock, ready: Callable[[Item], None]) -> None:
        self._clock, self._ready = clock, ready
        self._heap: list[tuple[float, int, Item]] = []
        self._count = itertools.count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def hold(self, item: Item, *, until: float) -> None:
        """Keep an item until this monotonic time."""
        heapq.heappush(self._heap, (until, next(self._count), item))
        if self._heap[0][2] is item:
            self._changed.set()

    @property
    def next_at(self) -> float | None:
        """When the next item may go on, monotonic; ``None`` while nothing is held."""
        return self._heap[0][0] if self._heap else None

    async def run(self) -> None:
        """Hand items on when their time has come, until cancelled."""
        while True:
            self._changed.clear()
            wait_s = self._release_due()
            if wait_s is None:
                await self._changed.wait()
            else:
                await self._wait(wait_s)

    async def _wait(self, wait_s: float) -> None:
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(self._clock.sleep(wait_s))
            timer.add_done_callback(lambda _: self._changed.set())
            await self._changed.wait()
            timer.cancel()

    def _release_due(self) -> float | None:
        now = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now:
            self._ready(heapq.heappop(self._heap)[2])
        return self._heap[0][0] - now if self._heap else None
