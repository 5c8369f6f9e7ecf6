"""This version reads and drains what an older version wrote.

``stored/`` was written once by ``write.py`` with the version before the modules got
their present names: a SQLite log and the fleet's file beside it, every Redis key, the
records and commits of Kafka, and what that version's commands printed. The files are
never written anew; a format that changes gets files of its own beside these.
"""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

import msgspec
import pytest
from redis import Redis

from shifter.adapters.kafka.ladder import route, waiting
from shifter.adapters.redis.claims import RedisClaimStore
from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.fleet import RedisFleetStore
from shifter.adapters.sqlite.admin import SqliteLogAdmin
from shifter.adapters.sqlite.claims import SqliteClaimStore
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.fleet import SqliteFleetStore
from shifter.fleet.view import look
from shifter.model.claim import ClaimRequest, Finished, Granted
from shifter.policy.delivery import ack_metadata
from shifter.ports import Record
from shifter.testing.clock import FakeClock
from tests.acceptance.fleet import Fleet
from tests.compatibility.restore import (
    NAMESPACE,
    printed,
    restore_files,
    restore_keys,
    restore_records,
)

pytestmark = pytest.mark.timeout(300)
TARGET = "tests.compatibility.jobs:app"
SERVERS = pytest.param("servers", marks=[pytest.mark.kafka, pytest.mark.redis])
REDIS = pytest.param("servers", marks=pytest.mark.redis, id="redis")


class AtThatTime:
    """The fleet's store in Redis, at the instant when its keys were dumped."""

    def __init__(self, store: RedisFleetStore, now_ms: int) -> None:
        self._store, self._now_us = store, now_ms * 1_000

    async def sync(self, report):
        return (await self._store.sync_at(report, self._now_us))[1]


@pytest.fixture
async def stores(request, tmp_path):
    """What an older version printed, and its claims and fleet at that time."""
    old = printed(request.param)
    if request.param == "sqlite":
        log = restore_files(tmp_path)
        clock = FakeClock(epoch_ms=old["written_ms"])
        claims = SqliteClaimStore(Database(log), NAMESPACE, clock)
        fleet = SqliteFleetStore(Path(f"{log}.fleet"), NAMESPACE, clock)
        yield old, claims, fleet
    else:
        url = request.getfixturevalue("redis_url")
        with contextlib.closing(Redis.from_url(url)) as client:
            restore_keys(client)
        claims = RedisClaimStore(open_redis(url, timeout_s=5.0), NAMESPACE)
        fleet = RedisFleetStore(open_redis(url, timeout_s=5.0), NAMESPACE)
        yield old, claims, AtThatTime(fleet, old["written_ms"])
    await claims.close()
    await fleet.close()


def without_times(rows):
    """Rows without what passes while they are read."""
    passing = {"left_s", "age_s", "reopens_s"}
    if isinstance(rows, list):
        return [without_times(row) for row in rows]
    if isinstance(rows, dict):
        return {k: without_times(v) for k, v in rows.items() if k not in passing}
    return rows


@pytest.mark.parametrize("stores", ["sqlite", REDIS], indirect=True)
async def test_the_state_of_every_job_is_what_the_older_version_printed(stores):
    old, claims, _ = stores

    found = {}
    for label, job in old["jobs"].items():
        status = await claims.status(job["id"])
        found[label] = None if status is None else status.state.value

    assert found == {label: job["state"] for label, job in old["jobs"].items()}


@pytest.mark.parametrize("stores", ["sqlite", REDIS], indirect=True)
async def test_an_idempotency_key_that_took_effect_is_refused(stores):
    old, claims, _ = stores
    done, new = old["jobs"]["done by key"]["id"], "0192f3c4-aaaa-7000-8000-000000000000"

    again = [ClaimRequest("note:order-2", done, 1, 1)]
    other = [ClaimRequest("note:order-3", new, 1, 1)]

    assert isinstance(
        (await claims.claim(again, owner="w", lease_ms=9_000))[0], Finished
    )
    assert isinstance(
        (await claims.claim(other, owner="w", lease_ms=9_000))[0], Granted
    )


@pytest.mark.parametrize("stores", ["sqlite", REDIS], indirect=True)
async def test_an_instant_of_cron_that_was_submitted_takes_no_effect_again(stores):
    old, claims, _ = stores
    ticks = [line.split()[1] for line in old["effects"] if line.startswith("tick")]

    states = [await claims.status(job_id) for job_id in ticks]

    assert [status.state.value for status in states] == ["done"] * len(ticks)


@pytest.mark.parametrize("stores", ["sqlite", REDIS], indirect=True)
async def test_circuits_budgets_windows_and_quality_are_read(stores):
    old, _, store = stores

    fleet = msgspec.to_builtins(await look(store, "reader"))

    assert without_times(fleet["windows"]) == without_times(old["windows"])
    # The older version wrote no instant since which the quality holds.
    quality = without_times(old["quality"]) | {"since_ms": None}
    assert without_times(fleet["quality"]) == quality
    by_hand = {row["dependency"]: row["by_hand"] for row in fleet["circuits"]}
    assert by_hand["mailer"] is None
    assert (by_hand["bank"]["to"], by_hand["bank"]["reason"]) == ("open", "an audit")
    assert {row["dependency"]: row["state"] for row in fleet["circuits"]} == {
        row["dependency"]: row["state"] for row in old["circuits"]
    }
    assert {row["dependency"]: row["left"] for row in fleet["budgets"]} == {
        row["dependency"]: row["left"] for row in old["budgets"]
    }


