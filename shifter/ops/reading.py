"""Reads the overview of a namespace again and again, also while a store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn

from shifter.config import Settings
from shifter.errors import ShifterError
from shifter.model.time import Monotonic
from shifter.ops.answers import RecentShed
from shifter.ops.status import Overview, StatusSources, open_sources, read_overview
from shifter.ports import Clock

_EVERY_S: Final = 1.0
_SHARE: Final = 10
"""Seconds between two readings for each second that one takes: a large namespace is
read less often instead of costing more."""
_MOST_S: Final = 30.0
"""Longest time between two readings."""
_NOTES: Final = 8
"""Parts of one reading that are reported as missing."""


class Reading(NamedTuple):
    """What is known of a namespace.

    Attributes:
        overview: The last one that could be read; ``None`` before the first.
        read_at: When it was read, monotonic seconds.
        failure: Why the last attempt failed; ``None`` if it did not.
        notes: Parts that the last attempt could not read, and why.
        shed_lately: Jobs shed within the last minute.
        every_s: Seconds from one reading to the next.
    """

    overview: Overview | None = None
    read_at: Monotonic = Monotonic(0.0)
    failure: str | None = None
    notes: tuple[str, ...] = ()
    shed_lately: int = 0
    every_s: float = _EVERY_S


class Reader:
    """Reads the overview of a namespace until its task is cancelled.

    Args:
        settings: Name the log, and the state store if there is one.
        clock: Paces the readings.
        changed: Called after each attempt.

    Attributes:
        reading: What is known now.
        is_on: Cleared while no new reading is wanted.
    """

    def __init__(
        self, settings: Settings, clock: Clock, changed: Callable[[], None]
    ) -> None:
        self._settings, self._clock, self._changed = settings, clock, changed
        self._notes: list[str] = []
        self._shed = RecentShed()
        self.reading = Reading()
        self.is_on = asyncio.Event()
        self.is_on.set()

    async def run(self) -> NoReturn:
        """Read; after a failure connect anew."""
        while True:
            try:
                async with open_sources(
                    self._settings, self._clock, self._note
                ) as sources:
                    while True:
                        await self._read(sources)
            except ShifterError as error:
                self.reading = self.reading._replace(failure=str(error))
                self._changed()
                await self._pause()

    async def _read(self, sources: StatusSources) -> None:
        self._notes.clear()
        began = self._clock.monotonic()
        overview = await read_overview(sources)
        now = self._clock.monotonic()
        self._shed.note(overview)
        self.reading = Reading(
            overview=overview,
            read_at=now,
            notes=tuple(dict.fromkeys(self._notes)),
            shed_lately=self._shed.count,
            every_s=min(_MOST_S, max(_EVERY_S, (now - began) * _SHARE)),
        )
        self._changed()
        await self._pause()

    async def _pause(self) -> None:
        await self._clock.sleep(self.reading.every_s)
        await self.is_on.wait()

    def _note(self, text: str) -> None:
        if len(self._notes) < _NOTES:
            self._notes.append(text)
