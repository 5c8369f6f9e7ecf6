"""A process that forks after its app was used: gunicorn's ``preload_app``, pools.

The threads that keep an app's views of lanes and circuits stayed with the parent, and
so did those that run plain handlers: a child's `submit` hung, its views were dead. A
child forked while a thread imported an adapter could never import it. Signals to a
child forked by a handler reached its worker's event loop, which then drained. Now
everything with a thread, a lock or a connection is renewed in a child, on its next use.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shifter.adapters.sqlite import connection
from shifter.adapters.sqlite.connection import make_file
from shifter.adapters.sqlite.database import Database
from shifter.testing import TestApp
from tests.acceptance.fleet import ROOT, Fleet
from tests.regress.fork_program import CALLS, app, plain

TARGET = "tests.regress.fork_program:app"
JOBS = "tests.regress.forking_jobs:app"
LOOKS = ("sees_lanes", "sees_circuits")
# Python 3.12 and later warn of every fork of a process with threads, which is the
# subject here; any other output to stderr fails the test.
PYTHON = (sys.executable, "-W", "ignore:This process:DeprecationWarning")

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
]

SERVERS = pytest.param(
    "servers", id="kafka", marks=[pytest.mark.kafka, pytest.mark.redis]
)


@pytest.fixture(params=[SERVERS, pytest.param("embedded", id="sqlite")])
def fleet(
    request: pytest.FixtureRequest, namespace: str, tmp_path: Path
) -> Iterator[Fleet]:
    """Log and state store, with the topics of the program."""
    if request.param == "servers":
        log = request.getfixturevalue("kafka").url
        state = request.getfixturevalue("redis_url")
    else:
        log = state = f"sqlite://{tmp_path / 'fleet.db'}"
    fleet = Fleet(log, state, namespace, tmp_path)
    fleet.run("topics", "apply", TARGET)
    try:
        yield fleet
    finally:
        fleet.close()


@pytest.mark.parametrize("call", CALLS)
def test_a_child_forked_after_a_call_can_make_every_call(fleet, call):
    done = subprocess.run(
        [*PYTHON, "-m", "tests.regress.fork_program", call],
        env=fleet.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    worked = done.stdout.splitlines()
    for who in ("child", "parent"):
        assert [f"{who} {name}" for name in (*CALLS, *LOOKS)] == [
            line for line in worked if line.startswith(who)
        ]


def test_no_background_thread_imports_a_module(fleet):
    """A child forked meanwhile could never import it."""
    done = subprocess.run(
        [*PYTHON, "-m", "tests.regress.fork_program", "imports"],
        env=fleet.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def waited_for(pid: int) -> int:
    """The exit code of a child; it is killed when it takes too long."""
    timer = threading.Timer(40, os.kill, (pid, signal.SIGKILL))
    timer.start()
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        timer.cancel()


def test_process_does_not_fork_while_a_thread_opens_a_file(tmp_path, monkeypatch):
    """The child would take that connection's locks for its own."""
    is_opening, may_open, has_forked = (threading.Event() for _ in range(3))

    def make_slowly(path, lock):
        is_opening.set()
        assert may_open.wait(30)
        make_file(path, lock)

    def fork():
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        has_forked.set()
        waited_for(pid)

    monkeypatch.setattr(connection, "make_file", make_slowly)
    opener = threading.Thread(target=lambda: Database(tmp_path / "own.db").close_sync())
    forker = threading.Thread(target=fork)
    opener.start()
    assert is_opening.wait(30)
    forker.start()

    assert not has_forked.wait(0.5)

    may_open.set()
    opener.join(30)
    assert has_forked.wait(30)
    forker.join(30)


async def test_a_child_forked_in_a_test_runs_plain_handlers():
    async with TestApp(app):
        assert (await plain.submit(1)).value == 2
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert plain.submit_sync(1).value == 2
                assert app.admission.threads.submit(plain, 1).result(30) == 2
                code = 0
            finally:
                os._exit(code)
        assert waited_for(pid) == 0


@pytest.mark.parametrize("job", ["threaded", "looped"])
def test_a_child_that_a_handler_forked_can_use_the_app(fleet, job):
    fleet.run("topics", "apply", JOBS)
    fleet.run("submit", JOBS, job, "--json", '{"number": 1}')

    fleet.run("work", JOBS, "--burst")

    assert [line[1:3] for line in fleet.effects("forked")] == [["1", "0"]]
    assert "101" in {line[1] for line in fleet.effects("plain")}


def test_a_signal_to_a_child_that_a_handler_forked_does_not_reach_its_worker(fleet):
    fleet.run("topics", "apply", JOBS)
    worker = fleet.work(target=JOBS)

    for number in (1, 2):
        fleet.run("submit", JOBS, "terminating", "--json", f'{{"number": {number}}}')
        fleet.until(
            lambda n=number: len(fleet.effects("terminated")) == n, timeout_s=60
        )

    assert {line[1] for line in fleet.effects("terminated")} == {"3"}
    assert len({line[3] for line in fleet.effects("begun")}) == 1
    worker.terminate()
    assert worker.wait(30) == 0
