"""Where to begin reading a partition: what the group committed against what is kept.

Commits can be missing, older than what retention has left, or of a topic that was
deleted and made again. None of that is left to the client's own reset, which would skip
records without an event.

A group has no commit on a partition that is new. It has none on a whole topic if it did
not read the topic for longer than the broker keeps offsets
(``offsets.retention.minutes``, 7 days). The two differ in whether the group has a
commit on any other partition of the topic. What to do in the second case is a setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from shifter.adapters.kafka.reader import Partition
from shifter.policy.delivery.ack_metadata import Range, binding, decode, topic_id_of

EARLIEST: Final = "earliest"
LATEST: Final = "latest"
REFUSE: Final = "refuse"

_ANSWER_S: Final = 5.0


class StartPlan(NamedTuple):
    """What the starts of one group depend on.

    Attributes:
        group: Its name.
        ids: Answers the ids of topics as they are now; may raise `KafkaException`.
        without_commits: What to do where the group has no commit on a topic that
            keeps records: ``earliest``, ``latest`` or ``refuse``.
        partitions: Of each topic, as the member found them before it subscribed.
    """

    group: str
    ids: Callable[[Iterable[str]], Mapping[str, str]]
    without_commits: str = EARLIEST
    partitions: Mapping[str, Sequence[int]] = MappingProxyType({})


class Start(NamedTuple):
    """Where to begin.

    Attributes:
        position: The first offset to read.
        done: What ended above it already.
        lost: What this group will not read: the log deleted it, or it is skipped.
        is_known: Whether the group's commit could be used as it is.
        is_foreign: Whether the commit is of a topic that was since made again.
        topic_id: Of the topic whose offsets these are; ``None`` if not known.
        past: What the log keeps, where the group has no commit on the topic.
    """

    position: int
    done: Sequence[Range] = ()
    lost: Sequence[Range] = ()
    is_known: bool = False
    is_foreign: bool = False
    topic_id: str | None = None
    past: Range | None = None


class Commit(NamedTuple):
    """What the group committed for a partition.

    Attributes:
        offset: Below 0 when there is no commit.
        metadata: The text beside it; untrusted.
        topic_id: Of the topic that it counts, as far as the text names it.
    """

    offset: int
    metadata: str | None = None

    @property
    def topic_id(self) -> str | None:
        """The id of the topic that the commit counts; ``None`` if it has none."""
        return topic_id_of(self.metadata)


def is_foreign(commit: Commit, high: int, topic_id: str | None) -> bool:
    """Whether a commit is of another topic of this name. Pure.

    Args:
        commit: As found.
        high: One past the last offset the log holds.
        topic_id: Of the topic that is there now; ``None`` if not known.

    >>> is_foreign(Commit(5, "#a"), 9, "b"), is_foreign(Commit(5, "#a"), 9, "a")
    (True, False)
    >>> is_foreign(Commit(5), 9, "b"), is_foreign(Commit(5), 4, "b")
    (False, True)
    """
    written = commit.topic_id
    is_other = written is not None and topic_id is not None and written != topic_id
    return is_other or commit.offset > high


def where_to_start(
    commit: Commit, kept: Range, bound: str, topic_id: str | None = None
) -> Start:
    """Decide where to begin. Pure.

    Args:
        commit: The group's.
        kept: Offsets the log holds: from the low to the high watermark.
        bound: What the commit's text must be bound to.
        topic_id: Of the topic that is there now; ``None`` if not known.
    """
    low, high = kept
    unread = [(0, low)] if low > 0 else ()
    if commit.offset < 0:
        return Start(low, lost=unread, topic_id=topic_id)
    if is_foreign(commit, high, topic_id):
        return Start(low, lost=unread, is_foreign=True, topic_id=topic_id)
    position = commit.offset
    done = decode(commit.metadata, binding=bound, position=position, high=high)
    if position >= low:
        is_known = topic_id is None or commit.topic_id is not None
        return Start(position, done, is_known=is_known, topic_id=topic_id)
    still_kept = [(max(first, low), end) for first, end in done if end > low]
    lost = without((position, low), done)
    return Start(low, still_kept, lost, topic_id=topic_id)


def with_a_past(start: Start, kept: Range, choice: str) -> Start:
    """A start on a topic on which the group has no commit at all. Pure.

    Args:
        start: What `where_to_start` decided.
        kept: Offsets the log holds: from the low to the high watermark.
        choice: Setting ``without_commits``: ``earliest`` reads what is kept, ``latest``
            skips it.

    >>> with_a_past(Start(3), (3, 3), "earliest").past
    >>> with_a_past(Start(3), (3, 9), "latest")[:3]
    (9, (), [(3, 9)])
    """
    low, high = kept
    if low >= high:
        return start
    if choice == LATEST:
        lost = [*start.lost, kept]
        start = start._replace(position=high, lost=lost)
    return start._replace(past=kept)


def without(span: Range, done: Iterable[Range]) -> list[Range]:
    """What of ``span`` is in none of the ranges, which ascend. Pure.

    >>> without((10, 20), [(8, 11), (14, 16), (19, 30)])
    [(11, 14), (16, 19)]
    """
    first, end = span
    left: list[Range] = []
    for done_first, done_end in done:
        if first < min(done_first, end):
            left.append((first, min(done_first, end)))
        first = max(first, done_end)
    if first < end:
        left.append((first, end))
    return left


def find_starts(
    consumer: Consumer, partitions: Sequence[TopicPartition], plan: StartPlan
) -> dict[Partition, Start]:
    """Ask the broker where to begin each of these; one answer for all, or none.

    May be called in a callback of the client, which must not ask for metadata: the
    client would forget the poll that the callback belongs to, and end the process at
    the next callback of that poll (``CallState_get: Assertion `cs != NULL' failed``,
    confluent-kafka 2.16).

    Args:
        consumer: A consumer of the group.
        partitions: Partitions that the group was assigned.
        plan: Group, topic ids, and what holds without a commit.

    Raises:
        KafkaException: The broker did not answer; the same call may be tried again.
    """
    topics = {at.topic for at in partitions}
    # Before all else: if the topic is made again after this, its id will be seen to
    # differ. Asked last, offsets of the old one would pass for those of the new one.
    ids = plan.ids(topics)
    commits = _commits(consumer, partitions)
    missing = {place[0] for place, commit in commits.items() if commit.offset < 0}
    unread = missing - _committed_topics(consumer, missing, plan.partitions)
    starts: dict[Partition, Start] = {}
    for place, commit in commits.items():
        kept, bound = find_kept(consumer, place), binding(plan.group, *place)
        start = where_to_start(commit, kept, bound, ids.get(place[0]))
        if place[0] in unread:
            start = with_a_past(start, kept, plan.without_commits)
        starts[place] = start
    return starts


def _commits(
    consumer: Consumer, partitions: Sequence[TopicPartition]
) -> dict[Partition, Commit]:
    found: dict[Partition, Commit] = {}
    for at in consumer.committed(list(partitions), timeout=_ANSWER_S):
        if at.error is not None:
            raise KafkaException(at.error)
        found[at.topic, at.partition] = Commit(at.offset, at.metadata)
    return found


def _committed_topics(
    consumer: Consumer, topics: set[str], partitions: Mapping[str, Sequence[int]]
) -> set[str]:
    """Those of the topics on any partition of which the group has a commit."""
    places = [
        TopicPartition(topic, index)
        for topic in topics
        for index in partitions.get(topic, ())
    ]
    commits = _commits(consumer, places) if places else {}
    return {place[0] for place, commit in commits.items() if commit.offset >= 0}


def find_kept(consumer: Consumer, place: Partition) -> Range:
    """Offsets the log holds of a partition: from the low to the high watermark.

    Raises:
        KafkaException: The broker did not answer.
    """
    found = consumer.get_watermark_offsets(
        TopicPartition(*place), timeout=_ANSWER_S, cached=False
    )
    if found is None:
        raise KafkaException(f"no watermarks of {place} within {_ANSWER_S:.0f} s")
    return found
