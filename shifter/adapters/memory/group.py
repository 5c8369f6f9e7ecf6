"""Consumer groups in memory: which member owns a partition, and what is settled.

Partitions are spread over all members and moved only where the balance asks for it,
as cooperative-sticky does. A change of owner starts a new epoch; what an older epoch
still holds can neither begin nor settle. Callers hold the log's lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field

from shifter.ports import Delivery, LostRange, Record


@dataclass(slots=True)
class MemoryPartition:
    """One partition: entries from offset ``start`` on, as (appended_ms, record)."""

    start: int = 0
    entries: list[tuple[int, Record]] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The offset the next record gets."""
        return self.start + len(self.entries)

    def delivery(self, topic: str, index: int, offset: int, epoch: int) -> Delivery:
        """A record as a reader sees it.

        Args:
            topic: The partition's topic.
            index: The partition's number.
            offset: The record's offset; the record must still be kept.
            epoch: Assignment under which it is read.
        """
        appended_ms, record = self.entries[offset - self.start]
        return Delivery(
            topic=topic,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
            appended_ms=appended_ms,
            partition=index,
            offset=offset,
            epoch=epoch,
        )


@dataclass(slots=True)
class GroupProgress:
    """How far one group is in one partition.

    Attributes:
        owner: The member that reads it; ``None`` without one.
        epoch: Grows with every change of owner.
        cursor: The next offset to hand to the owner.
        frontier: Everything below is settled.
        ahead: Settled offsets above the frontier.
    """

    owner: int | None = None
    epoch: int = 0
    cursor: int = 0
    frontier: int = 0
    ahead: set[int] = field(default_factory=set)

    def give(self, member: int | None) -> None:
        """Change the owner; what is not settled will be handed out again."""
        self.owner, self.cursor = member, self.frontier
        self.epoch += 1

    def is_settled(self, offset: int) -> bool:
        """Whether the record at ``offset`` needs no more work."""
        return offset < self.frontier or offset in self.ahead

    def settle(self, offset: int) -> None:
        """Note that a record needs no more work; settling twice is harmless."""
        if self.is_settled(offset):
            return
        self.ahead.add(offset)
        while self.frontier in self.ahead:
            self.ahead.discard(self.frontier)
            self.frontier += 1

    def skip_lost(self, start: int) -> tuple[int, int] | None:
        """Go on at ``start``; the unread range that is gone, if there is one."""
        if self.cursor >= start:
            return None
        lost = (self.cursor, start)
        self.cursor = self.frontier = start
        self.ahead = {offset for offset in self.ahead if offset >= start}
        return lost

    def next_offsets(self, end: int, room: int) -> Iterator[int]:
        """Advance over at most ``room`` offsets that are not settled."""
        while room > 0 and self.cursor < end:
            offset = self.cursor
            self.cursor += 1
            if offset not in self.ahead:
                room -= 1
                yield offset


class ConsumerGroup:
    """The members that share some topics, and how far they are."""

    def __init__(self, parts: Mapping[str, list[MemoryPartition]]) -> None:
        self._parts = parts
        self._members: dict[int, frozenset[str]] = {}
        self._progress: dict[tuple[str, int], GroupProgress] = {}

    def join(self, member: int, topics: Sequence[str]) -> None:
        """Add a member and give it its share."""
        self._members[member] = frozenset(topics)
        self.rebalance()

    def leave(self, member: int) -> None:
        """Take a member's partitions away; unknown members are ignored."""
        self._members.pop(member, None)
        self.rebalance()

    def rebalance(self) -> None:
        """Spread partitions evenly; a partition moves only where it must."""
        for topic in sorted(frozenset[str]().union(*self._members.values())):
            for index, part in enumerate(self._parts.get(topic, ())):
                fresh = GroupProgress(cursor=part.start, frontier=part.start)
                self._progress.setdefault((topic, index), fresh)
        shares: list[tuple[str, GroupProgress]] = []
        for (topic, _), progress in self._progress.items():
            shares.append((topic, progress))
            owner = progress.owner
            if owner is not None and topic not in self._members.get(owner, ()):
                progress.give(None)
        for topic, progress in shares:
            self._move(topic, progress, shares)

    def _move(
        self,
        topic: str,
        progress: GroupProgress,
        shares: Sequence[tuple[str, GroupProgress]],
    ) -> None:
        of_topic = Counter(p.owner for name, p in shares if name == topic)
        in_all = Counter(p.owner for _, p in shares)
        able = [m for m, topics in self._members.items() if topic in topics]
        lightest = min(able, key=lambda m: (of_topic[m], in_all[m]), default=None)
        if lightest is None:
            return
        surplus = of_topic[progress.owner] - of_topic[lightest]
        is_even = surplus == 0 or in_all[progress.owner] <= in_all[lightest] + 1
        if progress.owner is None or surplus > 1 or not is_even:
            progress.give(lightest)

    def take(
        self,
        member: int,
        max_records: int,
        *,
        turn: int,
        rested: AbstractSet[str] = frozenset(),
    ) -> tuple[list[Delivery], list[LostRange]]:
        """The member's next records, and the ranges it lost.

        Args:
            member: As joined.
            max_records: At most this many, >= 0.
            turn: Which of its partitions is asked first, so that none starves.
            rested: Topics of which nothing is taken.
        """
        owned = [
            (at, progress)
            for at, progress in self._progress.items()
            if progress.owner == member and at[0] not in rested
        ]
        first = turn % len(owned) if owned else 0
        taken: list[Delivery] = []
        lost: list[LostRange] = []
        for (topic, index), progress in owned[first:] + owned[:first]:
            part = self._parts[topic][index]
            gone = progress.skip_lost(part.start)
            if gone is not None:
                lost.append(LostRange(topic, index, *gone))
            room = max_records - len(taken)
            taken += [
                part.delivery(topic, index, offset, progress.epoch)
                for offset in progress.next_offsets(part.end, room)
            ]
        return taken, lost

    def owned(self, member: int, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those deliveries that are still the member's and not settled."""
        return [d for d in deliveries if self._is_owned(member, d)]

    def _is_owned(self, member: int, delivery: Delivery) -> bool:
        progress = self._progress[delivery.topic, delivery.partition]
        return (
            progress.owner == member
            and progress.epoch == delivery.epoch
            and not progress.is_settled(delivery.offset)
        )

    def settle(self, member: int, deliveries: Sequence[Delivery]) -> None:
        """End deliveries; those of an older epoch are ignored."""
        for delivery in self.owned(member, deliveries):
            self._progress[delivery.topic, delivery.partition].settle(delivery.offset)

    def is_idle(self, member: int) -> bool:
        """Whether all the member's partitions are settled to their ends."""
        return all(
            progress.frontier >= self._parts[topic][index].end
            for (topic, index), progress in self._progress.items()
            if progress.owner == member
        )

    def unsettled(self, entries: Sequence[Delivery]) -> list[Delivery]:
        """Those records that this group still has to settle."""
        nowhere = GroupProgress()
        return [
            entry
            for entry in entries
            if not self._progress.get(
                (entry.topic, entry.partition), nowhere
            ).is_settled(entry.offset)
        ]
