"""Stopping workers by signals as service managers, containers and shells send them.

A signal to the process group reached supervisor and workers alike, the supervisor sent
its workers a second one, and a second one meant abort: running jobs were cut, each cut
counted as a lost worker, and their isolated processes went on. Now workers have a
session of their own, only a later second signal to the supervisor aborts, what a stop
cuts is handed back uncharged, and no process outlives the worker that started it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.fleet import ROOT, Fleet

TARGET = "tests.regress.stopping_jobs:app"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def fleet(namespace: str, tmp_path: Path) -> Iterator[Fleet]:
    """Runs on one file, with short leases."""
    url = f"sqlite://{tmp_path / 'fleet.db'}"
    fleet = Fleet(url, url, namespace, tmp_path)
    fleet.environment |= {"SHIFTER_LEASE": "3s", "SHIFTER_CLAIM_TIMEOUT": "1s"}
    try:
        yield fleet
    finally:
        fleet.close()


def submit(fleet: Fleet, job: str, number: int, seconds: float) -> None:
    payload = f'{{"number": {number}, "seconds": {seconds}}}'
    fleet.run("submit", TARGET, job, "--json", payload)


def work(fleet: Fleet, *before: str) -> subprocess.Popen[bytes]:
    """``shifter work`` as the leader of a process group of its own."""
    command = [*before, sys.executable, "-m", "shifter.cli", "work", TARGET]
    log = fleet.folder / f"worker-{len(fleet.workers)}.log"
    with log.open("wb") as out:
        worker = subprocess.Popen(
            command,
            env=fleet.environment,
            cwd=ROOT,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    fleet.workers.append(worker)
    return worker


def descendants(pid: int) -> list[int]:
    """A process's children, their children and so on."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found + [below for child in found for below in descendants(child)]


def to_group(worker: subprocess.Popen[bytes], number: signal.Signals) -> None:
    os.killpg(worker.pid, number)


def to_everybody(worker: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """What a service manager sends to all processes of a service."""
    for pid in (worker.pid, *descendants(worker.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def begun(fleet: Fleet, count: int = 1) -> None:
    fleet.until(lambda: len(fleet.effects("begun")) >= count, timeout_s=60)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


KINDS = ("awaits", "threaded", "isolated")


@pytest.mark.parametrize(
    ("send", "number"),
    [
        (to_group, signal.SIGTERM),
        (to_group, signal.SIGINT),
        (to_everybody, signal.SIGTERM),
    ],
)
def test_a_stop_of_the_whole_group_cuts_no_job(fleet, send, number):
    for index, job in enumerate(KINDS):
        submit(fleet, job, index, 3.0)
    worker = work(fleet)
    begun(fleet, 3)

    for _ in range(3):
        send(worker, number)

    assert worker.wait(50) == 0, fleet.said()
    assert len(fleet.effects("begun")) == len(fleet.effects("ended")) == 3


def test_restarts_that_cut_a_job_are_never_charged(fleet):
    fleet.environment["SHIFTER_DRAIN_TIMEOUT"] = "200ms"
    for index, job in enumerate(KINDS):
        submit(fleet, job, index, 60.0)
    for restart in range(3):
        worker = work(fleet)
        begun(fleet, 3 * (restart + 1))
        to_group(worker, signal.SIGTERM)
        assert worker.wait(50) == 0

    fleet.environment["JOB_S"] = "0"
    work(fleet)

    fleet.until(lambda: len(fleet.effects("ended")) == 3, timeout_s=60)
    assert {line[2] for line in fleet.effects("begun")} == {"1"}
    assert fleet.json("dlt", "list", "default", "--namespace", fleet.namespace) == []


@pytest.mark.parametrize("jobs", [KINDS, ("blocks",)])
def test_a_later_second_signal_aborts_and_charges_nothing(fleet, jobs):
    for index, job in enumerate(jobs):
        submit(fleet, job, index, 60.0)
    for restart in range(3):
        worker = work(fleet)
        begun(fleet, len(jobs) * (restart + 1))
        to_group(worker, signal.SIGINT)
        # Two signals within 0.4 s are one, counted from when the first is handled.
        time.sleep(1.5)
        asked = time.monotonic()
        to_group(worker, signal.SIGINT)
        worker.wait(50)
        # Without the second signal it would wait for its jobs, for 30 s.
        assert time.monotonic() - asked < 20, fleet.said()

    work(fleet)

    begun(fleet, len(jobs) * 4)
    assert {line[2] for line in fleet.effects("begun")} == {"1"}
    assert fleet.json("dlt", "list", "default", "--namespace", fleet.namespace) == []


@pytest.mark.parametrize("job", ["isolated", "parental"])
@pytest.mark.parametrize("victims", ["worker", "worker and supervisor"])
def test_no_process_of_a_job_outlives_a_killed_worker(fleet, job, victims):
    submit(fleet, job, 1, 60.0)
    supervisor = work(fleet)
    begun(fleet)
    (worker,) = fleet.children(supervisor)
    below = descendants(worker)
    assert below

    if victims != "worker":
        supervisor.kill()
    os.kill(worker, signal.SIGKILL)

    fleet.until(lambda: not any(map(is_running, below)), timeout_s=30)
    supervisor.kill()
    assert fleet.effects("ended") == []


needs_namespaces = pytest.mark.skipif(
    shutil.which("unshare") is None or os.geteuid() != 0,
    reason="only root makes a process number 1",
)
AS_PID_1 = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def first_process(worker: subprocess.Popen[bytes]) -> int:
    """The process that is number 1 in the namespace of ``unshare``."""
    until = time.monotonic() + 30
    while not (found := descendants(worker.pid)):
        assert time.monotonic() < until
        time.sleep(0.01)
    return found[0]


@needs_namespaces
def test_process_1_is_ended_while_it_imports_the_app(fleet):
    fleet.environment["IMPORT_S"] = "100"
    worker = work(fleet, *AS_PID_1)
    fleet.until(lambda: bool(fleet.effects("importing")), timeout_s=60)

    os.kill(first_process(worker), signal.SIGTERM)

    worker.wait(30)


@needs_namespaces
def test_process_1_drains_and_leaves_no_zombies(fleet):
    fleet.run("submit", TARGET, "orphaning", "--json", '{"number": 1}')
    worker = work(fleet, *AS_PID_1)
    fleet.until(lambda: bool(fleet.effects("orphan")), timeout_s=60)
    one = first_process(worker)
    time.sleep(0.3)

    def zombies() -> list[int]:
        found = descendants(one)
        return [
            pid
            for pid in found
            if Path(f"/proc/{pid}").exists() and not is_running(pid)
        ]

    fleet.until(lambda: not zombies(), timeout_s=30)
    os.kill(one, signal.SIGTERM)
    assert worker.wait(50) == 0, fleet.said()
