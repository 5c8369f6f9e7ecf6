"""What happened to a job, told by the command, on Kafka and Redis and on one file."""

from __future__ import annotations

import os
import signal

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from tests.acceptance.fleet import TARGET, Fleet
from tests.acceptance.test_worker import submit

EMBEDDED = pytest.param("embedded", id="sqlite")
pytestmark = pytest.mark.timeout(240)


def show(fleet: Fleet, job_id: str) -> dict:
    return fleet.json("job", "show", job_id, "--namespace", fleet.namespace)


def listed(fleet: Fleet, *options: str) -> list[dict]:
    return fleet.json("job", "list", "--namespace", fleet.namespace, *options)


def test_the_life_of_a_failed_job_is_told_in_order(fleet):
    fleet.run("topics", "apply", TARGET)
    flaky = submit(fleet, "flaky", {"number": 4}, "--priority", "HIGH")
    hopeless = submit(fleet, "hopeless", {"reason": "no such customer"})
    good = submit(fleet, "note", {"number": 1})

    fleet.run("work", TARGET, "--burst")

    shown = show(fleet, flaky)
    events = [entry["event"] for entry in shown["story"]]
    assert events == [
        *("submitted", "started", "failed", "retrying"),
        *("started", "failed", "retrying", "started", "done"),
    ]
    assert (shown["state"], shown["attempt"]) == ("done", 3)
    instants = [entry["at_ms"] for entry in shown["story"]]
    assert instants == sorted(instants)
    attempts = [e["attempt"] for e in shown["story"] if e["event"] == "started"]
    assert attempts == [1, 2, 3]
    for retrying, retried in ((3, 4), (6, 7)):
        at_ms, until_ms = (shown["story"][retrying][k] for k in ("at_ms", "until_ms"))
        # The backoff is drawn at random: it may be over when the retry is written.
        waited_ms = max(0, min(shown["story"][retried]["at_ms"], until_ms) - at_ms)
        assert shown["story"][retried].get("waits_ms", {}).get("retry", 0) == waited_ms

    [*_, last] = show(fleet, hopeless)["story"]
    assert last["event"] == "dead_lettered"
    assert last["reason"] == "dead_lettered_by_handler"
    assert last["detail"] == "no such customer"

    assert show(fleet, good)["story"] == []
    assert {row["job_id"] for row in listed(fleet)} == {flaky, hopeless}
    [dead] = listed(fleet, "--state", "dead")
    assert dead["job_id"] == hopeless
    assert listed(fleet, "--queue", "nobody") == []
    [found] = listed(fleet, "--error", "customer")
    assert found["job_id"] == hopeless


def test_jobs_that_run_and_jobs_that_wait_are_shown_and_listed(fleet):
    running = submit(fleet, "endless", {})
    worker = fleet.work("--concurrency", "1")
    fleet.until(lambda: show(fleet, running)["state"] == "running")
    waiting = [submit(fleet, "note", {"number": n}) for n in range(3)]
    delayed = submit(fleet, "note", {"number": 3}, "--delay", "1h")

    shown = show(fleet, running)
    [row] = listed(fleet, "--state", "running")
    submitted, started = shown["story"]
    assert (submitted["event"], submitted["job"]) == ("submitted", "endless")
    assert (started["event"], started["attempt"]) == ("started", 1)
    assert started["at_ms"] == shown["started_ms"] == row["at_ms"]
    assert started["process"] == shown["owner"] == row["worker"] != ""
    assert (row["job_id"], row["queue"]) == (running, "slow")

    for job_id, until in ((waiting[0], False), (delayed, True)):
        submitted, wait = show(fleet, job_id)["story"]
        assert (submitted["event"], wait["event"]) == ("submitted", "waiting")
        assert (wait["queue"], "until_ms" in wait) == ("default", until)

    pages, after = [], ()
    while page := listed(fleet, "--state", "waiting", "--limit", "3", *after):
        pages += [each["job_id"] for each in page]
        after = ("--after", f"{page[-1]['at_ms']}:{page[-1]['job_id']}")
    assert sorted(pages) == sorted([*waiting, delayed])
    assert {each["job_id"] for each in listed(fleet)} == {running, *pages}
    assert listed(fleet, "--queue", "nobody") == []
    for pid in (worker.pid, *fleet.children(worker)):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("fleet", [EMBEDDED], indirect=True)
