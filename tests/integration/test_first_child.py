"""The first worker process, which imports the app before it is told what to run."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shifter.adapters.system import SystemClock
from shifter.supervise.first_child import FirstChild
from shifter.supervise.supervisor import ProcessHealth, Supervisor
from tests.documents.blocks import ROOT

PROGRAM = """
import os
from pathlib import Path
from shifter import Shifter

Path(os.environ["SEEN"], f"imported-{os.getpid()}").touch()
app = Shifter("first")

@app.job
async def go() -> None: ...
"""
PATIENCE_S = 90


@pytest.fixture
def seen(tmp_path, monkeypatch) -> Path:
    """A folder in which a process leaves a file for each thing that it does."""
    (tmp_path / "first_program.py").write_text(PROGRAM)
    seen = tmp_path / "seen"
    seen.mkdir()
    monkeypatch.setenv("SEEN", str(seen))
    # A spawned process has the path of its parent.
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return seen


def wait_for(seen: Path, pattern: str, count: int = 1) -> list[Path]:
    until = time.monotonic() + PATIENCE_S
    while len(found := sorted(seen.glob(pattern))) < count:
        assert time.monotonic() < until, (pattern, list(seen.iterdir()))
        time.sleep(0.02)
    return found


def leave(seen: str, channel) -> None:
    """What the process is told to run."""
    Path(seen, f"ran-{os.getpid()}").touch()
    sys.exit(0)


def beat(seen: str, channel) -> None:
    channel.send(b"beats")
    leave(seen, channel)


def test_the_app_is_imported_before_anybody_tells_what_to_run(seen):
    with FirstChild("first_program:app") as first:
        wait_for(seen, "imported-*")
        assert list(seen.glob("ran-*")) == []

        taken = first.take(functools.partial(beat, str(seen)))

        assert taken is not None
        process, channel = taken
        process.join(PATIENCE_S)
        [ran] = seen.glob("ran-*")
        assert (ran.name, process.exitcode) == (f"ran-{process.pid}", 0)
        assert channel.recv(10) == b"beats"
        assert first.take(functools.partial(leave, str(seen))) is None
        channel.close()


def test_a_process_that_nobody_takes_ends_with_the_block(seen):
    with FirstChild("first_program:app") as first:
        process = first._process
        wait_for(seen, "imported-*")

    assert process.exitcode is not None


def test_an_app_that_cannot_be_imported_is_reported_by_what_is_run(seen):
    with FirstChild("no_such_program:app") as first:
        process, channel = first.take(functools.partial(leave, str(seen)))
        process.join(PATIENCE_S)

    assert process.exitcode == 0
    channel.close()


ORPHAN = """
import sys, time
from shifter.supervise.first_child import FirstChild

if __name__ == "__main__":
    first = FirstChild("slow_program:app")
    print(first._process.pid, flush=True)
    time.sleep(600)
"""


def test_a_process_ends_with_its_parent_while_it_imports(seen, tmp_path):
    slow = "import time\n" + PROGRAM + "\ntime.sleep(600)\n"
    (tmp_path / "slow_program.py").write_text(slow)
    (tmp_path / "orphan.py").write_text(ORPHAN)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "orphan.py")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        child = int(parent.stdout.readline())
        wait_for(seen, "imported-*")
    finally:
        parent.kill()
        parent.communicate()

    until = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < until
        time.sleep(0.02)


async def test_a_first_process_that_has_ended_is_replaced_like_any_other(seen):
    with FirstChild("first_program:app") as first:
        first._process.kill()
        supervisor = Supervisor(
            functools.partial(leave, str(seen)),
            processes=1,
            kill_after_s=5,
            health=ProcessHealth(1, SystemClock()),
            watchdog_s=0,
            first=first,
        )

        async def ran() -> None:
            while not list(seen.glob("ran-*")):
                await SystemClock().sleep(0.02)

        assert await supervisor.run(ran()) == 0
