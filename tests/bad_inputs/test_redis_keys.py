"""Row 71: what may lie in Redis under a key of ours, while a live worker uses it.

Whatever is no claim counts as absent: its job runs. Claims of a batch are spread over the
slots of a cluster, so each script names keys of one slot only.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from redis import Redis

from shifter.adapters.redis.keys import ClaimKeys, fleet_keys, presence_keys
from shifter.config.load import load_settings
from stack.redis import RedisServer
from tests.acceptance.fleet import Fleet
from tests.bad_inputs.catalogue import GOOD, OURS, with_id
from tests.bad_inputs.live import TARGET
from tests.bad_inputs.writers import writer_of

pytestmark = [pytest.mark.redis, pytest.mark.timeout(240)]

Plant = Callable[[Redis, bytes, str], object]


class Row(NamedTuple):
    """What lies under the key of a job's claim."""

    text: str
    plant: Plant


def text(name: str, value: bytes) -> Row:
    return Row(name, lambda redis, key, job_id: redis.set(key, value))


ROWS = [
    Row("list", lambda redis, key, job_id: redis.rpush(key, "x")),
    Row("hash", lambda redis, key, job_id: redis.hset(key, "state", "done")),
    Row("stream", lambda redis, key, job_id: redis.xadd(key, {"a": "b"})),
    Row("pointer to itself", lambda redis, key, job_id: redis.set(key, f"1p{job_id}")),
    text("empty", b""),
    text("half-written", b"1r17672256"),
    text("other version", b"2r1;1;1;0;0;0;0;;"),
    text("numbers too large", b"1r" + b"9" * 30 + b";1;1;0;0;0;0;;"),
    text("negative", b"1r-1;1;1;0;0;0;0;;"),
    text("not UTF-8", b"\xff\xfe\x00"),
    text("megabyte", b"x" * 1_000_000),
    text("pointer to nowhere", b"1pmail:nobody"),
]


def worked(fleet: Fleet, job_ids: list[str]) -> None:
    """Have a worker run these jobs; each runs once."""
    settings = load_settings(fleet.namespace, environ=fleet.environment)
    with writer_of(settings, f"{fleet.namespace}.default.normal") as writer:
        for job_id in job_ids:
            writer.put(job_id, with_id(OURS, job_id), GOOD)
        writer.flush()

    worker = fleet.work("--burst", target=TARGET)
    assert worker.wait(60) == 0, fleet.said()

    assert sorted(line[0] for line in fleet.effects()) == sorted(job_ids)
    assert "Traceback" not in fleet.said(10**9), fleet.said(10**9)[-3000:]


@pytest.fixture
def fleet(redis_url, namespace, tmp_path) -> Iterator[Fleet]:
    """A file as log, Redis as state."""
    fleet = Fleet(f"sqlite://{tmp_path / 'log.db'}", redis_url, namespace, tmp_path)
    yield fleet
    fleet.close()


def test_71_whatever_lies_under_a_claims_key_its_job_runs_once(fleet, redis_url):
    redis = Redis.from_url(redis_url)
    jobs, keys = {str(uuid.uuid4()): row for row in ROWS}, ClaimKeys(fleet.namespace)
    for job_id, row in jobs.items():
        row.plant(redis, keys.claim(job_id), job_id)

    worked(fleet, list(jobs))

    shown = fleet.json("job", "show", next(iter(jobs)), "--namespace", fleet.namespace)
    assert shown["state"] == "done"
    redis.close()


@pytest.mark.parametrize(
    "plant",
    [
        lambda redis, key: redis.set(key, b"\xff"),
        lambda redis, key: redis.rpush(key, "x"),
        lambda redis, key: redis.hset(key, "w", "{"),
        lambda redis, key: redis.zadd(key, {"w": time.time() * 1_000 + 60_000}),
    ],
    ids=["71-string", "71-list", "71-hash", "71-sorted set"],
)
def test_whatever_lies_under_the_keys_of_presence_jobs_run(fleet, redis_url, plant):
    redis = Redis.from_url(redis_url)
    for key in presence_keys(fleet.namespace):
        plant(redis, key)

    worked(fleet, [str(uuid.uuid4()) for _ in range(3)])

    status = fleet.run("status", "--json", "--namespace", fleet.namespace, check=False)
    assert status.returncode == 0, status.stderr
    redis.close()


@pytest.mark.parametrize(
    "plant",
    [
        lambda redis, key: redis.set(key, b"\xff"),
        lambda redis, key: redis.rpush(key, "x"),
        lambda redis, key: redis.hset(key, "circuit/bank", b'{"state":"op'),
        lambda redis, key: redis.hset(key, "version", "nan"),
        lambda redis, key: redis.hset(key, "stranger", b"99999999999999 nan"),
        lambda redis, key: redis.hset(key, "bank", b"\x93\xc0\x01" * 9),
    ],
    ids=["71-string", "71-list", "71-cell", "71-number", "71-voice", "71-row"],
)
def test_71_whatever_lies_under_the_keys_of_the_fleet_jobs_run(fleet, redis_url, plant):
    redis = Redis.from_url(redis_url)
    for key in fleet_keys(fleet.namespace):
        plant(redis, key)

    worked(fleet, [str(uuid.uuid4()) for _ in range(3)])

    for verb in (("status",), ("circuit", "list"), ("budget", "list")):
        shown = fleet.run(*verb, "--json", "--namespace", fleet.namespace, check=False)
        assert shown.returncode == 0, shown.stderr
    redis.close()


class ClusterServer(RedisServer):
    """One server that is a whole cluster; it refuses keys of two slots in one call."""

    def _config(self) -> str:
        return f"{super()._config()}\ncluster-enabled yes\n"


def test_71_a_cluster_never_hears_keys_of_two_slots_in_one_call(namespace, tmp_path):
    server = ClusterServer().start()
    redis = Redis(port=server.port)
    try:
        redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        until = time.monotonic() + 60
        while b"cluster_state:ok" not in redis.execute_command("CLUSTER", "INFO"):
            assert time.monotonic() < until
            time.sleep(0.05)
        state = f"redis+cluster://127.0.0.1:{server.port}"
        fleet = Fleet(f"sqlite://{tmp_path / 'log.db'}", state, namespace, tmp_path)
        try:
            worked(fleet, [str(uuid.uuid4()) for _ in range(300)])
        finally:
            fleet.close()
        errors = redis.info("errorstats")
    finally:
        redis.close()
        server.stop()

    assert "errorstat_CROSSSLOT" not in errors
