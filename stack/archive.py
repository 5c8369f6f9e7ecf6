"""Makes the class archive: runs one broker through what tests do, then stops it.

Takes about ten seconds, once for each JDK and set of jars.
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from stack.home import locked
from stack.install import say
from stack.jvm import archive_path, training_options
from stack.kafka import KafkaCluster

_TOPIC: Final = "training"
_DUMP_S: Final = 90.0


def make_archive() -> None:
    """Make the archive if there is none; brokers also start without it."""
    with locked("archive"):
        if archive_path().exists():
            return
        say("making Kafka's class archive, once")
        draft = archive_path().with_suffix(".new")
        cluster = KafkaCluster()
        cluster.jvm_options = training_options(draft)
        try:
            cluster.start()
            _exercise(cluster.bootstrap)
        finally:
            cluster.stop(timeout_s=_DUMP_S)
        if draft.exists():
            draft.rename(archive_path())
        else:
            say("the JVM wrote no archive; brokers will start more slowly")


def _exercise(bootstrap: str) -> None:
    """A topic, a transaction, and a group of each protocol."""
    # level 0: a coordinator that is still loading is no news here
    address: dict[str, str | int | float | bool] = {
        "bootstrap.servers": bootstrap,
        "log_level": 0,
    }
    admin = AdminClient(address)
    for made in admin.create_topics([NewTopic(_TOPIC, 1, 1)]).values():
        made.result(30)
    producer = Producer({**address, "transactional.id": _TOPIC})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(_TOPIC, b"value", headers={"name": b"value"})
    producer.commit_transaction(30)
    for protocol in ("classic", "consumer"):
        consumer = Consumer(
            {
                **address,
                "group.id": protocol,
                "group.protocol": protocol,
                "auto.offset.reset": "earliest",
            }
        )
        consumer.subscribe([_TOPIC])
        consumer.poll(20)
        consumer.close()
