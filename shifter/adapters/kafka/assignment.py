"""The partitions a member of a group owns, and how far it is in each.

Every assignment of a partition has its own *epoch*, a number never used again, which
each delivery carries: what was read under an earlier epoch can neither begin nor
settle anything, whatever became of the partition meanwhile.

One thread owns all of this; another may call `Assignment.begin` and read `epochs`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from confluent_kafka import Message

from shifter.adapters.kafka.headers import headers_of
from shifter.adapters.kafka.start_offsets import Place, Start
from shifter.policy.delivery.ack_map import AckMap
from shifter.ports import Delivery


class OwnedPartition:
    """One partition while it is ours.

    Attributes:
        place: Topic and partition.
        epoch: Of this assignment.
        acks: How far it is.
        started: Offsets that began and have not ended.
        at_end: Whether the log held nothing more when it was last asked.
        is_full: Whether too much was read since the frontier.
        is_paused: Whether the client was told to stop reading it.
        is_dirty: Whether there may be something to commit.
        cut: How much of the text beside its commits is left out, since the broker
            refused it: 0 nothing, 1 what ended ahead, 2 all of it.
        committed: Position and text last sent.
        topic_id: Of the topic whose offsets are counted; ``None`` if not known.
    """

    __slots__ = (
        "acks",
        "at_end",
        "committed",
        "cut",
        "epoch",
        "is_dirty",
        "is_full",
        "is_paused",
        "place",
        "started",
        "topic_id",
    )

    def __init__(
        self, place: Place, epoch: int, acks: AckMap, topic_id: str | None
    ) -> None:
        self.place, self.epoch, self.acks = place, epoch, acks
        self.topic_id = topic_id
        self.started: set[int] = set()
        self.at_end = self.is_full = self.is_paused = False
        self.is_dirty, self.cut = False, 0
        self.committed: tuple[int, str] | None = None


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
        self._full_above, self._room_below = full_above, full_above // 2
        self._lock = threading.Lock()
        self._by_epoch: dict[int, OwnedPartition] = {}
        self._started: dict[int, set[int]] = {}
        self._last_epoch = 0
        self.parts: dict[Place, OwnedPartition] = {}
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

    def add(self, place: Place, start: Start) -> OwnedPartition:
        """Own a partition from now on, in place of what was there."""
        self._last_epoch += 1
        acks = AckMap(start.position, start.done)
        part = OwnedPartition(place, self._last_epoch, acks, start.topic_id)
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

    def of(self, places: Iterable[Place]) -> list[OwnedPartition]:
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

    def _at(self, place: Place, offset: int) -> OwnedPartition | None:
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

    def is_idle(self) -> bool:
        """Whether all that the log holds has ended. From any thread."""
        return all(
            part.at_end and not part.acks.open_count
            for part in list(self.parts.values())
        )
