"""Fetches records, reads them, and lets them stand in line.

No more is fetched than there is room for, in records and in bytes; a lane that is full
is not fetched while others of its priority are. What cannot be read ends here, and what
came before its due time is held for the last piece of its delay, or goes back to the
log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shifter.model.priority import Priority
from shifter.policy.delivery.delay import TIERS_S
from shifter.ports import Clock, Delivery, LaneFeed, sleep_or_wake
from shifter.work.buffer import Buffer
from shifter.work.completer import Completer
from shifter.work.delay_queue import DelayQueue
from shifter.work.item import Item, ItemReader, Unreadable
from shifter.work.job_observer import JobObserver
from shifter.work.lane_gate import LaneGate
from shifter.work.next_step import Moment, NextStep, NextSteps
from shifter.work.waiting_limits import TURN_S, WaitingLimits

_FETCH_WAIT_S = 0.5
_HELD_MOST_MS = TIERS_S[0] * 1_000 + 500
_LATER_MS = 60_000
"""When those come again of which too many wait for a quiet time here."""


class FetcherParts(NamedTuple):
    """Where records go.

    Attributes:
        buffer: To stand in line.
        holding: To wait for the last piece of a delay.
        ending: To end without a run.
        verdicts: Say how.
        ledger: Hears of what was lost.
        doors: Say what has to wait.
        room: Says how much more may be fetched.
    """

    buffer: Buffer
    holding: DelayQueue
    ending: Completer
    verdicts: NextSteps
    ledger: JobObserver
    doors: LaneGate
    room: WaitingLimits


class Fetcher:
    """See above. Owned by one event loop.

    Args:
        parts: Where records go.
        reader: Makes items of them.
        arrived: Called when something may start.
        moment: The instant, and a draw.
        clock: Reads and waits.
    """

    def __init__(
        self,
        parts: FetcherParts,
        reader: ItemReader,
        *,
        arrived: Callable[[], None],
        moment: Callable[[], Moment],
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._parts, self._reader = parts, reader
        self._arrived, self._moment = arrived, moment
        self._is_stopping = False
        self._room = asyncio.Event()

    def stop(self) -> None:
        """Fetch no more."""
        self._is_stopping = True
        self._room.set()

    def made_room(self) -> None:
        """Items left the line."""
        # A lane that is full no more is read again while a fetch waits for others.
        self._look()
        self._room.set()

    def _look(self) -> None:
        self._parts.doors.set_full(self._parts.room.full(self._clock.monotonic()))

    async def run(self, priority: Priority, feed: LaneFeed) -> None:
        """Fetch the lanes of one priority until `stop`."""
        parts = self._parts
        while not self._is_stopping:
            self._look()
            most = parts.room.most(priority, parts.buffer.closed)
            if most <= 0:
                self._room.clear()
                await sleep_or_wake(self._clock, TURN_S, self._room)
                continue
            batch = await feed.fetch(most, wait_s=_FETCH_WAIT_S)
            if batch and not self._is_stopping:
                sizes = sum(len(one.value or b"") for one in batch)
                parts.room.seen(priority, sizes / len(batch))
                self._enter(batch, feed)
            for lost_range in feed.losses():
                parts.ledger.lost(lost_range)

    def _enter(self, batch: Sequence[Delivery], feed: LaneFeed) -> None:
        moment, parts, verdicts = self._moment(), self._parts, self._parts.verdicts
        doors, put, now = parts.doors, parts.buffer.put, moment.monotonic
        for delivery in batch:
            entry = self._reader.read(delivery, feed, moment.now)
            if isinstance(entry, Unreadable):
                self._refuse(entry, moment)
                continue
            if entry.read.dropped:
                parts.ledger.headers_dropped(entry)
            if (due_ms := doors.due_ms(entry, moment.now)) > moment.now:
                self._early(entry, due_ms, moment)
            elif entry.is_opportunistic and doors.is_crowded(entry):
                self._send_back(
                    entry, verdicts.postponed(entry, moment.now + _LATER_MS)
                )
            else:
                put(entry, now=now)
        doors.arrived()
        self._arrived()

    def _refuse(self, entry: Unreadable, moment: Moment) -> None:
        parts = self._parts
        if entry.feed.begin([entry.delivery]):
            parts.ending.add(parts.verdicts.refused(entry, entry.refusal, None, moment))

    def _early(self, item: Item, due_ms: int, moment: Moment) -> None:
        """Hold the last piece of a delay; send a longer one back to the log."""
        wait_ms, parts = due_ms - moment.now, self._parts
        if wait_ms <= _HELD_MOST_MS:
            parts.holding.hold(item, until=moment.monotonic + wait_ms / 1_000)
        else:
            self._send_back(item, parts.verdicts.put_off(item, due_ms))

    def _send_back(self, item: Item, step: NextStep) -> None:
        if item.feed.begin([item.delivery]):
            self._parts.ending.add(step)
