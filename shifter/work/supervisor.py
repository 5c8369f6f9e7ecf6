"""Keeps N worker processes alive and ends them in order.

Children are spawned, never forked: librdkafka and thread pools do not survive a fork.
One that ends by itself is started again, later each time; one that lived for a while
starts over with the shortest wait. A child that loses its parent drains and leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
from collections.abc import Awaitable, Callable, Generator
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from shifter.telemetry import Event, Log

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_HEALTHY_AFTER_S = 60.0
# No permission, wrong configuration: starting again changes nothing.
_FINAL_EXITS = frozenset({77, 78})


class Entry(NamedTuple):
    """What a child runs: a module-level function and its plain arguments."""

    function: Callable[..., None]
    arguments: tuple[Any, ...]


class Supervisor:
    """Runs worker processes until told to stop.

    Args:
        entry: What each child runs.
        processes: How many, >= 1.
        kill_after_s: How long after a stop a child that does not end is killed.
    """

    def __init__(self, entry: Entry, *, processes: int, kill_after_s: float) -> None:
        self._entry, self._processes = entry, processes
        self._kill_after_s = kill_after_s
        self._context = multiprocessing.get_context("spawn")
        self._children: dict[int, SpawnProcess] = {}
        self._stopping = asyncio.Event()
        self._signals = 0
        self._failed: int | None = None
        self._log = Log()

    def stop(self) -> None:
        """Let all children drain; a second call ends them at once."""
        self._signals += 1
        self._stopping.set()
        for child in self._children.values():
            if child.is_alive():
                child.terminate() if self._signals == 1 else child.kill()
        if self._signals == 1:
            asyncio.get_running_loop().call_later(self._kill_after_s, self.stop)

    async def run(self, until: Awaitable[None] | None = None) -> int:
        """Supervise until `stop`, or until the awaitable is done.

        Returns:
            The exit code: 0, or that of a child that cannot start at all.
        """
        with self._handlers():
            async with asyncio.TaskGroup() as group:
                for slot in range(self._processes):
                    group.create_task(self._keep(slot))
                if until is not None:
                    watcher = group.create_task(self._stop_after(until))
                    await self._stopping.wait()
                    watcher.cancel()
        return 0 if self._failed is None else self._failed

    async def _stop_after(self, until: Awaitable[None]) -> None:
        await until
        self.stop()

    async def _keep(self, slot: int) -> None:
        pause_s = _FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            code = await self._run_child(slot)
            if self._stopping.is_set():
                return
            if code in _FINAL_EXITS:
                self._failed = code
                self.stop()
                return
            if loop.time() - started > _HEALTHY_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            self._log.error(
                Event.PROCESS_ENDED, slot=slot, exit_code=code, again_in_s=pause_s
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _run_child(self, slot: int) -> int | None:
        child = self._context.Process(
            target=self._entry.function,
            args=self._entry.arguments,
            name=f"shifter-worker-{slot}",
        )
        child.start()
        self._children[slot] = child
        await asyncio.to_thread(child.join)
        del self._children[slot]
        return child.exitcode

    @contextlib.contextmanager
    def _handlers(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
