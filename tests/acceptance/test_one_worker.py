"""An operator sees what each worker does, drains one, and runs a cron job on another."""

from __future__ import annotations

import asyncio
import json

import pytest

from shifter.config import Settings
from shifter.config.load import load_settings
from shifter.ops.crons import pause_cron, read_crons
from shifter.ops.lanes import peek_lane
from shifter.ops.overrides import Override
from shifter.ops.workers import drain_worker, read_workers
from shifter.ports import WorkerReport
from tests.acceptance.fleet import Fleet

TARGET = "tests.acceptance.steered_jobs:app"
pytestmark = pytest.mark.timeout(180)


def settings_of(fleet: Fleet) -> Settings:
    return load_settings(fleet.namespace, environ=fleet.environment)


def workers(fleet: Fleet) -> list[WorkerReport]:
    """The live workers, those that run a job last."""
    found = asyncio.run(read_workers(settings_of(fleet)))
    return sorted(found, key=lambda one: one.slowest is not None)


def test_one_worker_is_drained_and_the_others_go_on(fleet):
    fleet.environment["SHIFTER_APP_VERSION"] = "2026.11.3"
    fleet.run("topics", "apply", TARGET)
    fleet.run("submit", TARGET, "held", "--json", json.dumps({"number": 1}))
    supervisor = fleet.work("--processes", "2", target=TARGET)
    fleet.until(lambda: [bool(one.slowest) for one in workers(fleet)] == [False, True])

    idle, busy = workers(fleet)
    name = ("--namespace", fleet.namespace)
    fleet.run("worker", "drain", busy.worker_id, "--reason", "a drill", *name)
    fleet.until(lambda: workers(fleet)[-1].is_draining)

    # Looking into the lane takes nothing of the job that runs.
    seen = asyncio.run(peek_lane(settings_of(fleet), "held/normal", 5))
    assert [(row.state, row.payload) for row in seen.rows] == [
        ("waiting", {"number": 1})
    ]
    assert (busy.slowest.type, busy.app_version) == ("held", "2026.11.3")
    # What runs is not cut: it ends when the test wants it, and its worker then.
    assert sorted(fleet.children(supervisor)) == sorted([idle.pid, busy.pid])
    (fleet.folder / "end-1").touch()
    fleet.until(lambda: fleet.children(supervisor) == [idle.pid])
    # The one that is left runs a cron job that an operator asks for.
    job_id = fleet.run("cron", "run", "digest", *name).stdout.strip()
    fleet.until(lambda: fleet.effects("digest") == [["digest"]])
    settings, pause = settings_of(fleet), Override("pause", "ann", "a drill", 60_000)
    asyncio.run(pause_cron(settings, "digest", pause))
    [row] = asyncio.run(read_crons(settings))
    assert (row.schedule, row.last_job_id) == ("0 3 1 1 *", job_id)
    assert (row.workers, row.paused.reason) == (1, "a drill")
    asyncio.run(drain_worker(settings, idle.worker_id, owner="ann", reason="a drill"))
    assert supervisor.wait(60) == 0
    assert fleet.effects("begun") == [["begun", "1"]]
