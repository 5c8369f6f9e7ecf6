"""Distinguishes a topic from one that was made again under its name.

Offsets of the old topic mean nothing in the new one, and no event reports a new one: a
consumer goes on at its old place, and skips the records below. Only the id that a
cluster gives each topic distinguishes them, and only an administrative client can ask
for it. One such client serves all members of a process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from functools import cached_property
from typing import Any, Final

from confluent_kafka import KafkaException, TopicCollection, Uuid
from confluent_kafka.admin import AdminClient

from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.errors import kafka_error, make_client
from shifter.ports import Clock

# A topic that was made again is read from its start within 5 s: this, an answer, and
# the member's next look.
_EVERY_S: Final = 2.0
_ANSWER_S: Final = 5.0
_NO_ID: Final = str(Uuid(0, 0))
"""What a broker before Kafka 2.8 answers."""
_ABSENT: Final = "UNKNOWN_TOPIC_OR_PART"


def describe_ids(client: AdminClient, topics: Iterable[str]) -> dict[str, str]:
    """Ids of topics now; blocks. A topic that does not exist is left out.

    Raises:
        KafkaException: The cluster did not answer, or refuses to.
    """
    found = {}
    for topic, future in _asked(client, topics).items():
        try:
            topic_id = str(future.result().topic_id)
        except KafkaException as exc:
            error = kafka_error(exc)
            if error is None or error.name() != _ABSENT:
                raise
        else:
            if topic_id != _NO_ID:
                found[topic] = topic_id
    return found


def _asked(client: AdminClient, topics: Iterable[str]) -> Mapping[str, Future[Any]]:
    names = sorted(set(topics))
    if not names:
        return {}
    return client.describe_topics(TopicCollection(names), request_timeout=_ANSWER_S)


class TopicIds:
    """Asks the cluster for ids of topics. Safe to share between threads.

    Args:
        config: The cluster.
        clock: For how often to ask.
    """

    def __init__(self, config: KafkaConfig, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._lock, self._ask_at = threading.Lock(), 0.0
        self._wanted: set[str] = set()
        self._ids: dict[str, str] = {}
        self._retired = {_NO_ID}
        self._pending: Mapping[str, Future[Any]] = {}

    def ask(self, topics: Iterable[str]) -> Mapping[str, str]:
        """Ids by topic as they are now; blocks until the cluster answers.

        Raises:
            KafkaException: The cluster did not answer, or refuses to.
        """
        names = set(topics)
        with self._lock:
            self._wanted |= names
            client = self._client
        found = describe_ids(client, names)
        with self._lock:
            self._learn(found)
            return {name: self._ids[name] for name in names if name in self._ids}

    def latest(self, topics: Iterable[str]) -> Mapping[str, str]:
        """Ids by topic as last answered; asks for these too from now on.

        Does not block. A topic that cannot be described keeps the id it had.
        """
        with self._lock:
            self._wanted.update(topics)
            if all(future.done() for future in self._pending.values()):
                answered, self._pending = self._pending, {}
                self._learn(
                    {
                        topic: str(future.result().topic_id)
                        for topic, future in answered.items()
                        if future.exception() is None
                    }
                )
                if self._clock.monotonic() >= self._ask_at:
                    self._ask_at = self._clock.monotonic() + _EVERY_S
                    self._pending = _asked(self._client, self._wanted)
            return self._ids

    def _learn(self, found: Mapping[str, str]) -> None:
        """Take in an answer, unless it is older than what is known.

        Answers overtake each other, and brokers learn of a new topic one after the
        other. An id is never used twice, so one that was replaced does not return.
        """
        ids = dict(self._ids)
        for topic, topic_id in found.items():
            known = ids.get(topic)
            if known == topic_id or topic_id in self._retired:
                continue
            if known is not None:
                self._retired.add(known)
            ids[topic] = topic_id
        self._ids = ids

    @cached_property
    def _client(self) -> AdminClient:
        return make_client(AdminClient, self._config.admin_config())
