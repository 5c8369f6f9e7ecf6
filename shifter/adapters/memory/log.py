"""The log's ports in memory: the reference for tests and the simulator.

All waiting goes through the log's clock, so that a fake clock drives it in virtual
time: a fetch wakes when something was appended, when the next delayed record is due,
or when its wait is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence, Set as AbstractSet

from shifter.adapters.memory.broker import MemoryLog
from shifter.errors import StoreRefusedError, StoreUnavailableError
from shifter.model.reason import Reason
from shifter.ports import (
    AppendAnswer,
    DelayTier,
    Delivery,
    FeedCounts,
    LaneDepth,
    LanePeek,
    LostRange,
    Record,
    Refused,
    Span,
    Spans,
    TopicChange,
    TopicSpec,
    Unknown,
    sleep_or_wake,
    widening,
)
from shifter.wire.headers import deadline_of

_SCAN_BATCH = 500


class MemoryLaneLog:
    """`shifter.ports.LaneLog` in memory; every answer is definite and at once."""

    def __init__(self, log: MemoryLog, *, max_record_bytes: int = 1_000_000) -> None:
        self._log, self._limit_bytes = log, max_record_bytes
        self._is_closed = False

    async def append(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Write records; one answer for each, in order."""
        return self.append_sync(records, timeout_s=timeout_s)

    def append_sync(
        self,
        records: Sequence[Record],
        *,
        timeout_s: float,  # noqa: ARG002  # the port's; memory needs no time
    ) -> list[AppendAnswer]:
        """Write records; one answer for each, in order."""
        if self._is_closed:
            return [Refused(Reason.CLOSED, "the log is closed")] * len(records)
        return self._log.append(records, self._limit_bytes)

    def warm_up(self) -> None:
        """Do nothing: there is no connection to open."""

    def close(self, *, timeout_s: float) -> int:  # noqa: ARG002  # the port's
        """Refuse further appends; nothing is ever without an answer."""
        self._is_closed = True
        return 0


