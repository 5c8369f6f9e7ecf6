"""Many jobs due at random: none early, none late by much, none lost or doubled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.fleet import ROOT, TARGET

# DELAYED_JOBS=1000000 plays the long one.
COUNT = int(os.environ.get("DELAYED_JOBS", "20000"))
SPREAD_S = max(10.0, COUNT / 4_000)
MOST_LATE_MS = 1_000
MOST_RSS_KB = 300 * 1024

pytestmark = pytest.mark.timeout(120 + SPREAD_S * 4)


def peak_kb(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def new_lines(path, wanted):
    """What tells whether a file has so many lines; reads none of them twice."""
    read = found = 0

    def are_there():
        nonlocal read, found
        with path.open("rb") as file:
            file.seek(read)
            new = file.read()
        read += len(new)
        found += new.count(b"\n")
        return found >= wanted

    return are_there


def test_delayed_jobs_start_when_they_are_due(fleet):
    worker = fleet.work("--processes", "2", "--concurrency", "200")
    # Until all workers and their movers have joined, nothing is on time.
    status = ("status", "--namespace", fleet.namespace)
    fleet.until(lambda: len(fleet.json(*status)["workers"]) == 2)
    first = ["submit", TARGET, "threaded", "--json", '{"number": 1}']
    fleet.run(*first, "--delay", "1100ms")
    fleet.until(lambda: fleet.effects("threaded"))
    program = [sys.executable, "-m", "tests.acceptance.delayer"]
    told = subprocess.run(
        [*program, str(COUNT), str(SPREAD_S)],
        env=fleet.environment,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )

    fleet.until(new_lines(fleet.effects_file, COUNT + 1), timeout_s=60 + SPREAD_S * 2)

    due = dict(map(int, line.split()) for line in told.stdout.splitlines())
    started = [(int(e[1]), float(e[4]) * 1_000) for e in fleet.effects("note")]
    assert sorted(number for number, _ in started) == list(range(COUNT))
    late_ms = sorted(at - due[number] for number, at in started)
    p50, p99 = late_ms[COUNT // 2], late_ms[COUNT * 99 // 100]
    pids = [worker.pid, *fleet.children(worker)]
    peak = max(map(peak_kb, pids))
    print(f"late: p50 {p50:.0f} p99 {p99:.0f} max {late_ms[-1]:.0f} ms; {peak} KiB")
    assert late_ms[0] >= 0
    assert p99 < MOST_LATE_MS
    assert peak < MOST_RSS_KB
