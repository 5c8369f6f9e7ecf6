"""Fetches records of the log, reads them, and queues them.

A fetch asks for no more than may wait here, in records and in bytes. A full lane is not
fetched while other lanes of its priority are. A record that cannot be read ends here. A
record that came before its due time is held if the rest of its delay is short, else it
goes back to the log.

Where processes compete for records, idle workers come first: a worker whose slots are
all taken leaves new records to the others for a moment, and none fetches more than it
starts within a second. Else a slow worker would fetch its share of the records, and
they would wait for its slots while other workers have nothing to do. Source: the
prefetch count of AMQP, by time instead of by number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from shifter.model.lane import Priority
from shifter.policy.delivery.delay import TIERS_S
from shifter.ports import Delivery, LaneFeed, sleep_or_wake
from shifter.work.completer import Completer
from shifter.work.item import Item, ItemReader, Unreadable
from shifter.work.next_step import Moment, NextStep
from shifter.work.state import DrainState
from shifter.work.waiting_limits import TURN_S

_FETCH_WAIT_S: Final = 0.5
_HELD_MOST_MS: Final = TIERS_S[0] * 1_000 + 500
"""Delays up to the shortest delay tier are waited for here: the log has no shorter."""
_IDLE_FIRST_S: Final = 0.1
"""How long a full worker leaves records to others: an idle one takes them in 10 ms."""
_AHEAD_S: Final = 1.0
"""A worker fetches no more than it starts in this time, so none waits longer."""
_MEASURED_S: Final = 0.25
"""How long starts are counted: a backlog is fetched at full speed after half a second.
"""
_LATER_MS: Final = 60_000
"""How long opportunistic items wait in the log while too many wait in memory."""


class _Pace:
    """How many items start in `_AHEAD_S`. Owned by one event loop.

    Args:
        now: Monotonic seconds.
    """

    def __init__(self, now: float) -> None:
        self._since, self._mark, self._found = now, 0, 0

    def ahead(self, now: float, started: int) -> int:
        """As many as started in the last interval that ended; 0 before its end.

        Args:
            now: Monotonic seconds.
            started: Items that have started so far.
        """
        passed_s = now - self._since
        if passed_s >= _MEASURED_S:
            self._found = int((started - self._mark) * _AHEAD_S / passed_s)
            self._since, self._mark = now, started
        return self._found


class Fetcher:
    """Fetches the lanes of a worker. Owned by one event loop.

    Args:
        state: What the stages of the drain share.
        completer: Ends what is not run.
        reader: Makes items of deliveries.
        arrived: Called when something may start.
        free: How many slots are free.
    """

    def __init__(
        self,
        state: DrainState,
        completer: Completer,
        reader: ItemReader,
        *,
        arrived: Callable[[], None],
        free: Callable[[], int],
    ) -> None:
        self._free, self._pace = free, _Pace(state.clock.monotonic())
        self._state, self._completer = state, completer
        self._reader, self._arrived = reader, arrived
        self._is_stopping = self._is_yielding = False
        self._room = asyncio.Event()
        self._polled_at: dict[Priority, float] = {}

    def stop(self) -> None:
        """Stop fetching."""
        self._is_stopping = True
        self._room.set()

    @property
    def unpolled_s(self) -> float:
        """Seconds since the priority was polled that was polled longest ago."""
        now = self._state.clock.monotonic()
        return now - min(self._polled_at.values(), default=now)

    def made_room(self) -> None:
        """Note that items have started or ended, so that more may be fetched."""
        # A lane that is full no longer is read again while a fetch waits for others.
        self._look()
        self._room.set()

    def look_again(self) -> None:
        """Note that a slot may be free."""
        if self._is_yielding:
            self._room.set()

    def _look(self) -> None:
        state = self._state
        state.lane_gate.set_full(state.limits.full(state.clock.monotonic()))

    async def run(self, priority: Priority, feed: LaneFeed) -> None:
        """Fetch the lanes of one priority until `stop`."""
        state = self._state
        self._polled_at[priority] = state.clock.monotonic()
        while not self._is_stopping:
            self._look()
            most = state.limits.most(priority, state.buffer.closed)
            # No record is fetched that could not wait here.
            if most <= 0:
                self._room.clear()
                await sleep_or_wake(state.clock, TURN_S, self._room)
                continue
            wait_s = _FETCH_WAIT_S
            if feed.competes():
                most, wait_s = await self._idle_first(most)
                if not most:
                    self._polled_at[priority] = state.clock.monotonic()
                    continue
            batch = await feed.fetch(most, wait_s=wait_s)
            self._polled_at[priority] = state.clock.monotonic()
            if batch and not self._is_stopping:
                state.limits.seen(priority, [len(one.value or b"") for one in batch])
                self._enter(batch, feed)
            for lost_range in feed.losses():
                state.observer.lost(lost_range)

    async def _idle_first(self, most: int) -> tuple[int, float]:
        """Let idle workers fetch first, if this one is full.

        Args:
            most: How many records may be fetched.

        Returns:
            How many to fetch, and how long to wait for them.
        """
        clock, wait_s = self._state.clock, _FETCH_WAIT_S
        until = clock.monotonic() + _IDLE_FIRST_S
        while self._spare <= 0 and not self._is_stopping:
            left_s = until - clock.monotonic()
            if left_s <= 0:
                wait_s = 0.0  # what nobody took by now, and nothing that comes later
                break
            self._room.clear()
            self._is_yielding = True
            await sleep_or_wake(clock, left_s, self._room)
        self._is_yielding = False
        state = self._state
        ahead = self._pace.ahead(clock.monotonic(), state.limits.started)
        return min(most, max(0, self._spare, ahead - state.buffer.ready)), wait_s

    @property
    def _spare(self) -> int:
        """Slots that nothing waits for."""
        return self._free() - self._state.buffer.ready

    def _enter(self, batch: Sequence[Delivery], feed: LaneFeed) -> None:
        state, moment = self._state, self._state.moment()
        gate, put, now = state.lane_gate, state.buffer.put, moment.monotonic
        for delivery in batch:
            entry = self._reader.read(delivery, feed, moment.now)
            if isinstance(entry, Unreadable):
                self._refuse(entry, moment)
                continue
            if entry.read.dropped:
                state.observer.headers_dropped(entry)
            if (due_ms := gate.due_ms(entry, moment.now)) > moment.now:
                self._early(entry, due_ms, moment)
            elif entry.is_opportunistic and gate.is_crowded(entry):
                later_ms = moment.now + _LATER_MS
                self._send_back(entry, state.next_steps.postponed(entry, later_ms))
            else:
                put(entry, now=now)
        gate.arrived()
        self._arrived()

    def _refuse(self, entry: Unreadable, moment: Moment) -> None:
        if entry.feed.begin([entry.delivery]):
            steps = self._state.next_steps
            self._completer.add(steps.refused(entry, entry.refusal, None, moment))

    def _early(self, item: Item, due_ms: int, moment: Moment) -> None:
        """Hold an item for a short rest of its delay; send it back to the log else."""
        wait_ms, state = due_ms - moment.now, self._state
        if wait_ms <= _HELD_MOST_MS:
            state.delayed.hold(item, until=moment.monotonic + wait_ms / 1_000)
        else:
            self._send_back(item, state.next_steps.put_off(item, due_ms))

    def _send_back(self, item: Item, step: NextStep) -> None:
        if item.feed.begin([item.delivery]):
            self._completer.add(step)