class MemoryLaneFeed:
    """`shifter.ports.LaneFeed` in memory: one member of a group.

    Args:
        log: The shared log.
        topics: Lanes to drain; all must exist.
        group: Feeds of one group share the lanes, like the workers of one fleet.
    """

    def __init__(
        self, log: MemoryLog, topics: Sequence[str], *, group: str = "workers"
    ) -> None:
        self._log, self._topics, self._group = log, tuple(topics), group
        self._member: int | None = None
        self._turn = 0
        self._rested: AbstractSet[str] = frozenset()
        self._losses: list[LostRange] = []

    async def open(self) -> None:
        """Join the group; opening twice is harmless.

        Raises:
            StoreRefusedError: A topic does not exist.
        """
        missing = [t for t in self._topics if t not in self._log.specs()]
        if missing:
            raise StoreRefusedError("memory", "open", f"no topic {missing[0]!r}")
        if self._member is None:
            self._member = self._log.join(self._group, self._topics)

    async def fetch(self, max_records: int, *, wait_s: float) -> list[Delivery]:
        """At most ``max_records`` deliveries; empty when none came within the wait."""
        clock, changed = self._log.clock, asyncio.Event()
        until = clock.monotonic() + wait_s
        with self._log.watching(changed):
            while True:
                changed.clear()
                taken = self._take(max_records)
                left_s = until - clock.monotonic()
                if taken or left_s <= 0:
                    return taken
                await self._wait(changed, left_s)

    def _take(self, max_records: int) -> list[Delivery]:
        if self._member is None:
            return []
        self._turn += 1
        with self._log.group(self._group) as group:
            taken, lost = group.take(
                self._member, max_records, turn=self._turn, rested=self._rested
            )
        self._losses += lost
        return taken

    async def _wait(self, changed: asyncio.Event, left_s: float) -> None:
        clock, due_ms = self._log.clock, self._log.next_due_ms()
        if due_ms is not None:
            left_s = min(left_s, max(0.001, (due_ms - clock.epoch_ms()) / 1_000))
        await sleep_or_wake(clock, left_s, changed)

    def rest(self, topics: AbstractSet[str]) -> None:
        """Hand out nothing of these lanes from now on, and of all others again."""
        self._rested = topics
        self._log.wake()

    def begin(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those deliveries this member still owns and has not settled."""
        if self._member is None:
            return []
        with self._log.group(self._group) as group:
            return group.owned(self._member, deliveries)

    async def hand_over(
        self, pairs: Sequence[tuple[Delivery, Record]], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Append each delivery's successor; the delivery itself is not settled."""
        records = [record for _, record in pairs]
        return MemoryLaneLog(self._log).append_sync(records, timeout_s=timeout_s)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """End deliveries for the whole group; what was taken away is left alone."""
        if self._member is None:
            return
        with self._log.group(self._group) as group:
            group.settle(self._member, deliveries)

    def losses(self) -> list[LostRange]:
        """Ranges found lost since the last call."""
        found, self._losses = self._losses, []
        return found

    def counts(self) -> FeedCounts:
        """Nothing: what is settled is so at once, and no group is rebalanced."""
        return FeedCounts()

    def competes(self) -> bool:
        """No: the group gives each partition to one member."""
        return False

    def partitions(self) -> dict[str, list[int]]:
        """None: only one process reads this memory."""
        return {}

    def idle(self) -> bool:
        """Whether every owned record was settled and none waits in its lane."""
        if self._member is None:
            return True
        with self._log.group(self._group) as group:
            return group.is_idle(self._member)

    def crash(self) -> None:
        """Vanish as a killed process does: what is unsettled comes back elsewhere."""
        if self._member is not None:
            self._log.leave(self._group, self._member)
            self._member = None

    async def close(self, *, timeout_s: float) -> None:  # noqa: ARG002  # the port's
        """Leave the group; closing twice is harmless."""
        self.crash()


class MemoryLogAdmin:
    """`shifter.ports.LogAdmin` in memory.

    Args:
        log: The shared log.
        group: The group whose progress `depths` measures.
    """

    def __init__(self, log: MemoryLog, *, group: str = "workers") -> None:
        self._log, self._group = log, group

    async def depths(self, topics: Sequence[str]) -> list[LaneDepth]:
        """What waits on each lane, in the order asked; 0 for a topic not there."""
        return [self._depth(topic) for topic in topics]

    def _depth(self, topic: str) -> LaneDepth:
        entries = self._log.entries(topic)
        with self._log.group(self._group) as group:
            waiting = group.unsettled(entries)
        deadlines = (deadline_of(entry.headers) for entry in waiting)
        return LaneDepth(
            topic,
            len(waiting),
            self._log.delayed(topic),
            oldest_ms=min((entry.appended_ms for entry in waiting), default=None),
            deadline_ms=min((at for at in deadlines if at is not None), default=None),
        )

    async def count(self, topic: str) -> int:
        """Records kept in a topic; 0 for a topic not there."""
        return len(self._log.entries(topic))

    async def diff(self, specs: Sequence[TopicSpec]) -> list[TopicChange]:
        """What `apply` would change."""
        have = self._log.specs()
        changes: list[TopicChange] = []
        for spec in specs:
            made = f"{spec.partitions} partitions"
            changes += widening(have.get(spec.name), spec, created=made)
        return changes

    async def apply(self, specs: Sequence[TopicSpec]) -> list[TopicChange]:
        """Create and widen topics; returns what was done."""
        changes = await self.diff(specs)
        for spec in specs:
            self._log.create(spec)
        return changes

    async def topics(self) -> list[str]:
        """Names of all topics, ascending."""
        return sorted(self._log.specs())

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Ids by topic: their names, since no topic here is ever deleted."""
        have = self._log.specs()
        return {topic: topic for topic in topics if topic in have}

    async def spans(
        self, topic: str, *, since_ms: int | None = None, until_ms: int | None = None
    ) -> dict[int, Span]:
        """The positions a topic holds now; empty for a topic not there."""
        found: dict[int, Span] = {}
        for part, kept in self._log.kept(topic).items():
            entries = [e for e in self._log.entries(topic) if e.partition == part]
            first = _since(entries, since_ms, kept.first, kept.end)
            end = _since(entries, until_ms, kept.end, kept.end)
            found[part] = Span(first, max(first, end))
        return found

    async def kept(self, topics: Sequence[str]) -> dict[str, dict[int, Span]]:
        """The positions topics hold now; absent topics are left out."""
        have = self._log.specs()
        return {topic: await self.spans(topic) for topic in topics if topic in have}

    async def scan(
        self, topic: str, spans: Spans | None = None
    ) -> AsyncIterator[list[Delivery]]:
        """Records of a topic, in batches; joins no group."""
        entries = self._log.entries(topic)
        if spans is not None:
            entries = [entry for entry in entries if _is_in(entry, spans)]
        for start in range(0, len(entries), _SCAN_BATCH):
            yield entries[start : start + _SCAN_BATCH]

    async def peek(self, topic: str, most: int) -> LanePeek:
        """The first records of a lane; nothing is taken."""
        entries = self._log.entries(topic)
        with self._log.group(self._group) as group:
            waiting = group.unsettled(entries)
        delayed = [
            (due_ms, Delivery(topic, one.key, one.value, one.headers, 0, 0, number))
            for number, (due_ms, one) in enumerate(self._log.waiting_for({topic}))
        ]
        waiting.sort(key=lambda entry: entry.appended_ms)
        return LanePeek(waiting[:most], delayed[:most], is_complete=True)

    async def delay_tiers(self, topics: Sequence[str]) -> list[DelayTier] | None:
        """The delayed records of lanes, all in one place."""
        found = self._log.waiting_for(set(topics))
        return [DelayTier(None, len(found), found[0][0])] if found else []

    async def ping(self) -> str:
        """One line that describes the log."""
        return f"memory log, {len(self._log.specs())} topics"

    async def close(self) -> None:
        """Do nothing: memory holds no connection."""


def _since(entries: Sequence[Delivery], at_ms: int | None, none: int, end: int) -> int:
    if at_ms is None:
        return none
    return next((e.offset for e in entries if e.appended_ms >= at_ms), end)


def _is_in(entry: Delivery, spans: Spans) -> bool:
    first, end = spans.get(entry.partition, Span(0, 0))
    return first <= entry.offset < end


class MemoryAtomicLog:
    """`shifter.ports.AtomicLog` in memory.

    Args:
        log: The shared log.
        name: Of the sender.
        max_record_bytes: Largest record.
    """

    def __init__(
        self, log: MemoryLog, name: str, *, max_record_bytes: int = 1_000_000
    ) -> None:
        self._log, self._name, self._limit_bytes = log, name, max_record_bytes
        self._epoch = 0

    async def open(self) -> None:
        """Take the name over."""
        self._epoch = self._log.take_over(self._name)

    async def append(
        self,
        records: Sequence[Record],
        *,
        timeout_s: float,  # noqa: ARG002  # the port's; memory needs no time
    ) -> dict[int, Refused]:
        """Write all of these, or none of them.

        Raises:
            StoreUnavailableError: Another sender has the name, or a test plays an
                outage.
        """
        if not self._log.has_name(self._name, self._epoch):
            detail = f"another process sends as {self._name!r} now"
            raise StoreUnavailableError("memory", "append", detail)
        refused: dict[int, Refused] = {}
        for place, found in self._log.append_all(records, self._limit_bytes).items():
            if isinstance(found, Unknown):
                raise StoreUnavailableError("memory", "append", found.detail)
            refused[place] = found
        return refused

    async def close(self) -> None:
        """Do nothing: memory holds no connection."""
