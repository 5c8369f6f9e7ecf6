"""Real worker processes, on Kafka and Redis and on one file: the whole road of a job."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid

import pytest

from tests.acceptance.fleet import TARGET, Fleet

pytestmark = pytest.mark.timeout(240)


def submit(fleet: Fleet, job: str, payload: dict, *options: str) -> str:
    answer = fleet.run(
        "submit",
        TARGET,
        job,
        "--json",
        json.dumps(payload),
        "--format",
        "json",
        *options,
    )
    return json.loads(answer.stdout)["job_id"]


def state(fleet: Fleet, job_id: str) -> str | None:
    return fleet.json("job", "show", job_id, "--namespace", fleet.namespace)["state"]


def test_jobs_of_every_kind_end_as_they_should_in_one_burst(fleet):
    done = [
        submit(fleet, "note", {"number": 1}),
        submit(fleet, "threaded", {"number": 2}),
        submit(fleet, "isolated", {"number": 3}),
        submit(fleet, "flaky", {"number": 4}, "--priority", "HIGH"),
    ]
    crash = submit(fleet, "isolated", {"number": 5, "crash": True})
    hopeless = submit(fleet, "hopeless", {"reason": "no such customer"})

    burst = fleet.run("work", TARGET, "--burst", "--processes", "2")

    assert burst.returncode == 0
    assert [state(fleet, job_id) for job_id in done] == ["done"] * 4
    assert [state(fleet, crash), state(fleet, hopeless)] == ["dead", "dead"]
    assert [line[2] for line in fleet.effects("flaky")] == ["1", "2", "3"]
    letters = fleet.json("dlt", "list", "default", "--namespace", fleet.namespace)
    reasons = {letter["reason"] for letter in letters}
    assert reasons == {"dead_lettered_by_handler", "attempts_exhausted"}


def test_a_record_built_by_hand_runs_like_any_other(fleet):
    """Another language needs a client of the log and schemas/, nothing of ours."""
    job_id = str(uuid.uuid4())
    envelope = json.dumps({"v": 1, "id": job_id, "type": "note"})
    headers = [("shifter", envelope.encode())]
    fleet.put(f"{fleet.namespace}.default.high", b'{"number": 42}', headers)

    fleet.run("work", TARGET, "--burst")

    assert [line[1] for line in fleet.effects("note")] == ["42"]
    assert state(fleet, job_id) == "done"


def test_a_record_that_cannot_be_read_is_kept_and_stops_nothing(fleet):
    topic = f"{fleet.namespace}.default.normal"
    fleet.put(topic, b"\xff\x00", [])
    fleet.put(topic, None, [("shifter", b"{")])
    job_id = submit(fleet, "note", {"number": 1})

    fleet.run("work", TARGET, "--burst")

    assert state(fleet, job_id) == "done"
    (letters,) = [fleet.json("dlt", "list", "default", "--namespace", fleet.namespace)]
    assert sum(letter["count"] for letter in letters) == 2
    assert {letter["reason"] for letter in letters} == {"undecodable_envelope"}


def test_a_delayed_job_waits_its_time_across_a_hop(fleet):
    begun = time.time()
    submit(fleet, "note", {"number": 1}, "--delay", "2500ms")

    fleet.run("work", TARGET, "--burst")

    ((_, _, _, _, at),) = fleet.effects("note")
    assert begun + 2.5 <= float(at) < begun + 60


def test_kill_9_of_workers_loses_nothing(fleet):
    from tests.acceptance import jobs  # noqa: F401  # names the effects

    ids = [submit_many(fleet, 60)]
    worker = fleet.work("--processes", "2", "--concurrency", "4")
    fleet.until(lambda: len(fleet.effects("slow")) >= 5)
    for _ in range(2):
        for pid in fleet.children(worker):
            os.kill(pid, signal.SIGKILL)
        count = len(fleet.effects("slow"))
        fleet.until(lambda count=count: len(fleet.effects("slow")) >= count + 3)

    fleet.until(
        lambda: (
            {line[1] for line in fleet.effects("slow")} == {str(n) for n in range(60)}
        ),
        timeout_s=90,
    )

    assert ids
    worker.terminate()
    assert worker.wait(60) == 0


def submit_many(fleet: Fleet, count: int, *, seconds: float = 0.2) -> int:
    """Submit many jobs in one process, as a service would."""
    import subprocess
    import sys

    program = (
        "import asyncio\n"
        "from tests.acceptance.jobs import app, slow\n"
        "async def main():\n"
        "    async with app:\n"
        f"        answers = await slow.defer_many([(n, {seconds}) for n in range({count})])\n"
        "    assert all(type(a).__name__ == 'Deferred' for a in answers), answers\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program], env=fleet.environment, check=True)
    return count


def test_a_job_that_kills_its_workers_takes_no_other_job_with_it(fleet):
    fleet.environment |= {"SHIFTER_LEASE": "3s", "SHIFTER_CLAIM_TIMEOUT": "1s"}
    submit_many(fleet, 20, seconds=2.0)
    submit(fleet, "deadly", {"number": 1})

    worker = fleet.work("--processes", "1")

    letters = ("dlt", "list", "default", "--namespace", fleet.namespace)
    fleet.until(lambda: len(fleet.effects("slow")) >= 20, timeout_s=90)
    fleet.until(lambda: bool(fleet.json(*letters)), timeout_s=90)
    worker.terminate()
    assert worker.wait(60) == 0
    assert len(fleet.effects("deadly")) == 3
    assert "worker_lost" in fleet.run(*letters).stdout
    letters = ("dlt", "list", "slow", "--namespace", fleet.namespace)
    assert "worker_lost" not in fleet.run(*letters).stdout


def test_sigterm_lets_running_jobs_end_and_charges_nothing(fleet):
    submit(fleet, "slow", {"number": 1, "seconds": 2.0})
    worker = fleet.work()
    fleet.until(lambda: len(fleet.effects("begun")) == 1)

    worker.terminate()

    assert worker.wait(60) == 0
    assert len(fleet.effects("slow")) == 1
    fleet.run("work", TARGET, "--burst")
    assert len(fleet.effects("begun")) == 1


def test_a_second_signal_aborts_at_once(fleet):
    submit(fleet, "slow", {"number": 1, "seconds": 60.0})
    worker = fleet.work()
    fleet.until(lambda: len(fleet.effects("begun")) == 1)

    worker.terminate()
    # Two signals within 0.4 s are one, counted from when the first is handled.
    time.sleep(1.5)
    worker.terminate()

    begun = time.monotonic()
    worker.wait(60)
    # Without the second signal it would wait for its jobs, for 30 s.
    assert time.monotonic() - begun < 20


def test_keys_keep_their_order_through_retries(fleet):
    import subprocess
    import sys

    program = (
        "import asyncio\n"
        "from tests.acceptance.jobs import app, step\n"
        "async def main():\n"
        "    async with app:\n"
        "        for n in range(20):\n"
        "            for key in 'abc':\n"
        "                await step.options(key=key).defer(key, n)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program], env=fleet.environment, check=True)

    fleet.run("work", TARGET, "--burst", "--processes", "2")

    for key in "abc":
        numbers = [int(line[1]) for line in fleet.effects(f"step-{key}")]
        assert numbers == list(range(20))


def test_a_cancelled_job_is_never_run(fleet):
    job_id = submit(fleet, "note", {"number": 1}, "--delay", "3s")
    fleet.run("job", "cancel", job_id, "--namespace", fleet.namespace)

    fleet.run("work", TARGET, "--burst")

    assert fleet.effects("note") == []
    assert state(fleet, job_id) == "cancelled"


def test_status_counts_what_waits_and_doctor_finds_nothing_wrong(fleet):
    for number in range(3):
        submit(fleet, "note", {"number": number}, "--priority", "LOW")

    status = fleet.json("status", "--namespace", fleet.namespace)
    doctor = fleet.run("doctor", "--json", "--namespace", fleet.namespace)

    lanes = {(lane["queue"], lane["priority"]): lane for lane in status["lanes"]}
    assert lanes["default", "LOW"]["waiting"] == 3
    assert lanes["default", "LOW"]["oldest_age_s"] >= 0
    assert json.loads(doctor.stdout)
