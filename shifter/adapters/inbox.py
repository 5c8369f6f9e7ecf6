"""Answers for the callers that wait, one inbox an event loop.

The thread that learns the outcomes does one cheap step for each; the loop is woken at
most once a round however many callers are answered. The inbox also keeps its callers'
timeouts, in a coarse wheel of deadlines, since one timer a record would cost more than
the record. Everything in an inbox but ``done`` belongs to the loop's own thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Final, Protocol

from shifter.ports import Clock

# Timeouts last seconds: an answer that is an eighth of a second late is harmless.
_TICKS_PER_S: Final = 8


class Pending(Protocol):
    """A caller that waits for its answer."""

    bucket: set[Pending]

    def finish(self) -> None:
        """Give the caller its answer; called on the loop's thread."""

    def give_up(self, detail: str | None) -> None:
        """Answer the caller `Unknown`; ``None`` means that its time is over."""


class Inbox:
    """The callers that wait on one event loop, and those that are answered."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self.loop = loop
        self.done: deque[Pending] = deque()
        self._clock = clock
        self._is_woken = False
        self._wheel: dict[int, set[Pending]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enroll(self, pending: Pending, timeout_s: float) -> None:
        """Give up on ``pending`` when it is not finished in time, seconds."""
        tick = int((self._clock.monotonic() + timeout_s) * _TICKS_PER_S) + 1
        bucket = self._wheel.get(tick)
        if bucket is None:
            bucket = self._wheel[tick] = set()
            if self._timer is None:
                self._timer = self.loop.call_later(1 / _TICKS_PER_S, self._turn)
        pending.bucket = bucket
        bucket.add(pending)

    def wake(self) -> None:
        """Have the loop take what is done; called on any thread."""
        if self.done and not self._is_woken:
            self._is_woken = True
            try:
                self.loop.call_soon_threadsafe(self._take)
            except RuntimeError:
                # The event loop was closed before its appends ended: no caller waits.
                self.done.clear()

    def _take(self) -> None:
        self._is_woken = False
        done = self.done
        for _ in range(len(done)):
            done.popleft().finish()

    def _turn(self) -> None:
        now = int(self._clock.monotonic() * _TICKS_PER_S)
        for tick in [t for t, b in self._wheel.items() if t <= now or not b]:
            for pending in self._wheel.pop(tick):
                pending.give_up(None)
        self._timer = None
        if self._wheel:
            self._timer = self.loop.call_later(1 / _TICKS_PER_S, self._turn)

    def abandon(self, detail: str) -> None:
        """Give up on all that wait; called on any thread."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._abandon, detail)

    def _abandon(self, detail: str) -> None:
        for bucket in self._wheel.values():
            for pending in list(bucket):
                pending.give_up(detail)
            bucket.clear()


class Inboxes:
    """One inbox a loop; closed loops are removed.

    Args:
        clock: A real one: timeouts are kept on the loops' own timers.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._of: dict[asyncio.AbstractEventLoop, Inbox] = {}

    def of(self, loop: asyncio.AbstractEventLoop) -> Inbox:
        """The inbox of a running event loop."""
        found = self._of.get(loop)
        if found is None:
            for old in [old for old in self._of if old.is_closed()]:
                self._of.pop(old, None)
            found = self._of.setdefault(loop, Inbox(loop, self._clock))
        return found

    def wake(self) -> None:
        """Have every loop take what is done; called on any thread."""
        for inbox in list(self._of.values()):
            inbox.wake()

    def abandon(self, detail: str) -> None:
        """Give up on all that wait; called on any thread."""
        for inbox in list(self._of.values()):
            inbox.abandon(detail)
