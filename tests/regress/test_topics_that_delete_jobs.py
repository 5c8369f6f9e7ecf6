"""A topic's settings never delete or refuse an accepted job, whatever the brokers' are.

``retention.bytes`` deleted accepted jobs and ``doctor`` found nothing wrong; compaction
was only warned of; a producer whose clock was more than an hour ahead was refused, and
one whose clock was far behind dated its records past their retention. Topics are made
with settings of their own, the broker dates records, and ``topics apply`` sets right
what differs, also where it is the broker's default.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    ConfigSource,
    NewTopic,
    ResourceType,
)

from shifter.adapters.kafka.admin import KafkaLogAdmin
from shifter.adapters.kafka.config import KafkaConfig
from shifter.ports import TopicSpec

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

OWN = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "LogAppendTime",
    "retention.bytes": "-1",
    "retention.ms": str(37 * 86_400_000),
}
HOUR_S = 3_600


@pytest.fixture
def client(kafka):
    return AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})


@pytest.fixture
async def admin(kafka, namespace):
    made = KafkaLogAdmin(KafkaConfig(kafka.bootstrap), namespace)
    yield made
    await made.close()


@pytest.fixture
def spec(namespace):
    return TopicSpec(f"{namespace}.mail.low", 1, 37 * 86_400_000, 1_000_000)


def settings_of(client, topic):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return client.describe_configs([resource])[resource].result(20)


async def test_a_new_topic_has_these_settings_of_its_own(admin, spec, client):
    await admin.apply([spec])

    found = settings_of(client, spec.name)
    own = {name: found[name].value for name in OWN}
    assert own == OWN
    assert {found[name].source for name in OWN} == {
        ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention.bytes", "100000"),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("message.timestamp.type", "CreateTime"),
        ("retention.ms", "3600000"),
        ("unclean.leader.election.enable", "true"),
    ],
)
async def test_apply_sets_right_what_differs(admin, spec, client, name, value):
    config = OWN | {"max.message.bytes": "2000000", name: value}
    for made in client.create_topics(
        [NewTopic(spec.name, 1, 1, config=config)]
    ).values():
        made.result(20)
    found = [c for c in await admin.diff([spec]) if c.action != "note"]

    await admin.apply([spec])

    [change] = found
    assert (change.action, change.detail.split(":")[0]) == ("set", name)
    assert settings_of(client, spec.name)[name].value != value
    assert [c for c in await admin.diff([spec]) if c.action != "note"] == []


async def test_a_default_of_the_broker_counts_like_a_setting(admin, spec, client):
    """A topic that something else made, without settings of its own."""
    for made in client.create_topics([NewTopic(spec.name, 1, 1)]).values():
        made.result(20)

    found = [change.detail for change in await admin.diff([spec])]

    assert any(detail.startswith("message.timestamp.type") for detail in found)
    assert any(detail.startswith("retention.ms") for detail in found)


@pytest.mark.parametrize("ahead_s", [2 * HOUR_S, -60 * 24 * HOUR_S])
async def test_a_wrong_clock_is_neither_refused_nor_believed(
    kafka, admin, spec, ahead_s
):
    await admin.apply([spec])
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    errors = []
    dated_ms = int((time.time() + ahead_s) * 1_000)

    producer.produce(
        spec.name,
        b"job",
        timestamp=dated_ms,
        on_delivery=lambda error, _: errors.append(error),
    )
    await asyncio.to_thread(producer.flush, 20)

    assert errors == [None]
    [[found]] = [batch async for batch in admin.scan(spec.name)]
    assert abs(found.appended_ms - time.time() * 1_000) < 60_000


async def test_commits_that_are_kept_less_long_than_records_are_noted(admin, spec):
    found = await admin.apply([spec])

    [note] = [change for change in found if change.action == "note"]
    assert note.detail.startswith("offsets.retention.minutes: 10080 (7d) is less")
    assert "37d" in note.detail
