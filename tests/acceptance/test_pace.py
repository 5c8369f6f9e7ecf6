"""The setting ``pace`` in real workers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.acceptance.fleet import ROOT

TARGET = "tests.acceptance.paced_jobs:app"
SLOTS = 5

pytestmark = pytest.mark.timeout(240)


def overlapping(spans) -> int:
    """How many of these spans ran at once, at most."""
    return max(sum(b <= at < e for b, e in spans) for at, _ in spans)


@pytest.mark.parametrize("fleet", ["embedded"], indirect=True)
def test_low_jobs_that_have_an_hour_run_one_after_another(fleet):
    fleet.run("topics", "apply", TARGET)
    subprocess.run(
        [sys.executable, "-m", "tests.acceptance.paced_jobs", "25"],
        env=fleet.environment,
        cwd=ROOT,
        check=True,
        timeout=120,
    )
    fleet.environment["SHIFTER_PACE"] = "on"

    worker = fleet.work("--burst", "--concurrency", str(SLOTS), target=TARGET)

    assert worker.wait(180) == 0
    found = fleet.effects("tidy")
    assert sorted(int(number) for _, number, *_ in found) == list(range(25))
    spans = sorted((float(began), float(ended)) for *_, began, ended in found)
    # Before the first job has ended, nothing is known of what one takes.
    later = [span for span in spans if span[0] > spans[SLOTS - 1][0]]
    assert len(later) >= 25 - SLOTS
    assert overlapping(later) == 1
