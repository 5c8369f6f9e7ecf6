"""Nothing outlives the demo: neither when it asks, nor when it is killed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shifter.demo import reaper

# It waits for the signal itself: a handler's turn may not come before a sleep ends.
STUBBORN = """
import os, signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
if os.fork() == 0:
    time.sleep(600)
print("up", flush=True)
signal.sigwait({signal.SIGTERM})
print("asked", flush=True)
time.sleep(600)
"""
OBEDIENT = """
import time
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def start(tmp_path):
    started = []

    def run(program):
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "file").write_text("x")
        process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                reaper.__file__,
                str(folder),
                sys.executable,
                "-c",
                program,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        return process, folder

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        process.stdin.close()
        process.stdout.close()


def group_is_gone(process, within_s=30.0):
    """Whether the group ends in time."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        process.poll()
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_a_word_ends_the_command_and_leaves_the_folder(start):
    process, folder = start(OBEDIENT)
    assert process.stdout.readline() == b"up\n"

    process.stdin.write(b"end\n")
    process.stdin.flush()

    assert group_is_gone(process)
    assert (folder / "file").exists()


def test_the_end_of_the_demo_ends_the_command_and_removes_the_folder(start):
    process, folder = start(OBEDIENT)
    assert process.stdout.readline() == b"up\n"

    process.stdin.close()

    assert group_is_gone(process)
    assert not folder.exists()


def test_a_command_that_does_not_end_is_killed_with_its_children(
    start, monkeypatch, tmp_path
):
    program = tmp_path / "impatient.py"
    source = Path(reaper.__file__).read_text("utf-8")
    program.write_text(source.replace("GRACE_S = 12.0", "GRACE_S = 4.0"))
    monkeypatch.setattr(reaper, "__file__", str(program))
    process, _ = start(STUBBORN)
    assert process.stdout.readline() == b"up\n"

    process.stdin.close()

    assert group_is_gone(process, within_s=40.0)
    assert b"asked" in process.stdout.read()


def test_it_ends_with_the_command_and_with_its_code(start):
    process, folder = start("raise SystemExit(7)")

    assert select.select([process.stdout], [], [], 10)[0]
    assert process.wait(10) == 7
    assert folder.exists()
