"""Keeps N worker processes alive, by their heartbeats, and ends them in order.

Children are spawned, never forked: librdkafka and thread pools do not survive a fork. A
child that ends by itself is started again, after a longer wait each time; the wait is
shortest again after a child that had joined its groups. A child that an operator
drained is not started again: the supervisor goes on with the others, and ends with 0
when none is left. A child that loses its parent
drains and ends. The watchdog ends a child that makes no progress: first with SIGABRT,
which prints the stacks of its threads, then with SIGKILL.

The first signal lets the children drain; a later one makes them hand back their running
jobs and end. Signals within a moment of the first count as the same request: a terminal
or a service manager sends to the whole process group, and a wrapper forwards its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import SpawnProcess
from typing import NamedTuple

from shifter.policy.health import HealthPolicy, ailment
from shifter.ports import Clock
from shifter.runtime.heartbeat_socket import heartbeat_sockets
from shifter.runtime.process_group import kill_session
from shifter.supervise.first_child import FirstChild
from shifter.telemetry import Event, FleetMetrics, Log, Snapshot, Totals
from shifter.work.heartbeat import Heartbeat, newest_heartbeat

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
"""Bounds of the pause before a child is started again; it doubles each time."""
_LOOK_S = 1.0
_DUMP_S = 5.0
"""How long a child has to print its stacks after SIGABRT."""
_MOMENT_S = 0.4
"""Signals within this many seconds of the first count as the same request."""
_ABORT_S = 5.0
"""How long a child has to hand back its running jobs."""
ABORT = b"abort"
"""Makes a child end at once; `shifter.work.worker.AbortListener` receives it."""
DRAINED_EXIT = 80
"""A child ends with it after an operator's order to drain: no other one is started."""
# No permission, wrong configuration: starting again changes nothing.
_FINAL_EXITS = frozenset({77, 78})


class ProcessCondition(NamedTuple):
    """One process, for people and probes.

    Attributes:
        slot: Its place, from 0.
        pid: Its process id; ``None`` before its first heartbeat.
        is_live: Whether it makes progress.
        is_ready: Whether it has joined and may claim, and is not about to end.
        detail: What is wrong, or ``ok``.
    """

    slot: int
    pid: int | None
    is_live: bool
    is_ready: bool
    detail: str


class _Process:
    """A process that runs, and its last heartbeat."""

    def __init__(self, channel: socket.socket, now: float) -> None:
        self.channel, self.heartbeat_at = channel, now
        self.heartbeat: Heartbeat | None = None


