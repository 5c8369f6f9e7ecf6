"""Both directions between a member's thread and the event loop.

`LoopBridge` hands records and errors to the event loop, `Requests` hands what the loop
asks for to the thread.

Records that arrived and were not taken yet stay here, so that a wait that times out or
is cancelled loses none.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from typing import Any, Final, TypeAlias

from shifter.errors import ShifterError, StoreError
from shifter.ports import Delivery, LostRange
from shifter.telemetry import Event, Log

Observer: TypeAlias = Callable[[str, Mapping[str, object]], None]
"""Called on the feed's own thread for each event of it: its name, and facts."""

# Events that need an operator, or explain why records are run again or not at all.
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
    """Carries what one member reads to an event loop.

    The methods up to `ended` are called on the member's thread, all others on the
    event loop, `attach` first.

    Args:
        observer: Called on the member's thread for rebalances, failed commits and the
            like; by default they are logged.

    Attributes:
        is_over: Set when the member's thread has ended.
    """

    def __init__(self, observer: Observer | None) -> None:
        self.is_over = asyncio.Event()
        self._observer = log_feed if observer is None else observer
        self._loop: asyncio.AbstractEventLoop
        self._opened = asyncio.Event()
        self._waiter: asyncio.Future[None] | None = None
        self._arrived: list[Delivery] = []
        self._losses: deque[LostRange] = deque()
        self._error: BaseException | None = None

    def opened(self) -> None:
        """Report that the member has joined its group, or that it goes on trying."""
        self._post(self._opened.set)

    def arrived(self, deliveries: list[Delivery]) -> None:
        """Hand over records that were read."""
        self._post(self._arrive, deliveries)

    def lost(self, found: LostRange) -> None:
        """Report records that the log deleted before they were read."""
        self._losses.append(found)

    def refused(self, error: StoreError) -> None:
        """Report that the cluster refuses to let this member read."""
        self._post(self._fail, error)

    def observe(self, what: str, **facts: object) -> None:
        """Report an event that an operator may need."""
        self._observer(what, facts)

    def ended(self, cause: BaseException | None) -> None:
        """Report that the thread ends; ``cause`` is the error that ended it."""
        self._post(self._end, cause)

    def _post(self, function: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # The loop is closed. What was read was not settled, so it is read again.
            return

    def _arrive(self, deliveries: list[Delivery]) -> None:
        if self._arrived:
            self._arrived += deliveries
        else:
            self._arrived = deliveries
        self._wake()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._opened.set()
        self._wake()

    def _end(self, cause: BaseException | None) -> None:
        self.is_over.set()
        if cause is not None:
            self._fail(cause)
        self._opened.set()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def attach(self) -> None:
        """Deliver to the running event loop from now on."""
        self._loop = asyncio.get_running_loop()

    async def until_opened(self) -> None:
        """Wait until the member is ready; raises if it failed to open."""
        await self._opened.wait()
        self.check()

    def check(self) -> None:
        """Raise a reported error once; once the thread has ended, each time."""
        error = self._error
        if error is not None:
            if not self.is_over.is_set():
                self._error = None
            raise error

    def check_for_bugs(self) -> None:
        """Raise an error that is a bug: none of the errors a cluster may cause."""
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
        """Remove and return at most ``most`` records that arrived, oldest first."""
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


class Requests:
    """What the event loop asks of the member's thread, and how it wakes the thread.

    The event loop writes it, the thread reads it. Every field is one value or one
    deque, so that no lock is needed.

    Attributes:
        wanted: How many records a fetch waits for; 0 without one.
        held: Epochs of partitions not to be read for now.
        rested: Topics not to be read for now.
        settled: Batches that ended, oldest first.
        is_leaving: Whether the thread is to end.
    """

    def __init__(self) -> None:
        self.wanted = 0
        self.held: frozenset[int] = frozenset()
        self.rested: AbstractSet[str] = frozenset()
        self.settled: deque[Sequence[Delivery]] = deque()
        self.is_leaving = False
        self._wake = threading.Event()

    def want(self, count: int) -> None:
        """Ask for the next records, at most ``count``."""
        self.wanted = count
        self._wake.set()

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Report that these are settled."""
        self.settled.append(deliveries)
        self._wake.set()

    def hold(self, epochs: frozenset[int]) -> None:
        """Ask that the partitions of these epochs, and only these, are not read."""
        self.held = epochs
        self._wake.set()

    def rest(self, topics: AbstractSet[str]) -> None:
        """Ask that these topics, and only these, are not read."""
        self.rested = topics
        self._wake.set()

    def leave(self) -> None:
        """Ask the thread to end."""
        self.is_leaving = True
        self._wake.set()

    def wait(self, seconds: float) -> None:
        """Block until there is a request; only the member's thread calls it."""
        self._wake.wait(seconds)
        self._wake.clear()


def _let_go(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def log_feed(what: str, facts: Mapping[str, object]) -> None:
    """The default observer of a feed: logs events, the serious ones as warnings."""
    log = Log(said=what, **facts)
    write = log.warning if what in _LOUD else log.debug
    write(Event.LOG_CLIENT_REPORTED)
