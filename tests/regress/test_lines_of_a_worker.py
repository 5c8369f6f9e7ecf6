"""Each line of a worker is one JSON object, whatever its handlers do.

A warning, an error that ended a thread of the user's, and a fault that ended the worker
were tracebacks of many lines, which no reader of JSON lines takes. Right: each is one
line, and its traceback is the field ``exception``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

JOBS = """
import asyncio, threading, warnings
from shifter import Shifter

app = Shifter("loud")

def fail():
    raise ValueError("in a thread\\nof two lines")

def be_loud():
    warnings.warn("this goes", DeprecationWarning, stacklevel=1)
    thread = threading.Thread(target=fail, name="mine")
    thread.start()
    thread.join()

@app.job
def loud() -> None:
    be_loud()

@app.job(isolate="process")
def apart() -> None:
    be_loud()

if __name__ == "__main__":
    loud.defer_sync()
    apart.defer_sync()
    app.close()
"""

BROKEN = """
import asyncio
from shifter.supervise import entrypoint
from shifter.work.worker import WorkOptions

async def broken(*_):
    async with asyncio.TaskGroup() as group:
        group.create_task(fail())

async def fail():
    raise ZeroDivisionError("a bug")

async def fail_plainly(*_):
    await fail()

entrypoint._work = FUNCTION
entrypoint.worker_process(WorkOptions("jobs:app"))
"""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "jobs.py").write_text(JOBS)
    environ = {
        **os.environ,
        "PYTHONWARNINGS": "always::DeprecationWarning:jobs",
        "PYTHONPATH": str(tmp_path),
        "SHIFTER_LOG": f"sqlite://{tmp_path / 'loud.db'}",
        "SHIFTER_LOG_FORMAT": "json",
    }

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_what_a_handler_causes_is_one_json_line_each(run):
    assert run("jobs.py").returncode == 0

    done = run("-m", "shifter.cli", "work", "jobs:app", "--burst")

    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    failed = [line for line in lines if line["event"] == "process.thread_failed"]
    warned = [line for line in lines if line.get("logger") == "py.warnings"]
    assert [line["thread"] for line in failed] == ["mine", "mine"]
    for line in failed:
        [error] = line["exception"]
        assert error["exc_value"] == "in a thread\nof two lines"
    assert {line["job"] for line in warned} == {"loud", "apart"}
    assert all("this goes" in line["event"] for line in warned)


@pytest.mark.parametrize("function", ["broken", "fail_plainly"])
def test_a_fault_that_ends_a_worker_is_one_json_line(run, function):
    done = run("-c", BROKEN.replace("FUNCTION", function))

    assert done.returncode == 1
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["event"], line["level"]) == ("worker.failed", "error")
    assert line["detail"] == "a bug"
    assert "ZeroDivisionError" in json.dumps(line["exception"])
