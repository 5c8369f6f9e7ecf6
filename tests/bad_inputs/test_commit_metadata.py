"""Row 72: what may stand beside a committed offset, read by hand and by a live worker.

Whatever is doubtful says nothing: each record behind the offset runs, once. A text that
is one, bound to this offset, is believed; that is what a taken-over partition is for.
"""

from __future__ import annotations

import base64
import uuid
import zlib

import pytest
from confluent_kafka import Consumer, TopicPartition

from shifter.policy.delivery.ack_metadata import binding, decode, encode
from tests.bad_inputs.catalogue import GOOD, OURS, with_id
from tests.bad_inputs.live import TARGET
from tests.bad_inputs.writers import writer_of

POSITION, HIGH, BROKER_LIMIT = 2, 6, 4_096


def bound(topic: str, /, **changes: object) -> str:
    """What a text for this partition is bound to."""
    group = f"{topic.split('.', maxsplit=1)[0]}.workers.normal"
    facts = {"group": group, "topic": topic, "partition": 0, **changes}
    return binding(**facts)


def signed(body: bytes, topic: str) -> str:
    """A text with a right checksum and any body."""
    whole = f"{bound(topic)}\n{POSITION}\n".encode() + body
    crc = zlib.crc32(whole).to_bytes(4, "big")
    return "s1" + base64.b64encode(crc + body).decode()


def good(topic: str, /, **changes: object) -> str:
    return encode([(3, 5)], binding=bound(topic, **changes), position=POSITION)


def flipped(topic: str) -> str:
    raw = bytearray(base64.b64decode(good(topic)[2:]))
    raw[0] ^= 1
    return "s1" + base64.b64encode(raw).decode()


ROWS = {
    "unknown magic": lambda topic: "z9" + good(topic)[2:],
    "other version": lambda topic: "s2" + good(topic)[2:],
    "bad CRC": flipped,
    "run of 2^31-1": lambda topic: signed(b"r\x01\xff\xff\xff\xff\x07", topic),
    "run of 2^63": lambda topic: signed(b"r\x01" + b"\xff" * 9 + b"\x01", topic),
    "run that never ends": lambda topic: signed(b"r" + b"\xff" * 2_000, topic),
    "bits behind the end": lambda topic: signed(b"b" + b"\xff" * 2_000, topic),
    "unknown form": lambda topic: signed(b"?\x01\x02", topic),
    "another group's": lambda topic: good(topic, group="other"),
    "another topic's": lambda topic: good(topic, topic="shop.mail.high"),
    "another partition's": lambda topic: good(topic, partition=1),
    "as long as may be": lambda topic: "s1" + "A" * (BROKER_LIMIT - 3),
    "no base64": lambda topic: "s1\u00e9~~~",
    "somebody's words": lambda topic: "leader-epoch=7;state=done",
}
LANE = "shop.mail.normal"


@pytest.mark.parametrize("name", ROWS, ids=[f"72-{name}" for name in ROWS])
def test_a_doubtful_text_is_ignored(name):
    text = ROWS[name](LANE)

    found = decode(text, binding=bound(LANE), position=POSITION, high=HIGH)

    assert found == []


def test_72_a_text_of_4097_bytes_is_not_even_read():
    text = "s1" + "A" * (BROKER_LIMIT + 1 - 2)

    assert len(text) == 4_097
    assert decode(text, binding=bound(LANE), position=POSITION, high=HIGH) == []


def test_72_a_text_that_is_right_is_believed():
    found = decode(good(LANE), binding=bound(LANE), position=POSITION, high=HIGH)

    assert found == [(3, 5)]


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["run of 2^31-1"])
def test_72_a_worker_that_finds_such_a_text_runs_all_behind_the_offset(
    open_lane, kafka, name
):
    live = open_lane("kafka")
    jobs = [str(uuid.uuid4()) for _ in range(5)]
    with writer_of(live.settings, live.lane) as writer:
        for job_id in jobs:
            writer.put(job_id, with_id(OURS, job_id), GOOD)
        writer.flush()
    commit(kafka, live.lane, ROWS[name](live.lane))

    worker = live.fleet.work("--burst", target=TARGET)

    assert worker.wait(60) == 0, live.fleet.said()
    ran = [line[0] for line in live.fleet.effects()]
    assert sorted(ran) == sorted(jobs[POSITION:])


def commit(kafka, topic: str, text: str) -> None:
    """As a member of the workers' group would have."""
    group = f"{topic.split('.', maxsplit=1)[0]}.workers.normal"
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    at = TopicPartition(topic, 0, POSITION, text)
    [told] = consumer.commit(offsets=[at], asynchronous=False)
    consumer.close()
    assert told.error is None
