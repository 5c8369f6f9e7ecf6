"""The partitions a member of a group owns, how far it is in each, and its commits.

Every assignment of a partition has its own *epoch*, a number never used again, which
each delivery carries: what was read under an earlier epoch can neither begin nor
settle anything, whatever became of the partition meanwhile.

Commits go out at an interval, without waiting; only when a partition is given away is
the answer awaited. A commit that fails is repeated with the next one, which covers more
records. If the broker refuses the metadata as too long, the commit is sent with less:
first without the records settled ahead of the position, then without the topic's id.

The member's thread owns all of this; another may call `Assignment.begin` and read
`Assignment.epochs`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from shifter.adapters.kafka.errors import describe, kafka_error
from shifter.adapters.kafka.reader import Partition, headers_of
from shifter.adapters.kafka.start_offsets import Start
from shifter.policy.delivery.ack_map import AckMap
from shifter.policy.delivery.ack_metadata import binding, encode, mark
from shifter.ports import Delivery

_TOO_LONG: Final = "OFFSET_METADATA_TOO_LARGE"
_SHORTEST: Final = 2
"""How often metadata is shortened until none is left."""


@dataclass(slots=True, eq=False)
class OwnedPartition:
    """One partition while this member owns it.

    Attributes:
        place: Topic and partition.
        epoch: The number of this assignment.
        acks: Which of its offsets have ended.
        topic_id: Of the topic whose offsets are counted; ``None`` if not known.
        start: The position at which this assignment began.
        started: Offsets that began and have not ended.
        at_end: Whether the log held nothing more when it was last asked.
        is_full: Whether too much was read since the frontier.
        is_paused: Whether the client has stopped reading it on request.
        is_dirty: Whether there may be something to commit.
        cut: How much of the text beside its commits is left out, since the broker
            refused it: 0 nothing, 1 what ended ahead, 2 all of it.
        committed: Position and text last sent.
    """

    place: Partition
    epoch: int
    acks: AckMap
    topic_id: str | None
    start: int
    started: set[int] = field(default_factory=set)
    at_end: bool = False
    is_full: bool = False
    is_paused: bool = False
    is_dirty: bool = False
    cut: int = 0
    committed: tuple[int, str] | None = None


class Assignment:
    """All partitions of one member.

    Args:
        full_above: Records read since a frontier, above which its partition is full.

    Attributes:
        parts: Partitions owned, by place.
        epochs: Those that may begin; replaced with every change, never changed.
        has_shifted: Whether a partition came, became full, or has room again; the
            owner clears it.
    """

    def __init__(self, full_above: int) -> None:
        # Half, so that a partition is not paused and resumed with each record.
        self._full_above, self._room_below = full_above, full_above // 2
        # Held by `begin` and `withdraw`: a record that began after its partition was
        # withdrawn would run here and at the next owner.
        self._lock = threading.Lock()
        self._by_epoch: dict[int, OwnedPartition] = {}
        self._started: dict[int, set[int]] = {}
        self._last_epoch = 0
        self.parts: dict[Partition, OwnedPartition] = {}
        self.epochs: frozenset[int] = frozenset()
        self.has_shifted = False

    def begin(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Note that these start; returns those still owned. From any thread."""
        begun: list[Delivery] = []
        with self._lock:
            started_of = self._started.get
            for delivery in deliveries:
                started = started_of(delivery.epoch)
                if started is not None:
                    started.add(delivery.offset)
                    begun.append(delivery)
        return begun

    def add(self, place: Partition, start: Start) -> OwnedPartition:
        """Own a partition from now on, in place of what was there."""
        self._last_epoch += 1
        acks = AckMap(start.position, start.done)
        part = OwnedPartition(
            place, self._last_epoch, acks, start.topic_id, start.position
        )
        # A group without a commit of its own gets one: what retention takes before
        # the first record is settled is then seen as lost, and not skipped.
        part.is_dirty = not start.is_known
        old = self.parts.get(place)
        if old is not None:
            self.drop([old])
        self.parts[place] = self._by_epoch[part.epoch] = part
        self.has_shifted = True
        with self._lock:
            self._started[part.epoch] = part.started
            self.epochs = frozenset(self._started)
        return part

    def withdraw(self, parts: Iterable[OwnedPartition]) -> None:
        """Let nothing of these begin any more; what has begun may still settle."""
        with self._lock:
            for part in parts:
                self._started.pop(part.epoch, None)
            self.epochs = frozenset(self._started)

    def drop(self, parts: Iterable[OwnedPartition]) -> None:
        """Own these no longer; what settles from now on is ignored."""
        parts = list(parts)
        self.withdraw(parts)
        for part in parts:
            del self._by_epoch[part.epoch]
            if self.parts.get(part.place) is part:
                del self.parts[part.place]

    def of(self, places: Iterable[Partition]) -> list[OwnedPartition]:
        """The parts at these places, without those not owned."""
        return [self.parts[place] for place in places if place in self.parts]

    def settle(self, deliveries: Iterable[Delivery]) -> None:
        """End deliveries; those of an earlier epoch are ignored."""
        offsets_of: dict[int, list[int]] = {}
        for delivery in deliveries:
            offsets = offsets_of.get(delivery.epoch)
            if offsets is None:
                offsets_of[delivery.epoch] = [delivery.offset]
            else:
                offsets.append(delivery.offset)
        for epoch, offsets in offsets_of.items():
            part = self._by_epoch.get(epoch)
            if part is not None:
                part.started.difference_update(offsets)
                part.acks.settle_many(offsets)
                part.is_dirty = True
                if part.is_full and len(part.acks) <= self._room_below:
                    part.is_full, self.has_shifted = False, True

    def take(self, messages: Iterable[Message]) -> tuple[list[Delivery], list[Message]]:
        """Deliveries of what was read, and the events among it, both in order.

        What ended under an earlier owner, and what is of a partition no longer owned,
        is left out.
        """
        taken: list[Delivery] = []
        run: list[Delivery] = []
        events: list[Message] = []
        part: OwnedPartition | None = None
        # Records come in runs of one partition, which is looked up once a run.
        topic, index, floor, epoch = "", -1, 0, 0
        for message in messages:
            if message.error() is not None:
                events.append(message)
                continue
            offset = message.offset() or 0
            if (
                message.partition() != index
                or message.topic() != topic
                or offset < floor
            ):
                if part is not None and run:
                    taken += self._deliver(part, run)
                run = []
                topic, index = message.topic() or "", message.partition() or 0
                part = self._at((topic, index), offset)
                if part is not None:
                    topic, epoch = part.place[0], part.epoch
            floor = offset + 1
            run.append(
                Delivery(
                    topic,
                    message.key(),
                    message.value(),
                    headers_of(message),
                    message.timestamp()[1],
                    index,
                    offset,
                    epoch,
                )
            )
        if part is not None and run:
            taken += self._deliver(part, run)
        return taken, events

    def _at(self, place: Partition, offset: int) -> OwnedPartition | None:
        """The part to read from ``offset`` on; ``None`` if it is not owned."""
        part = self.parts.get(place)
        if part is not None and offset < part.acks.position:
            # The client reads in order, so this is another log under the same name: a
            # topic deleted and made again. Nothing known of the old one holds here.
            part = self.add(place, Start(offset, topic_id=part.topic_id))
        return part

    def _deliver(self, part: OwnedPartition, run: list[Delivery]) -> list[Delivery]:
        acks, offsets = part.acks, [delivery.offset for delivery in run]
        fresh = acks.deliver(offsets)
        part.at_end = False
        if len(fresh) < len(offsets):
            known = set(fresh)
            run = [delivery for delivery in run if delivery.offset in known]
            part.is_dirty = True
        if not part.is_full and len(acks) > self._full_above:
            part.is_full = self.has_shifted = True
        return run

    def partitions(self) -> dict[str, list[int]]:
        """The partitions owned, ascending, by topic. From any thread."""
        found: dict[str, list[int]] = {}
        for topic, partition in sorted(self.parts.copy()):
            found.setdefault(topic, []).append(partition)
        return found

    def frontier_gap(self) -> int:
        """Records that ended and that no committed position covers. From any thread."""
        gap = 0
        for part in list(self.parts.values()):
            acks, sent = part.acks, part.committed
            position = part.start if sent is None else sent[0]
            gap += len(acks) - acks.open_count + max(0, acks.frontier - position)
        return gap

    def is_idle(self) -> bool:
        """Whether all that the log holds has ended. From any thread."""
        parts = list(self.parts.values())
        return all(part.at_end and not part.acks.open_count for part in parts)


class Committer:
    """Commits of one member. Owned by the member's thread.

    Args:
        group: The group's name.
        assignment: The partitions that this member owns.
        failed: Called with the client's error text when a commit fails.

    Attributes:
        done: Commits that the broker took.
        failures: Commits that it did not take.
    """

    def __init__(
        self, group: str, assignment: Assignment, failed: Callable[[str], None]
    ) -> None:
        self._group, self._assignment, self._failed = group, assignment, failed
        self.done = self.failures = 0

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
        partitions = list(partitions)
        if error is not None or any(at.error for at in partitions):
            self.failures += 1
        elif partitions:
            self.done += 1
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
