"""The log: records, lanes, delay and settlement, on Kafka, SQLite or in memory.

These protocols do not hide partitions and offsets: `Delivery`, `LostRange` and `Span`
have them. Workers do not compute with them: they return a delivery to the feed that it
came from, and the feed settles it. Dead letters are read by offset: `LogAdmin.spans`
and `LogAdmin.scan` work with ranges of offsets, and the journal of runs records the
offsets that a run has handled. A log without partitions numbers its only one 0.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
    Set as AbstractSet,
)
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from shifter.model.lane import Lane
from shifter.ports.record import AppendAnswer, Record, Refused
from shifter.ports.topic import DelayTier, LaneDepth, TopicChange, TopicSpec
from shifter.wire.headers import Headers


class LaneLog(Protocol):
    """The accepting side of a log. Safe to share between threads and tasks."""

    async def append(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Write records; one definite answer for each, in order, within the timeout.

        An answer that is not known by then is `Unknown`; nothing is raised for a
        record. Cancelling the call leaves its records in an unknown state.
        """

    def append_sync(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """`append` for callers without an event loop; blocks up to the timeout."""

    def warm_up(self) -> None:
        """Connect ahead of the first append; returns at once, never raises."""

    def close(self, *, timeout_s: float) -> int:
        """Stop; returns how many records had no answer within the timeout."""


class AtomicLog(Protocol):
    """Appends that are whole or not at all, by one sender of a name at a time.

    Not safe to share between tasks.
    """

    async def open(self) -> None:
        """Take the name over: the sender that had it before can append nothing more.

        Appends that it had completed are visible to readers from now on; the others
        are discarded.

        Raises:
            StoreRefusedError: The log refused.
            StoreUnavailableError: The log did not answer.
        """

    async def append(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> dict[int, Refused]:
        """Write all of these, or none of them.

        Returns:
            The records that the log refuses, by index; then none is written. If it is
            empty, all are written.

        Raises:
            StoreUnavailableError: The outcome is unknown, or another sender has the
                name. The next sender that opens the name can read the outcome.
        """

    async def close(self) -> None:
        """Abandon what is not complete, and free everything, the name included."""


class Delivery(msgspec.Struct, gc=False):
    """One record that was delivered to this process, to be settled.

    Attributes:
        topic: Where it was read.
        key: Ordering key.
        value: The payload; ``None`` for a record without a value.
        headers: As written; untrusted.
        appended_ms: When the log took it (its own clock where it has one).
        partition: Partition of the topic; 0 where a log has no partitions.
        offset: Its offset there.
        epoch: The assignment it belongs to; used by the adapter only.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    appended_ms: int
    partition: int
    offset: int
    epoch: int = 0


class LanePeek(NamedTuple):
    """The first records of a lane, read without taking anything from it.

    Attributes:
        waiting: Records that are not settled, also of jobs that run; oldest first.
        delayed: Records that wait for their due time, and that time in epoch
            milliseconds; soonest first.
        is_complete: Whether these are the first ones: ``False`` where reading them
            took too long or too much memory.
    """

    waiting: list[Delivery]
    delayed: list[tuple[int, Delivery]]
    is_complete: bool


class LostRange(NamedTuple):
    """Records that a log deleted before they were read.

    Attributes:
        topic: Its name.
        partition: The partition.
        first: First lost offset, included.
        end: One past the last lost offset.
    """

    topic: str
    partition: int
    first: int
    end: int


class FeedCounts(NamedTuple):
    """What a feed counted since it was opened; all 0 where a log has no such thing.

    Attributes:
        rebalances: Changes of what this member of its group owns.
        commits: Commits that the log took.
        commits_failed: Commits that it did not take.
        frontier_gap: Records that ended and that no committed position covers, now.
    """

    rebalances: int = 0
    commits: int = 0
    commits_failed: int = 0
    frontier_gap: int = 0


class LaneFeed(Protocol):
    """The draining side of a log: deliveries of some lanes to this process.

    One task at a time calls `fetch`; the other methods may be called from any task of
    the same event loop.
    """

    async def open(self) -> None:
        """Join; raises `StoreRefusedError` or `StoreUnavailableError` if it cannot."""

    async def fetch(self, max_records: int, *, wait_s: float) -> list[Delivery]:
        """At most ``max_records`` deliveries; empty when none came within the wait.

        While the caller does not fetch, no record is delivered, and the feed stays a
        live member of its group.
        """

    def rest(self, topics: AbstractSet[str]) -> None:
        """Deliver no records of these lanes from now on, and of all others again.

        Records that were already fetched may still be delivered. Topics that this feed
        does not serve are ignored.
        """

    def begin(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Note that deliveries start now; returns those that this process still owns.

        The others were assigned to another process (a rebalance): drop them, never
        settle them. A delivery may begin again, after a wait in place.
        """

    async def hand_over(
        self, pairs: Sequence[tuple[Delivery, Record]], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Append the next record of each delivery; the delivery is not settled yet.

        Where the log has transactions, one transaction settles the delivery and appends
        its next record, and the later `settle` does nothing. A dead letter is the
        exception: its source must stay until the claim store has recorded the end.
        """

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """End deliveries: they are never delivered again, also after a restart.

        The log may persist this a commit interval later. After a crash before that they
        are delivered again, which the claim store makes harmless.
        """

    def losses(self) -> list[LostRange]:
        """Ranges found lost since the last call."""

    def counts(self) -> FeedCounts:
        """What this feed has counted so far."""

    def competes(self) -> bool:
        """Whether other processes take the same records: each gets what it fetches.

        ``False`` where records belong to a process before it fetches them.
        """

    def partitions(self) -> dict[str, list[int]]:
        """The partitions whose records belong to this process now, by topic.

        Empty where an appended record cannot be given to a process of one's choice.
        """

    def idle(self) -> bool:
        """Whether every owned record was settled and none is known to wait."""

    async def close(self, *, timeout_s: float) -> None:
        """Persist what was settled, leave the group, free everything."""


Rushed: TypeAlias = Callable[[str, Lane], bool]
"""Whether jobs of a type on a lane may start now, whatever window they wait for."""


class DelayMover(Protocol):
    """Moves delayed records to their lanes, where the log does not do so by itself."""

    async def run(self) -> None:
        """Move until cancelled; on cancel nothing is lost."""

    def rush(self, wanted: Rushed | None) -> None:
        """From now on also move records that wait for a window only, where ``wanted``.

        A record waits for its window if the log delays it for longer than its envelope
        asks for. ``None`` ends this.
        """


class Span(NamedTuple):
    """A range of offsets of one partition.

    Attributes:
        first: The first offset, included.
        end: One past the last offset.
    """

    first: int
    end: int


Spans: TypeAlias = Mapping[int, Span]
"""What to read of a topic, by partition."""


class LogAdmin(Protocol):
    """Administration of a log: topics, depths, reading. Never deletes anything."""

    async def depths(self, topics: Sequence[str]) -> list[LaneDepth]:
        """What waits on each lane, in the order asked."""

    async def count(self, topic: str) -> int:
        """Records kept in a topic (a dead-letter topic's size)."""

    async def diff(self, specs: Sequence[TopicSpec]) -> list[TopicChange]:
        """What `apply` would change."""

    async def apply(self, specs: Sequence[TopicSpec]) -> list[TopicChange]:
        """Create and widen topics until they fit; returns what was done."""

    async def topics(self) -> list[str]:
        """Names of all visible topics, ascending."""

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Ids that distinguish each topic from other topics that had its name.

        An id never changes while the topic exists. Topics that do not exist are left
        out, and so are topics whose id the log does not report.
        """

    async def spans(
        self, topic: str, *, since_ms: int | None = None, until_ms: int | None = None
    ) -> dict[int, Span]:
        """The offsets that a topic holds now, by partition; empty if it does not exist.

        Args:
            topic: Its name.
            since_ms: From the first record appended at or after this instant on.
            until_ms: Up to the first record appended at or after this instant,
                excluded. Both are found by the log's own index, not by reading.
        """

    async def kept(self, topics: Sequence[str]) -> dict[str, dict[int, Span]]:
        """The offsets that topics hold now, as `spans` gives them, in one question.

        Topics that do not exist are left out.
        """

    def scan(
        self, topic: str, spans: Spans | None = None
    ) -> AsyncIterator[list[Delivery]]:
        """Records of a topic, in batches, each partition in order; joins no group.

        Args:
            topic: Its name.
            spans: What to read; ``None`` for everything that the topic holds now.
        """

    async def peek(self, topic: str, most: int) -> LanePeek:
        """The first records of a lane; nothing is taken, claimed or committed.

        Args:
            topic: The lane's name; one that does not exist holds nothing.
            most: The most waiting, and the most delayed records, >= 1.
        """

    async def delay_tiers(self, topics: Sequence[str]) -> list[DelayTier] | None:
        """The delayed records of lanes by tier, without tiers that hold none.

        Where the log has to read them, they are those that the last `depths` saw.

        Returns:
            The shortest tier first; ``None`` where reading them took too long.
        """

    async def ping(self) -> str:
        """One line that describes the log.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last message.
        """

    async def close(self) -> None:
        """Free everything."""
