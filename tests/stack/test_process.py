"""Servers are told apart from strangers, and die with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from stack.errors import StackError
from stack.home import HOME, make_run_dir
from stack.process import Server, end_detached, free_port, mark_of

SLEEPS = "import time; print('ready', flush=True); time.sleep(60)"
SLEEPER = [sys.executable, "-c", SLEEPS]
PARENT = """
import sys, time
from pathlib import Path
from stack.process import Server
server = Server(["sleep", "60"], Path(sys.argv[1]), attached=True)
print(server.pid, flush=True)
time.sleep(60)
"""


def is_gone(pid: int, *, within_s: float = 30.0) -> bool:
    until = time.monotonic() + within_s
    while mark_of(pid) is not None and time.monotonic() < until:
        time.sleep(0.02)
    return mark_of(pid) is None


@pytest.fixture
def sleeper(tmp_path):
    server = Server(SLEEPER, tmp_path / "log", attached=True)
    # a mark is good once the program runs: until then it is still being exchanged
    until = time.monotonic() + 30
    while "ready" not in (tmp_path / "log").read_text() and time.monotonic() < until:
        time.sleep(0.01)
    yield server
    server.kill()


def test_an_attached_server_dies_when_its_parent_is_killed(tmp_path):
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert mark_of(pid) is not None

        parent.kill()

    assert is_gone(pid)


def test_a_server_outlives_the_thread_that_started_it(tmp_path):
    started = []
    thread = threading.Thread(
        target=lambda: started.append(Server(SLEEPER, tmp_path / "log", attached=True))
    )

    thread.start()
    thread.join()

    [server] = started
    assert not is_gone(server.pid, within_s=0.3)
    server.kill()


def test_only_the_very_process_that_was_noted_is_ended(sleeper):
    end_detached(sleeper.pid, "1 another program", timeout_s=0.1)
    assert sleeper.is_running

    end_detached(sleeper.pid, mark_of(sleeper.pid))
    assert not sleeper.is_running


def test_a_frozen_server_can_be_stopped(sleeper):
    sleeper.signal(signal.SIGSTOP)

    begun = time.monotonic()
    sleeper.stop()

    assert not sleeper.is_running
    # By force it would have been later.
    assert time.monotonic() - begun < 14


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(tmp_path):
    server = Server(["sh", "-c", "echo no room"], tmp_path / "log", attached=True)

    with pytest.raises(StackError, match="no room"):
        server.wait_for_port(free_port(), timeout_s=5)


def test_ports_stay_clear_of_outgoing_connections():
    assert all(20_000 <= free_port() < 32_000 for _ in range(20))


def test_the_folder_of_a_process_that_is_gone_is_swept_out():
    orphan, mine = make_run_dir("test"), make_run_dir("test")
    (orphan / "owner").write_text(f"{os.getpid()} another process")

    other = make_run_dir("test")

    assert (orphan.exists(), mine.exists(), other.parent) == (False, True, HOME)
    for place in (mine, other):
        (place / "owner").unlink()
        place.rmdir()
