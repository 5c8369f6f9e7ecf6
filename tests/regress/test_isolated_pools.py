"""A handler in a process of its own may start processes, and they end with it.

A pool raised "daemonic processes are not allowed to have children", and what a handler
started outlived its timeout. Right: a pool works as it does elsewhere, and a stop kills
the whole process group of the handler.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from shifter.supervise.entrypoint import _spawn_isolated
from shifter.work.isolated import IsolatedProcesses
from tests.regress.handler_jobs import app as process_app
from tests.regress.run_alone import run_in_process

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def effects(tmp_path, monkeypatch):
    """The file of effects, in the environment that children inherit."""
    path = tmp_path / "effects"
    path.touch()
    monkeypatch.setenv("EFFECTS", str(path))
    return lambda: [line.split() for line in path.read_text().splitlines()]


@pytest.fixture
def processes():
    found = IsolatedProcesses(
        lambda: _spawn_isolated("tests.regress.handler_jobs:app"), size=1
    )
    yield found
    found.close()


async def run(processes, name: str, **arguments):
    return await run_in_process(processes, process_app, name, **arguments)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["fork", "spawn", "forkserver", "executor", "process"])
async def test_a_handler_in_a_process_of_its_own_uses_a_pool(effects, processes, kind):
    attempt = await run(processes, "uses_a_pool", kind=kind)

    assert attempt.error is None
    assert len(effects()) == (1 if kind == "process" else 3)


@pytest.mark.parametrize("kind", ["pool", "shell", "program"])
async def test_what_a_handler_started_ends_with_its_timeout(effects, processes, kind):
    attempt = await run(processes, "leaves_grandchildren", kind=kind)

    assert attempt.error.type == "TimeoutError"
    below = [int(line[1] if kind == "program" else line[3]) for line in effects()]
    assert below
    until = time.monotonic() + 30
    while any(map(is_running, below)):
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" and pid != os.getpid()
