"""A plan, built for real: it holds its SLO, and a fleet a third smaller does not.

The unit costs are measured on this machine, the plan is made of them, and its workers
run on the planned partitions while jobs arrive at random.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.acceptance.fleet import ROOT, Fleet

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.torture,
    pytest.mark.timeout(600),
]

TARGET = "tests.torture.planned_jobs:app"
PER_S, SECONDS, SLOTS = 100, 60, 4
SHARE, WAIT_S = 0.99, 1.0


@pytest.fixture
def fleet_of(kafka, redis_url, namespace, tmp_path):
    """Starts a fleet of so many workers, on topics of its own."""
    fleets = []

    def start(workers: int, partitions: int) -> Fleet:
        folder = tmp_path / f"fleet{workers}"
        folder.mkdir()
        fleet = Fleet(kafka.url, redis_url, f"{namespace}-{workers}", folder)
        fleets.append(fleet)
        fleet.environment |= {
            "SHIFTER_PARTITIONS": str(partitions),
            "TEST_WAITS": str(folder / "waits"),
        }
        fleet.run("topics", "apply", TARGET)
        fleet.work(
            *("--processes", str(workers), "--concurrency", str(SLOTS)), target=TARGET
        )
        return fleet

    yield start
    for fleet in fleets:
        fleet.close()


def plan(kafka, redis_url, folder) -> dict:
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "shifter.cli", "plan", "--calibrate"),
            *("--calibration", str(folder / "calibration.json"), "--json"),
            *("--log", kafka.url, "--state", redis_url, "--replicas", "1"),
            *("--rate", str(PER_S), "--service-time", "200ms"),
            *("--concurrency", str(SLOTS), "--slo", f"{SHARE:%}/{WAIT_S:g}s"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def submit(fleet: Fleet, *arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.torture.planned_jobs", *map(str, arguments)],
        env=fleet.environment,
        cwd=ROOT,
        check=True,
        timeout=180,
    )


def waits_of(fleet: Fleet) -> list[float]:
    file = fleet.folder / "waits"
    lines = file.read_text().splitlines() if file.exists() else []
    return [float(line) for line in lines]


def share_in_time(fleet: Fleet, workers: int) -> float:
    fleet.until(
        lambda: (
            len(fleet.json("status", "--namespace", fleet.namespace)["workers"])
            == workers
        )
    )
    warm = 20 * workers
    submit(fleet, warm)
    fleet.until(lambda: len(waits_of(fleet)) >= warm)
    submit(fleet, PER_S, SECONDS, 7)
    submitted = PER_S * SECONDS * 0.9
    fleet.until(lambda: len(waits_of(fleet)) >= warm + submitted)
    waits = [wait for wait in waits_of(fleet) if wait >= 0]
    return sum(wait <= WAIT_S for wait in waits) / len(waits)


def test_a_plan_holds_its_slo_and_is_not_a_third_too_large(
    kafka, redis_url, fleet_of, tmp_path
):
    found = plan(kafka, redis_url, tmp_path)
    needs = {need["name"]: int(need["value"]) for need in found["needs"]}
    workers, partitions = needs["workers"], needs["partitions_a_lane"]
    fewer = int(workers / 1.3)

    planned = fleet_of(workers, partitions)
    held = share_in_time(planned, workers)
    planned.close()
    # A smaller plan would have fewer partitions, too.
    missed = share_in_time(fleet_of(fewer, 2 * fewer), fewer)

    print(f"{workers} workers: {held:.3%}; {fewer}: {missed:.3%}")
    assert found["check"]["is_held"]
    assert held >= SHARE
    assert missed < SHARE
