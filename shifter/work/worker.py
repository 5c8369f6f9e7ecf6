"""One worker process: its drain, what runs beside it, and how both end in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, cast

from shifter.errors import ShifterError, StoreError, StoreRefusedError
from shifter.fleet.drain_order import DrainOrder
from shifter.fleet.shared_state import OverrideCell
from shifter.fleet.sync import FleetSync
from shifter.model.claim import ClaimUpdate
from shifter.model.lane import Priority
from shifter.policy.protection.fleet_pace import EVERY_S
from shifter.ports import ClaimStore, DelayMover, FleetStore, LaneLog, PresenceStore
from shifter.runtime.forking import default_signals_in_child
from shifter.runtime.process_group import ignore_signals
from shifter.runtime.threads import in_thread
from shifter.telemetry import Event
from shifter.wire.job_event import shown_text
from shifter.work.attempt import Stop
from shifter.work.drain import Drain
from shifter.work.heartbeat import Versions, beating, report_presence
from shifter.work.next_step import given_back

_SELDOM_S: Final = 1.0
"""Seconds between syncs of a process that declares nothing that a fleet shares."""
_FIRST_SYNC_S: Final = 2.0
_CLOSE_S: Final = 10.0
_ORDERLY_S: Final = 2.0
"""How long an aborted process may end by itself, before a thread ends it."""
_GIVE_BACK_S: Final = 1.5
_LARGEST_BYTES: Final = 64
_ABORTED_EXIT: Final = 130


class WorkOptions(NamedTuple):
    """Options of ``shifter work``.

    Attributes:
        target: ``MODULE:APP``; each process imports it by itself.
        processes: Worker processes, >= 1.
        concurrency: Attempts at once in each process, >= 1.
        queues: Queues to serve; empty for all of the app.
        priorities: Priorities to serve; empty for all.
        burst: End when nothing served is waiting, delayed or running.
        wait_s: How long to wait for the log and the state store at start, >= 0.
        health: Host and port that answer probes and scrapes; ``None`` for none.
        watchdog_s: How long a process may be unhealthy before it is killed, >= 0; 0
            means for ever.
        version: Release of this package, as workers and metrics show it.
    """

    target: str
    processes: int = 1
    concurrency: int = 100
    queues: tuple[str, ...] = ()
    priorities: tuple[Priority, ...] = ()
    burst: bool = False
    wait_s: float = 0.0
    health: tuple[str, int] | None = None
    watchdog_s: float = 60.0
    version: str | None = None

    def serves(self, priority: Priority) -> bool:
        """Whether lanes of this priority are drained."""
        return not self.priorities or priority in self.priorities


class Service(Protocol):
    """Something that runs beside the drain."""

    async def run(self) -> None:
        """Run until cancelled, or until there is nothing to do."""


class Name(Protocol):
    """The name of this process in its consumer groups."""

    def release(self) -> None:
        """Release the name for another process."""


@dataclass(kw_only=True, eq=False)
class Worker:
    """Everything that one worker process owns, and its life.

    Attributes:
        drain: Runs jobs.
        log: Writes successors.
        presence: Where it reports that it is alive.
        fleet: The state that it shares with the fleet.
        open_claims: Opens the claim store once more, for a supervisor's abort.
        drain_timeout_s: How long running attempts may go on after a stop, >= 0.
        name: Held for as long as its feeds are open; ``None`` without one.
        channel: The socket to its supervisor, if it has one.
        cron: Fires cron jobs, if the app has any.
        is_joined: Whether all feeds are open.
        versions: What runs here, as it is reported.
        drain_order: An operator's order that it drain and end; ``None`` without one.
        background: What runs beside the syncs.
    """

    drain: Drain
    log: LaneLog
    presence: PresenceStore
    fleet: FleetStore
    open_claims: Callable[[], ClaimStore]
    drain_timeout_s: float
    name: Name | None = None
    channel: socket.socket | None = None
    cron: Service | None = None
    is_joined: bool = False
    versions: Versions = field(default_factory=Versions)
    drain_order: OverrideCell | None = None
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()

    async def run(self) -> bool:
        """Work until SIGTERM, the end of the parent, or a handler that does not end.

        Every signal drains, also a second one: a service manager may send one to each
        process. Only the supervisor can order an abort (`AbortListener`).

        Returns:
            Whether handlers still run: the caller must end the process at once.
        """
        drain = self.drain
        if self.channel is not None:
            AbortListener(self.channel, drain, self.open_claims)
        async with beating(self.channel, drain, lambda: self.is_joined):
            with _signals(drain.stop):
                try:
                    await asyncio.gather(
                        *(feed.open() for feed in drain.feeds.values())
                    )
                    self.is_joined = True
                    drain.observer.worker(
                        Event.WORKER_STARTED,
                        concurrency=drain.concurrency,
                        lanes=len(drain.feeds),
                    )
                    await self._work()
                finally:
                    await self._close()
        return bool(drain.progress().attempts)

    async def _work(self) -> None:
        drain, replica = self.drain, self.drain.replica
        replica.load = drain.load
        replica.tenants.append(DrainOrder(drain.owner, self._obey))
        shares = bool(replica.protections) or drain.state.lane_gate.has_rules
        every_s = EVERY_S if shares else _SELDOM_S
        sync = FleetSync(replica, self.fleet, drain.clock, every_s=every_s)
        async with asyncio.TaskGroup() as group:
            services = [
                group.create_task(report_presence(self.presence, drain, self.versions)),
                group.create_task(sync.run()),
                *(group.create_task(main()) for main in self.background),
            ]
            if drain.mover is not None:
                services.append(group.create_task(self._move(drain.mover)))
            if (events := drain.observer.events) is not None:
                services.append(group.create_task(events.stream.run()))
            # Open circuits must be known before the first job starts. A store that is
            # away costs this wait once.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_SYNC_S):
                    await sync.tried.wait()
            if self.cron is not None:  # it goes by the store's clock
                services.append(group.create_task(self.cron.run()))
            await drain.run(drain_timeout_s=self.drain_timeout_s)
            for service in services:
                service.cancel()
            if drain.failure is not None:
                raise drain.failure

    def _obey(self, order: OverrideCell) -> None:
        """Drain as on SIGTERM; the supervisor then starts no other worker instead."""
        self.drain_order = order
        by, reason = shown_text(order.owner), shown_text(order.reason)
        self.drain.observer.worker(Event.WORKER_DRAIN_ORDERED, by=by, reason=reason)
        self.drain.stop()

    async def _move(self, mover: DelayMover) -> None:
        """Move delayed records; a log that refuses them ends the worker in order."""
        try:
            await mover.run()
        except* StoreRefusedError as group:
            self.drain.give_up(cast("StoreRefusedError", group.exceptions[0]))

    async def _close(self) -> None:
        """Close the feeds first, since the other members of the group wait for that.

        The claims of attempts that do not end are released just before the process
        ends. Otherwise the next worker would count this one as lost.
        """
        drain, self.is_joined = self.drain, False
        drain.observer.close()
        await asyncio.gather(
            *(feed.close(timeout_s=_CLOSE_S) for feed in drain.feeds.values()),
            return_exceptions=True,
        )
        if self.name is not None:
            self.name.release()
        if drain.observer.events is not None:
            await drain.observer.events.stream.close()
        with contextlib.suppress(StoreError):
            await self.presence.withdraw(drain.owner)
        await self.presence.close()
        with contextlib.suppress(StoreError):
            await self.fleet.close()
        # In a thread, since closing blocks until what is queued was written.
        await in_thread(self.log.close, timeout_s=_CLOSE_S)
        with contextlib.suppress(StoreError):
            await drain.claims.finish(held_claims(drain))
        await drain.claims.close()


class AbortListener:
    """Ends this process when its supervisor orders so, whatever its event loop does.

    An abort is no loss of a worker: what runs is handed back, and no attempt is
    charged. A loop that still turns does so by itself. Where a handler keeps it from
    turning, a thread with a loop of its own gives the claims back, as the last thing
    that the process does.

    Args:
        channel: The worker's end of the socket to its supervisor.
        drain: What runs here.
        open_claims: Opens the claim store once more, for the thread's own loop.
    """

    def __init__(
        self,
        channel: socket.socket,
        drain: Drain,
        open_claims: Callable[[], ClaimStore],
    ) -> None:
        self._channel, self._drain, self._open_claims = channel, drain, open_claims
        self._loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._run, name="shifter-abort", daemon=True)
        thread.start()

    def _run(self) -> None:
        try:
            self._channel.recv(_LARGEST_BYTES)
        except OSError:
            return
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: self._drain.stop(at_once=True))
        # The process may end by itself meanwhile, and this thread with it.
        threading.Event().wait(_ORDERLY_S)
        if self._drain.processes is not None:
            self._drain.processes.close()
        with contextlib.suppress(ShifterError, TimeoutError):
            asyncio.run(self._give_back())
        os._exit(_ABORTED_EXIT)

    async def _give_back(self) -> None:
        claims = self._open_claims()
        async with asyncio.timeout(_GIVE_BACK_S):
            await claims.finish(held_claims(self._drain))


def held_claims(drain: Drain) -> list[ClaimUpdate]:
    """Updates that give back what still runs, as the last act of its process.

    An attempt that outlived its own time keeps its claim: it is what the process ends
    for, and the loss of a worker counts for its job alone.
    """
    running = (
        given_back(attempt.item)
        for attempt in drain.progress().attempts
        if not attempt.is_stuck or attempt.stopped is Stop.SHUTDOWN
    )
    return [update for update in running if update is not None]


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
