"""The worker processes of a run: started, warmed up, stopped."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from examples.inference.app import warm_up
from examples.inference.notes import NoteReader
from shifter import Priority

ROOT = Path(__file__).parents[2]
TARGET = "examples.inference.app:app"
_WARM_S = 60.0
_WARM_JOBS = 64


class FleetError(Exception):
    """The workers did not start, or ended by themselves."""


class FleetPlan(NamedTuple):
    """How many slots a run has, and where it writes.

    Attributes:
        processes: Worker processes, >= 1.
        slots: Slots in all of them; a multiple of ``processes``.
        speedup: Trace seconds a second, > 0.
        folder: For notes and the workers' log.
    """

    processes: int
    slots: int
    speedup: float
    folder: Path


@asynccontextmanager
async def running(plan: FleetPlan) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Make the topics and run workers; at the end they drain.

    Raises:
        FleetError: They cannot start; says where their log is.
    """
    env = {
        **os.environ,
        "INFERENCE_RUN": str(plan.folder),
        "INFERENCE_SPEEDUP": str(plan.speedup),
    }
    log = plan.folder / "workers.log"
    made = await _shifter(["topics", "apply", TARGET], env, log)
    if await made.wait():
        raise FleetError(f"the topics cannot be made; see {log}")
    concurrency = str(plan.slots // plan.processes)
    sizes = ["--processes", str(plan.processes), "--concurrency", concurrency]
    workers = await _shifter(["work", TARGET, *sizes], env, log)
    try:
        yield workers
    finally:
        if workers.returncode is None:
            workers.send_signal(signal.SIGTERM)
        await workers.wait()


async def warm(plan: FleetPlan, notes: NoteReader) -> None:
    """Return once every process has served both priorities.

    Groups have settled by then, so that the run measures the drain and not the start.

    Raises:
        FleetError: They have not within a minute.
    """
    lanes = (Priority.HIGH, Priority.LOW)
    seen: set[tuple[int, str]] = set()
    until = time.monotonic() + _WARM_S
    while len(seen) < plan.processes * len(lanes):
        if time.monotonic() > until:
            raise FleetError(
                f"the workers are not ready; see {plan.folder}/workers.log"
            )
        await asyncio.gather(*(_spread_over(lane) for lane in lanes))
        await asyncio.sleep(0.5)
        seen |= {(note.pid, note.lane) for note in notes.read()}


async def _spread_over(lane: Priority) -> None:
    """Jobs under many keys, so that every partition gets some."""
    calls: Iterable[str] = map(str, range(_WARM_JOBS))
    for key in calls:
        await warm_up.options(priority=lane, key=key, deadline="60s").defer(lane=lane)


async def _shifter(
    arguments: list[str], env: Mapping[str, str], log: Path
) -> asyncio.subprocess.Process:
    here = Path(sys.executable).parent
    command = shutil.which("shifter", path=f"{here}{os.pathsep}{env.get('PATH', '')}")
    if command is None:
        raise FleetError("the command 'shifter' is not installed")
    with log.open("ab") as out:
        # a session of its own: Ctrl-C reaches the player, which then asks them once;
        # a second signal would abort them
        return await asyncio.create_subprocess_exec(
            command,
            *arguments,
            env=env,
            cwd=ROOT,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
