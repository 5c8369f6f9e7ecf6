"""Items that were fetched and may start: a queue for each lane, keys kept in order.

A lane has two queues: items that start as soon as a slot is free, and opportunistic
items that wait for a quiet time. No item leaves the queues of a closed lane.

An ordering key is *busy* from the moment its first item is queued until that item has
ended. Later items of the key are parked behind it, so that a retry in place delays its
key and no other item. Parked items do not count as records of the lane, but their
bytes count (`shifter.work.waiting_limits`).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from shifter.model.lane import Lane, Priority
from shifter.policy.schedule.lane_choice import (
    LaneChoicePolicy,
    LaneChoiceState,
    charge,
    choose,
)
from shifter.work.deadline_queue import DeadlineQueue
from shifter.work.item import NOT_IN_LINE, Item
from shifter.work.slot_time import SlotTime
from shifter.work.waiting_limits import WaitingLimits


class LaneBacklog(NamedTuple):
    """One lane's queue, as the choice of the next lane sees it.

    Attributes:
        priority: The lane's.
        waiting: Items in the queue, > 0.
        head_age_ms: How long the first item has waited, >= 0.
    """

    priority: Priority
    waiting: int
    head_age_ms: int


class Buffer:
    """Queues of items that may start. Owned by one event loop.

    Args:
        lanes: Lanes served, by topic.
        limits: Counts what waits here.
        choice: How slots are shared; ``None`` for the default weights.

    Attributes:
        closed: Topics of lanes that start no items now.
    """

    def __init__(
        self,
        lanes: Mapping[str, Lane],
        limits: WaitingLimits,
        choice: LaneChoicePolicy | None = None,
    ) -> None:
        serials = itertools.count()
        self._lines = {topic: DeadlineQueue(serials) for topic in lanes}
        self._quiet = {topic: DeadlineQueue(serials) for topic in lanes}
        self._priority = {topic: lane.priority for topic, lane in lanes.items()}
        self._count = dict.fromkeys(Priority, 0)
        self._quiet_count = 0
        self._limits = limits
        self._choice = LaneChoicePolicy() if choice is None else choice
        self._chosen = LaneChoiceState()
        self._slot_time = SlotTime(lanes)
        self._waited = frozenset[str]()
        self._parked: dict[tuple[str, str], deque[Item]] = {}
        # How many items may start of lanes that are paced.
        self._allowed: dict[str, int] = {}
        self.closed: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return sum(self._count.values()) + self._quiet_count

    @property
    def ready(self) -> int:
        """Items that may start as soon as there is a slot."""
        ready = sum(self._count.values())
        for topic in self.closed:
            ready -= len(self._lines[topic])
        if self._allowed:
            ready -= sum(
                len(self._lines[topic]) - self._startable(topic)
                for topic in self._allowed.keys() - self.closed
            )
        return ready

    def _startable(self, topic: str) -> int:
        """Items of one lane that may start; fewer where the lane is paced."""
        line = self._lines[topic]
        allowed = self._allowed.get(topic)
        waiting = len(line)
        return (
            waiting if allowed is None or not line.is_dated else min(waiting, allowed)
        )

    def allow(self, total: int | None, topics: Iterable[str] = ()) -> None:
        """Let no more items with a deadline start of some lanes, until the next call.

        The lane with the earliest deadline comes first.

        Args:
            total: How many of all these lanes together, >= 0; ``None`` for any number.
            topics: The lanes.
        """
        self._allowed = {}
        if total is None:
            return
        lines = self._lines
        never = float("inf")
        for topic in sorted(topics, key=lambda t: lines[t].next_deadline_ms or never):
            share = 0 if topic in self.closed else min(total, len(lines[topic]))
            self._allowed[topic] = share
            total -= share if lines[topic].is_dated else 0

    def deadlines_ms(self, topics: Iterable[str]) -> list[int]:
        """Deadlines of what waits in lanes of which every item has one, in no order."""
        lines = [self._lines[t] for t in topics if t not in self.closed]
        return [at for line in lines if line.is_dated for at in line.deadlines_ms()]

    @property
    def quiet(self) -> int:
        """Items that wait for a quiet time, on lanes that are not closed."""
        if not self._quiet_count:
            return 0
        return self._quiet_count - sum(len(self._quiet[t]) for t in self.closed)

    def quiet_on(self, topic: str) -> int:
        """Items of one lane that wait for a quiet time."""
        return len(self._quiet[topic])

    def put(self, item: Item, *, now: float) -> None:
        """Queue an item: in the place that it had, if it was taken before.

        A fetched item is parked behind the running item of its key.
        """
        if item.key_id is not None and item.ready_at == NOT_IN_LINE:
            parked = self._parked.get(item.key_id)
            if parked is not None:
                parked.append(item)
                self._limits.add(item, in_line=False)
                return
            self._parked[item.key_id] = deque()
        self._enter(item, now)

    def choose(self, slots: int, *, now: float) -> list[Item]:
        """Take the items that start next, at most ``slots``.

        Each of them holds a slot until `left`.
        """
        backlog, slot_time = self.backlog(now=now), self._slot_time
        if owed := slot_time.owed(now):
            waiting: dict[Priority, list[str]] = {}
            for topic in self._waited & backlog.keys():
                waiting.setdefault(self._priority[topic], []).append(topic)
            self._chosen = charge(self._choice, self._chosen, owed, waiting)
        if backlog.keys() - self._waited:
            # Among equals, a lane that just began to wait goes first.
            backlog = dict(sorted(backlog.items(), key=lambda x: x[0] in self._waited))
        costs = slot_time.costs(backlog.keys(), now)
        self._waited = frozenset(backlog)
        self._chosen, picks = choose(self._choice, self._chosen, backlog, slots, costs)
        taken = self.take(picks)
        if self._allowed:
            self._count_off(taken)
        slot_time.took(taken, now)
        return taken

    def _count_off(self, taken: Sequence[Item]) -> None:
        """Lower what may start until the next call of `allow`."""
        for item in taken:
            topic = item.delivery.topic
            if (left := self._allowed.get(topic)) is not None:
                self._allowed[topic] = max(0, left - 1)

    def left(self, item: Item, *, now: float) -> None:
        """Note that an item of `choose` has freed its slot; other items are ignored."""
        self._slot_time.left(item, now)

    def take(self, picks: Sequence[tuple[str, int]]) -> list[Item]:
        """Take items from the heads of queues: ``count`` of each ``topic``."""
        taken: list[Item] = []
        for topic, count in picks:
            found = self._lines[topic].take(count)
            self._count[self._priority[topic]] -= len(found)
            self._limits.drop_all(topic, found)
            taken += found
        return taken

    def take_last(
        self, topic: str, count: int, may_leave: Callable[[Item], bool]
    ) -> list[Item]:
        """Take items from the end of a queue, which hold no slot.

        Args:
            topic: Its lane.
            count: The most.
            may_leave: Whether an item may be taken; others keep their places.
        """
        found = self._lines[topic].take_last(count, may_leave)
        self._count[self._priority[topic]] -= len(found)
        self._limits.drop_all(topic, found)
        return found

    @property
    def urgent_first(self) -> list[str]:
        """The topics of open lanes on which items wait, the most urgent first."""
        found = [
            topic
            for topic, line in self._lines.items()
            if len(line) and topic not in self.closed
        ]
        return sorted(found, key=lambda topic: -self._priority[topic].rank)

    def take_quiet(self, picks: Sequence[tuple[str, int]]) -> list[Item]:
        """Take opportunistic items from the heads of queues, as `take` does."""
        taken: list[Item] = []
        for topic, count in picks:
            found = self._quiet[topic].take(count)
            self._limits.drop_all(topic, found, in_line=False)
            taken += found
        self._quiet_count -= len(taken)
        return taken

    def hurry(self, before_ms: int) -> None:
        """Let opportunistic items start whose deadline comes before an instant."""
        if not self._quiet_count:
            return
        for topic, line in self._quiet.items():
            if topic in self.closed:
                continue
            for item in line.take_due(len(line), before_ms):
                self._quiet_count -= 1
                self._limits.drop(item, in_line=False)
                self._limits.add(item)
                self._lines[topic].put(item)
                self._count[self._priority[topic]] += 1

    def release(self, item: Item, *, now: float) -> None:
        """Note that an item ended or left: the next one of its key may start."""
        if item.key_id is None:
            return
        parked = self._parked[item.key_id]
        if parked:
            following = parked.popleft()
            self._limits.drop(following, in_line=False)
            self._enter(following, now)
        else:
            del self._parked[item.key_id]

    def backlog(self, *, now: float) -> dict[str, LaneBacklog]:
        """The queues that are open and not empty, by topic."""
        found = self._backlog(self._lines, now)
        for topic in self._allowed.keys() & found.keys():
            if startable := self._startable(topic):
                found[topic] = found[topic]._replace(waiting=startable)
            else:
                del found[topic]
        return found

    def quiet_backlog(self, *, now: float) -> dict[str, LaneBacklog]:
        """The queues of opportunistic items that are open and not empty, by topic."""
        return self._backlog(self._quiet, now) if self._quiet_count else {}

    def lateness_ms(self, *, now: float) -> int:
        """How long the oldest item above LOW has been ready; 0 without one."""
        return max(
            (
                lane.head_age_ms
                for lane in self.backlog(now=now).values()
                if lane.priority is not Priority.LOW
            ),
            default=0,
        )

    @property
    def next_deadline_ms(self) -> int | None:
        """The earliest deadline of opportunistic items; ``None`` where none has one."""
        if not self._quiet_count:
            return None
        found = (line.next_deadline_ms for line in self._quiet.values())
        return min((at for at in found if at is not None), default=None)

    def clear(self) -> int:
        """Forget all items that have not started; returns their number."""
        forgotten = len(self) + sum(map(len, self._parked.values()))
        for lines in (self._lines, self._quiet):
            for line in lines.values():
                line.clear()
        # A key stays busy until its item that runs has ended.
        for parked in self._parked.values():
            parked.clear()
        self._count, self._quiet_count = dict.fromkeys(Priority, 0), 0
        return forgotten

    def _backlog(
        self, lines: Mapping[str, DeadlineQueue], now: float
    ) -> dict[str, LaneBacklog]:
        return {
            topic: LaneBacklog(
                self._priority[topic], len(line), int((now - line.ready_at) * 1_000)
            )
            for topic, line in lines.items()
            if len(line) and topic not in self.closed
        }

    def _enter(self, item: Item, now: float) -> None:
        item.ready_at = now
        topic = item.delivery.topic
        if item.is_opportunistic:
            self._limits.add(item, in_line=False)
            self._quiet[topic].put(item)
            self._quiet_count += 1
        else:
            self._limits.add(item)
            self._lines[topic].put(item)
            self._count[self._priority[topic]] += 1
