"""Programs that use an app without ``with app:`` and then end, in whichever way.

The threads that keep an app's views went on while the interpreter ended. Executors were
shut down under them, and each such program printed their tracebacks. Now they are asked
to end first, and nothing that they raise after that is printed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.fleet import ROOT, Fleet

pytestmark = pytest.mark.timeout(240)

CALLS = ("submit_sync", "submit", "defer_sync", "defer", "status", "cancel", "block")
ENDS = {
    "at its end": ("pass", 0, ""),
    "by sys.exit": ("sys.exit(3)", 3, ""),
    "by an exception": ("raise ValueError('mine')", 1, "ValueError: mine"),
    "inside a loop": ("asyncio.run(leave())", 3, ""),
    "beside a thread that submits": ("beside()", 0, ""),
}
PROGRAM = """
import asyncio, sys, threading, time
from tests.regress.fork_program import CALLS

async def leave():
    CALLS  # a task is pending
    task = asyncio.create_task(asyncio.sleep(30))
    await asyncio.sleep(0)
    sys.exit(3)

def beside():
    def submit():
        while True:
            CALLS["submit_sync"]()
    threading.Thread(target=submit, daemon=True).start()

CALLS[{call!r}]()
time.sleep({pause_s})
{end}
"""


@pytest.fixture
def embedded(namespace: str, tmp_path: Path) -> Fleet:
    """One file."""
    url = f"sqlite://{tmp_path / 'fleet.db'}"
    return Fleet(url, url, namespace, tmp_path)


def run(fleet: Fleet, call: str, end: str, pause_s: float) -> tuple[int, str]:
    program = PROGRAM.format(call=call, end=end, pause_s=pause_s)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=fleet.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("call", ["submit_sync", "submit", "defer_sync", "block"])
def test_a_program_ends_without_a_traceback_of_ours(embedded, call, end):
    statement, code, last = ENDS[end]
    for pause_s in (0.0, 0.12):
        ended, said = run(embedded, call, statement, pause_s)

        assert ended == code
        assert said.count("Traceback") == bool(last), said
        assert said.strip().endswith(last)
        assert bool(said) == bool(last), said


@pytest.mark.parametrize("call", ["status", "cancel", "defer", "dead_letters"])
def test_a_call_on_its_own_ends_without_a_traceback(embedded, call):
    embedded.run("topics", "apply", "tests.regress.fork_program:app")

    assert run(embedded, call, "pass", 0.0) == (0, "")


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.parametrize("call", CALLS)
def test_a_program_on_servers_ends_without_a_traceback(
    kafka, redis_url, namespace, tmp_path, call
):
    fleet = Fleet(kafka.url, redis_url, namespace, tmp_path)
    fleet.run("topics", "apply", "tests.regress.fork_program:app")

    for pause_s in (0.0, 0.3):
        assert run(fleet, call, "pass", pause_s) == (0, "")
