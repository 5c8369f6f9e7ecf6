"""Keeps N worker processes alive and ends them in order.

Children are spawned, never forked: librdkafka and thread pools do not survive a fork.
One that ends by itself is started again, later each time; one that had joined its
groups starts over with the shortest wait. A child that loses its parent drains and
leaves. One that does not get on any more is ended by the watchdog: with SIGABRT, so
that it says where it stands, then with SIGKILL.

The first signal lets the children drain, a later one makes them hand back what they
run and leave. Signals that come at nearly the same time are one: a terminal or a
service manager sends to the whole process group, and a wrapper passes its own on.
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
from typing import Any, NamedTuple

from shifter.runtime.process_group import kill_session
from shifter.supervise.process_health import ProcessCondition, ProcessHealth
from shifter.telemetry import Event, Log
from shifter.work.heartbeat import line_pair

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_LOOK_S = 1.0
_DUMP_S = 5.0
"""How long a child has to write down where it stands."""
_MOMENT_S = 0.4
"""Signals within so many seconds of the first one are the same request."""
_ABORT_S = 5.0
"""How long a child has to hand back what it runs."""
ABORT = b"abort"
"""What a child is sent that must leave at once; see `shifter.work.leaving`."""
# No permission, wrong configuration: starting again changes nothing.
_FINAL_EXITS = frozenset({77, 78})


class Entry(NamedTuple):
    """What a child runs: a module-level function and its plain arguments.

    The function gets one more argument: the socket by which it tells how it fares
    (`shifter.work.heartbeat`).
    """

    function: Callable[..., None]
    arguments: tuple[Any, ...]


class Supervisor:
    """Runs worker processes until told to stop.

    Args:
        entry: What each child runs.
        processes: How many, >= 1.
        kill_after_s: How long after a stop a child that does not end is killed.
        vitals: Hears how the children fare.
        watchdog_s: How long a child may be ailing before it is ended; 0 for ever.
    """

    def __init__(
        self,
        entry: Entry,
        *,
        processes: int,
        kill_after_s: float,
        vitals: ProcessHealth,
        watchdog_s: float,
    ) -> None:
        self._entry, self._processes = entry, processes
        self._vitals, self._watchdog_s = vitals, watchdog_s
        self._kill_after_s = kill_after_s
        self._context = multiprocessing.get_context("spawn")
        # One each: those that asyncio shares may be fewer than there are children.
        self._waiting = ThreadPoolExecutor(processes, "shifter-child")
        self._children: dict[int, SpawnProcess] = {}
        self._stopping = asyncio.Event()
        self._asked_at = 0.0
        self._lines: dict[int, socket.socket] = {}
        self._failed: int | None = None
        self._log = Log()

    def stop(self) -> None:
        """Let all children drain; what takes too long is aborted."""
        if self._stopping.is_set():
            return
        loop = asyncio.get_running_loop()
        self._stopping.set()
        self._asked_at = loop.time()
        for child in self._children.values():
            if child.is_alive():
                child.terminate()
        loop.call_later(self._kill_after_s, self.abort)

    def abort(self) -> None:
        """Have all children hand back what they run, and kill those that do not."""
        self.stop()
        for line in self._lines.values():
            with contextlib.suppress(OSError):
                line.send(ABORT)
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
        """End children that do not get on, until cancelled."""
        if not self._watchdog_s:
            return
        ailing: dict[int, int] = {}
        while True:
            await asyncio.sleep(_LOOK_S)
            for condition in self._vitals.conditions():
                slot, child = condition.slot, self._children.get(condition.slot)
                is_ill = child is not None and not condition.is_live
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
        ours, theirs = line_pair()
        child = self._context.Process(
            target=self._entry.function,
            args=(*self._entry.arguments, theirs),
            name=f"shifter-worker-{slot}",
        )
        child.start()
        theirs.close()
        self._vitals.began(slot, ours)
        self._children[slot], self._lines[slot] = child, ours
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._waiting, _until_gone, child)
        del self._children[slot], self._lines[slot]
        return child.exitcode, self._vitals.ended(slot)

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
    """Wait for a child's end; nothing that it started outlives it."""
    if child.pid is not None:
        # Not reaped yet: until then its process id names nothing else.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        kill_session(child.pid)
    child.join()