async def test_what_waits_in_a_file_is_what_the_older_version_printed(tmp_path):
    lanes = printed("sqlite")["status"]["lanes"]
    admin = SqliteLogAdmin(Database(restore_files(tmp_path)), FakeClock())
    names = [f"{NAMESPACE}.{row['queue']}.{row['priority'].lower()}" for row in lanes]
    try:
        depths = await admin.depths(names)
    finally:
        await admin.close()

    assert [(depth.waiting, depth.delayed) for depth in depths] == [
        (row["waiting"], row["delayed"]) for row in lanes
    ]


@pytest.fixture
def fleet(request, tmp_path):
    """The command and its workers, on what an older version left."""
    if request.param == "sqlite":
        log = state = f"sqlite://{restore_files(tmp_path)}"
    else:
        kafka, state = (
            request.getfixturevalue("kafka"),
            request.getfixturevalue("redis_url"),
        )
        log = kafka.url
        with contextlib.closing(Redis.from_url(state)) as client:
            restore_keys(client)
    fleet = Fleet(log, state, NAMESPACE, tmp_path)
    fleet.environment |= {"SHIFTER_NAMESPACE": NAMESPACE, "SHIFTER_PARTITIONS": "2"}
    if request.param == "servers":
        fleet.run("topics", "apply", TARGET)
        restore_records(kafka.client())
    yield printed(request.param), fleet
    fleet.close()


@pytest.mark.parametrize("fleet", ["sqlite", SERVERS], indirect=True)
def test_jobs_and_dead_letters_of_an_older_version_take_effect_once(fleet):
    old, now = fleet
    discarded = 20 if "replayed" in _handled(old) else 21

    assert depths(now.json("status")) == depths(old["status"])
    assert without_ids(now.json("dlt", "list", "mail")) == without_ids(old["letters"])
    assert now.json("dlt", "runs") == old["runs"]

    burst = now.run("work", TARGET, "--burst")
    assert sorted(
        (name, int(argument))
        for name, argument, _ in now.effects()
        if name not in {"tick", "hopeless"}
    ) == [
        ("flaky", 40),
        ("hang", 50),
        *[("note", number) for number in (60, 60, 60, 60, 61, 80)],
        *[("send", number) for number in range(30, 36)],
        *[("step", number) for number in range(70, 73)],
    ], burst.stderr
    assert [line[1] for line in now.effects("step")] == ["70", "71", "72"]
    assert [int(line[2]) > 1 for line in now.effects("flaky")] == [True]

    now.run("dlt", "replay", "mail", "--yes", "--full-speed", "--slow-start", "0s")
    now.run("work", TARGET, "--burst")
    assert sorted(int(line[1]) for line in now.effects("hopeless")) == sorted(
        {20, 21, 23, 24, 122} - {discarded}
    )


def depths(status):
    """What waits on each lane; on Kafka, by the commits and their texts."""
    return {
        (lane["queue"], lane["priority"]): (lane["waiting"], lane["delayed"])
        for lane in status["lanes"]
    }


def _handled(old) -> str:
    """Which runs of the older version handled letters; a replay, if it sent one."""
    sent = any(run["counts"].get("sent") for run in old["runs"])
    return "discarded, edited, replayed" if sent else "discarded, edited"


def without_ids(groups):
    """Groups of dead letters without the sample, which may be any of them."""
    dropped = {"sample_job_id", "message"}
    return [{k: v for k, v in group.items() if k not in dropped} for group in groups]


def test_text_of_a_commit_is_read_and_written_as_by_the_older_version():
    stored = printed("servers")
    texts = {
        (group, topic, part): (position, text)
        for group, commits in stored["commits"].items()
        for topic, part, position, text in commits
    }

    again, ahead = {}, {}
    for place, (position, text) in texts.items():
        bound = ack_metadata.binding(*place)
        ranges = ack_metadata.decode(text, binding=bound, position=position, high=99)
        written = ack_metadata.encode(ranges, binding=bound, position=position)
        again[place] = (position, written + ack_metadata.mark(stored["ids"][place[1]]))
        ahead |= {place: ranges} if ranges else {}

    assert again == texts
    assert ahead == {
        ("stored.workers.normal", "stored.mail.normal", 0): [(4, 6), (7, 8), (9, 11)]
    }


def test_headers_of_a_delayed_record_are_read_and_written_as_by_the_older_version():
    stored = [
        [(name, base64.b64decode(value)) for name, value in record["headers"]]
        for topic, records in printed("servers")["records"].items()
        if topic.startswith(f"{NAMESPACE}.delay.")
        for record in records
    ]

    again = []
    for headers in stored:
        target, rest = waiting(headers)
        record = Record(target.topic, b"", rest, None, target.due_ms)
        again.append(route(NAMESPACE, record, target.due_ms - 5_000)[1])

    assert stored
    assert again == stored


def test_the_stored_files_stay_small():
    folder = Path(__file__).parent / "stored"

    assert sum(file.stat().st_size for file in folder.iterdir()) < 40_000
