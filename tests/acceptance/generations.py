"""How often a consumer group was balanced, as its coordinator has written it down.

Each generation of a group is one rebalance. The coordinator writes it to the topic
``__consumer_offsets``. Source: Kafka, ``GroupMetadataKey.json`` (version 2) and
``GroupMetadataValue.json``.
"""

from __future__ import annotations

import struct
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

_TOPIC = "__consumer_offsets"
_GROUP_KEY = 2


def generations(bootstrap: str, prefix: str) -> dict[str, int]:
    """The newest generation of each group whose name begins so, >= 0."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"reads-{uuid.uuid4().hex}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    found: dict[str, int] = {}
    try:
        partitions = consumer.list_topics(_TOPIC, timeout=30).topics[_TOPIC].partitions
        left = set(partitions)
        consumer.assign([TopicPartition(_TOPIC, n, OFFSET_BEGINNING) for n in left])
        while left:
            message = consumer.poll(30)
            if message is None:
                raise KafkaException("no answer")
            if message.error() is not None:
                left.discard(message.partition())
                continue
            group, generation = _read(message.key(), message.value())
            if group is not None and group.startswith(prefix):
                found[group] = max(found.get(group, 0), generation)
    finally:
        consumer.close()
    return found


def _read(key: bytes | None, value: bytes | None) -> tuple[str | None, int]:
    """Group and generation; ``None`` for a record of another kind."""
    if key is None or value is None or struct.unpack_from(">h", key)[0] != _GROUP_KEY:
        return None, 0
    (size,) = struct.unpack_from(">h", key, 2)
    group = key[4 : 4 + size].decode()
    # Version, the protocol's type as a text, and then the generation.
    (size,) = struct.unpack_from(">h", value, 2)
    return group, struct.unpack_from(">i", value, 4 + size)[0]
