"""A worker process with a handler that does not end is replaced, in real processes.

A handler in a call into C, or one that swallows every cancellation, kept its slot for
ever: two of them, and a worker with two slots stood still with ``/livez`` ok. Now the
process lets its other jobs end and leaves, its supervisor starts another one, and the
job is run apart the third time, where a stop always succeeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.fleet import Fleet

TARGET = "tests.regress.handler_jobs:app"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def fleet(namespace: str, tmp_path: Path) -> Iterator[Fleet]:
    url = f"sqlite://{tmp_path / 'fleet.db'}"
    fleet = Fleet(url, url, namespace, tmp_path)
    fleet.environment |= {
        "SHIFTER_LEASE": "3s",
        "SHIFTER_CLAIM_TIMEOUT": "1s",
        "SHIFTER_LOG_FORMAT": "json",
        "HURRIED": "yes",
    }
    try:
        yield fleet
    finally:
        fleet.close()


@pytest.mark.parametrize("job", ["waits_in_c", "swallows"])
def test_a_stuck_job_costs_its_process_and_no_other_job(fleet, job):
    for number in range(4):
        payload = json.dumps({"number": number, "seconds": 2.5})
        fleet.run("submit", TARGET, "beside", "--json", payload)
    answer = fleet.run("submit", TARGET, job, "--json", "{}", "--format", "json")
    job_id = json.loads(answer.stdout)["job_id"]

    burst = fleet.run("work", TARGET, "--burst", "--concurrency", "5")

    assert len(fleet.effects("beside")) == 4
    assert {line[2] for line in fleet.effects("beside")} == {"1"}
    pids = [line[3] for line in fleet.effects(job)]
    # On a busy machine the third run may be over before its process has started up.
    assert len(pids) == len(set(pids))
    assert len(pids) in (2, 3)
    state = fleet.json("job", "show", job_id, "--namespace", fleet.namespace)["state"]
    assert state == "dead"
    [letter] = fleet.json("dlt", "list", "default", "--namespace", fleet.namespace)
    assert letter["reason"] == "attempts_exhausted"
    logged = [json.loads(line) for line in burst.stderr.splitlines() if line[:1] == "{"]
    stuck = [line for line in logged if line["event"] == "attempt.stuck"]
    ended = [line for line in logged if line["event"] == "process.ended"]
    assert [line["job_id"] for line in stuck] == [job_id] * 2
    assert [line["exit_code"] for line in ended] == [75, 75]
