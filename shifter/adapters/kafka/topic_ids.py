"""Tells a topic from one that was made again under its name.

Offsets of the old topic mean nothing in the new one, and no event says that there is a
new one: a consumer goes on at its old place, and what lies below is skipped without a
word. Only the id that a cluster gives each topic tells them apart, and only an
administrator's client is told it. One such client serves all members of a process;
nobody waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from shifter.adapters.kafka.errors import make_client
from shifter.adapters.kafka.url import KafkaConfig
from shifter.ports import Clock

_EVERY_S: Final = 5.0
_ANSWER_S: Final = 10.0


class TopicIds:
    """Asks the cluster for ids of topics. Safe to share between threads.

    Args:
        config: The cluster.
        clock: For how often to ask.
    """

    def __init__(self, config: KafkaConfig, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._lock, self._ask_at = threading.Lock(), 0.0
        self._admin: AdminClient | None = None
        self._wanted: set[str] = set()
        self._ids: dict[str, str] = {}
        self._asked: Mapping[str, Future[Any]] = {}

    def heard(self, topics: Iterable[str]) -> Mapping[str, str]:
        """Ids by topic as last heard; asks for these too from now on.

        Does not block. A topic that cannot be described keeps the id it had.
        """
        with self._lock:
            self._wanted.update(topics)
            if all(future.done() for future in self._asked.values()):
                self._collect()
                if self._clock.monotonic() >= self._ask_at:
                    self._ask_at = self._clock.monotonic() + _EVERY_S
                    self._ask()
            return self._ids

    def _collect(self) -> None:
        found = {
            topic: str(future.result().topic_id)
            for topic, future in self._asked.items()
            if future.exception() is None
        }
        self._asked = {}
        if found:
            self._ids = {**self._ids, **found}

    def _ask(self) -> None:
        if self._admin is None:
            self._admin = make_client(AdminClient, self._config.admin_config())
        topics = TopicCollection(sorted(self._wanted))
        try:
            self._asked = self._admin.describe_topics(topics, request_timeout=_ANSWER_S)
        except KafkaException:
            self._asked = {}
