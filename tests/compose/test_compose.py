"""docker-compose.yml, really brought up: a job travels from the host and back."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compose import docker

pytestmark = [pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(1_200)]

TARGET = "workers.http_relay:app"


@pytest.fixture(scope="module")
def project() -> Iterator[docker.Project]:
    project = docker.Project()
    try:
        with docker.engine(), project.up():
            yield project
    except docker.NoDocker as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))


def payload(number: int) -> str:
    return json.dumps({"url": f"http://sink:8000/hook/{number}", "body": {"n": number}})


def ended(project: docker.Project, job_id: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    shown: dict[str, Any] = {}
    while time.monotonic() < until and shown.get("state") not in ("done", "dead"):
        time.sleep(0.3)
        shown = project.job(job_id)
    return shown


def status_with_a_worker(project: docker.Project) -> dict[str, Any]:
    until = time.monotonic() + 60
    status: dict[str, Any] = {"workers": []}
    while time.monotonic() < until and not status["workers"]:
        time.sleep(0.3)
        status = json.loads(project.shifter("status", "--json"))
    return status


def tell(what: str, value: object) -> None:
    sys.stderr.write(f"compose-test: {what}: {json.dumps(value)}\n")


def test_job_submitted_on_the_host_is_delivered_by_the_container(
    project: docker.Project,
) -> None:
    job_id = project.shifter("submit", TARGET, "deliver", "--json", payload(1))

    shown = ended(project, job_id)

    tell("job", shown)
    assert shown["state"] == "done"
    got = [one for one in project.delivered() if one["path"] == "/hook/1"]
    tell("delivered", got)
    assert len(got) == 1
    assert json.loads(got[0]["body"]) == {"n": 1}
    assert got[0]["headers"]["idempotency-key"] == f'"{job_id}"'
    assert 0 < float(got[0]["headers"]["x-request-timeout"]) <= 30


def test_job_submitted_in_a_container_is_delivered_too(project: docker.Project) -> None:
    words = ("shifter", "submit", TARGET, "deliver", "--json", payload(2))
    job_id = project.compose("exec", "-T", "worker", *words).strip()

    assert ended(project, job_id)["state"] == "done"
    assert [one["path"] for one in project.delivered()].count("/hook/2") == 1


def test_target_inside_the_network_that_is_not_allowed_is_a_dead_letter(
    project: docker.Project,
) -> None:
    inside = json.dumps({"url": "http://kafka/", "body": 1})
    job_id = project.shifter("submit", TARGET, "deliver", "--json", inside)

    shown = ended(project, job_id)
    letters = json.loads(project.shifter("dlt", "list", "default", "--json"))

    tell("dead letters", letters)
    assert shown["state"] == "dead"
    assert any("not public" in letter["message"] for letter in letters)


def test_worker_is_not_root_and_reports_itself(project: docker.Project) -> None:
    uid = project.compose("exec", "-T", "worker", "id", "-u").strip()
    status = status_with_a_worker(project)

    tell("status", {"workers": status["workers"], "lanes": status["lanes"]})
    assert uid == "10001"
    assert len(status["workers"]) == 1
    assert sum(lane["waiting"] for lane in status["lanes"]) == 0


def test_sigterm_ends_the_worker_with_0_inside_its_grace(
    project: docker.Project,
) -> None:
    begun = time.monotonic()
    project.compose("stop", "worker")
    took_s = time.monotonic() - begun

    worker = project.services()["worker"]
    left = json.loads(project.shifter("status", "--json"))["workers"]
    project.compose("start", "worker")

    tell("stopped", {"exit_code": worker["ExitCode"], "seconds": round(took_s, 1)})
    assert left == []
    assert worker["State"] == "exited"
    assert worker["ExitCode"] == 0
    assert took_s < 45
