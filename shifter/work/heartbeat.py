"""Heartbeats: what a worker process reports to its supervisor once a second.

They are datagrams, sent without waiting: a suspended supervisor must not delay the
work, and a lost heartbeat is followed by another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import (
    AsyncGenerator,
    Callable,
    Mapping,
    Sequence,
    Set as AbstractSet,
)
from typing import Final

import msgspec

from shifter.model.lane import Priority
from shifter.ports import AppendAnswer, Clock, Delivery, LaneFeed, LostRange, Record
from shifter.telemetry.metric import Bars, Snapshot
from shifter.work.drain import Drain
from shifter.work.job_observer import JobObserver

_EVERY_S: Final = 1.0
_LARGEST_BYTES: Final = 1_000_000

Reading = int | float | Bars


class Heartbeat(msgspec.Struct, array_like=True):
    """One beat.

    Attributes:
        pid: Of the process.
        is_ready: Whether it has joined and may claim.
        unpolled_s: See `shifter.policy.health.WorkProgress`.
        unsettled_s: See `shifter.policy.health.WorkProgress`.
        running: See `shifter.policy.health.WorkProgress`.
        overdue_s: See `shifter.policy.health.WorkProgress`.
        metrics: Name, label values and reading of each series.
        refusal: Why the claim store refuses to write; empty while it does not.
    """

    pid: int
    is_ready: bool
    unpolled_s: float
    unsettled_s: float
    running: int
    overdue_s: float
    metrics: list[tuple[str, tuple[str, ...], Reading]]
    refusal: str = ""

    @property
    def snapshot(self) -> Snapshot:
        """The metrics, as a process keeps them."""
        found: Snapshot = {}
        for name, labels, reading in self.metrics:
            found.setdefault(name, {})[labels] = reading
        return found


class WatchedFeed:
    """A feed that remembers when it was last fetched from and when it last settled.

    Args:
        feed: Does the work.
        clock: For the instants.
    """

    def __init__(self, feed: LaneFeed, clock: Clock) -> None:
        self._feed, self._clock = feed, clock
        self.polled_at = self.moved_at = clock.monotonic()
        self.is_open = False
        self.begin: Callable[[Sequence[Delivery]], list[Delivery]] = feed.begin
        self.losses: Callable[[], list[LostRange]] = feed.losses
        self.idle: Callable[[], bool] = feed.idle
        self.rest: Callable[[AbstractSet[str]], None] = feed.rest

    async def open(self) -> None:
        """Join."""
        await self._feed.open()
        self.polled_at, self.is_open = self._clock.monotonic(), True

    async def fetch(self, max_records: int, *, wait_s: float) -> list[Delivery]:
        """Deliveries; being asked and answered is a poll."""
        found = await self._feed.fetch(max_records, wait_s=wait_s)
        self.polled_at = self._clock.monotonic()
        return found

    async def hand_over(
        self, pairs: Sequence[tuple[Delivery, Record]], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Successors; an answer is progress, whatever it says."""
        answers = await self._feed.hand_over(pairs, timeout_s=timeout_s)
        self.moved_at = self._clock.monotonic()
        return answers

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """End deliveries."""
        await self._feed.settle(deliveries)
        self.moved_at = self._clock.monotonic()

    async def close(self, *, timeout_s: float) -> None:
        """Leave."""
        self.is_open = False
        await self._feed.close(timeout_s=timeout_s)


def watched(
    feeds: Mapping[Priority, LaneFeed], clock: Clock
) -> dict[Priority, WatchedFeed]:
    """The same feeds, watched."""
    return {priority: WatchedFeed(feed, clock) for priority, feed in feeds.items()}


@contextlib.asynccontextmanager
async def beating(
    line: socket.socket | None,
    feeds: Mapping[Priority, WatchedFeed],
    drain: Drain,
    observer: JobObserver,
    clock: Clock,
) -> AsyncGenerator[None]:
    """Report to the supervisor, if there is one, while the block runs and at its end.

    Without the last heartbeat, what the worker did since the one before would be
    counted nowhere.
    """
    if line is None:
        yield
        return
    heart = _Heart(line, feeds, drain, observer, clock)
    # No task group: what the block raises must leave it as it is.
    task = asyncio.get_running_loop().create_task(heart.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        heart.beat()


class _Heart:
    def __init__(
        self,
        line: socket.socket,
        feeds: Mapping[Priority, WatchedFeed],
        drain: Drain,
        observer: JobObserver,
        clock: Clock,
    ) -> None:
        self._line, self._feeds = line, feeds
        self._drain, self._observer, self._clock = drain, observer, clock
        self._idle_at = clock.monotonic()

    async def run(self) -> None:
        while True:
            self.beat()
            await self._clock.sleep(_EVERY_S)

    def beat(self) -> None:
        now, feeds, drain = self._clock.monotonic(), self._feeds.values(), self._drain
        if not drain.pending:
            self._idle_at = now
        moved_at = max([self._idle_at, *(feed.moved_at for feed in feeds)])
        running = drain.running
        attempts = drain.progress().attempts
        overdue_s = max((one.overdue_s(now) for one in attempts), default=0.0)
        self._observer.fold()
        self._observer.running(running, drain.limits.bytes)
        pulse = Heartbeat(
            os.getpid(),
            all(feed.is_open for feed in feeds),
            now - min(feed.polled_at for feed in feeds),
            now - moved_at if drain.pending else 0.0,
            sum(running.values()),
            overdue_s,
            _listed(self._observer.metrics.snapshot()),
            drain.claiming.refusal,
        )
        # The buffer is full, or the supervisor is gone: the next one repeats all of it.
        with contextlib.suppress(OSError):
            self._line.send(msgspec.msgpack.encode(pulse), socket.MSG_DONTWAIT)


def _listed(snapshot: Snapshot) -> list[tuple[str, tuple[str, ...], Reading]]:
    return [
        (name, labels, reading)
        for name, series in snapshot.items()
        for labels, reading in series.items()
    ]


def line_pair() -> tuple[socket.socket, socket.socket]:
    """A pair of connected sockets: the supervisor's end, and the process's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST_BYTES)
    return ours, theirs


def hear(line: socket.socket) -> Heartbeat | None:
    """The newest heartbeat that arrived; ``None`` if none did."""
    newest: bytes | None = None
    with contextlib.suppress(BlockingIOError):
        while True:
            newest = line.recv(_LARGEST_BYTES)
            if not newest:
                return None
    return None if newest is None else msgspec.msgpack.decode(newest, type=Heartbeat)
