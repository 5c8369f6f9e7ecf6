"""Kafka stands still for a minute; the service goes on accepting, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer

from shifter import Deferred, Shifter, wiring
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.spool import SqliteSpool
from shifter.adapters.system import SystemClock
from shifter.config import load_settings
from shifter.ports import Record, SpoolEntry
from stack.kafka import KafkaCluster

ROOT = Path(__file__).parents[2]
# SPOOL_CUT_S=600 plays ten minutes.
CUT_S = float(os.environ.get("SPOOL_CUT_S", "60"))
RATE_PER_S = 500
KEYS = 200

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(340 + 3 * CUT_S)]


@pytest.fixture
def environment(tmp_path, namespace):
    """A user's own folders; the accept timeout is short, so that the cut shows."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
        "SHIFTER_NAMESPACE": namespace,
        "SHIFTER_ACCEPT_TIMEOUT": "3s",
        "SHIFTER_PARTITIONS": "3",
    }


@pytest.fixture
def own_kafka():
    """A broker that may be stopped."""
    with KafkaCluster() as kafka:
        kafka.warm()
        yield kafka


def make_app(environment, log_url):
    settings = load_settings(environ=environment | {"SHIFTER_LOG": log_url})
    app = Shifter(settings.namespace, settings=settings)

    @app.job
    async def note(number: int) -> None: ...

    return app


async def make_topics(app):
    admin = wiring.open_admin(app.settings)
    await admin.apply(wiring.topic_specs(app.settings, app.queues))
    await admin.close()


async def offer(app, during_s, answers):
    """Defer at a fixed rate, each job with one of a few keys; returns how many."""
    job, number, began = app.jobs["note"], 0, time.monotonic()
    bound = [job.options(key=f"k{key}") for key in range(KEYS)]

    async def one(at):
        answers.append(await bound[at % KEYS].defer(at))

    async with asyncio.TaskGroup() as group:
        while (passed_s := time.monotonic() - began) < during_s:
            while number < passed_s * RATE_PER_S:
                group.create_task(one(number))
                number += 1
            await asyncio.sleep(0.01)
    return number


def written(kafka, topic):
    """Job ids, and the numbers of each key in order, of all records in a topic."""
    config = {**kafka.client(), "group.id": "reader", "auto.offset.reset": "earliest"}
    consumer = Consumer({**config, "enable.partition.eof": True})
    consumer.subscribe([topic])
    ids, of_key, ended = Counter(), defaultdict(list), set()
    while len(ended) < 3:
        for message in consumer.consume(1_000, 1.0):
            if message.error() is not None:
                ended.add(message.partition())
                continue
            envelope = msgspec.json.decode(dict(message.headers())["shifter"])
            ids[envelope["id"]] += 1
            number = msgspec.json.decode(message.value())["number"]
            of_key[message.key()].append(number)
    consumer.close()
    return ids, of_key


async def test_a_minute_without_kafka_loses_nothing_and_keeps_order(
    own_kafka, environment
):
    app = make_app(environment, own_kafka.url)
    await make_topics(app)
    answers = []
    async with app:
        await offer(app, 1, answers)
        own_kafka.pause()
        offered = await offer(app, CUT_S, answers)
        own_kafka.resume()
        await offer(app, 1, answers)
        spool = wiring.open_spool(app.settings, wiring.spool_path(app.settings))
        while spool.depth().waiting:
            await asyncio.sleep(0.1)
        left = spool.depth()
        spool.close()

    reasons = Counter(str(answer.reason) for answer in answers)
    assert all(isinstance(answer, Deferred) for answer in answers)
    assert reasons["spooled"] > 0.9 * offered
    assert reasons["accepted"] > 0
    assert left.refused == 0
    ids, of_key = written(own_kafka, f"{app.namespace}.default.normal")
    # An outcome that was unknown is there twice, under one id: one effect.
    assert set(ids) == {answer.job_id for answer in answers}
    for numbers in of_key.values():
        first_seen = list(dict.fromkeys(numbers))
        assert first_seen == sorted(first_seen)


def shifter(environment, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "shifter.cli", *arguments],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def fill(environment, records):
    """What a service left behind; returns the file."""
    path = Path(environment["XDG_STATE_HOME"]) / "shifter"
    path = path / f"{environment['SHIFTER_NAMESPACE']}.spool.db"
    spool = SqliteSpool(Database(path), SystemClock())
    entries = [SpoolEntry(number, one) for number, one in enumerate(records, 1)]
    spool.put(entries, timeout_s=30)
    spool.close()
    return path


async def test_the_spool_of_a_stopped_service_is_shown_checked_and_flushed(
    kafka, environment
):
    environment["SHIFTER_LOG"] = kafka.url
    app = make_app(environment, kafka.url)
    await make_topics(app)
    lane = f"{app.namespace}.default.low"
    records = [Record(lane, b"%d" % n, [], b"k") for n in range(5)]
    path = fill(environment, [*records, Record("no.such.topic", b"", [])])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE spool SET body = x'00' WHERE id = 3")

    before = shifter(environment, "spool", "status", "--json")
    checked = shifter(environment, "spool", "fsck", "--json")
    flushed = shifter(environment, "spool", "flush", "--json")

    assert json.loads(before.stdout)["waiting"] == 6, before.stderr
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )
    assert checked.returncode == 3
    assert json.loads(checked.stdout)["damaged"] == 1
    assert flushed.returncode == 3, flushed.stderr
    left = json.loads(flushed.stdout)
    assert (left["waiting"], left["refused"]) == (0, 1)
    admin = wiring.open_admin(app.settings)
    found = [int(d.value) async for batch in admin.scan(lane) for d in batch]
    await admin.close()
    assert found == [0, 1, 3, 4]


def test_without_kafka_as_log_there_is_no_spool(environment):
    done = shifter(environment, "spool", "status")

    assert done.returncode == 78
    assert "there is no spool" in done.stderr