class ProcessHealth:
    """Receives the heartbeats of processes; owned by the supervisor's event loop.

    Args:
        processes: How many processes there should be, >= 1.
        clock: Measures how long a process has sent no heartbeat.
        policy: When a process counts as alive.

    Attributes:
        fleet: Readings of this supervisor's own, and of the lanes.
    """

    def __init__(
        self, processes: int, clock: Clock, policy: HealthPolicy | None = None
    ) -> None:
        self._count, self._clock = processes, clock
        self._policy = HealthPolicy() if policy is None else policy
        self._running: dict[int, _Process] = {}
        self._started: set[int] = set()
        self._joined: set[int] = set()
        self._is_stopping = False
        self._drained: set[int] = set()
        self._totals = Totals()
        self.fleet = FleetMetrics()
        self.fleet.worker_restarts.of()

    def began(self, slot: int, channel: socket.socket) -> None:
        """Note that a process starts.

        Args:
            slot: Its place, from 0.
            channel: Socket that brings its heartbeats; closed when the process has
                ended.
        """
        self._running[slot] = _Process(channel, self._clock.monotonic())
        self.fleet.worker_restarts.of().inc(slot in self._started)
        self._started.add(slot)

    def ended(self, slot: int) -> bool:
        """Note that a process has ended; its counts stay in the metrics.

        Returns:
            Whether it had joined its groups, by its last heartbeat.
        """
        process = self._running[slot]
        self._receive(slot, process)
        process.channel.close()
        del self._running[slot]
        self._totals.retire(str(slot))
        return process.heartbeat is not None and process.heartbeat.progress.is_ready

    def stopping(self) -> None:
        """Note that the processes are about to drain: none is ready from now on."""
        self._is_stopping = True

    @property
    def is_started(self) -> bool:
        """Whether each process has joined its groups once, by the heartbeats so far."""
        return len(self._joined) == self._count

    def drained(self, slot: int) -> bool:
        """Note that a process was drained by an operator's order, and is not missed.

        Returns:
            Whether no other process is left.
        """
        self._drained.add(slot)
        return len(self._drained) == self._count

    def conditions(self) -> list[ProcessCondition]:
        """All processes, by slot, but those that an operator drained.

        One that does not run is neither live nor ready.
        """
        slots = [slot for slot in range(self._count) if slot not in self._drained]
        return [self._condition(slot) for slot in slots]

    def metrics(self) -> Snapshot:
        """The readings of all processes, the counts of those that have ended, and ours.

        Counts are summed over processes.
        """
        for slot, process in self._running.items():
            self._receive(slot, process)
        return {**self._totals.snapshot(), **self.fleet.snapshot()}

    def _receive(self, slot: int, process: _Process) -> None:
        heartbeat = newest_heartbeat(process.channel)
        if heartbeat is not None:
            process.heartbeat = heartbeat
            process.heartbeat_at = self._clock.monotonic()
            self._totals.absorb(str(slot), heartbeat.metrics)
            if heartbeat.progress.is_ready:
                self._joined.add(slot)

    def _condition(self, slot: int) -> ProcessCondition:
        process = self._running.get(slot)
        if process is None:
            return ProcessCondition(slot, None, False, False, "starts again soon")
        self._receive(slot, process)
        heartbeat = process.heartbeat
        silent_s = self._clock.monotonic() - process.heartbeat_at
        progress = None if heartbeat is None else heartbeat.progress
        wrong = ailment(self._policy, progress, silent_s=silent_s)
        is_live = wrong is None
        if heartbeat is None:
            return ProcessCondition(slot, None, is_live, False, wrong or "starting")
        is_joined = heartbeat.progress.is_ready
        # A restart does not help while the store refuses, but the process is not ready.
        refusal = "draining" if self._is_stopping else heartbeat.refusal
        is_ready = is_live and is_joined and not refusal
        detail = wrong or refusal or ("ok" if is_joined else "joining")
        return ProcessCondition(slot, heartbeat.pid, is_live, is_ready, detail)


