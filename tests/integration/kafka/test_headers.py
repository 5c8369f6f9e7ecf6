"""Headers whose names are no text, as the client hands them over."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, TopicPartition

from shifter.adapters.kafka.reader import UNREADABLE, headers_of
from tests.bad_inputs.writers import KafkaWriter

pytestmark = pytest.mark.mockbroker


def test_a_name_that_is_no_text_spoils_its_own_record_alone(mock_broker):
    good = [("x", b"1"), ("é", None), ("x", b"")]
    writer = KafkaWriter(mock_broker, "names")
    # Many, so that the interpreter has made the call a fast one.
    for number in range(200):
        writer.put(f"good {number}", good, b"v")
    writer.put("bad", [("x", b"1"), ("\udcff", b"2")], b"v")
    writer.put("none", [], b"v")
    places = writer.flush()
    writer.close()
    consumer = Consumer({"bootstrap.servers": mock_broker, "group.id": "names"})
    consumer.assign([TopicPartition("names", 0, 0)])

    found = []
    while len(found) < len(places):
        found += [headers_of(message) for message in consumer.consume(500, 1.0)]
    consumer.close()

    assert found == [good] * 200 + [[(UNREADABLE, None)], []]
