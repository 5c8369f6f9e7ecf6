"""A process that is frozen, killed, or short of time, memory or files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.torture.faults.fault import Cannot
from tests.torture.faults.process import (
    CpuQuota,
    FileLimit,
    Killed,
    MemoryLimit,
    Paused,
    RollingRestart,
    children,
    open_files,
)

# Answers each line with what the line asks for: milliseconds of a processor that half a
# second of the clock gave it, megabytes taken, files opened.
PROGRAM = """
import sys, time
kept, files = [], []
for line in sys.stdin:
    what, count = line.split()
    if what == "turn":
        until, had_s = time.monotonic() + 0.5, time.process_time()
        while time.monotonic() < until:
            pass
        print(int((time.process_time() - had_s) * 1_000), flush=True)
    elif what == "take":
        kept.append(bytearray(b"x" * (int(count) * 1_000_000)))
        print(len(kept), flush=True)
    else:
        try:
            for _ in range(int(count)):
                files.append(open("/dev/null"))
            print("opened", flush=True)
        except OSError as error:
            print(error.errno, flush=True)
"""


@pytest.fixture
def child():
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ask(child, "turn") is not None
    yield child
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()


def ask(child, what, count=1):
    """What the child answers; ``None`` if it is gone."""
    child.stdin.write(f"{what} {count}\n")
    child.stdin.flush()
    line = child.stdout.readline()
    return line.strip() or None


def had(fault, *of):
    try:
        return fault(*of)
    except Cannot as reason:
        pytest.skip(str(reason))


def state(child):
    with open(f"/proc/{child.pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_a_paused_process_does_nothing_until_healed(child):
    fault = Paused(child.pid)

    with fault:
        while state(child) != "T":
            pass

    fault.heal()
    assert int(ask(child, "turn")) > 0


def test_a_killed_process_is_gone_and_healing_does_no_harm(child):
    with Killed(child.pid):
        assert child.wait(40) == -signal.SIGKILL


def test_a_quota_slows_a_process_down_until_healed(child):
    with had(CpuQuota, child.pid, 0.1):
        ask(child, "turn")  # what is left of the quota of before
        during_ms = int(ask(child, "turn"))

    # A tenth is 50 ms; it is given in shares, of which one may fall in at each end.
    assert during_ms < 100
    while int(ask(child, "turn")) < 100:
        pass


def test_a_process_that_takes_more_than_its_memory_is_killed(child):
    with had(MemoryLimit, child.pid, 50_000_000):
        assert ask(child, "take", 10) == "1"
        assert ask(child, "take", 100) is None
        assert child.wait(40) == -signal.SIGKILL


def test_a_process_without_files_gets_errors_until_healed(child):
    with FileLimit(child.pid, open_files(child.pid) + 5):
        assert ask(child, "open", 20) == "24"

    assert ask(child, "open", 20) == "opened"


def test_members_are_restarted_one_after_the_other():
    restarted = []
    rolling = RollingRestart(restarted.append, 3, times=7, every_s=0.001)

    with rolling:
        assert rolling.wait(40)

    assert restarted == [0, 1, 2, 0, 1, 2, 0]


def test_what_a_repeated_deed_raises_is_raised_when_it_heals():
    def fail(member):
        raise RuntimeError(member)

    rolling = RollingRestart(fail, 3, every_s=0.001)
    rolling.start()
    assert rolling.wait(40)

    with pytest.raises(RuntimeError, match="0"):
        rolling.heal()
    rolling.heal()


def test_children_are_found():
    with subprocess.Popen(["sleep", "60"]) as child:
        assert child.pid in children(os.getpid())
        child.kill()
