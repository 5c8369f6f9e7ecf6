"""Dead letters written by Spring Kafka and Kafka Connect themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from stack.errors import Missing
from tests.foreign.java import compile_program

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

ROOT = Path(__file__).parents[2]
COUNT = 20
HEADERS = [("tenant", b"acme"), ("none", None), ("traceparent", b"00-1")]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> str:
    try:
        return compile_program(tmp_path_factory.mktemp("classes"))
    except Missing as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))


class Shop:
    """Orders that some Java program could not read, and its dead letters."""

    def __init__(self, kafka, state: str, namespace: str) -> None:
        self.bootstrap = kafka.bootstrap
        self.orders, self.dead = f"{namespace}-orders", f"{namespace}-orders-dlt"
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        topics = [NewTopic(name, 2, 1) for name in (self.orders, self.dead)]
        for made in admin.create_topics(topics).values():
            made.result(30)
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for n in range(COUNT):
            value = json.dumps({"order_id": n}).encode()
            producer.produce(self.orders, value, b"k%d" % n, headers=HEADERS)
        assert producer.flush(30) == 0
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
        self.environ = {
            **kept,
            "SHIFTER_LOG": kafka.url,
            "SHIFTER_STATE": state,
            "SHIFTER_NAMESPACE": namespace,
            "PYTHONPATH": str(ROOT),
        }

    def park(self, program: str, how: str) -> None:
        arguments = [how, self.bootstrap, self.orders, self.dead, str(COUNT)]
        done = subprocess.run(
            ["java", "-Xmx256m", "-cp", program, "Park", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3_000:]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "shifter.cli", "dlt", *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def json(self, *arguments: str):
        done = self.run(*arguments, "--json")
        assert done.returncode in (0, 3), done.stderr
        return json.loads(done.stdout)

    def read_orders(self, count: int) -> list:
        """All that the topic holds: the originals, then what came back."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "check",
                "auto.offset.reset": "earliest",
            }
        )
        consumer.subscribe([self.orders])
        found, until = [], time.monotonic() + 60
        while len(found) < count and time.monotonic() < until:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                found.append(message)
        consumer.close()
        assert len(found) == count
        return found


@pytest.fixture
def shop(kafka, redis_url, namespace) -> Shop:
    return Shop(kafka, redis_url, namespace)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("spring", "java.lang.IllegalStateException", "cannot ship"),
        ("connect", "org.apache.kafka.connect.errors.DataException", "no schema for"),
    ],
)
def test_letters_of_a_real_java_program_are_triaged_and_go_back(
    shop, program, how, error, message
):
    shop.park(program, how)

    [group] = shop.json("list", shop.dead)
    letter = shop.json("show", f"{shop.dead}/0/0")
    shown = shop.run("show", f"{shop.dead}/0/0")
    refused = shop.json("replay", shop.dead, "--yes")
    last = f"payload.order_id >= {COUNT - 5}"
    asked = ("--filter", last, "--target", f"{shop.orders}={shop.orders}", "--yes")
    replayed = shop.json("replay", shop.dead, *asked)

    assert (group["count"], group["error"], group["reason"]) == (COUNT, error, how)
    assert len(group["fingerprint"]) == 12
    story = letter["story"]
    assert (story["dialect"], story["origin_topic"]) == (how, shop.orders)
    assert (story["origin_partition"], story["origin_offset"]) in {
        (part, offset) for part in (0, 1) for offset in range(COUNT)
    }
    assert message in story["error_message"] or message in story["error_stack"]
    assert shown.returncode == 0
    assert all(line.isprintable() for line in shown.stdout.split("\n"))
    assert refused["counts"] == {"skipped:undeclared_origin": COUNT}
    assert replayed["counts"] == {"sent": 5}
    messages = shop.read_orders(COUNT + 5)
    came_back = [m for m in messages if len(m.headers()) > len(HEADERS)]
    assert sorted(json.loads(m.value())["order_id"] for m in came_back) == [
        *range(COUNT - 5, COUNT),
    ]
    for each in came_back:
        number = json.loads(each.value())["order_id"]
        assert each.key() == b"k%d" % number
        assert each.headers()[: len(HEADERS)] == HEADERS
        names = [name for name, _ in each.headers()[len(HEADERS) :]]
        assert names == ["shifter-replays", "shifter-replay-id"]
    assert shop.json("list", shop.dead)[0]["count"] == COUNT - 5
