"""Jobs that arrive together share a few processes, and wait for them uncharged.

Each of thirty jobs that had lost two workers started a process of its own before the
first of them was called: the start of a process and the call were two tasks of one
pool, and all starts stood before the calls. A worker had 30 children where two were
allowed, and the jobs began after 36 s. Right: a child stays with a job from its start
to the end of the call, and the time of a job does not run while it waits for one.
"""

from __future__ import annotations

import pytest

from shifter.produce.options import CallOptions, plan_call
from shifter.supervise.entrypoint import _spawn_isolated
from shifter.work.isolated import IsolatedProcesses
from tests.integration.drain_world import World
from tests.regress.slow_import_jobs import app

CHILDREN = 2
JOBS = 6
IMPORT_S = 1.5
"""Longer than the timeout of a job, which is one second."""


@pytest.fixture
def effects(tmp_path, monkeypatch):
    path = tmp_path / "effects"
    path.touch()
    monkeypatch.setenv("EFFECTS", str(path))
    monkeypatch.setenv("SLOW_IMPORT_S", str(IMPORT_S))
    return lambda: [line.split() for line in path.read_text().splitlines()]


@pytest.mark.timeout(240)
async def test_jobs_that_arrive_together_start_no_more_children_than_allowed(effects):
    world, started = World(), []

    def spawn():
        child = _spawn_isolated("tests.regress.slow_import_jobs:app")
        started.append(child[0])
        return child

    processes = IsolatedProcesses(spawn, size=CHILDREN)
    world.app.jobs.update(app.jobs)
    world.app.handlers |= app.handlers
    await world.open()
    job = app.jobs["runs_apart"]
    for _ in range(JOBS):
        plan = plan_call("shop", job.spec, CallOptions())
        payload = job.codec.encode((), {})
        await world.publisher.defer(plan, payload, job.codec.content_type)

    async with world.working(processes=processes):
        await world.until(lambda: len(effects()) == JOBS, timeout_s=90)

    assert len(started) == CHILDREN
    processes.close()
