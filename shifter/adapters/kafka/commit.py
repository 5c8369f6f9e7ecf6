"""Commits how far the partitions of one member are settled.

Commits go out at an interval, without waiting; only when a partition is given away is
the answer awaited. A commit that fails is repeated with the next one, which covers more
records. If the broker refuses the metadata as too long, the commit is sent with less:
first without the records settled ahead of the position, then without the topic's id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from shifter.adapters.kafka.assignment import Assignment, OwnedPartition
from shifter.adapters.kafka.errors import describe, kafka_error
from shifter.policy.delivery.ack_map import binding, encode, mark

_TOO_LONG: Final = "OFFSET_METADATA_TOO_LARGE"
_SHORTEST: Final = 2
"""How often metadata is shortened until none is left."""


class Committer:
    """Commits of one member. Owned by the member's thread.

    Args:
        group: The group's name.
        assignment: The partitions that this member owns.
        failed: Called with the client's error text when a commit fails.
    """

    def __init__(
        self, group: str, assignment: Assignment, failed: Callable[[str], None]
    ) -> None:
        self._group, self._assignment, self._failed = group, assignment, failed

    def send(self, consumer: Consumer, parts: Iterable[OwnedPartition]) -> None:
        """Commit what changed, without waiting."""
        offsets = self._offsets(parts)
        if offsets:
            try:
                consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as exc:
                self.reported(kafka_error(exc), offsets)

    def send_and_wait(
        self, consumer: Consumer, parts: Iterable[OwnedPartition]
    ) -> None:
        """Commit what changed and wait for the answer; never raises for a failure."""
        parts = list(parts)
        self._try(consumer, parts)
        for _ in range(_SHORTEST):
            self._try(consumer, [part for part in parts if part.cut and part.is_dirty])

    def _try(self, consumer: Consumer, parts: Iterable[OwnedPartition]) -> None:
        offsets = self._offsets(parts)
        if not offsets:
            return
        try:
            committed = consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as exc:
            self.reported(kafka_error(exc), offsets)
        else:
            self.reported(None, committed or [])

    def reported(
        self, error: KafkaError | None, partitions: Iterable[TopicPartition]
    ) -> None:
        """Take the result of a commit; also the client's ``on_commit``."""
        for at in partitions:
            failure = at.error or error
            if failure is None:
                continue
            self._failed(describe(failure))
            for part in self._assignment.of([(at.topic, at.partition)]):
                part.committed, part.is_dirty = None, True
                if failure.name() == _TOO_LONG:
                    part.cut = min(part.cut + 1, _SHORTEST)

    def _offsets(self, parts: Iterable[OwnedPartition]) -> list[TopicPartition]:
        offsets = []
        for part in parts:
            if not part.is_dirty:
                continue
            part.is_dirty = False
            latest = self._commit_of(part)
            if latest != part.committed:
                part.committed = latest
                offsets.append(TopicPartition(*part.place, *latest))
        return offsets

    def _commit_of(self, part: OwnedPartition) -> tuple[int, str]:
        position, text = part.acks.frontier, ""
        if part.cut == 0:
            bound = binding(self._group, *part.place)
            text = encode(part.acks.ahead(), binding=bound, position=position)
        return position, text + mark(part.topic_id if part.cut < _SHORTEST else None)
