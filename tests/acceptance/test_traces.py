"""Traces of real processes, on Kafka and Redis and on one file, over real OTLP."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance.conftest import EMBEDDED
from tests.acceptance.test_worker import state

pytestmark = pytest.mark.timeout(240)

TARGET = "tests.acceptance.traced_jobs:app"


class Receiver:
    """What arrived at the receiver."""

    def __init__(self, file: Path, port: int) -> None:
        self.file, self.url = file, f"http://127.0.0.1:{port}/v1/traces"

    def spans(self, name: str, job: str | None = None) -> list[dict]:
        """Spans of a name, in the order of their attempts."""
        found = map(json.loads, self.file.read_text().splitlines())
        chosen = [
            span
            for span in found
            if span["name"] == name
            and job in (None, span["attributes"].get("shifter.job"))
        ]
        return sorted(chosen, key=lambda s: s["attributes"].get("shifter.attempt", 0))


@pytest.fixture
def receiver(tmp_path, fleet):
    spans, port = tmp_path / "spans", tmp_path / "port"
    spans.touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.otlp_receiver", spans, port],
        env=fleet.environment,
    )
    try:
        until = time.monotonic() + 60
        while not (port.exists() and port.read_text()):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        found = Receiver(spans, int(port.read_text()))
        fleet.environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = found.url
        yield found
    finally:
        process.kill()
        process.wait()


def submit(fleet, job: str) -> str:
    answer = fleet.run("submit", TARGET, job, "--json", "{}", "--format", "json")
    return json.loads(answer.stdout)["job_id"]


def test_a_receiver_of_otlp_gets_the_spans_of_all_processes(fleet, receiver):
    system = fleet.environment["SHIFTER_LOG"].partition(":")[0]
    lane = f"{fleet.namespace}.default.normal"
    job_id = submit(fleet, "in_loop")

    fleet.run("work", TARGET, "--burst")

    assert state(fleet, job_id) == "done"
    (sent,) = receiver.spans(f"send {lane}", "in_loop")
    failed, done = receiver.spans(f"process {lane}", "in_loop")
    (child,) = receiver.spans(f"process {lane}", "in_process")
    (grandchild,) = receiver.spans(f"process {lane}", "in_thread")
    assert (sent["kind"], failed["kind"]) == ("PRODUCER", "CONSUMER")
    assert sent["attributes"]["messaging.system"] == system
    submission = [sent["trace_id"], sent["span_id"]]
    assert failed["links"] == done["links"] == [submission]
    assert len({sent["trace_id"], failed["trace_id"], done["trace_id"]}) == 3
    assert failed["is_error"]
    assert failed["events"] == ["exception"]
    assert not done["is_error"]
    # The spans of handlers, and the jobs that they submit, hang under them.
    inside = [
        *receiver.spans("inside in_loop"),
        *receiver.spans("inside in_process"),
        *receiver.spans("inside in_thread"),
    ]
    processed = {span["span_id"] for span in (failed, done, child, grandchild)}
    assert {span["parent_id"] for span in inside} == processed
    (to_process,) = receiver.spans(f"send {lane}", "in_process")
    (to_thread,) = receiver.spans(f"send {lane}", "in_thread")
    assert to_process["parent_id"] == done["span_id"]
    assert to_thread["parent_id"] == child["span_id"]
    assert child["links"] == [[to_process["trace_id"], to_process["span_id"]]]
    assert grandchild["links"] == [[to_thread["trace_id"], to_thread["span_id"]]]


@pytest.mark.parametrize("fleet", [EMBEDDED], indirect=True)
def test_a_replay_links_to_its_submission_and_to_its_run(fleet, receiver):
    lane = f"{fleet.namespace}.default.normal"
    submit(fleet, "hopeless")
    fleet.run("work", TARGET, "--burst")
    program = [sys.executable, "-m", "tests.acceptance.traced_jobs"]

    subprocess.run(program, env=fleet.environment, check=True, timeout=120)
    fleet.run("work", TARGET, "--burst")

    (sent,) = receiver.spans(f"send {lane}", "hopeless")
    (run,) = receiver.spans(f"replay {fleet.namespace}.default.dlt")
    failed, replayed = receiver.spans(f"process {lane}", "hopeless")
    submission = [sent["trace_id"], sent["span_id"]]
    assert failed["links"] == [submission]
    assert replayed["links"] == [submission, [run["trace_id"], run["span_id"]]]
    assert failed["is_error"]
    assert not replayed["is_error"]
    of_failed = failed["attributes"]["messaging.message.id"]
    assert replayed["attributes"]["shifter.replay_of"] == of_failed
    assert run["attributes"]["messaging.batch.message_count"] == 1
