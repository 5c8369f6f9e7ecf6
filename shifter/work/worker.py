"""One worker process: runs the parts that it is given, and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, Protocol, cast

from shifter.errors import StoreError, StoreRefusedError
from shifter.fleet.sync import EVERY_S, FleetSync
from shifter.ports import (
    ClaimStore,
    DelayMover,
    FleetStore,
    LaneFeed,
    LaneLog,
    PresenceStore,
)
from shifter.runtime.forking import default_signals_in_child
from shifter.runtime.process_group import ignore_signals
from shifter.runtime.threads import in_thread
from shifter.telemetry import Event
from shifter.work.drain import Drain
from shifter.work.heartbeat import beating, watched
from shifter.work.leaving import Leaving, held_claims
from shifter.work.parts import DrainParts
from shifter.work.presence import report_presence

_SELDOM_S = 1.0
"""Seconds between syncs of a process that declares nothing that a fleet shares."""


_FIRST_SYNC_S = 2.0


class Service(Protocol):
    """Something that runs beside the drain."""

    async def run(self) -> None:
        """Run until cancelled, or until there is nothing to do."""


class Name(Protocol):
    """The name of this process in its consumer groups."""

    def release(self) -> None:
        """Release the name for another process."""


class WorkerParts(NamedTuple):
    """Everything a worker process owns.

    Attributes:
        drain: What the drain is made of.
        log: Writes successors.
        mover: Moves due records, where the log cannot do so by itself.
        presence: Where it reports that it is alive.
        fleet: The state that it shares with the fleet.
        line: The socket to its supervisor, if it has one.
        timetable: Fires cron jobs, if the app has any.
        open_claims: Opens the claim store once more, where a supervisor may abort.
        name: Held for as long as its feeds are open; ``None`` without one.
    """

    drain: DrainParts
    log: LaneLog
    mover: DelayMover | None
    presence: PresenceStore
    fleet: FleetStore
    line: socket.socket | None = None
    timetable: Service | None = None
    open_claims: Callable[[], ClaimStore] | None = None
    name: Name | None = None


class WorkerLimits(NamedTuple):
    """Numbers of one worker process.

    Attributes:
        worker_id: Unique per process and start.
        concurrency: Attempts at once, >= 1.
        lease_ms: Lease of a claim, > 0.
        drain_timeout_s: How long running attempts may go on after a stop, >= 0.
    """

    worker_id: str
    concurrency: int
    lease_ms: int
    drain_timeout_s: float


async def run_worker(parts: WorkerParts, limits: WorkerLimits) -> bool:
    """Work until SIGTERM, the end of the parent, or a handler that does not end.

    Every signal drains, also a second one: a service manager may send one to each
    process. Only the supervisor can order an abort (`shifter.work.leaving`).

    Returns:
        Whether handlers still run: the caller must end the process at once.
    """
    clock = parts.drain.clock
    feeds = watched(parts.drain.feeds, clock)
    drain = Drain(
        parts.drain._replace(feeds=feeds),
        owner=limits.worker_id,
        concurrency=limits.concurrency,
        lease_ms=limits.lease_ms,
    )
    if parts.line is not None and parts.open_claims is not None:
        Leaving(parts.line, drain, parts.drain.processes, parts.open_claims)
    async with beating(parts.line, feeds, drain, parts.drain.observer, clock):
        with _signals(drain.stop):
            try:
                await asyncio.gather(*(feed.open() for feed in feeds.values()))
                parts.drain.observer.worker(
                    Event.WORKER_STARTED,
                    concurrency=limits.concurrency,
                    lanes=len(feeds),
                )
                await _run(drain, parts, limits)
            finally:
                await _close(list(feeds.values()), parts, limits)
                await _give_back(drain, parts.drain.claims)
    return bool(drain.progress().attempts)


async def _run(drain: Drain, parts: WorkerParts, limits: WorkerLimits) -> None:
    async with asyncio.TaskGroup() as group:
        helpers = [
            group.create_task(
                report_presence(
                    parts.presence,
                    drain,
                    parts.drain,
                    worker_id=limits.worker_id,
                    concurrency=limits.concurrency,
                )
            )
        ]
        sync = _in_step(parts, drain)
        helpers.append(group.create_task(sync.run()))
        if parts.mover is not None:
            helpers.append(group.create_task(_move(parts.mover, drain)))
        # Open circuits must be known before the first job starts. A store that is away
        # costs this wait once.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_SYNC_S):
                await sync.tried.wait()
        if parts.timetable is not None:  # it goes by the store's clock
            helpers.append(group.create_task(parts.timetable.run()))
        await drain.run(drain_timeout_s=limits.drain_timeout_s)
        for helper in helpers:
            helper.cancel()
        if drain.failure is not None:
            raise drain.failure


async def _move(mover: DelayMover, drain: Drain) -> None:
    """Move delayed records; a log that refuses them ends the worker in order."""
    try:
        await mover.run()
    except* StoreRefusedError as group:
        drain.give_up(cast("StoreRefusedError", group.exceptions[0]))


def _in_step(parts: WorkerParts, drain: Drain) -> FleetSync:
    """The sync with the fleet's state of dependencies."""
    board = drain.board
    board.load = drain.load
    every_s = EVERY_S if board.protections or drain.lane_gate.hears_often else _SELDOM_S
    return FleetSync(board, parts.fleet, parts.drain.clock, every_s=every_s)


async def _close(
    feeds: Sequence[LaneFeed], parts: WorkerParts, limits: WorkerLimits
) -> None:
    """Close the feeds first, since other members wait for them; the log last."""
    parts.drain.observer.close()
    await asyncio.gather(
        *(feed.close(timeout_s=10.0) for feed in feeds), return_exceptions=True
    )
    if parts.name is not None:
        parts.name.release()
    with contextlib.suppress(StoreError):
        await parts.presence.withdraw(limits.worker_id)
    await parts.presence.close()
    with contextlib.suppress(StoreError):
        await parts.fleet.close()
    await in_thread(parts.log.close, timeout_s=10.0)


async def _give_back(drain: Drain, claims: ClaimStore) -> None:
    """Release the claims of attempts that do not end, just before the process ends.

    Otherwise the next worker would count this one as lost.
    """
    with contextlib.suppress(StoreError):
        await claims.finish(held_claims(drain))
    await claims.close()


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Generator[None]:
    """Drain on SIGTERM; a terminal's SIGINT is for the supervisor."""
    loop = asyncio.get_running_loop()
    ignore_signals(signal.SIGINT)
    default_signals_in_child()
    loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
