"""Kafka as the tests and `make stack` start it, used through the real client."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from stack.errors import StackError
from stack.kafka import KafkaCluster, Security
from stack.process import mark_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

# A start takes 1.2 s where nothing else runs; a machine under load gets its time.
SOON_S = 60.0


def make_topic(settings: dict[str, str], name: str = "t", replicas: int = 1) -> None:
    admin = AdminClient(settings)
    for made in admin.create_topics([NewTopic(name, 1, replicas)]).values():
        made.result(30)


def produce(settings: dict[str, str], value: bytes = b"v") -> KafkaError | None:
    """What became of one record."""
    answers: list[KafkaError | None] = []
    producer = Producer({**settings, "message.timeout.ms": 30_000, "log_level": 0})
    producer.produce("t", value, on_delivery=lambda error, _: answers.append(error))
    assert producer.flush(40) == 0
    return answers[0]


def consume(settings: dict[str, str], count: int, protocol: str) -> list[bytes | None]:
    consumer = Consumer(
        {
            **settings,
            "group.id": f"g-{protocol}",
            "group.protocol": protocol,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe(["t"])
    values: list[bytes | None] = []
    until = time.monotonic() + SOON_S
    while len(values) < count and time.monotonic() < until:
        record = consumer.poll(0.5)
        if record is not None and record.error() is None:
            values.append(record.value())
    consumer.close()
    return values


@pytest.fixture
def cluster(kafka):  # asked for only to skip where there is no Kafka
    begun = time.monotonic()
    with KafkaCluster() as cluster:
        print(f"one broker ready in {time.monotonic() - begun:.2f} s")
        assert time.monotonic() - begun < SOON_S
        yield cluster


@pytest.fixture(scope="module")
def secure(kafka, tmp_path_factory):
    users = {"admin": "first-secret", "alice": "se=cond/+secret"}
    security = Security.make(tmp_path_factory.mktemp("tls"), users)
    begun = time.monotonic()
    with KafkaCluster(security=security) as cluster:
        print(f"secure broker ready in {time.monotonic() - begun:.2f} s")
        make_topic(cluster.client("admin"))
        yield cluster


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_records_are_written_and_read_by_both_group_protocols(cluster, protocol):
    make_topic(cluster.client())

    assert produce(cluster.client(), b"one") is None

    assert consume(cluster.client(), 1, protocol) == [b"one"]


def test_a_warm_broker_serves_its_first_group_at_once(cluster):
    make_topic(cluster.client())
    produce(cluster.client())

    cluster.warm()

    # What the first group of a broker waits for, some 3 s, is there.
    topics = AdminClient(cluster.client()).list_topics(timeout=20).topics
    offsets = topics["__consumer_offsets"].partitions
    assert offsets
    assert all(one.leader >= 0 for one in offsets.values())
    assert consume(cluster.client(), 1, "classic") == [b"v"]


def test_a_killed_broker_comes_back_with_its_records(cluster):
    make_topic(cluster.client())
    assert produce(cluster.client(), b"kept") is None

    cluster.kill()
    begun = time.monotonic()
    cluster.restart()

    print(f"back after a kill in {time.monotonic() - begun:.2f} s")
    assert consume(cluster.client(), 1, "classic") == [b"kept"]


def test_a_frozen_broker_accepts_and_does_not_answer(cluster):
    admin = AdminClient(cluster.client())
    cluster.pause()

    with pytest.raises(KafkaException):
        admin.list_topics(timeout=0.5)

    cluster.resume()
    assert admin.list_topics(timeout=20).cluster_id == cluster.cluster_id


def test_another_broker_on_the_port_is_not_taken_for_ours(cluster):
    second = KafkaCluster()
    second._nodes = [
        node._replace(port=cluster._nodes[0].port) for node in second._nodes
    ]

    with pytest.raises(StackError, match=r"another broker|did not start"):
        second.start()

    assert AdminClient(cluster.client()).list_topics(timeout=40).brokers


def test_a_stopped_cluster_leaves_nothing_behind(kafka):
    with KafkaCluster() as cluster:
        [pid] = cluster.pids.values()
        folder = cluster.folder

    assert mark_of(pid) is None
    assert not folder.exists()


@pytest.mark.slow
def test_two_of_three_brokers_go_on(kafka):
    begun = time.monotonic()
    with KafkaCluster(3) as cluster:
        print(f"three brokers ready in {time.monotonic() - begun:.2f} s")
        make_topic(cluster.client(), replicas=3)
        assert produce(cluster.client(), b"one") is None

        cluster.kill(1)
        assert produce(cluster.client(), b"two") is None

        cluster.restart(1)
        admin = AdminClient(cluster.client())
        until = time.monotonic() + SOON_S
        # It answers before all others have heard that it is back.
        while set(admin.list_topics(timeout=40).brokers) != {1, 2, 3}:
            assert time.monotonic() < until
            admin.poll(0.1)


@pytest.mark.secure
class TestSecure:
    """SASL_SSL, SCRAM-SHA-512 and ACLs."""

    def test_the_administrator_may_write(self, secure):
        assert produce(secure.client("admin")) is None

    def test_a_user_without_a_right_is_refused(self, secure):
        refused = produce(secure.client("alice") | {"enable.idempotence": "false"})

        assert refused is not None
        assert refused.name() == "TOPIC_AUTHORIZATION_FAILED"

    def test_a_wrong_password_is_refused(self, secure):
        heard: list[str] = []
        wrong = secure.client("alice") | {"sasl.password": "guess"}
        admin = AdminClient({**wrong, "error_cb": lambda e: heard.append(e.name())})

        with pytest.raises(KafkaException):
            admin.list_topics(timeout=3)

        admin.poll(1)
        assert "_AUTHENTICATION" in heard

    def test_the_url_carries_the_user(self, secure):
        url = secure.url_for("alice")

        assert url.startswith(
            f"kafka://{secure.bootstrap}/?security_protocol=SASL_SSL&"
        )
        assert "sasl_password=se%3Dcond/%2Bsecret" in url