def test_what_an_operator_did_to_a_job_is_told_with_who_and_what(fleet):
    job_id = submit(fleet, "note", {"number": 1}, "--delay", "1h")
    fleet.run("job", "cancel", job_id, "--namespace", fleet.namespace)

    [action] = show(fleet, job_id)["story"]

    assert (action["event"], action["action"]) == ("action", "job cancel")
    assert "@" in action["by"]


def test_a_replay_is_told_in_the_life_of_both_jobs(fleet):
    dead = submit(fleet, "hopeless", {"reason": "no such customer"})
    fleet.run("work", TARGET, "--burst")
    options = ("--yes", "--reason", "mended", "--name", "run-7")
    run = fleet.run("dlt", "replay", "default", *options, *named(fleet))
    assert run.returncode == 0
    fleet.run("work", TARGET, "--burst")
    gone = ("--yes", "--reason", "test data", "--name", "run-8")
    fleet.run("dlt", "discard", "default", *gone, *named(fleet))

    story = show(fleet, dead)["story"]
    [replayed] = [entry for entry in story if entry["event"] == "replayed"]
    assert (replayed["run"], "@" in replayed["by"]) == ("run-7", True)
    assert story[-2]["event"] == "dead_lettered"
    told = show(fleet, replayed["as"])["story"]
    events = [entry["event"] for entry in told]
    assert events.count("replayed") == 1
    assert events[-4:] == ["started", "failed", "dead_lettered", "discarded"]
    [first] = [entry for entry in told if entry["event"] == "replayed"]
    assert (first["replay_of"], first["run"]) == (dead, "run-7")
    assert (told[-1]["run"], told[-1]["reason"]) == ("run-8", "test data")


SHORT_LEASE = {"SHIFTER_LEASE": "3s", "SHIFTER_CLAIM_TIMEOUT": "1s"}


def named(fleet: Fleet) -> tuple[str, str]:
    return "--namespace", fleet.namespace


@pytest.mark.parametrize("fleet", [EMBEDDED], indirect=True)
def test_a_worker_that_is_killed_loses_events_and_no_job(fleet):
    fleet.environment |= {"SHIFTER_EVENTS": "all"} | SHORT_LEASE
    # The second one runs when the worker is killed.
    lasts_s = (0.5, 8.0, 0.5)
    ids = [
        submit(fleet, "slow", {"number": n, "seconds": s})
        for n, s in enumerate(lasts_s)
    ]
    worker = fleet.work("--concurrency", "1")
    fleet.until(lambda: len(fleet.effects("slow")) >= 1)
    for pid in (worker.pid, *fleet.children(worker)):
        os.kill(pid, signal.SIGKILL)
    worker.wait()

    fleet.run("work", TARGET, "--burst")

    assert {line[1] for line in fleet.effects("slow")} == {"0", "1", "2"}
    for job_id in ids:
        told = [entry["event"] for entry in show(fleet, job_id)["story"]]
        assert told[-1:] in (["done"], ["submitted"])
    last = [entry["event"] for entry in show(fleet, ids[-1])["story"]]
    assert last == ["submitted", "started", "done"]


@pytest.mark.kafka
@pytest.mark.redis
def test_a_real_broker_keeps_an_event_for_a_day(kafka, redis_url, namespace, tmp_path):
    fleet = Fleet(kafka.url, redis_url, namespace, tmp_path)
    fleet.run("topics", "apply", TARGET)

    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    asked = ConfigResource(ResourceType.TOPIC, f"{namespace}.events")
    config = admin.describe_configs([asked])[asked].result(timeout=30)

    kept = {name: config[name].value for name in ("retention.ms", "segment.ms")}
    assert kept == {"retention.ms": "86400000", "segment.ms": "3600000"}
    differing = {row["topic"] for row in fleet.json("topics", "diff", TARGET)}
    assert f"{namespace}.events" not in differing
