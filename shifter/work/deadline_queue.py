"""The queue of one lane: earliest deadline first, else first come first served.

A job without a deadline is ordered as if it had one ten minutes after it was queued. So
jobs without a deadline keep their order, only a job that is due earlier overtakes them,
and none that is queued more than ten minutes later: they cannot starve. An item that
was taken and comes back gets the place that it had.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from shifter.work.item import Item

FREE_MS: Final = 600_000
"""How much later than its coming a job without a deadline is due, for its place."""


class DeadlineQueue:
    """Items that may start, in order. Owned by one event loop.

    An item without a deadline costs O(1), one with a deadline O(log n).

    Args:
        serials: Numbers that make places unique; queues between which items move
            share them.
    """

    def __init__(self, serials: Iterator[int] | None = None) -> None:
        self._free: deque[Item] = deque()
        self._dated: list[tuple[tuple[int, int], Item]] = []
        self._serials = itertools.count() if serials is None else serials
        self._last_free_ms = 0

    def __len__(self) -> int:
        return len(self._free) + len(self._dated)

    def put(self, item: Item) -> None:
        """Queue an item; in its old place if it had one."""
        deadline_ms = item.envelope.deadline_ms
        if item.place is not None:
            self._return(item, item.place, is_free=deadline_ms is None)
            return
        serial = next(self._serials)
        if deadline_ms is None:
            # Never before who came earlier, also when a wall clock goes back.
            due_ms = max(item.read_ms + FREE_MS, self._last_free_ms)
            self._last_free_ms = due_ms
            item.place = (due_ms, serial)
            self._free.append(item)
        else:
            item.place = (deadline_ms, serial)
            heapq.heappush(self._dated, (item.place, item))

    def _return(self, item: Item, place: tuple[int, int], *, is_free: bool) -> None:
        free = self._free
        if not is_free:
            heapq.heappush(self._dated, (place, item))
        elif not free or place < (free[0].place or place):
            free.appendleft(item)
        else:
            # Rare: several came back, the later ones first.
            after = [*free, item]
            after.sort(key=lambda one: one.place or place)
            self._free = deque(after)

    def take(self, count: int) -> list[Item]:
        """Remove and return the first items, at most ``count``."""
        free, dated = self._free, self._dated
        if not dated:
            return [free.popleft() for _ in range(min(count, len(free)))]
        taken: list[Item] = []
        while len(taken) < count and (free or dated):
            if dated and (not free or dated[0][0] < (free[0].place or dated[0][0])):
                taken.append(heapq.heappop(dated)[1])
            else:
                taken.append(free.popleft())
        return taken

    def take_last(self, count: int, may_leave: Callable[[Item], bool]) -> list[Item]:
        """Remove and return the last items that may leave, at most ``count``.

        Items without a deadline leave first.
        """
        taken, stay = list[Item](), deque[Item]()
        free = self._free
        while free and len(taken) < count:
            item = free.pop()
            (taken.append if may_leave(item) else stay.appendleft)(item)
        free.extend(stay)
        if len(taken) < count and self._dated:
            kept = []
            for place, item in sorted(
                self._dated, key=lambda one: one[0], reverse=True
            ):
                if len(taken) < count and may_leave(item):
                    taken.append(item)
                else:
                    kept.append((place, item))
            # A list in order is a heap.
            self._dated = kept[::-1]
        return taken

    def take_due(self, count: int, before_ms: int) -> list[Item]:
        """Remove and return items whose deadline comes before an instant."""
        dated, taken = self._dated, list[Item]()
        while dated and len(taken) < count and dated[0][0][0] < before_ms:
            taken.append(heapq.heappop(dated)[1])
        return taken

    @property
    def next_deadline_ms(self) -> int | None:
        """The earliest deadline of the items; ``None`` where none has one."""
        return self._dated[0][0][0] if self._dated else None

    @property
    def is_dated(self) -> bool:
        """Whether every item has a deadline."""
        return not self._free

    def deadlines_ms(self) -> list[int]:
        """The deadlines of the items that have one, in no order."""
        return [place[0] for place, _ in self._dated]

    @property
    def ready_at(self) -> float:
        """Monotonic seconds since when the older head waits; inf if empty."""
        heads = [self._free[0].ready_at] if self._free else []
        if self._dated:
            heads.append(self._dated[0][1].ready_at)
        return min(heads, default=float("inf"))

    def clear(self) -> None:
        """Forget all items."""
        self._free.clear()
        self._dated.clear()
