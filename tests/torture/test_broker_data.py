"""Records, commits and topics that vanish under a worker: seen, said, never skipped."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from shifter import wiring
from shifter.wire.dead_letter import VALUE_DROPPED, read_dead_letter
from tests.torture.faults.broker import (
    GroupForgotten,
    RecordsDeleted,
    TopicMadeAgain,
    client_of,
)
from tests.torture.faults.trial import RECOVERY_S, Offer, Trial

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.timeout(240)]


@pytest.fixture
async def trial(kafka, redis_url, namespace, tmp_path):
    """A service; lanes have one partition."""
    trial = Trial(kafka.url, redis_url, namespace, tmp_path, PARTITIONS="1")
    await trial.open()
    try:
        async with trial.app:
            yield trial
    finally:
        trial.close()


async def offered(trial, count, job="note", *arguments):
    offer = Offer()
    for _ in range(count):
        await trial.call(offer, job, *arguments)
    assert len(offer.accepted) == count, offer.reasons()
    return offer


async def drained_by_one_worker(trial, offer):
    """Start a worker, let it do all of an offer, and end it."""
    worker = trial.work()
    await trial.recovered(offer, within_s=60)
    worker.terminate()
    await trial.until(lambda: worker.poll() is not None, timeout_s=RECOVERY_S)
    assert worker.returncode == 0, trial.said()


def verdict_of(trial, event):
    """Facts of each line of the workers with this event."""
    lines = trial.said(most=10**9).splitlines()
    found = (json.loads(line) for line in lines if line.startswith("{"))
    return [facts for facts in found if facts.get("event") == event]


async def test_what_retention_took_unread_is_reported_and_the_rest_runs(trial, kafka):
    await drained_by_one_worker(trial, await offered(trial, 5))
    later = await offered(trial, 20)
    RecordsDeleted(client_of(kafka), trial.lane, 0, 15).start()

    trial.work()
    kept = {one.number for one in later.told[10:]}
    await trial.until(lambda: kept <= trial.effects().keys(), timeout_s=60)

    [lost] = verdict_of(trial, "log.records_lost")
    assert lost["level"] == "error"
    assert (lost["topic"], lost["partition"]) == (trial.lane, 0)
    assert (lost["first"], lost["end"]) == (5, 15)
    assert trial.effects().total() == 15


async def test_without_commits_nothing_is_skipped_and_claims_keep_effects_single(
    trial, kafka
):
    first = await offered(trial, 20)
    await drained_by_one_worker(trial, first)
    second = await offered(trial, 20)
    GroupForgotten(client_of(kafka), f"{trial.app.namespace}.workers.normal").start()

    await drained_by_one_worker(trial, second)

    assert trial.effects().keys() == first.accepted | second.accepted
    assert trial.doubled() == {}


@pytest.mark.parametrize("count", [5, 40])
async def test_a_topic_made_again_under_a_worker_is_read_from_its_start(
    trial, kafka, count
):
    trial.work()
    await trial.recovered(await offered(trial, 20), within_s=60)
    TopicMadeAgain(client_of(kafka), trial.lane).start()

    later = await offered(trial, count)

    await trial.recovered(later)
    assert trial.doubled() == {}


def take_only(kafka, topic, max_bytes):
    """Let a topic take no larger batches."""
    resource = ConfigResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[
            ConfigEntry(
                "max.message.bytes",
                str(max_bytes),
                incremental_operation=AlterConfigOpType.SET,
            )
        ],
    )
    client = AdminClient(client_of(kafka))
    for done in client.incremental_alter_configs([resource]).values():
        done.result(20)


async def letters(trial):
    admin = wiring.open_admin(trial.settings)
    topic = f"{trial.app.namespace}.default.dlt"
    found = [one async for batch in admin.scan(topic) for one in batch]
    await admin.close()
    return found


async def test_a_dead_letter_too_large_for_its_topic_is_cut_and_blocks_nothing(
    trial, kafka
):
    take_only(kafka, f"{trial.app.namespace}.default.dlt", 10_000)
    small = await offered(trial, 3, "hopeless", "no such customer")
    large = await offered(
        trial, 2, "hopeless", random.Random(1).randbytes(15_000).hex()
    )
    after = await offered(trial, 5)

    await drained_by_one_worker(trial, after)
    trial.work()
    found = []
    async with asyncio.timeout(RECOVERY_S):
        while len(found) < 5:
            found = await letters(trial)

    dropped = [dict(one.headers).get(VALUE_DROPPED) for one in found]
    assert sorted(one for one in dropped if one) == [b"30024", b"30024"]
    infos = [read_dead_letter(one.headers) for one in found]
    assert {info.origin_topic for info in infos} == {trial.lane}
    assert sorted(info.origin_offset for info in infos) == [0, 1, 2, 3, 4]
    assert len(small.told + large.told) == len(found)
    await all_committed(trial, kafka, 10)


async def all_committed(trial, kafka, end):
    """Wait until the workers' group has nothing left below this offset."""
    group = f"{trial.app.namespace}.workers.normal"
    consumer = Consumer({**client_of(kafka), "group.id": group})

    def committed():
        [at] = consumer.committed([TopicPartition(trial.lane, 0)], timeout=20)
        return at.offset == end

    await trial.until(committed, timeout_s=RECOVERY_S)
    consumer.close()
