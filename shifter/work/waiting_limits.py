"""How much may wait in one process: records of each lane, and bytes of all lanes.

A lane that has reached its limit is *full*. While another lane of its priority is not
full, the full one is not fetched until half of its items have started, so that no queue
blocks another one.

Bytes are shared by need. One lane may use half of the budget; once all of it is used,
each lane with more than an even share is full. So an idle lane can always fetch, and
all lanes together hold at most twice the budget, plus one fetch of each priority.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set as AbstractSet
from typing import Final

from shifter.model.lane import Lane, Priority
from shifter.work.item import Item

_OVERHEAD_BYTES: Final = 2_000
"""What an item costs beside its payload, about: 1.6 kB with nothing but an id and a
type, 2.2 kB with both keys, a deadline and a trace (tracemalloc over 20,000 items in a
line; resident memory grows by 5 % more)."""
_FETCH_BYTES: Final = 4_000_000
"""What one fetch should bring, at most."""
_FETCH_MOST: Final = 1_000
_FIRST_BYTES: Final = 1_000_000.0
"""How large a record is taken to be before one was read: as large as most may be."""


TURN_S: Final = 0.4
"""How fast a full line must be through, for its lane to be read on."""
_KEPT: Final = 0.95
"""How much of the mean stays with each record that is smaller. About 180 small ones,
in seven fetches, lead from what a large record allows to the largest fetch."""


class _Share:
    """What one lane holds, and how fast its items start."""

    __slots__ = ("bytes", "count", "is_full", "mark", "since", "taken")

    def __init__(self) -> None:
        self.count = self.bytes = self.taken = self.mark = 0
        self.is_full = False
        self.since: float | None = None


class WaitingLimits:
    """Counts what waits, and answers what may be fetched. Owned by one event loop.

    Args:
        lanes: Lanes served, by topic.
        records: In line of one lane, at most; twice that where its priority has
            others; > 0.
        budget_bytes: Of all that waits here, > 0.

    Attributes:
        bytes: Of all that waits here.
    """

    def __init__(
        self, lanes: Mapping[str, Lane], *, records: int, budget_bytes: int
    ) -> None:
        self._records, self._budget = records, budget_bytes
        self._even = budget_bytes // max(1, len(lanes))
        self._shares = {topic: _Share() for topic in lanes}
        self._of: dict[Priority, list[str]] = {}
        for topic, lane in lanes.items():
            self._of.setdefault(lane.priority, []).append(topic)
        self._mean = dict.fromkeys(Priority, _FIRST_BYTES)
        self._rested = frozenset[str]()
        self.bytes = 0

    def add(self, item: Item, *, in_line: bool = True) -> None:
        """Count an item that waits from now on.

        Args:
            item: Not counted yet.
            in_line: Whether it counts as a record of its lane. What waits behind its
                key, or for a quiet time, blocks no other item and costs bytes only.
        """
        share = self._shares[item.delivery.topic]
        share.count += in_line
        size = item.payload_bytes + _OVERHEAD_BYTES
        share.bytes += size
        self.bytes += size

    def drop(self, item: Item, *, in_line: bool = True) -> None:
        """Count off an item, with the same ``in_line`` as it was added with."""
        self.drop_all(item.delivery.topic, [item], in_line=in_line)

    def drop_all(
        self, topic: str, items: Sequence[Item], *, in_line: bool = True
    ) -> None:
        """Count off items of one lane.

        Args:
            topic: The lane of all of them.
            items: Each was added.
            in_line: As they were added with.
        """
        share, count = self._shares[topic], len(items)
        if in_line:
            share.count -= count
            share.taken += count
        size = sum([item.payload_bytes for item in items]) + count * _OVERHEAD_BYTES
        share.bytes -= size
        self.bytes -= size

    def seen(self, priority: Priority, sizes: Sequence[int]) -> None:
        """Learn from a fetch how large the records of a priority are.

        Args:
            priority: Whose lanes were fetched.
            sizes: Bytes of each payload; at least one.
        """
        # Up at once and down slowly: the next records may be as large again.
        mean, kept = sum(sizes) / len(sizes), _KEPT ** len(sizes)
        self._mean[priority] = max(
            mean, kept * self._mean[priority] + (1 - kept) * mean
        )

    @property
    def started(self) -> int:
        """Records that left their line so far."""
        return sum(share.taken for share in self._shares.values())

    def most(self, priority: Priority, closed: AbstractSet[str] = frozenset()) -> int:
        """How many records a fetch of this priority may ask for, >= 0.

        Args:
            priority: Of the lanes that are fetched together.
            closed: Lanes that are not fetched anyway.
        """
        topics = self._of[priority]
        limit = self._records * min(2, len(topics))
        room = _FETCH_MOST
        for topic in topics:
            if topic not in closed and topic not in self._rested:
                share = self._shares[topic]
                has_bytes = share.bytes < self._most_bytes
                room = min(room, limit - share.count if has_bytes else 0)
        by_bytes = max(1, int(_FETCH_BYTES / self._mean[priority]))
        return max(0, min(room, by_bytes))

    def full(self, now: float) -> frozenset[str]:
        """Topics that are not to be fetched now, while others of their priority are.

        Where all lanes of a priority are full nothing is fetched at all, and none of
        them is named. Nor is one whose line is through within `TURN_S`, since to stop
        reading a partition throws away what was read ahead.

        Args:
            now: Monotonic seconds.
        """
        found: set[str] = set()
        for topics in self._of.values():
            if len(topics) > 1:
                full = [one for one in topics if self._look(self._shares[one], now)]
                if len(full) < len(topics):
                    found.update(full)
        if found != self._rested:
            self._rested = frozenset(found)
        return self._rested

    def _look(self, share: _Share, now: float) -> bool:
        limit, most_bytes = 2 * self._records, self._most_bytes
        if share.since is None:
            if share.count >= limit:
                share.since, share.mark = now, share.taken
            share.is_full = share.bytes >= most_bytes // (2 if share.is_full else 1)
        elif share.count < limit // 2:
            share.since, share.is_full = None, share.bytes >= most_bytes
        elif not share.is_full and now - share.since >= TURN_S:
            share.is_full = share.taken - share.mark < limit
            share.since, share.mark = now, share.taken
        return share.is_full

    @property
    def _most_bytes(self) -> int:
        """What one lane may have now."""
        return self._even if self.bytes >= self._budget else self._budget // 2
