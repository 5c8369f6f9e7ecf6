"""What waits on lanes: offsets of the log against those of the group that drains it.

A group commits the offset below which everything is settled, and what it settled ahead
of that in the commit's metadata; the rest is waiting. Delayed records stand in the
delay topics of the whole namespace, so their lanes are read from their headers, for as
long as that takes little time. Everything here blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

from confluent_kafka import KafkaException, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # has no __all__
    OffsetSpec,
)

from shifter.adapters.kafka.commits import CommitReader
from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.delayed import DelayedRecords
from shifter.adapters.kafka.errors import (
    kafka_error,
    store_error,
)
from shifter.adapters.kafka.ladder import DelayTarget, waiting
from shifter.adapters.kafka.reader import Partition, TopicReader, headers_of
from shifter.adapters.kafka.start_offsets import Commit, is_foreign
from shifter.adapters.kafka.topic_ids import describe_ids
from shifter.adapters.kafka.topics import CALL_S, TopicKeeper
from shifter.model.lane import delay_topic, parse_lane
from shifter.policy.delivery.ack_metadata import Range, binding, decode
from shifter.policy.delivery.delay import TIERS_S
from shifter.ports import HEAD, DelayTier, LaneDepth, Span
from shifter.wire.headers import deadline_of

_Answer = TypeVar("_Answer")
# What a look at the depths may take for the oldest records, and for counting delayed
# ones; a count that takes longer is reported as unknown.
_SAMPLE_S: Final = 5.0
_COUNT_S: Final = 5.0
# A leader that moves in order does so within 0.1 s; after a kill it takes the brokers'
# session, 9 s by default.
_MOVING_S: Final = 10.0
_LOOK_AGAIN_S: Final = 0.05
_MOVING: Final = frozenset(
    {
        "COORDINATOR_LOAD_IN_PROGRESS",
        "COORDINATOR_NOT_AVAILABLE",
        "LEADER_NOT_AVAILABLE",
        "NOT_COORDINATOR",
        "NOT_LEADER_FOR_PARTITION",
        "UNKNOWN_TOPIC_OR_PART",
    }
)


class Committed(NamedTuple):
    """What a group committed for a partition.

    Attributes:
        offset: The next one to be settled; below 0 when there is no commit.
        ahead: What it settled above that: ranges, ascending, disjoint.
    """

    offset: int
    ahead: list[Range]


class Heads(NamedTuple):
    """What the first records of lanes show, by topic.

    Attributes:
        oldest_ms: When the oldest one was appended.
        deadline_ms: The earliest deadline, of the topics where one has a deadline.
    """

    oldest_ms: dict[str, int]
    deadline_ms: dict[str, int]

    def add(self, topic: str, message: Message) -> None:
        """Take a record into account that is not settled."""
        _, appended_ms = message.timestamp()
        self.oldest_ms[topic] = min(appended_ms, self.oldest_ms.get(topic, appended_ms))
        deadline_ms = deadline_of(headers_of(message))
        if deadline_ms is not None:
            known = self.deadline_ms.get(topic, deadline_ms)
            self.deadline_ms[topic] = min(deadline_ms, known)


LadderRecords: TypeAlias = Iterator[tuple[Message, DelayTarget] | tuple[None, None]]


class DepthGauge:
    """Measures lanes.

    Args:
        keeper: Its client is asked for topics and offsets.
        config: For its consumers: those that read what groups committed, and one that
            samples records.
        namespace: Owner of the delay topics that are counted.
        group: The workers' group; a lane's own is ``<group>.<priority>``.
    """

    def __init__(
        self, keeper: TopicKeeper, config: KafkaConfig, *, namespace: str, group: str
    ) -> None:
        self._keeper, self._config = keeper, config
        self._client, self._last, self._clock = keeper.client, keeper.last, keeper.clock
        self._commits = CommitReader(config, self._last, self._clock)
        self._reader: TopicReader | None = None
        self._namespace, self._group = namespace, group
        self._last_delayed: DelayedRecords | None = None
        self._is_measured = False

    def spans(self, topics: Iterable[str]) -> dict[Partition, Span]:
        """All that topics keep now: from the low to the high watermark.

        Topics that do not exist are left out.
        """
        known = self._keeper.metadata().topics
        partitions = [
            (topic, index)
            for topic in topics
            if topic in known
            for index in known[topic].partitions
        ]
        low = self._offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]  # vendor's
        high = self._offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]  # vendor's
        return {at: Span(low[at], high[at]) for at in partitions}

    def between(
        self, topic: str, since_ms: int | None, until_ms: int | None
    ) -> dict[int, Span]:
        """What a topic keeps now of what was appended between two instants.

        The broker's time index finds the first record at or after an instant, so that
        no record in between is left out, whatever order their producers' clocks give.

        Args:
            topic: The topic's name.
            since_ms: The first instant; ``None``: from the first record kept.
            until_ms: The first instant that is not meant; ``None``: to the end.

        Returns:
            The offsets of each partition; an empty span where nothing was appended.
        """
        kept = self.spans([topic])
        first = self._at(kept, since_ms)
        end = self._at(kept, until_ms)
        return {
            at[1]: Span(
                low := first.get(at, span.first), max(low, end.get(at, span.end))
            )
            for at, span in kept.items()
        }

    def _at(
        self, kept: Mapping[Partition, Span], instant_ms: int | None
    ) -> dict[Partition, int]:
        if instant_ms is None:
            return {}
        spec = OffsetSpec.for_timestamp(max(0, instant_ms))
        # Below 0: no record is that late.
        return {
            at: kept[at].end if offset < 0 else offset
            for at, offset in self._offsets(list(kept), spec).items()
        }

    def measure(self, topics: Sequence[str]) -> list[LaneDepth]:
        """The depth of each lane, in the order asked; 0 for a topic not there."""
        ladder = self._tiers()
        # One question for both: each has the metadata of all topics as its first step.
        all_kept = self.spans({*topics, *ladder})
        kept = {at: span for at, span in all_kept.items() if at[0] not in ladder}
        committed = self._committed(kept, self._group_of)
        first: dict[Partition, Span] = {}
        count: Counter[str] = Counter()
        for at, span in kept.items():
            position, open_count = unsettled(span, committed[at])
            if open_count:
                count[at[0]] += open_count
                first[at] = Span(position, min(position + HEAD, span.end))
        heads = self._heads(first, committed)
        delayed = self._note_delayed(
            self._delayed(
                {at: span for at, span in all_kept.items() if at[0] in ladder}
            )
        )
        partitions = Counter(topic for topic, _ in kept)
        return [
            LaneDepth(
                topic,
                count[topic],
                None if delayed is None else delayed.records[topic],
                heads.oldest_ms.get(topic),
                None if delayed is None else delayed.overdue[topic],
                heads.deadline_ms.get(topic),
                partitions[topic] or None,
            )
            for topic in topics
        ]

    def close(self) -> None:
        """Free the reader and the consumers."""
        self._commits.close()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _offsets(
        self, partitions: Sequence[Partition], spec: OffsetSpec
    ) -> dict[Partition, int]:
        if not partitions:
            return {}

        def ask() -> dict[Partition, int]:
            asked = self._client.list_offsets(
                {TopicPartition(*at): spec for at in partitions}, request_timeout=CALL_S
            )
            return {
                (at.topic, at.partition): future.result().offset
                for at, future in asked.items()
            }

        return self._patiently(ask, "list_offsets")

    def _patiently(self, ask: Callable[[], _Answer], op: str) -> _Answer:
        """Ask again while a leader or a coordinator is being found."""
        until = self._clock.monotonic() + _MOVING_S
        while True:
            try:
                return ask()
            except KafkaException as exc:
                error = kafka_error(exc)
                is_moving = error is not None and error.name() in _MOVING
                if not is_moving or self._clock.monotonic() > until:
                    raise store_error(exc, op, self._last) from exc
                # Waits, and calls `error_cb` meanwhile.
                self._client.poll(_LOOK_AGAIN_S)

    def _group_of(self, topic: str) -> str:
        lane = parse_lane(topic)
        if lane is None:
            return self._group
        return KafkaConfig.group(self._group, lane.priority.value.lower())

    def _committed(
        self, kept: Mapping[Partition, Span], group_of: Callable[[str], str]
    ) -> dict[Partition, Committed]:
        of_group: dict[str, list[TopicPartition]] = {}
        for at in kept:
            of_group.setdefault(group_of(at[0]), []).append(TopicPartition(*at))

        def ask() -> dict[Partition, Committed]:
            ids = describe_ids(self._client, {topic for topic, _ in kept})
            return {
                (at.topic, at.partition): _committed(group, at, kept, ids.get(at.topic))
                for group, found in self._commits.ask(of_group).items()
                for at in found
            }

        return self._patiently(ask, "committed")

    def _heads(
        self, spans: Mapping[Partition, Span], committed: Mapping[Partition, Committed]
    ) -> Heads:
        heads = Heads({}, {})
        until = self._clock.monotonic() + _SAMPLE_S
        for batch in self.read(spans):
            for message in batch:
                at = (message.topic() or "", message.partition() or 0)
                if not is_ahead(message, committed[at]):
                    heads.add(at[0], message)
            if self._clock.monotonic() > until:
                break
        return heads

    def _delayed(self, kept: Mapping[Partition, Span]) -> DelayedRecords | None:
        """The records on the delay ladder; ``None`` where reading them takes long."""
        found, now = DelayedRecords(self._namespace), self._clock.epoch_ms()
        for message, target in self._on_ladder(kept):
            if message is None or target is None:
                return None
            found.add(message.topic() or "", target, now)
        return found

    def ladder(self) -> LadderRecords:
        """The records on the delay ladder, and where each wants to go.

        A pair of ``None`` ends them where reading takes long.
        """
        return self._on_ladder(self.spans(self._tiers()))

    def _tiers(self) -> set[str]:
        return {delay_topic(self._namespace, tier_s) for tier_s in TIERS_S}

    def _on_ladder(self, kept: Mapping[Partition, Span]) -> LadderRecords:
        group = KafkaConfig.group(self._namespace, "delay")
        committed = self._committed(kept, lambda _: group)
        spans = {
            at: Span(unsettled(span, committed[at])[0], span.end)
            for at, span in kept.items()
        }
        until = self._clock.monotonic() + _COUNT_S
        for batch in self.read(spans):
            for message in batch:
                at = (message.topic() or "", message.partition() or 0)
                target, _ = waiting(headers_of(message))
                if target is not None and not is_ahead(message, committed[at]):
                    yield message, target
            if self._clock.monotonic() > until:
                yield None, None
                return

    def delay_tiers(self, topics: Sequence[str]) -> list[DelayTier] | None:
        """The delayed records of lanes by tier, as `measure` counted them last."""
        if not self._is_measured:
            self._note_delayed(self._delayed(self.spans(self._tiers())))
        found = self._last_delayed
        return None if found is None else found.tiers(topics)

    def _note_delayed(self, found: DelayedRecords | None) -> DelayedRecords | None:
        self._last_delayed, self._is_measured = found, True
        return found

    def progress(self, topic: str) -> dict[Partition, tuple[Span, Committed]]:
        """What each partition of a lane keeps, and what its group has committed."""
        kept = self.spans([topic])
        committed = self._committed(kept, self._group_of)
        return {at: (span, committed[at]) for at, span in kept.items()}

    def read(self, spans: Mapping[Partition, Span]) -> Iterable[list[Message]]:
        """Records within spans, in batches; see `TopicReader.read`."""
        if not any(span.first < span.end for span in spans.values()):
            return ()
        if self._reader is None:
            group = KafkaConfig.group(self._namespace, "admin")
            self._reader = TopicReader(self._config, group, self._clock)
        return self._reader.read(spans)


def _committed(
    group: str,
    found: TopicPartition,
    kept: Mapping[Partition, Span],
    topic_id: str | None,
) -> Committed:
    at = (found.topic, found.partition)
    commit = Commit(found.offset, found.metadata)
    if is_foreign(commit, kept[at].end, topic_id):
        return Committed(-1, [])
    ahead = decode(
        found.metadata,
        binding=binding(group, *at),
        position=found.offset,
        high=kept[at].end,
    )
    return Committed(found.offset, ahead)


def is_ahead(message: Message, committed: Committed) -> bool:
    """Whether a record is settled ahead of what its group has committed."""
    offset = message.offset() or 0
    return any(first <= offset < end for first, end in committed.ahead)


def unsettled(kept: Span, committed: Committed) -> tuple[int, int]:
    """The first offset that is not settled, and how many are not. Pure.

    A commit outside what the partition keeps is of a topic that was deleted and made
    again, and is not used.

    >>> unsettled(Span(10, 20), Committed(15, [(17, 19)]))
    (15, 3)
    >>> unsettled(Span(16, 20), Committed(12, [(14, 18)]))
    (18, 2)
    >>> [unsettled(Span(10, 20), Committed(offset, [])) for offset in (-1, 99)]
    [(10, 10), (10, 10)]
    """
    if not 0 <= committed.offset <= kept.end:
        return kept.first, kept.end - kept.first
    position = max(committed.offset, kept.first)
    waiting_count = kept.end - position
    for first, end in committed.ahead:
        waiting_count -= max(0, end - max(first, position))
        if first <= position < end:
            position = end
    return position, waiting_count
