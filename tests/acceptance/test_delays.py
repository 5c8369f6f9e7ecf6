"""Many jobs due at random: none early, none late by much, none lost or doubled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.fleet import ROOT, TARGET

LONG_COUNT = int(os.environ.get("DELAYED_JOBS", "1000000"))
LONG_PER_S = float(os.environ.get("DELAYED_PER_S", "2000"))
"""What two cores offer, move and run at a time, with room to spare."""
LONG_SPREAD_S = 240.0
MOST_LATE_MS = 1_000
MOST_RSS_KB = 300 * 1024


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


@pytest.mark.alone
@pytest.mark.timeout(240)
def test_delayed_jobs_start_when_they_are_due(fleet):
    assert_on_time(fleet, 20_000, spread_s=10.0, per_s=4_000)


@pytest.mark.torture
@pytest.mark.timeout(300 + 2 * (LONG_COUNT / LONG_PER_S + LONG_SPREAD_S))
def test_a_million_delayed_jobs_start_when_they_are_due(fleet):
    assert_on_time(fleet, LONG_COUNT, spread_s=LONG_SPREAD_S, per_s=LONG_PER_S)


def assert_on_time(fleet, count, *, spread_s, per_s):
    """Offer so many, each due within so many seconds of its offer, and wait for all."""
    worker = fleet.work("--processes", "2", "--concurrency", "200")
    # Until all workers and their movers have joined, nothing is on time.
    status = ("status", "--namespace", fleet.namespace)
    fleet.until(lambda: len(fleet.json(*status)["workers"]) == 2)
    first = ["submit", TARGET, "threaded", "--json", '{"number": 1}']
    fleet.run(*first, "--delay", "1100ms")
    fleet.until(lambda: fleet.effects("threaded"))
    program = [sys.executable, "-m", "tests.acceptance.delayer"]
    told = subprocess.run(
        [*program, str(count), str(spread_s), str(per_s)],
        env=fleet.environment,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )

    fleet.until(new_lines(fleet.effects_file, count + 1), timeout_s=60 + spread_s * 2)

    due = dict(map(int, line.split()) for line in told.stdout.splitlines())
    started = [(int(e[1]), float(e[4]) * 1_000) for e in fleet.effects("note")]
    assert sorted(number for number, _ in started) == list(range(count))
    late_ms = sorted(at - due[number] for number, at in started)
    p50, p99 = late_ms[count // 2], late_ms[count * 99 // 100]
    pids = [worker.pid, *fleet.children(worker)]
    peak = max(map(peak_kb, pids))
    print(
        f"{count} jobs late: p50 {p50:.0f} p99 {p99:.0f} max {late_ms[-1]:.0f} ms; "
        f"least {late_ms[0]:.0f} ms; {peak} KiB; offering {told.stderr.strip()}"
    )
    assert late_ms[0] >= 0
    assert p99 < MOST_LATE_MS
    assert peak < MOST_RSS_KB
