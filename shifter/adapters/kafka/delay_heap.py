"""Records that a mover has read and not moved yet, in order of time, and bounded.

A tier is first in, first out, so only the next few seconds of each partition are worth
holding in memory; the rest stays in the log. A partition is therefore held back as soon
as its newest record lies far enough ahead, and, when the heap is full, as soon as it
takes more than its share: a long tier can never stand in the way of a short one.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from shifter.adapters.kafka.hop import Hop

LIMIT: Final = 50_000
"""Hops on the heap above which each partition keeps to its share."""

# How many records must agree that a partition was read far enough: the time of a single
# record may come from a clock that is wrong.
_WITNESSES: Final = 16
_NEAR_MS: Final = 2_000
_FAR_MS: Final = 10_000


class DelayHeap:
    """Hops, ordered by the time when they may start. Owned by one task at a time.

    Args:
        limit: Number of hops above which each partition keeps to its share, > 0.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._heap: list[tuple[int, int, Hop]] = []
        self._serial = 0
        self._count: Counter[int] = Counter()
        self._newest_ms: dict[int, deque[int]] = {}
        self._held: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_ms(self) -> int | None:
        """When the next hop may start, epoch milliseconds; ``None`` without one."""
        return self._heap[0][0] if self._heap else None

    def read(self, hop: Hop) -> None:
        """Keep a hop that was just read from its partition."""
        epoch = hop.delivery.epoch
        newest = self._newest_ms.get(epoch)
        if newest is None:
            newest = self._newest_ms[epoch] = deque(maxlen=_WITNESSES)
        newest.append(hop.ready_ms)
        self.put(hop)

    def put(self, hop: Hop) -> None:
        """Keep a hop until it is ready."""
        self._count[hop.delivery.epoch] += 1
        self._serial += 1
        heapq.heappush(self._heap, (hop.ready_ms, self._serial, hop))

    def take_ready(self, now_ms: int, most: int) -> list[Hop]:
        """Remove and return at most ``most`` hops that are ready, in order of time."""
        heap = self._heap
        ready: list[Hop] = []
        while heap and heap[0][0] <= now_ms and len(ready) < most:
            hop = heapq.heappop(heap)[2]
            self._count[hop.delivery.epoch] -= 1
            ready.append(hop)
        return ready

    def keep_only(self, epochs: frozenset[int]) -> None:
        """Drop hops of partitions that this member no longer owns."""
        self._heap = [one for one in self._heap if one[2].delivery.epoch in epochs]
        heapq.heapify(self._heap)
        self._count = Counter(one[2].delivery.epoch for one in self._heap)
        newest_ms = self._newest_ms.items()
        self._newest_ms = {epoch: ms for epoch, ms in newest_ms if epoch in epochs}

    def replan(self, hastened: Callable[[Hop], None]) -> None:
        """Call ``hastened`` for each, which may lower `Hop.ready_ms`; sort anew."""
        for _, _, hop in self._heap:
            hastened(hop)
        self._heap = [(hop.ready_ms, number, hop) for _, number, hop in self._heap]
        heapq.heapify(self._heap)

    def to_hold(self, now_ms: int, *, reads_on: bool = False) -> frozenset[int]:
        """Epochs of the partitions that should not be read further for now.

        The same object as long as nothing changes.

        Args:
            now_ms: Epoch milliseconds.
            reads_on: Whether partitions are read past the next seconds too.
        """
        is_full = len(self._heap) >= self._limit
        share = self._limit // max(1, len(self._newest_ms))
        far_ms = _FAR_MS if len(self._heap) < self._limit // 2 else _NEAR_MS
        held = frozenset(
            epoch
            for epoch, newest_ms in self._newest_ms.items()
            if (
                not reads_on
                and min(newest_ms) - now_ms
                > (_NEAR_MS if epoch in self._held else far_ms)
            )
            or (is_full and self._count[epoch] > share)
        )
        if held != self._held:
            self._held = held
        return self._held
