"""Messages as a consumer hands them over, for tests without a broker."""

from __future__ import annotations

from confluent_kafka import KafkaError, Message

LANE = "shop.mail.low"


def message(offset, *, topic=LANE, partition=0, value=b"v", key=None, headers=None):
    return Message(
        topic=topic,
        partition=partition,
        offset=offset,
        key=key,
        value=value,
        headers=headers,
        timestamp=(1, 1_000 + offset),
    )


def messages(*offsets, partition=0):
    return [message(offset, partition=partition) for offset in offsets]


def event(name, *, topic=LANE, partition=0, offset=-1001):
    error = KafkaError(getattr(KafkaError, name))
    return Message(topic=topic, partition=partition, offset=offset, error=error)
