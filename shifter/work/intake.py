"""Fetches records, reads them, and lets them stand in line.

No more is fetched than there is room for. What cannot be read ends here, and what came
before its due time is held for the last piece of its delay, or goes back to the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shifter.model.priority import Priority
from shifter.policy.delay import TIERS_S
from shifter.ports import Delivery, LaneFeed
from shifter.work.buffer import Buffer
from shifter.work.ending import Ending
from shifter.work.holding import Holding
from shifter.work.item import Item, Reader, Unreadable
from shifter.work.ledger import Ledger
from shifter.work.verdict import Moment, Verdicts

_FETCH_WAIT_S = 0.5
_FETCH_MOST = 1_000
_HELD_MOST_MS = TIERS_S[0] * 1_000 + 500


class IntakeParts(NamedTuple):
    """Where records go.

    Attributes:
        buffer: To stand in line.
        holding: To wait for the last piece of a delay.
        ending: To end without a run.
        verdicts: Say how.
        ledger: Hears of what was lost.
    """

    buffer: Buffer
    holding: Holding
    ending: Ending
    verdicts: Verdicts
    ledger: Ledger


class Intake:
    """See above. Owned by one event loop.

    Args:
        parts: Where records go.
        reader: Makes items of them.
        arrived: Called when something may start.
        moment: The instant, and a draw.
    """

    def __init__(
        self,
        parts: IntakeParts,
        reader: Reader,
        *,
        arrived: Callable[[], None],
        moment: Callable[[], Moment],
    ) -> None:
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
        self._room.set()

    async def run(self, priority: Priority, feed: LaneFeed) -> None:
        """Fetch the lanes of one priority until `stop`."""
        parts = self._parts
        while not self._is_stopping:
            room = parts.buffer.room(priority) - len(parts.holding)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            batch = await feed.fetch(min(room, _FETCH_MOST), wait_s=_FETCH_WAIT_S)
            if batch and not self._is_stopping:
                self._enter(batch, feed)
            for lost_range in feed.losses():
                parts.ledger.lost(lost_range)

    def _enter(self, batch: Sequence[Delivery], feed: LaneFeed) -> None:
        moment = self._moment()
        for delivery in batch:
            entry = self._reader.read(delivery, feed, moment.now)
            if isinstance(entry, Unreadable):
                self._refuse(entry, moment)
                continue
            if (due_ms := entry.due_ms(moment.now)) > moment.now:
                self._early(entry, due_ms, moment)
            else:
                self._parts.buffer.put(entry, now=moment.monotonic)
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
        elif item.feed.begin([item.delivery]):
            parts.ending.add(parts.verdicts.postponed(item, due_ms))
