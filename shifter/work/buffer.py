"""What was fetched and may start: one line of items per lane, and the order of keys.

An ordering key is *busy* from the moment its first item stands in line until that item
ended; later items of the key are parked behind it, so that a retry in place holds up
its key and nothing else. Parked items do not count as room taken: the log's own window
bounds them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shifter.model.lane import Lane
from shifter.model.priority import Priority
from shifter.work.item import Item


class LaneBacklog(NamedTuple):
    """One lane's line, for the choice of the next lane.

    Attributes:
        priority: The lane's.
        waiting: Items in line, > 0.
        head_age_ms: How long the first one has stood there, >= 0.
    """

    priority: Priority
    waiting: int
    head_age_ms: int


class Buffer:
    """Lines of items that may start. Owned by one event loop.

    Args:
        lanes: Lanes served, by topic.
        limit: Items in line per priority above which nothing more is fetched, > 0.
    """

    def __init__(self, lanes: Mapping[str, Lane], *, limit: int) -> None:
        self._lines: dict[str, deque[Item]] = {topic: deque() for topic in lanes}
        self._priority = {topic: lane.priority for topic, lane in lanes.items()}
        self._count = dict.fromkeys(Priority, 0)
        self._limit = limit
        self._parked: dict[tuple[str, str], deque[Item]] = {}

    def room(self, priority: Priority) -> int:
        """How many more items of this priority fit, >= 0."""
        return max(0, self._limit - self._count[priority])

    def __len__(self) -> int:
        return sum(self._count.values())

    def put(self, item: Item, *, now: float) -> None:
        """Let a fetched item stand in line, or park it behind its key."""
        if item.key_id is not None:
            parked = self._parked.get(item.key_id)
            if parked is not None:
                parked.append(item)
                return
            self._parked[item.key_id] = deque()
        self._enter(item, now=now, first=False)

    def put_back(self, item: Item, *, now: float) -> None:
        """Let an item that was taken before stand first in its line again."""
        self._enter(item, now=now, first=True)

    def take(self, picks: Sequence[tuple[str, int]]) -> list[Item]:
        """Take items from the heads of lines, as (topic, count) says."""
        taken: list[Item] = []
        for topic, count in picks:
            line = self._lines[topic]
            number = min(count, len(line))
            self._count[self._priority[topic]] -= number
            taken += [line.popleft() for _ in range(number)]
        return taken

    def release(self, item: Item, *, now: float) -> None:
        """Say that an item ended, or left: the next of its key may start."""
        if item.key_id is None:
            return
        parked = self._parked[item.key_id]
        if parked:
            self._enter(parked.popleft(), now=now, first=True)
        else:
            del self._parked[item.key_id]

    def backlog(self, *, now: float) -> dict[str, LaneBacklog]:
        """The lines that are not empty, by topic."""
        return {
            topic: LaneBacklog(
                self._priority[topic],
                len(line),
                int((now - line[0].ready_at) * 1_000),
            )
            for topic, line in self._lines.items()
            if line
        }

    def clear(self) -> int:
        """Forget everything that has not started; returns how many items that was."""
        forgotten = len(self) + sum(map(len, self._parked.values()))
        for line in self._lines.values():
            line.clear()
        # A key stays busy until its item that runs has ended.
        for parked in self._parked.values():
            parked.clear()
        self._count = dict.fromkeys(Priority, 0)
        return forgotten

    def _enter(self, item: Item, *, now: float, first: bool) -> None:
        item.ready_at = now
        line = self._lines[item.delivery.topic]
        line.appendleft(item) if first else line.append(item)
        self._count[self._priority[item.delivery.topic]] += 1
