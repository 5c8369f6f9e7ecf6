"""An operator sees what each worker does, and drains one of them."""

from __future__ import annotations

import asyncio
import json

import pytest

from shifter.config.load import load_settings
from shifter.ops.workers import read_workers
from shifter.ports import WorkerReport
from tests.acceptance.fleet import Fleet

TARGET = "tests.acceptance.steered_jobs:app"
pytestmark = pytest.mark.timeout(180)


def workers(fleet: Fleet) -> list[WorkerReport]:
    """The live workers, those that run a job last."""
    settings = load_settings(fleet.namespace, environ=fleet.environment)
    found = asyncio.run(read_workers(settings))
    return sorted(found, key=lambda one: one.slowest is not None)


def test_a_cron_job_is_run_now_and_paused(fleet):
    fleet.run("topics", "apply", TARGET)
    fleet.work(target=TARGET)
    fleet.until(lambda: [one.crons for one in workers(fleet)] != [])

    name = ("--namespace", fleet.namespace)
    job_id = fleet.run("cron", "run", "digest", *name).stdout.strip()
    fleet.until(lambda: fleet.effects("digest") == [["digest"]])
    fleet.run("cron", "pause", "digest", "--reason", "a drill", *name)
    [row] = fleet.json("cron", "list", *name)

    assert (row["name"], row["schedule"]) == ("digest", "0 3 1 1 *")
    assert (row["last_job_id"], row["paused"]["reason"]) == (job_id, "a drill")
    assert row["next_ms"] > row["last_ms"]
    assert fleet.effects("digest") == [["digest"]]


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

    assert (busy.slowest.type, busy.app_version) == ("held", "2026.11.3")
    # What runs is not cut: it ends when the test wants it, and its worker then.
    assert sorted(fleet.children(supervisor)) == sorted([idle.pid, busy.pid])
    (fleet.folder / "end-1").touch()
    fleet.until(lambda: fleet.children(supervisor) == [idle.pid])
    fleet.run("worker", "drain", idle.worker_id, "--reason", "a drill", *name)
    assert supervisor.wait(60) == 0
    assert fleet.effects("begun") == [["begun", "1"]]
