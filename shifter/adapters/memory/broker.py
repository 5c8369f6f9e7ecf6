"""A whole log in memory, shared by its writers, feeds and admins.

It behaves as a Kafka cluster does, on purpose: a topic has partitions, a group's
members own whole partitions, a settled record stays in its topic, a delayed one enters
its lane when it is due. A test that passes here has met the same shapes of trouble.
Safe to share between threads; the lock is taken once a batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
import zlib
from collections.abc import Collection, Generator, Sequence

from shifter.adapters.memory.group import ConsumerGroup, MemoryPartition
from shifter.model.reason import Reason
from shifter.ports import (
    APPENDED,
    AppendAnswer,
    Clock,
    Delivery,
    Record,
    Refused,
    Rushed,
    Span,
    TopicSpec,
    Unknown,
)
from shifter.wire.headers import hastened_ms

_WEEK_MS = 7 * 86_400_000
_MEBIBYTE = 1_048_576


def record_bytes(record: Record) -> int:
    """How large a record is: value, key, header names and values, in bytes."""
    named = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.value) + len(record.key or b"") + named


class MemoryLog:
    """Topics, groups and what waits for its time.

    Attributes:
        clock: The log's own clock.
        answer_instead: While set, every append gets this answer and writes nothing:
            how a test plays an outage or a refusal.
        wanted: What is not delayed although it waits for its hours.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.answer_instead: Refused | Unknown | None = None
        self.wanted: Rushed | None = None
        self._lock = threading.Lock()
        self._parts: dict[str, list[MemoryPartition]] = {}
        self._specs: dict[str, TopicSpec] = {}
        self._groups: dict[str, ConsumerGroup] = {}
        self._delayed: list[tuple[int, int, Record]] = []
        self._senders: dict[str, int] = {}
        self._serial = itertools.count(1)
        self._spread = itertools.count()
        self._watchers: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}

    def create(self, spec: TopicSpec) -> None:
        """Make a topic, or widen it; nothing about it ever becomes less."""
        with self._lock:
            parts = self._parts.setdefault(spec.name, [])
            parts.extend(MemoryPartition() for _ in range(spec.partitions - len(parts)))
            before = self._specs.get(spec.name, spec)
            self._specs[spec.name] = TopicSpec(
                spec.name,
                partitions=len(parts),
                retention_ms=max(spec.retention_ms, before.retention_ms),
                max_record_bytes=max(spec.max_record_bytes, before.max_record_bytes),
            )
            for group in self._groups.values():
                group.rebalance()

    def create_lanes(self, *topics: str, partitions: int = 1) -> None:
        """Make topics with everyday limits; `create` in short, for tests."""
        for topic in topics:
            self.create(TopicSpec(topic, partitions, _WEEK_MS, _MEBIBYTE))

    def specs(self) -> dict[str, TopicSpec]:
        """Every topic as it is, by name."""
        with self._lock:
            return dict(self._specs)

    def truncate(self, topic: str, partition: int, end: int) -> None:
        """Forget the first records of a partition, as retention does.

        Args:
            topic: The topic's name.
            partition: The partition's number.
            end: Records below this offset go.
        """
        with self._lock:
            part = self._parts[topic][partition]
            end = min(end, part.end)
            del part.entries[: max(0, end - part.start)]
            part.start = max(part.start, end)
        self.wake()

    def append(self, records: Sequence[Record], limit_bytes: int) -> list[AppendAnswer]:
        """Write records of at most ``limit_bytes`` each; one answer for each."""
        with self._lock:
            answers = [self._append(record, limit_bytes) for record in records]
        self.wake()
        return answers

    def append_all(
        self, records: Sequence[Record], limit_bytes: int
    ) -> dict[int, Refused | Unknown]:
        """Write all of these or, where one cannot be, none; what stands against it."""
        with self._lock:
            against = {
                place: answer
                for place, record in enumerate(records)
                if (answer := self._objection(record, limit_bytes)) is not None
            }
            for record in () if against else records:
                self._append(record, limit_bytes)
        self.wake()
        return against

    def take_over(self, name: str) -> int:
        """A new epoch of a sender's name; the one before is no sender any more."""
        with self._lock:
            self._senders[name] = epoch = self._senders.get(name, 0) + 1
        return epoch

    def has_name(self, name: str, epoch: int) -> bool:
        """Whether no other sender has taken the name over since."""
        return self._senders.get(name) == epoch

    def _objection(self, record: Record, limit_bytes: int) -> Refused | Unknown | None:
        if self.answer_instead is not None:
            return self.answer_instead
        spec = self._specs.get(record.topic)
        if spec is None:
            detail = f"topic {record.topic!r} does not exist"
            return Refused(Reason.REFUSED_BY_LOG, detail)
        size, limit = record_bytes(record), min(limit_bytes, spec.max_record_bytes)
        if size > limit:
            return Refused(Reason.TOO_LARGE, f"{size} bytes; at most {limit}")
        return None

    def _append(self, record: Record, limit_bytes: int) -> AppendAnswer:
        objection = self._objection(record, limit_bytes)
        if objection is not None:
            return objection
        if record.due_ms is not None and record.due_ms > self.clock.epoch_ms():
            self._delay(record)
            self._promote()
        else:
            self._place(record)
        return APPENDED

    def _delay(self, record: Record) -> None:
        now, due_ms = self.clock.epoch_ms(), record.due_ms or 0
        if self.wanted is not None:
            due_ms = hastened_ms(
                record.topic, record.headers, due_ms, wanted=self.wanted, now=now
            )
        heapq.heappush(self._delayed, (due_ms, next(self._serial), record))

    def _place(self, record: Record) -> None:
        parts = self._parts[record.topic]
        hashed = next(self._spread) if record.key is None else zlib.crc32(record.key)
        parts[hashed % len(parts)].entries.append((self.clock.epoch_ms(), record))

    def _promote(self) -> None:
        now = self.clock.epoch_ms()
        while self._delayed and self._delayed[0][0] <= now:
            self._place(heapq.heappop(self._delayed)[2])

    def rush(self, wanted: Rushed | None) -> None:
        """From now on also move what only waits for its hours, and is wanted now."""
        self.wanted = wanted
        if wanted is None:
            return
        with self._lock:
            delayed, self._delayed = sorted(self._delayed), []
            for _, _, record in delayed:
                self._delay(record)
            self._promote()
        self.wake()

    async def run(self) -> None:
        """Move what is due; each look calls this, since no task runs."""

    def next_due_ms(self) -> int | None:
        """When the next delayed record enters its lane; ``None`` if none waits."""
        with self._lock:
            return self._delayed[0][0] if self._delayed else None

    def delayed(self, topic: str) -> int:
        """How many records of a lane wait for their due time."""
        with self._lock:
            self._promote()
            return sum(record.topic == topic for _, _, record in self._delayed)

    def waiting_for(self, topics: Collection[str]) -> list[tuple[int, Record]]:
        """When delayed records of lanes are due, and the records; soonest first."""
        with self._lock:
            self._promote()
            found = sorted(self._delayed, key=lambda one: one[:2])
        return [(due, record) for due, _, record in found if record.topic in topics]

    def entries(self, topic: str) -> list[Delivery]:
        """All records in a topic now, by partition and offset."""
        with self._lock:
            self._promote()
            return [
                part.delivery(topic, index, offset, epoch=0)
                for index, part in enumerate(self._parts.get(topic, ()))
                for offset in range(part.start, part.end)
            ]

    def kept(self, topic: str) -> dict[int, Span]:
        """The offsets each part of a topic keeps now."""
        with self._lock:
            self._promote()
            return {
                index: Span(part.start, part.end)
                for index, part in enumerate(self._parts.get(topic, ()))
            }

    @contextlib.contextmanager
    def group(self, name: str) -> Generator[ConsumerGroup]:
        """A group, under the log's lock and with all due records in their lanes."""
        with self._lock:
            self._promote()
            yield self._groups.setdefault(name, ConsumerGroup(self._parts))

    def join(self, name: str, topics: Sequence[str]) -> int:
        """Become a member of a group; returns the member's number, >= 1."""
        member = next(self._serial)
        with self.group(name) as group:
            group.join(member, topics)
        self.wake()
        return member

    def leave(self, name: str, member: int) -> None:
        """Stop being a member; what it had not settled goes to the others."""
        with self.group(name) as group:
            group.leave(member)
        self.wake()

    @contextlib.contextmanager
    def watching(self, changed: asyncio.Event) -> Generator[None]:
        """Set ``changed`` whenever records or owners may have changed."""
        number = next(self._serial)
        self._watchers[number] = (asyncio.get_running_loop(), changed)
        try:
            yield
        finally:
            del self._watchers[number]

    def wake(self) -> None:
        """Wake the watchers: there may be more to fetch."""
        for loop, changed in list(self._watchers.values()):
            # A watcher whose loop has ended leaves no one to wake.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)
