"""A worker whose Redis could not be written to lost "once", and was ready all the same.

A replica, a server that is full, one that cannot save, or a user without a right answers
questions and refuses claims. The worker asked it a question that changes nothing, took it
for recovered, and ran job after job without a claim; its log had one line without a
reason, and ``/readyz`` said 200. Right is: the worker is not ready and says why, jobs with
``claims="park"`` wait, ``shifter doctor`` names the fault and its fix, and when the store
takes claims again the worker goes on by itself.
"""

from __future__ import annotations

import json
import time
import uuid

import pytest
from redis import Redis

from shifter.config.load import load_settings
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import JSON, build_headers
from stack.process import free_port
from stack.redis import RedisServer
from tests.acceptance.fleet import Fleet
from tests.acceptance.test_health import page
from tests.bad_inputs.writers import writer_of

pytestmark = [pytest.mark.redis, pytest.mark.timeout(240)]
TARGET = "tests.regress.parking_jobs:app"


def be_replica(redis):
    """The server follows one that is not there."""
    redis.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))


def be_primary(redis):
    redis.execute_command("REPLICAOF", "NO", "ONE")


def be_full(redis):
    redis.config_set("maxmemory", 1)


def have_room(redis):
    redis.config_set("maxmemory", 0)


def save_nowhere(redis):
    redis.config_set("dir", "/proc")
    redis.config_set("stop-writes-on-bgsave-error", "yes")
    redis.config_set("save", "3600 1")
    redis.set("x", "y")
    redis.bgsave()
    until = time.monotonic() + 40
    while redis.info("persistence")["rdb_last_bgsave_status"] != "err":
        assert time.monotonic() < until
        time.sleep(0.05)


def save_again(redis):
    redis.config_set("stop-writes-on-bgsave-error", "no")


def take_the_right(redis):
    redis.acl_setuser("default", enabled=True, nopass=True, commands=["-set"], keys="*")


def give_the_right(redis):
    redis.acl_setuser("default", enabled=True, nopass=True, commands=["+set"], keys="*")


@pytest.fixture
def server():
    with RedisServer(further=["enable-protected-configs yes"]) as server:
        yield server


@pytest.fixture
def fleet(server, namespace, tmp_path):
    fleet = Fleet(f"sqlite://{tmp_path / 'log.db'}", server.url, namespace, tmp_path)
    yield fleet
    fleet.close()


def put(fleet, job):
    job_id = str(uuid.uuid4())
    settings = load_settings(fleet.namespace, environ=fleet.environment)
    headers = build_headers(EnvelopeV1(v=1, id=job_id, type=job), content_type=JSON)
    with writer_of(settings, f"{fleet.namespace}.default.normal") as writer:
        writer.put(job_id, headers, b"{}")
        writer.flush()
    return job_id


def check_what_is_said(fleet, word, fix):
    """By the worker's log and by the doctor."""
    lines = [line for line in fleet.said(10**9).splitlines() if line.startswith("{")]
    said = [e for e in map(json.loads, lines) if e["event"] == "claims.unavailable"]
    assert said
    assert all(word in event["detail"] for event in said)
    assert len(said) < 10

    examined = fleet.run(
        "doctor", "--json", "--namespace", fleet.namespace, check=False
    )
    findings = {f["name"]: f for f in json.loads(examined.stdout)["findings"]}
    if word == "MISCONF":
        assert examined.returncode == 69, examined.stdout
        assert word in findings["state"]["detail"]
        return
    assert examined.returncode == 3, examined.stdout
    assert findings["state.write"]["status"] == "fail"
    assert word in findings["state.write"]["detail"]
    assert fix in findings["state.write"]["fix"]


@pytest.mark.parametrize(
    ("spoil", "mend", "word", "fix"),
    [
        (be_replica, be_primary, "READONLY", "at the primary"),
        (be_full, have_room, "OOM", "maxmemory"),
        (save_nowhere, save_again, "MISCONF", "the server's disk"),
        (take_the_right, give_the_right, "can't run this", "let this user write"),
    ],
    ids=["replica", "full", "cannot save", "without a right"],
)
def test_a_store_that_refuses_to_write_makes_a_worker_not_ready_until_it_is_mended(
    server, fleet, spoil, mend, word, fix
):
    redis, port = Redis(port=server.port), free_port()
    health = ("--health", f"127.0.0.1:{port}")
    # A server that cannot save refuses even a ping, and no worker starts beside it.
    is_late = spoil is save_nowhere
    if not is_late:
        spoil(redis)
    worker = fleet.work(*health, target=TARGET)
    if is_late:
        fleet.until(lambda: page(port, "/readyz")[0] == 200)
        spoil(redis)

    def is_refused():
        status, body = page(port, "/readyz")
        return status == 503 and word in body.decode()

    parked = [put(fleet, "parks") for _ in range(3)]
    fleet.until(is_refused)
    # It lives: a restart mends nothing.
    assert page(port, "/livez")[0] == 200
    proceeding = put(fleet, "proceeds")
    fleet.until(lambda: proceeding in fleet.effects_file.read_text())
    held_until = time.monotonic() + 2.0
    while time.monotonic() < held_until:
        assert not any(job in fleet.effects_file.read_text() for job in parked)
        assert is_refused(), page(port, "/readyz")
        time.sleep(0.1)
    check_what_is_said(fleet, word, fix)

    mend(redis)

    fleet.until(lambda: page(port, "/readyz")[0] == 200)
    fleet.until(lambda: all(j in fleet.effects_file.read_text() for j in parked))
    assert "claims.recovered" in fleet.said(10**9)
    assert "Traceback" not in fleet.said(10**9)
    worker.terminate()
    assert worker.wait(60) == 0
    runs = [line[0] for line in fleet.effects()]
    assert sorted(runs) == sorted([*parked, proceeding])
    redis.close()


def test_a_store_that_is_away_for_a_while_leaves_a_worker_ready(server, fleet):
    port = free_port()
    worker = fleet.work("--health", f"127.0.0.1:{port}", target=TARGET)
    fleet.until(lambda: page(port, "/readyz")[0] == 200)

    server.kill()
    proceeding = put(fleet, "proceeds")
    fleet.until(lambda: proceeding in fleet.effects_file.read_text())

    assert page(port, "/readyz")[0] == 200
    fleet.until(lambda: "claims.unavailable" in fleet.said(10**9))
    server.restart()
    worker.terminate()
    assert worker.wait(60) == 0
