"""The start of a process does not use up the timeout of the job that runs in it.

A job with ``isolate="process"`` and a timeout of 1.5 s failed on a busy machine before
its handler was called, since importing the app took longer. Right: the time of the
attempt begins when its process is ready, and a process that is never ready is ended.
"""

from __future__ import annotations

import pytest

from shifter.supervise.entrypoint import _spawn_isolated
from shifter.work import isolated
from shifter.work.isolated import IsolatedProcesses
from tests.regress.run_alone import run_in_process
from tests.regress.slow_import_jobs import app

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def effects(tmp_path, monkeypatch):
    path = tmp_path / "effects"
    path.touch()
    monkeypatch.setenv("EFFECTS", str(path))
    return lambda: [line.split() for line in path.read_text().splitlines()]


@pytest.fixture
def processes():
    found = IsolatedProcesses(
        lambda: _spawn_isolated("tests.regress.slow_import_jobs:app"), size=1
    )
    yield found
    found.close()


async def run(processes):
    return await run_in_process(processes, app, "runs_apart")


async def test_a_job_runs_although_its_process_started_later_than_its_timeout(
    processes, effects, monkeypatch
):
    monkeypatch.setenv("SLOW_IMPORT_S", "2")

    attempt = await run(processes)

    assert attempt.error is None
    [[_, _, remaining_s, *_]] = effects()
    assert 0 < float(remaining_s) <= 1


async def test_a_process_that_is_never_ready_is_ended(processes, effects, monkeypatch):
    monkeypatch.setenv("SLOW_IMPORT_S", "3600")
    monkeypatch.setattr(isolated, "START_S", 2.0)

    attempt = await run(processes)

    assert attempt.error.message == "its process was not ready after 2 s"
    assert effects() == []
