"""Moves jobs that would wait in this worker to workers with free slots.

It happens where the log gives each partition to one worker, and only while all slots of
this worker are taken. What the others have room for is in their reports of presence;
while the state store is away nothing is moved. Jobs with an ordering key stay: their
partition is their order. The rules are `shifter.policy.delivery.load_sharing`.

A job is moved as a postponed one is: its record is appended again, to a partition of
the other worker, and then settled here. A crash in between leaves both records, and the
claim store lets the job take effect once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from shifter.errors import StoreError
from shifter.policy.delivery.load_sharing import (
    Room,
    SharingPolicy,
    WorkerLoad,
    targets,
)
from shifter.ports import WorkerReport, sleep_or_wake
from shifter.work.completer import Completer
from shifter.work.item import Item
from shifter.work.state import DrainState

_TURN_S: Final = 0.005
"""Between two moves, so that jobs that come one by one are moved together."""
_LOOK_S: Final = 0.25
"""How often a worker that stays full looks again, when nothing else wakes it."""
_PER_WORKER_S: Final = 0.05
"""Reports are read no sooner again than this, for each of them: a hundred workers
without free slots read them every 5 s."""
_MEASURED_S: Final = 1.0
"""How long starts are counted for their rate."""


class LoadSharing:
    """Moves jobs to other workers. Owned by one event loop.

    Args:
        state: What the stages of the drain share.
        completer: Appends and settles what is moved.
        owner: This worker's id.
        reports: Reads the reports of all workers; ``None`` where nothing is moved.
        free: How many slots are free.
        seed: Of the draws; ``None`` from the system.
    """

    def __init__(
        self,
        state: DrainState,
        completer: Completer,
        *,
        owner: str,
        reports: Callable[[], Awaitable[Sequence[WorkerReport]]] | None,
        free: Callable[[], int],
        seed: int | None = None,
    ) -> None:
        self._state, self._completer = state, completer
        self._owner, self._reports, self._free = owner, reports, free
        self._random = random.Random(seed)  # noqa: S311  # a draw, no secret
        self._policy, self._full = SharingPolicy(), asyncio.Event()
        self._room, self._room_until = Room([]), 0.0
        self._since, self._mark = state.clock.monotonic(), 0
        self._moved, self._per_s = 0, 0.0

    def look(self) -> None:
        """Note that jobs may wait; call it when nothing more can start."""
        if self._reports is not None and self._free() <= 0 and self._state.buffer.ready:
            self._full.set()

    async def run(self) -> None:
        """Move jobs until cancelled."""
        clock = self._state.clock
        while True:
            await self._full.wait()
            self._full.clear()
            while self._excess() > 0:
                room = await self._known()
                self._move(room)
                left_s = self._room_until - clock.monotonic()
                await clock.sleep(_TURN_S if room else max(_TURN_S, left_s))
                await sleep_or_wake(clock, _LOOK_S, self._full)
                self._full.clear()

    def _excess(self) -> int:
        """How many jobs wait here and do not start soon; 0 while a slot is free."""
        state = self._state
        now, started = state.clock.monotonic(), state.limits.started - self._moved
        passed_s = now - self._since
        if passed_s >= _MEASURED_S:
            self._per_s = (started - self._mark) / passed_s
            self._since, self._mark = now, started
        if self._free() > 0:
            return 0
        return state.buffer.ready - self._policy.keep(self._per_s)

    async def _known(self) -> Room:
        """What the other workers have room for, as of their last reports."""
        clock = self._state.clock
        if self._reports is None or clock.monotonic() < self._room_until:
            return self._room
        try:
            reports = await self._reports()
        except StoreError:
            reports = ()
        for_s = max(self._policy.known_s, len(reports) * _PER_WORKER_S)
        others = [load_of(one) for one in reports if one.worker_id != self._owner]
        mine = [one.partitions for one in reports if one.worker_id == self._owner]
        self._room = Room(targets(others, mine[0] if mine else {}, for_s=for_s))
        self._room_until = clock.monotonic() + for_s
        return self._room

    def _move(self, room: Room) -> None:
        state, excess = self._state, self._excess()
        for topic in state.buffer.urgent_first:
            count = min(excess, room.of(topic))
            if count <= 0:
                continue
            moved = self._owned(state.buffer.take_last(topic, count, _may_move))
            for item in moved:
                partition = room.take(topic, self._random.random())
                self._completer.add(state.next_steps.moved(item, partition))
            excess -= len(moved)

    def _owned(self, items: Sequence[Item]) -> list[Item]:
        self._moved += len(items)
        return [item for item in items if item.feed.begin([item.delivery])]


def _may_move(item: Item) -> bool:
    """Whether an item has no order to keep, and can run elsewhere as well as here."""
    is_keyless = item.key_id is None and item.delivery.key is None
    return is_keyless and not item.fence and item.refusal is None


def load_of(report: WorkerReport) -> WorkerLoad:
    """The load that a worker reports."""
    return WorkerLoad(
        report.concurrency,
        sum(report.running.values()),
        sum(report.rate_per_s.values()),
        sum(report.busy.values()),
        report.partitions,
        takes_jobs=not report.is_draining,
    )
