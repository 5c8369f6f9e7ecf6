from __future__ import annotations

import struct

import pytest

from shifter.deadletter.dialect import (
    FOREIGN,
    foreign_dialect,
    original_headers,
    read_facts,
)
from tests.unit.deadletter.letters import NOW, headers, job_id

STACK = b"""java.lang.IllegalStateException: no %d
\tat shop.Orders.lambda$read$%d(Orders.java:%d)
\tat shop.Orders$$SpringCGLIB$$0.read(<generated>)
\tat java.base/java.lang.Thread.run(Thread.java:840)
Caused by: java.lang.RuntimeException: deeper
\tat shop.Db.open(Db.java:1)
"""
SPRING = [
    ("kafka_dlt-original-topic", b"orders"),
    ("kafka_dlt-original-partition", struct.pack(">i", 3)),
    ("kafka_dlt-original-offset", struct.pack(">q", 2**40)),
    ("kafka_dlt-original-timestamp", struct.pack(">q", NOW)),
    ("kafka_dlt-original-timestamp-type", b"CreateTime"),
    ("kafka_dlt-original-consumer-group", b"shop"),
    ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.X"),
    ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
    ("kafka_dlt-exception-message", b"listener failed\x1b[2J"),
    ("kafka_dlt-exception-stacktrace", STACK % (1, 2, 3)),
    ("retry_topic-attempts", struct.pack(">i", 3)),
]
CONNECT = [
    ("__connect.errors.topic", b"orders"),
    ("__connect.errors.partition", b"3"),
    ("__connect.errors.offset", b"42"),
    ("__connect.errors.connector.name", b"to-db"),
    ("__connect.errors.task.id", b"0"),
    ("__connect.errors.stage", b"VALUE_CONVERTER"),
    ("__connect.errors.exception.class.name", b"org.apache.kafka.DataException"),
    ("__connect.errors.exception.message", b"bad"),
    ("__connect.errors.exception.stacktrace", STACK % (1, 2, 3)),
]
STREAMS = [
    ("__streams.errors.exception", b"java.lang.IllegalStateException: no 7"),
    ("__streams.errors.message", b"no 7"),
    ("__streams.errors.stacktrace", STACK % (7, 2, 3)),
    ("__streams.errors.topic", b"orders"),
    ("__streams.errors.partition", b"3"),
    ("__streams.errors.offset", b"42"),
]
SHARE = [
    ("__dlq.errors.topic", b"orders"),
    ("__dlq.errors.partition", b"3"),
    ("__dlq.errors.offset", b"42"),
    ("__dlq.errors.group", b"billing"),
    ("__dlq.errors.delivery.count", b"5"),
    ("__dlq.errors.message", b"Offset delivery count exceeded the threshold."),
]
KARAFKA = [
    ("source_topic", b"orders"),
    ("source_partition", b"3"),
    ("source_offset", b"42"),
    ("source_consumer_group", b"shop"),
    ("source_attempts", b"2"),
    ("source_trace_id", b"t"),
]
OLD_KARAFKA = [(name.replace("source", "original"), value) for name, value in KARAFKA]


@pytest.mark.parametrize(
    ("name", "found", "offset", "attempts", "worker", "error"),
    [
        ("spring", SPRING, 2**40, 3, "shop", "java.lang.IllegalStateException"),
        ("connect", CONNECT, 42, None, "to-db", "org.apache.kafka.DataException"),
        ("streams", STREAMS, 42, None, None, "java.lang.IllegalStateException"),
        ("share_group", SHARE, 42, 5, "billing", "share_group"),
        ("karafka", KARAFKA, 42, 2, "shop", "karafka"),
        ("karafka", OLD_KARAFKA, 42, 2, "shop", "karafka"),
    ],
)
def test_each_dialect_is_recognized_by_its_headers(
    name, found, offset, attempts, worker, error
):
    story = read_facts([("tenant", b"acme"), *found], NOW)

    assert (story.dialect, story.reason) == (name, name)
    assert (story.origin_topic, story.origin_partition) == ("orders", 3)
    assert (story.origin_offset, story.attempts) == (offset, attempts)
    assert (story.worker, story.error_type) == (worker, error)
    assert story.last_failed_ms == NOW
    assert all(line.isprintable() for line in story.error_stack.split("\n"))
    assert story.error_message.isprintable()


@pytest.mark.parametrize("found", [SPRING, CONNECT, STREAMS, SHARE, KARAFKA])
def test_what_goes_back_has_the_users_headers_only(found):
    own = [("tenant", b"acme"), ("traceparent", b"00-1"), ("null", None)]

    kept = original_headers(
        foreign_dialect(found), [*own, *found, ("shifter-replays", b"1")]
    )

    assert kept == own


def test_a_fingerprint_forgets_numbers_and_messages_but_not_the_place():
    def of(*numbers: int, stack: bytes = STACK) -> str:
        return read_facts(
            [*SPRING[:9], ("kafka_dlt-exception-stacktrace", stack % numbers)], NOW
        ).fingerprint

    elsewhere = STACK.replace(b"shop.Orders", b"shop.Invoices")

    assert of(1, 2, 3) == of(9, 8, 7) != of(1, 2, 3, stack=elsewhere)
    assert len(of(1, 2, 3)) == 12


def test_of_repeated_headers_the_first_origin_and_the_last_error_count():
    found = [
        *SPRING,
        ("kafka_dlt-original-topic", b"orders-retry-1000"),
        ("kafka_dlt-exception-message", b"the last"),
        ("retry_topic-attempts", struct.pack(">i", 4)),
    ]

    story = read_facts(found, NOW)

    assert (story.origin_topic, story.attempts) == ("orders", 4)
    assert story.error_message == "the last"


def test_ours_wins_over_others_and_a_stranger_stays_one():
    assert read_facts([*SPRING, *headers()], NOW).job_id == job_id(1)
    assert read_facts([("a", b"1"), ("b", None)], NOW).dialect == FOREIGN
    assert read_facts([], NOW).fingerprint == FOREIGN


@pytest.mark.parametrize(
    "junk", [b"", b"\xff" * 100_000, b"-1", b"9" * 40, b"\xd9\xa1"]
)
@pytest.mark.parametrize("found", [SPRING, CONNECT, STREAMS, SHARE, KARAFKA])
def test_no_value_makes_reading_fail(found, junk):
    for place in range(len(found)):
        broken = [*found]
        broken[place] = (found[place][0], junk)
        story = read_facts(broken, NOW)
        numbers = (story.origin_partition, story.origin_offset, story.attempts)
        assert all(number is None or number >= 0 for number in numbers)
        assert len(story.error_message) <= 1_000
