"""Moves a worker through virtual time, never faster than its handlers can follow.

The clock moves only when nothing can go on without it: it jumps to the next instant at
which something is due. While a handler waits for something real (a thread, a socket)
the clock stands still and real time is spent, up to a limit. Between two drains a gate
keeps the worker from fetching, and a horizon keeps records from becoming due.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneFeed
from shifter.adapters.system import SystemClock
from shifter.model.time import EpochMs, Monotonic
from shifter.ports import Clock, Delivery
from shifter.testing.clock import FakeClock
from shifter.testing.handler import Handler, HandlerClock, waits_in_loop
from shifter.testing.report import CountingObserver, StuckError
from shifter.work.attempt import STOP_GRACE_S, Attempt
from shifter.work.drain import Drain

_QUIET_ROUNDS: Final = 20
"""Rounds of the loop without any sign of work before time may move: the longest chain
of callbacks between two signs (append, fetch, choose, claim, start) has about ten."""

# Handlers in threads end within a few rounds; after that many, the driver sleeps
# between two looks, to leave the processor to them.
_SPINS: Final = 200
_LOOK_EVERY_S: Final = 0.001
_LOCKED_S: Final = 1.0
"""Real time after which handlers that all wait at locks count as idle, seconds."""


class HorizonClock:
    """The log's clock: what is due after the horizon is not due.

    Handlers may take the test's time past the end of a drain; what became due
    meanwhile waits for the next one.

    Attributes:
        horizon_ms: Epoch milliseconds, included.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.horizon_ms: int = clock.epoch_ms()

    def epoch_ms(self) -> EpochMs:
        """Wall clock, milliseconds, but never past the horizon."""
        return EpochMs(min(self._clock.epoch_ms(), self.horizon_ms))

    def monotonic(self) -> Monotonic:
        """Seconds that never go back."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait; >= 0."""
        await self._clock.sleep(seconds)


