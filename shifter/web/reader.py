"""One reader of the namespace's state for all open pages of a process.

It reads every second while a page is open, every ten seconds otherwise, and never more
than one sixtieth of the time: a large namespace is read less often instead of costing
more. After an action it reads at once. A page is drawn from the last reading, so
neither a slow broker nor many pages slow it down.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Generator
from typing import Final, NamedTuple

from shifter.config import Settings
from shifter.errors import ShifterError
from shifter.model.time import Monotonic
from shifter.ops.status import Overview, open_sources, read_overview
from shifter.ports import Clock
from shifter.web.history import History

_WATCHED_S: Final = 1.0
_IDLE_S: Final = 10.0
_SHARE: Final = 60
"""Seconds between two readings for each second of processor time that one takes."""
_MOST_S: Final = 30.0
"""Longest time between two readings while a page is open."""
_NOTES: Final = 8
"""Parts of one reading that can be reported as missing."""


class Reading(NamedTuple):
    """What is known of the namespace now.

    Attributes:
        number: Of the attempt to read, from 1 on; 0 before the first.
        overview: The last state that could be read; ``None`` before the first.
        read_at: When it was read, monotonic seconds.
        failure: Why the last attempt failed; ``None`` if it did not.
        notes: Parts that the last attempt could not read, and why.
        every_s: Seconds from one reading to the next.
    """

    number: int = 0
    overview: Overview | None = None
    read_at: Monotonic = Monotonic(0.0)
    failure: str | None = None
    notes: tuple[str, ...] = ()
    every_s: float = _WATCHED_S

    def age_s(self, now: Monotonic) -> float:
        """Seconds since the state was read."""
        return max(0.0, now - self.read_at)

    def is_stale(self, now: Monotonic) -> bool:
        """Whether the state is older than two readings."""
        return self.overview is None or self.age_s(now) > 2 * self.every_s + 2.0


class SharedReader:
    """Reads the state again and again, in one task of the event loop that asks first.

    Args:
        settings: Name the log and the state store.
        clock: Paces the readings.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._notes: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self._asked, self._changed = asyncio.Event(), asyncio.Event()
        self._hurried = asyncio.Event()
        self.watchers = 0
        self.reading = Reading()
        self.history = History()

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        """Read every second while the block runs."""
        self.watchers += 1
        try:
            self._ask()
            yield
        finally:
            self.watchers -= 1

    async def fresh(self, *, within_s: float, wait_s: float) -> Reading:
        """The last reading, or the next one if the last is older.

        Args:
            within_s: Age of a reading that is young enough.
            wait_s: How long to wait for the next one at most.
        """
        now = self._clock.monotonic()
        if self.reading.overview is None or self.reading.age_s(now) > within_s:
            await self.after(self.reading.number, wait_s=wait_s)
        else:
            self._start()
        return self.reading

    async def after(self, number: int, *, wait_s: float) -> Reading:
        """The reading after that of a number, or the last one if none comes in time."""
        self._ask()
        return await self._later(number, wait_s=wait_s)

    async def at_once(self, *, wait_s: float) -> Reading:
        """A reading that begins now, since something was changed; or the last one."""
        number = self.reading.number
        self._ask()
        self._hurried.set()
        return await self._later(number, wait_s=wait_s)

    async def _later(self, number: int, *, wait_s: float) -> Reading:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self.reading.number <= number:
                    await self._changed.wait()
        return self.reading

    async def close(self) -> None:
        """Stop reading, and close the connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def _ask(self) -> None:
        self._start()
        self._asked.set()

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._asked, self._changed = asyncio.Event(), asyncio.Event()
            self._hurried = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                async with open_sources(
                    self._settings, self._clock, self._note
                ) as sources:
                    while True:
                        self._notes.clear()
                        began = time.process_time()
                        overview = await read_overview(sources)
                        self._succeeded(overview, time.process_time() - began)
                        await self._pause()
            except Exception as error:  # noqa: BLE001  # the page lives, and shows it
                is_known = isinstance(error, ShifterError)
                text = str(error) if is_known else f"{type(error).__name__}: {error}"
                self._publish(self.reading._replace(failure=text))
                await self._pause()

    def _succeeded(self, overview: Overview, cost_s: float) -> None:
        self.history.note(overview)
        self._publish(
            Reading(
                overview=overview,
                read_at=self._clock.monotonic(),
                notes=tuple(dict.fromkeys(self._notes)),
                every_s=min(_MOST_S, max(_WATCHED_S, cost_s * _SHARE)),
            )
        )

    def _publish(self, reading: Reading) -> None:
        self.reading = reading._replace(number=self.reading.number + 1)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _pause(self) -> None:
        """Wait until the next reading is due, or until somebody asks for one."""
        self._asked.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.reading.every_s):
                await self._hurried.wait()
        if not self.watchers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_IDLE_S):
                    await self._asked.wait()
        self._hurried.clear()

    def _note(self, text: str) -> None:
        if len(self._notes) < _NOTES:
            self._notes.append(text)
