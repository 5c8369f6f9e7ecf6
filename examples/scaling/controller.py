"""Starts and stops worker processes by shifter's numbers, as a platform would."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

TARGET = "examples.scaling.app:app"
ROOT = Path(__file__).parents[2]
_LOOK_S = 0.5


class Plan(NamedTuple):
    """How workers are run.

    Attributes:
        slots: Of a worker.
        start_up_s: Seconds from asking for a worker to the start of its process.
        environment: Of the workers.
        folder: For their logs.
    """

    slots: int
    start_up_s: float
    environment: Mapping[str, str]
    folder: Path


class Controller:
    """The worker processes of one group.

    Args:
        plan: How they are run.
        desired: How many there should be; ``None`` while that is not known.
    """

    def __init__(self, plan: Plan, desired: Callable[[], int | None]) -> None:
        self._plan, self._desired = plan, desired
        self._starting: list[float] = []
        self._workers: list[asyncio.subprocess.Process] = []
        self._leaving: list[asyncio.subprocess.Process] = []
        self._started = 0

    @property
    def workers(self) -> int:
        """Processes that run, without those that were told to end."""
        return len(self._workers)

    @property
    def asked(self) -> int:
        """The same, with those that the platform has yet to start."""
        return len(self._workers) + len(self._starting)

    async def run(self) -> NoReturn:
        """Follow the number until cancelled.

        Raises:
            RuntimeError: A worker ended by itself.
        """
        while True:
            gone = [one for one in self._workers if one.returncode is not None]
            if gone:
                raise RuntimeError(f"a worker ended with {gone[0].returncode}")
            if (desired := self._desired()) is not None:
                self._follow(desired)
            await self._start_due()
            await asyncio.sleep(_LOOK_S)

    def _follow(self, desired: int) -> None:
        due_at = asyncio.get_running_loop().time() + self._plan.start_up_s
        while self.asked < desired:
            self._starting.append(due_at)
        while self._starting and self.asked > desired:
            self._starting.pop()
        while len(self._workers) > desired:
            worker = self._workers.pop()
            worker.send_signal(signal.SIGTERM)
            self._leaving.append(worker)

    async def _start_due(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._starting and self._starting[0] <= now:
            self._starting.pop(0)
            self._started += 1
            log = self._plan.folder / f"worker-{self._started}.log"
            sizes = "--concurrency", str(self._plan.slots)
            self._workers.append(await shifter(self._plan, log, "work", TARGET, *sizes))

    async def stop(self) -> None:
        """End all workers, in order, and wait for them."""
        for worker in self._workers:
            if worker.returncode is None:
                worker.send_signal(signal.SIGTERM)
        for worker in self._workers + self._leaving:
            await worker.wait()


@asynccontextmanager
async def controlled(controller: Controller) -> AsyncGenerator[None]:
    """Run a controller while the block runs, and end its workers."""
    try:
        async with asyncio.TaskGroup() as group:
            following = group.create_task(controller.run())
            yield
            following.cancel()
    finally:
        await controller.stop()


async def shifter(plan: Plan, log: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Start the command ``shifter``; Ctrl-C does not reach it, so that it ends once."""
    command = shutil.which("shifter", path=str(Path(sys.executable).parent))
    start = [command] if command else [sys.executable, "-m", "shifter.cli"]
    with log.open("ab") as out:
        return await asyncio.create_subprocess_exec(
            *start,
            *arguments,
            env=dict(plan.environment),
            cwd=ROOT,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