class Gate:
    """Opened while a test drains; makes feeds look again."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.changed: list[asyncio.Event] = []

    def look(self) -> None:
        """Let feeds look again after a move of the clock: records may be due."""
        for changed in self.changed:
            changed.set()


class GatedFeed(MemoryLaneFeed):
    """A feed that returns records only while its gate is open.

    It waits for records and never for time, so that an idle worker has no timers.

    Args:
        log: The log in memory.
        topics: The lanes to read.
        gate: Opened while a test drains.
    """

    def __init__(self, log: MemoryLog, topics: Sequence[str], gate: Gate) -> None:
        super().__init__(log, topics)
        self._gate, self._changed = gate, asyncio.Event()
        self._watch = contextlib.ExitStack()

    async def open(self) -> None:
        """Join the group."""
        await super().open()
        self._watch.enter_context(self._log.watching(self._changed))
        self._gate.changed.append(self._changed)

    async def fetch(self, max_records: int, *, wait_s: float) -> list[Delivery]:
        """At least one delivery, however long that takes."""
        del wait_s
        while True:
            await self._gate.is_open.wait()
            self._changed.clear()
            batch = await super().fetch(max_records, wait_s=0)
            if batch:
                return batch
            await self._changed.wait()

    async def close(self, *, timeout_s: float) -> None:
        """Leave the group."""
        self._watch.close()
        await super().close(timeout_s=timeout_s)


class Clocks(NamedTuple):
    """One time, with a clock for each kind of waiter.

    Attributes:
        front: Handlers and the test wait here: each wait is an instant to stop at.
        back: The worker's own periodic work waits here: jumped over, then woken once.
        log: The log's clock, which decides what is due.
    """

    front: HandlerClock
    back: FakeClock
    log: HorizonClock

    def move(self, seconds: float) -> None:
        """Let time go on for all of them."""
        self.back.advance(seconds)
        self.front.advance(seconds)


class Worker(NamedTuple):
    """The worker under test, and the parts that the driver reads.

    Attributes:
        drain: The drain of the worker.
        task: The task that runs the drain.
        log: The log that is drained.
        gate: Stops its feeds between two drains.
        tally: Counts its jobs.
        handlers: Handlers that run in the loop, by their task.
    """

    drain: Drain
    task: asyncio.Task[None]
    log: MemoryLog
    gate: Gate
    tally: CountingObserver
    handlers: Mapping[asyncio.Task[Any], Handler]


class Driver:
    """Drives one worker. Owned by its event loop.

    Args:
        worker: The worker.
        clocks: Moved by this class only.
        lease_s: A claim's lease; no jump is longer than a third of it while
            something runs, so that leases are renewed.
        patience_s: Real seconds without anything happening before it gives up, > 0.
    """

    def __init__(
        self, worker: Worker, clocks: Clocks, *, lease_s: float, patience_s: float
    ) -> None:
        self._worker, self._clocks = worker, clocks
        self._longest_s, self._patience_s = lease_s / 3, patience_s
        self._real = SystemClock()
        self._seen: tuple[int, int] = (-1, -1)
        self._since: float = 0.0

    async def run(self, advance_s: float) -> None:
        """Run everything that is due within so many seconds, to its end.

        Raises:
            StuckError: A handler waits for something that does not happen.
        """
        clocks, gate = self._clocks, self._worker.gate
        until = clocks.back.monotonic() + advance_s
        clocks.log.horizon_ms = clocks.back.epoch_ms() + round(advance_s * 1_000)
        gate.is_open.set()
        gate.look()
        self._seen = (-1, -1)
        try:
            await self._rest()
            while (at := self._next(until)) is not None:
                self._move_to(at)
                await self._rest()
            if clocks.back.monotonic() < until:
                self._move_to(until)
                await self._rest()
        finally:
            gate.is_open.clear()

    def _next(self, until: float) -> float | None:
        """The next instant to stop at; past the end only while something runs."""
        clocks, now = self._clocks, self._clocks.back.monotonic()
        standing = self._worker.drain.progress()
        instants = [_at(now, clocks.front.next_wake_s())]
        if standing.next_at is not None and standing.next_at <= now:
            # Seen by the next look of the worker's own.
            instants.append(_at(now, clocks.back.next_wake_s()))
        else:
            instants.append(standing.next_at)
        # An attempt that runs may end at any later instant, also past the drain's end.
        if standing.attempts:
            instants.append(now + self._longest_s)
            until = math.inf
        due_ms = self._worker.log.next_due_ms()
        if due_ms is not None and due_ms <= clocks.log.horizon_ms:
            instants.append(now + (due_ms - clocks.back.epoch_ms()) / 1_000)
        at = min((found for found in instants if found is not None), default=math.inf)
        return at if at <= until and at < math.inf else None

    def _move_to(self, at: float) -> None:
        left_us = (at - self._clocks.back.monotonic()) * 1_000_000
        # Rounded up to a microsecond: a shorter move would never reach the instant.
        self._clocks.move(max(1, math.ceil(round(left_us, 3))) / 1_000_000)
        self._worker.gate.look()

    async def _rest(self) -> None:
        """Return once nothing happens without a move of the clock."""
        quiet = spins = 0
        began = self._real.monotonic()
        while quiet < _QUIET_ROUNDS:
            await asyncio.sleep(0)
            if self._worker.task.done():
                await self._worker.task
            waited_s = self._waited_s()
            if stuck := self._stuck():
                raise StuckError(stuck, STOP_GRACE_S, was_stopped=True)
            busy = self._busy(waited_s)
            if busy is None:
                quiet, spins = quiet + 1, 0
                continue
            # A busy machine may need long for all the moves of the clock together.
            rested_s = self._real.monotonic() - began
            if min(waited_s, rested_s) > self._patience_s:
                raise StuckError(busy, waited_s)
            quiet, spins = 0, spins + 1
            if spins > _SPINS:
                await asyncio.sleep(_LOOK_EVERY_S)

    def _stuck(self) -> list[str]:
        """Jobs whose handlers go on although their time is up."""
        attempts = self._worker.drain.progress().attempts
        return _names([attempt for attempt in attempts if attempt.is_stuck])

    def _waited_s(self) -> float:
        """Real seconds since an attempt started or ended."""
        counts, now = self._worker.tally.counts, self._real.monotonic()
        seen = (counts["started"], counts.total())
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since

    def _busy(self, waited_s: float) -> list[str] | None:
        """Jobs that need real time; ``None`` when only the clock is waited for."""
        standing, handlers = self._worker.drain.progress(), self._worker.handlers
        awake = [a for a in standing.attempts if not _sleeps(a, handlers)]
        locked = [a for a in awake if a.task in handlers and _is_locked(a)]
        if len(locked) < len(awake):
            return _names(awake, lambda attempt: attempt not in locked)
        is_all = locked and len(locked) == len(standing.attempts)
        if is_all and waited_s < _LOCKED_S:
            return _names(locked)
        return [] if standing.goes_on else None


def _at(now: float, after_s: float | None) -> float | None:
    return None if after_s is None else now + after_s


def _sleeps(attempt: Attempt, handlers: Mapping[asyncio.Task[Any], Handler]) -> bool:
    handler = None if attempt.task is None else handlers.get(attempt.task)
    return handler is not None and handler.sleeps > 0


def _is_locked(attempt: Attempt) -> bool:
    return attempt.task is not None and waits_in_loop(attempt.task)


def _names(
    attempts: list[Attempt], chosen: Callable[[Attempt], bool] = lambda _: True
) -> list[str]:
    return sorted({a.item.envelope.type for a in attempts if chosen(a)})
