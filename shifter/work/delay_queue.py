"""Items that wait a short while in memory: not yet due, claimed by another, retried.

Only short waits, and those that must keep their place (the retry of a keyed job), are
held here; longer ones go back to the log.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from shifter.ports import Clock, sleep_or_wake
from shifter.work.item import Item
from shifter.work.waiting_limits import WaitingLimits


class DelayQueue:
    """A heap of items by the time they may go on. Owned by one event loop.

    Args:
        clock: Reads and waits.
        ready: Called with each item whose time has come.
        limits: Counts what waits here.
    """

    def __init__(
        self, clock: Clock, ready: Callable[[Item], None], limits: WaitingLimits
    ) -> None:
        self._clock, self._ready, self._limits = clock, ready, limits
        self._heap: list[tuple[float, int, Item]] = []
        self._held: dict[Item, int] = {}
        self._aside: set[Item] = set()
        self._count = itertools.count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held) - len(self._aside)

    def hold(self, item: Item, *, until: float, is_aside: bool = False) -> None:
        """Keep an item until this monotonic time.

        Args:
            item: Not held yet.
            until: Monotonic seconds.
            is_aside: Whether the item is not counted: it may be held for long, which
            must
                not reduce what is fetched meanwhile.
        """
        number = self._held[item] = next(self._count)
        if is_aside:
            self._aside.add(item)
        self._limits.add(item, in_line=not is_aside)
        heapq.heappush(self._heap, (until, number, item))
        if self._heap[0][2] is item:
            self._changed.set()

    def release(self, item: Item) -> None:
        """Hand an item on before its time; without effect if it is not held."""
        if item in self._held:
            self._let_go(item)

    @property
    def next_at(self) -> float | None:
        """When the next item may go on, monotonic; ``None`` while nothing is held."""
        self._drop_released()
        return self._heap[0][0] if self._heap else None

    async def run(self) -> None:
        """Hand items on when their time has come, until cancelled."""
        while True:
            self._changed.clear()
            wait_s = self._release_due()
            if wait_s is None:
                await self._changed.wait()
            else:
                await sleep_or_wake(self._clock, wait_s, self._changed)

    def _release_due(self) -> float | None:
        now = self._clock.monotonic()
        while (next_at := self.next_at) is not None and next_at <= now:
            self._let_go(heapq.heappop(self._heap)[2])
        return None if next_at is None else next_at - now

    def _let_go(self, item: Item) -> None:
        del self._held[item]
        self._limits.drop(item, in_line=item not in self._aside)
        self._aside.discard(item)
        self._ready(item)

    def _drop_released(self) -> None:
        # A released item stays in the heap until it is the first one.
        while self._heap and self._held.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
