"""Hours set by hand and quiet time, in real worker processes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from shifter.config.load import load_settings
from tests.acceptance.conftest import EMBEDDED, SERVERS
from tests.acceptance.fleet import Fleet
from tests.acceptance.quiet_jobs import LOAD_S, make

pytestmark = pytest.mark.timeout(240)

TARGET = "tests.acceptance.quiet_jobs:app"
HEARD_S = 4.0
"""Until every process has heard what an operator did; they ask each half a second."""
"""Two syncs, and what a machine that is shared takes for them."""


@pytest.fixture(params=[SERVERS, EMBEDDED])
def fleet(request, namespace, tmp_path):
    if request.param == "servers":
        log = request.getfixturevalue("kafka").url
        state = request.getfixturevalue("redis_url")
    else:
        log = state = f"sqlite://{tmp_path / 'fleet.db'}"
    fleet = Fleet(log, state, namespace, tmp_path)
    opens = datetime.now(UTC) + timedelta(hours=6)
    closes = opens + timedelta(hours=1)
    fleet.environment["SHIFTER_NAMESPACE"] = namespace
    fleet.environment["HOURS"] = f"{opens:%H:%M}-{closes:%H:%M}"
    fleet.run("topics", "apply", TARGET)
    try:
        yield fleet
    finally:
        fleet.close()


@pytest.fixture
def jobs(fleet):
    settings = load_settings(fleet.namespace, environ=fleet.environment)
    found = make(fleet.namespace, fleet.environment["HOURS"], settings)
    with found.app:
        yield found


async def defer(job, count):
    answers = await job.defer_many((number,) for number in range(count))
    assert len(answers) == count


def starts(fleet, name):
    return [float(line[4]) for line in fleet.effects(name)]


async def test_what_waits_for_its_hours_runs_once_they_are_opened_by_hand(fleet, jobs):
    await defer(jobs.nightly, 50)
    fleet.work("--processes", "2", target=TARGET)
    await defer(jobs.plain, 1)
    fleet.until(lambda: fleet.effects("plain"))
    assert fleet.effects("nightly") == []

    asked_at = time.time()
    fleet.run("window", "open-now", "night", "--reason", "a big order", "--for", "1h")

    fleet.until(lambda: len(fleet.effects("nightly")) == 50)
    took_s = max(starts(fleet, "nightly")) - asked_at
    print(f"50 jobs started within {took_s:.2f} s of the command's start")
    [row] = fleet.json("status")["windows"]
    assert (row["scope"], row["is_open"]) == ("queue/night", True)
    assert row["by_hand"]["reason"] == "a big order"
    explained = fleet.json("explain", TARGET, "nightly")
    assert explained["reason"] != "window_closed"
    assert any("by hand: queue/night is open" in line for line in explained["hours"])
    numbers = [int(line[1]) for line in fleet.effects("nightly")]
    assert sorted(numbers) == list(range(50))


async def test_closed_by_hand_nothing_starts_and_let_go_all_of_it_does(fleet, jobs):
    fleet.work("--processes", "2", target=TARGET)
    await defer(jobs.plain, 1)
    fleet.until(lambda: fleet.effects("plain"))

    fleet.run("window", "close-now", "day", "--reason", "an incident")
    time.sleep(HEARD_S)
    await defer(jobs.plain, 40)
    time.sleep(1)
    while_closed = len(fleet.effects("plain"))
    shown = fleet.json("window", "list", TARGET)
    fleet.run("window", "auto", "day")

    fleet.until(lambda: len(fleet.effects("plain")) == 41)
    assert while_closed == 1
    scopes = {row["scope"]: row for row in shown}
    assert scopes["job/nightly"]["opens_s"] > 0
    assert scopes["queue/day"]["by_hand"]["to"] == "closed"
    assert fleet.json("window", "list") == []


@pytest.mark.alone
async def test_opportunistic_work_stops_within_a_second_of_load_anywhere(fleet, jobs):
    """One process drains LOW, another HIGH: only the fleet can tell the first."""
    await defer(jobs.idle, 400)
    fleet.work("--priority", "LOW", "--concurrency", "8", target=TARGET)
    fleet.work("--priority", "HIGH", "--concurrency", "2", target=TARGET)
    fleet.until(lambda: len(fleet.effects("idle")) > 60)

    await defer(jobs.urgent, 60)
    load_at = time.time()
    fleet.until(lambda: len(fleet.effects("urgent")) == 60)
    ended_at = max(starts(fleet, "urgent"))
    fleet.until(lambda: len(fleet.effects("idle")) == 400)

    idle = starts(fleet, "idle")
    under_load = [at - load_at for at in idle if load_at < at < ended_at]
    print(
        f"load for {ended_at - load_at:.1f} s; opportunistic starts after it came: "
        f"{len(under_load)}, the last after {max(under_load, default=0):.2f} s; "
        f"the first after it ended: {min(at for at in idle if at > ended_at) - ended_at:.2f} s"
    )
    assert ended_at - load_at > 2 * LOAD_S * 10
    assert max(under_load, default=0.0) < 1.0
    assert any(at > ended_at for at in idle)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_cron_job_takes_effect_once_a_minute_whichever_process_fires_it(fleet):
    fleet.work("--processes", "3", target=TARGET)

    fleet.until(lambda: fleet.effects("tick"), timeout_s=90)
    # The others fire at the same instant: what they wrote has been seen by then.
    time.sleep(3)

    minutes = [int(at // 60) for at in starts(fleet, "tick")]
    assert len(minutes) == len(set(minutes))
    assert all(at % 60 < 30 for at in starts(fleet, "tick"))