class Supervisor:
    """Runs worker processes until `stop`.

    Args:
        target: What each child runs: a module-level function, or a partial of one,
            which takes the socket for its heartbeats (`shifter.work.heartbeat`).
        processes: Number of children, >= 1.
        kill_after_s: Seconds after a stop until a child that still runs is aborted.
        health: Receives the heartbeats of the children.
        watchdog_s: Seconds that a child may make no progress; 0 for ever.
        first: A process that was begun before, for the first child; ``None`` without.
    """

    def __init__(
        self,
        target: Callable[[socket.socket], None],
        *,
        processes: int,
        kill_after_s: float,
        health: ProcessHealth,
        watchdog_s: float,
        first: FirstChild | None = None,
    ) -> None:
        self._target, self._processes, self._first = target, processes, first
        self._health, self._watchdog_s = health, watchdog_s
        self._kill_after_s = kill_after_s
        self._context = multiprocessing.get_context("spawn")
        # One thread a child: the pool that asyncio shares may have fewer.
        self._waiting = ThreadPoolExecutor(processes, "shifter-child")
        self._children: dict[int, SpawnProcess] = {}
        self._stopping = asyncio.Event()
        self._asked_at = 0.0
        self._channels: dict[int, socket.socket] = {}
        self._failed: int | None = None
        self._log = Log()

    def stop(self) -> None:
        """Let all children drain; abort those that take too long."""
        if self._stopping.is_set():
            return
        loop = asyncio.get_running_loop()
        self._stopping.set()
        # Before the children are told: whoever watches sees it before the drain begins.
        self._health.stopping()
        self._asked_at = loop.time()
        for child in self._children.values():
            if child.is_alive():
                child.terminate()
        loop.call_later(self._kill_after_s, self.abort)

    def abort(self) -> None:
        """Make all children hand back their running jobs; kill those that do not."""
        self.stop()
        for channel in self._channels.values():
            with contextlib.suppress(OSError):
                channel.send(ABORT)
        asyncio.get_running_loop().call_later(_ABORT_S, self._kill)

    def _kill(self) -> None:
        for child in self._children.values():
            child.kill()

    def _on_signal(self) -> None:
        if not self._stopping.is_set():
            self.stop()
        elif asyncio.get_running_loop().time() >= self._asked_at + _MOMENT_S:
            self.abort()

    async def run(self, until: Awaitable[None] | None = None) -> int:
        """Supervise until `stop`, or until the awaitable is done.

        Returns:
            The exit code: 0, or that of a child that cannot start at all.
        """
        with self._handlers():
            async with asyncio.TaskGroup() as group:
                for slot in range(self._processes):
                    group.create_task(self._keep(slot))
                watchdog = group.create_task(self._watch())
                if until is not None:
                    watcher = group.create_task(self._stop_after(until))
                    await self._stopping.wait()
                    watcher.cancel()
                await self._stopping.wait()
                watchdog.cancel()
        return 0 if self._failed is None else self._failed

    async def _stop_after(self, until: Awaitable[None]) -> None:
        await until
        self.stop()

    async def _watch(self) -> None:
        """End children that make no progress, until cancelled."""
        if not self._watchdog_s:
            return
        ailing: dict[int, int] = {}
        while True:
            await asyncio.sleep(_LOOK_S)
            for condition in self._health.conditions():
                slot, child = condition.slot, self._children.get(condition.slot)
                is_ill = child is not None and not condition.is_live
                # Counted in looks: a child that recovers meanwhile begins anew.
                ailing[slot] = ailing.get(slot, 0) + 1 if is_ill else 0
                over_s = ailing[slot] * _LOOK_S - self._watchdog_s
                if child is not None and over_s >= 0:
                    self._end(child, condition, by_force=over_s >= _DUMP_S)

    def _end(
        self, child: SpawnProcess, condition: ProcessCondition, *, by_force: bool
    ) -> None:
        self._log.error(
            Event.PROCESS_STALLED, slot=condition.slot, detail=condition.detail
        )
        if by_force:
            child.kill()
        elif child.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGABRT)

    async def _keep(self, slot: int) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            code, was_ready = await self._run_child(slot)
            if self._stopping.is_set():
                return
            if code == DRAINED_EXIT:
                self._log.info(Event.PROCESS_DRAINED, slot=slot)
                if self._health.drained(slot):
                    self.stop()
                return
            if code in _FINAL_EXITS:
                self._failed = code
                self.stop()
                return
            if was_ready:
                pause_s = _FIRST_PAUSE_S
            self._log.error(
                Event.PROCESS_ENDED, slot=slot, exit_code=code, again_in_s=pause_s
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _run_child(self, slot: int) -> tuple[int | None, bool]:
        """A child's exit code, and whether it had joined its groups before it ended."""
        child, ours = self._begun(slot)
        self._health.began(slot, ours)
        self._children[slot], self._channels[slot] = child, ours
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._waiting, _until_gone, child)
        del self._children[slot], self._channels[slot]
        return child.exitcode, self._health.ended(slot)

    def _begun(self, slot: int) -> tuple[SpawnProcess, socket.socket]:
        """A child that runs, and the supervisor's end of its channel."""
        first = None if self._first is None else self._first.take(self._target)
        if first is not None:
            return first
        ours, theirs = heartbeat_sockets()
        child = self._context.Process(
            target=self._target,
            args=(theirs,),
            name=f"shifter-worker-{slot}",
        )
        child.start()
        theirs.close()
        return child, ours

    @contextlib.contextmanager
    def _handlers(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _until_gone(child: SpawnProcess) -> None:
    """Wait until a child ends, and kill everything that it started."""
    if child.pid is not None:
        # The child is not reaped yet, so its process id still names its session.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        kill_session(child.pid)
    child.join()
