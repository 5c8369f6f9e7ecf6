"""Processes of a fleet that call one dependency, which fails by plan and counts.

The dependency is no server: each process writes down when each of its calls began, as
the dependency would have seen it, and a call's fate is read from the plan. So thousands
of calls a second are counted exactly, and what is measured is the fleet.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.fleet_history import Plan, Played, Told
from benchmarks.fleet_member import Member
from shifter.policy.protection.dependency import Dependency


def play(
    plan: Plan,
    dependency: Dependency,
    folder: Path,
    *,
    meanwhile: Callable[[], None] | None = None,
    prepare: Callable[[], None] | None = None,
) -> Played:
    """Play it in processes of their own.

    Args:
        plan: What is played.
        dependency: How it is protected.
        folder: For what they write down.
        meanwhile: Called when all are about to begin; may break things, and blocks.
        prepare: Called in each process first; of a module, by its name.
    """
    spawn = multiprocessing.get_context("spawn")
    line = _StartLine(spawn.Semaphore(0), spawn.Event(), spawn.Value("d", 0.0))
    files = [folder / f"{plan.namespace}-{n}" for n in range(plan.processes)]
    children = [
        spawn.Process(
            target=_process, args=((plan, dependency), line, n, file, prepare)
        )
        for n, file in enumerate(files)
    ]
    for child in children:
        child.start()
    time.sleep(max(0.0, line.begin(plan.processes) - time.time()))
    if meanwhile is not None:
        meanwhile()
    for child in children:
        child.join(plan.seconds + 60)
        if child.exitcode != 0:
            raise RuntimeError(f"a process ended with {child.exitcode}")
    told = [msgspec.msgpack.decode(file.read_bytes(), type=Told) for file in files]
    calls = sorted((c for t in told for c in t.calls), key=lambda call: call.at_s)
    return Played(calls, told)


class _StartLine(NamedTuple):
    """Where processes wait for each other: on a busy machine some come late."""

    ready: Any
    go: Any
    at: Any

    def begin(self, processes: int) -> float:
        """Begin, a second after all are there; when, on the wall clock."""
        for _ in range(processes):
            if not self.ready.acquire(timeout=60):
                raise RuntimeError("a process did not come")
        self.at.value = time.time() + 1.0
        self.go.set()
        return float(self.at.value)

    def wait(self) -> float:
        """Be there; when it begins."""
        self.ready.release()
        self.go.wait()
        return float(self.at.value)


def _process(
    played: tuple[Plan, Dependency],
    line: _StartLine,
    number: int,
    file: Path,
    prepare: Callable[[], None] | None,
) -> None:
    if prepare is not None:
        prepare()
    asyncio.run(_live(*played, line.wait(), number, file))


async def _live(
    plan: Plan, dependency: Dependency, start_at: float, number: int, file: Path
) -> None:
    told = Told([], [], [], [], [], [])
    async with asyncio.TaskGroup() as group:
        for n in range(plan.workers):
            member = Member(plan, dependency, number * plan.workers + n, start_at)
            group.create_task(member.live(told))
    took = sorted(told.decision_us)
    marks = [took[len(took) * n // 100] for n in range(100)] if took else []
    told.decision_us = [*marks, *took[-1:]]
    file.write_bytes(msgspec.msgpack.encode(told))
