"""Where a member's reports come ashore: its thread speaks, an event loop listens.

What arrived and was not taken yet stays here, so that no wait that ends, and no task
that is cancelled, loses a record.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from shifter.errors import ShifterError, StoreError
from shifter.ports import Delivery, LostRange
from shifter.telemetry import Event, Log

Observer: TypeAlias = Callable[[str, Mapping[str, object]], None]
"""Hears what happens to a feed, on the feed's own thread: a word, and facts."""

_LOUD: Final = frozenset(
    {
        "made_again",
        "membership_lost",
        "no_commits",
        "refused",
        "start_unknown",
        "topic_gone",
    }
)


class LoopBridge:
    """Methods of the first half are called on the member's thread.

    Made and used on one event loop.

    Args:
        observer: Hears of rebalances, failed commits and the like.

    Attributes:
        counts: How often each thing happened that the observer heard of.
        is_over: Whether the thread has ended.
    """

    def __init__(self, observer: Observer | None) -> None:
        self.counts: Counter[str] = Counter()
        self.is_over = asyncio.Event()
        self._observer = log_feed if observer is None else observer
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._waiter: asyncio.Future[None] | None = None
        self._arrived: list[Delivery] = []
        self._losses: deque[LostRange] = deque()
        self._error: BaseException | None = None

    def opened(self) -> None:
        """The member is ready."""
        self._post(self._open)

    def arrived(self, deliveries: list[Delivery]) -> None:
        """Records were read."""
        self._post(self._arrive, deliveries)

    def lost(self, found: LostRange) -> None:
        """Records were deleted before anybody read them."""
        self._losses.append(found)

    def refused(self, error: StoreError) -> None:
        """The cluster will not let us read, until somebody does something."""
        self._post(self._fail, error)

    def said(self, what: str, **facts: object) -> None:
        """Something happened that a person may want to know."""
        self.counts[what] += 1
        self._observer(what, facts)

    def ended(self, cause: BaseException | None) -> None:
        """The thread is over."""
        self._post(self._end, cause)

    def _post(self, function: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # The loop is closed: nobody listens, and what was read will be read again.
            return

    def _open(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _arrive(self, deliveries: list[Delivery]) -> None:
        if self._arrived:
            self._arrived += deliveries
        else:
            self._arrived = deliveries
        self._wake()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._open()
        self._wake()

    def _end(self, cause: BaseException | None) -> None:
        self.is_over.set()
        if cause is not None:
            self._fail(cause)
        self._open()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def until_opened(self) -> None:
        """Wait until the member is ready, or cannot be."""
        await asyncio.shield(self._opened)
        self.check()

    def check(self) -> None:
        """Raise what went wrong, if something did; once, unless the thread is over."""
        error = self._error
        if error is not None:
            if not self.is_over.is_set():
                self._error = None
            raise error

    def check_for_bugs(self) -> None:
        """Raise what nobody foresaw: not the cluster's doing, but ours."""
        if self._error is not None and not isinstance(self._error, ShifterError):
            raise self._error

    @property
    def has_arrivals(self) -> bool:
        """Whether `take` would return something."""
        return bool(self._arrived)

    async def until_arrival(self, wait_s: float) -> None:
        """Wait until records arrive, something goes wrong, or the wait is over."""
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(wait_s, _let_go, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def take(self, most: int) -> list[Delivery]:
        """At most this many of what arrived, oldest first."""
        arrived = self._arrived
        if len(arrived) <= most:
            self._arrived = []
            return arrived
        self._arrived = arrived[most:]
        return arrived[:most]

    def losses(self) -> list[LostRange]:
        """Ranges found lost since the last call."""
        losses = self._losses
        return [losses.popleft() for _ in range(len(losses))]


def _let_go(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def log_feed(what: str, facts: Mapping[str, object]) -> None:
    """The observer of a feed that was given none: logs what somebody should see."""
    log = Log(said=what, **facts)
    if what in _LOUD:
        log.warning(Event.LOG_CLIENT_SAID)
    else:
        log.debug(Event.LOG_CLIENT_SAID)
