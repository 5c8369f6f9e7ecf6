"""One reader of a namespace's state, for the page, `shifter top` and `status --watch`.

It reads about every second while somebody watches, and never for more than an eightieth
of the time: a large namespace is read less often instead of costing more. What is shown
is the last reading, so neither a slow broker nor many pages slow it down.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Final, NamedTuple, TypeAlias

from shifter.config import Settings
from shifter.errors import ShifterError
from shifter.model.time import Monotonic
from shifter.ops.status import Overview, StatusSources, open_sources, read_overview
from shifter.ports import Clock, sleep_or_wake

_EVERY_S: Final = 1.0
_SHARE: Final = 80
"""Seconds between two readings for each second of processor time that one takes."""
_MOST_S: Final = 30.0
"""Longest time between two readings while somebody watches."""
_LATE_S: Final = 2.0
"""A reading that is later than this, and than its turn, makes the state stale."""
_WAIT_S: Final = 15.0
_NOTES: Final = 8
"""Parts of one reading that are reported as missing."""

Note: TypeAlias = Callable[[StatusSources, Overview], Awaitable[None]]
"""Takes each state that was read; its time counts as time of the reading."""


class Reading(NamedTuple):
    """What is known of a namespace.

    Attributes:
        number: Of the attempt to read, from 1 on; 0 before the first.
        overview: The last state that could be read; ``None`` before the first.
        read_at: When it was read, monotonic seconds.
        error: Why the last attempt failed; ``None`` if it did not.
        notes: Parts that the last attempt could not read, and why.
        every_s: Seconds from one reading to the next.
        took_s: Seconds that the last one took.
    """

    number: int = 0
    overview: Overview | None = None
    read_at: Monotonic = Monotonic(0.0)
    error: Exception | None = None
    notes: tuple[str, ...] = ()
    every_s: float = _EVERY_S
    took_s: float = 0.0

    @property
    def failure(self) -> str | None:
        """Why the last attempt failed, as a text; ``None`` if it did not."""
        if self.error is None or isinstance(self.error, ShifterError):
            return None if self.error is None else str(self.error)
        return f"{type(self.error).__name__}: {self.error}"

    def age_s(self, now: Monotonic) -> float:
        """Seconds since the state was read."""
        return max(0.0, now - self.read_at)

    def is_stale(self, now: Monotonic) -> bool:
        """Whether the state is older than two readings."""
        return self.overview is None or self.age_s(now) > 2 * self.every_s + _LATE_S


class Reader:
    """Reads the state again and again, in one task of the event loop that asks first.

    After a failure it connects anew. Belongs to one event loop at a time.

    Args:
        settings: Name the log, and the state store if there is one.
        clock: Paces the readings.
        idle_s: Seconds between two readings while nobody watches; ``None`` to read
            only when asked then.
        note: Called with each state that was read.

    Attributes:
        reading: What is known now.
        watchers: How many watch now.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        idle_s: float | None = None,
        note: Note | None = None,
    ) -> None:
        self._settings, self._clock = settings, clock
        self._idle_s, self._note_overview = idle_s, note
        self._notes: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self._asked, self._hurried = asyncio.Event(), asyncio.Event()
        self._changed = asyncio.Event()
        self.watchers = 0
        self.reading = Reading()

    @contextlib.contextmanager
    def watching(self) -> Generator[None]:
        """Read about every second while the block runs."""
        self.watchers += 1
        try:
            self._ask()
            yield
        finally:
            self.watchers -= 1

    async def readings(self, *, wait_s: float | None = None) -> AsyncGenerator[Reading]:
        """Each reading, while somebody iterates.

        Args:
            wait_s: The last reading is given again if no other comes for so long;
                ``None`` never.
        """
        number = 0
        with self.watching():
            while True:
                reading = await self.after(number, wait_s=wait_s or _WAIT_S)
                if reading.number > number or wait_s is not None:
                    number = reading.number
                    yield reading

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
            self._asked, self._hurried = asyncio.Event(), asyncio.Event()
            self._changed = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                async with open_sources(
                    self._settings, self._clock, self._note
                ) as sources:
                    while True:
                        await self._read(sources)
                        await self._pause()
            except Exception as error:  # noqa: BLE001  # what is shown lives, and says so
                self._publish(self.reading._replace(error=error))
                await self._pause()

    async def _read(self, sources: StatusSources) -> None:
        self._notes.clear()
        began, began_at = time.process_time(), self._clock.monotonic()
        overview = await read_overview(sources)
        if self._note_overview is not None:
            await self._note_overview(sources, overview)
        cost_s = time.process_time() - began
        self._publish(
            Reading(
                overview=overview,
                read_at=self._clock.monotonic(),
                notes=tuple(dict.fromkeys(self._notes)),
                took_s=self._clock.monotonic() - began_at,
                every_s=min(_MOST_S, max(_EVERY_S, cost_s * _SHARE)),
            )
        )

    def _publish(self, reading: Reading) -> None:
        self.reading = reading._replace(number=self.reading.number + 1)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _pause(self) -> None:
        """Wait until the next reading is due, or until somebody asks for one."""
        self._asked.clear()
        await sleep_or_wake(self._clock, self.reading.every_s, self._hurried)
        if not self.watchers and self._idle_s is not None:
            await sleep_or_wake(self._clock, self._idle_s, self._asked)
        elif not self.watchers:
            await self._asked.wait()
        self._hurried.clear()

    def _note(self, text: str) -> None:
        if len(self._notes) < _NOTES:
            self._notes.append(text)
