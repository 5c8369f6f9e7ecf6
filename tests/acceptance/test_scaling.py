"""From a real backlog to the number of workers that a scaler is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.acceptance.fleet import ROOT, Fleet

TARGET = "tests.acceptance.scaling_jobs:app"

pytestmark = pytest.mark.timeout(240)


def submit(fleet: Fleet, count: int) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.acceptance.scaling_jobs", str(count)],
        env=fleet.environment,
        cwd=ROOT,
        check=True,
        timeout=120,
    )


def group_of(fleet: Fleet) -> dict:
    [group] = fleet.json("scale", TARGET)["groups"]
    return group


def answer(group: dict) -> tuple:
    return group["current"], group["desired"], group["reason"]


def test_a_backlog_becomes_a_number_of_workers(fleet):
    fleet.run("topics", "apply", TARGET)
    fleet.environment["SHIFTER_SCALE_CEILING"] = "5"
    is_kafka = fleet.environment["SHIFTER_LOG"].startswith("kafka:")

    assert answer(group_of(fleet)) == (0, 0, "idle")

    submit(fleet, 3_000)
    waiting = group_of(fleet)
    assert answer(waiting) == (0, 1, "due_backlog")
    assert waiting["due_backlog_s"] is None

    # Two slots of 0.2 s: 0.1 s of a worker a job, so that 3,000 are five minutes.
    fleet.work("--concurrency", "2", target=TARGET)
    known = []

    def is_measured() -> bool:
        known.append(group_of(fleet))
        return known[-1]["due_backlog_s"] is not None

    fleet.until(is_measured, timeout_s=90)
    assert known[-1]["due_backlog_s"] > 100
    if is_kafka:  # three partitions
        assert answer(known[-1]) == (1, 3, "partitions")
    else:
        assert answer(known[-1]) == (1, 5, "ceiling")
