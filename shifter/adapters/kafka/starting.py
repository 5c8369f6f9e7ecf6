"""Where to begin reading a partition: what the group committed against what is kept.

Commits can be missing, older than what retention has left, or of a topic that was
deleted and made again. None of that is left to the client's own reset, which would skip
records without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from shifter.policy.ackmap import Range, binding, decode

Place = tuple[str, int]
"""A topic and the number of one of its partitions."""

_ANSWER_S: Final = 5.0


class Start(NamedTuple):
    """Where to begin.

    Attributes:
        position: The first offset to read.
        done: What ended above it already.
        lost: What nobody read before the log deleted it.
        is_known: Whether the group's commit could be used as it is.
        is_foreign: Whether the commit is of a topic that was since made again.
    """

    position: int
    done: Sequence[Range] = ()
    lost: Sequence[Range] = ()
    is_known: bool = False
    is_foreign: bool = False


def where_to_start(
    committed: int, metadata: str | None, kept: Range, bound: str
) -> Start:
    """Decide where to begin. Pure.

    Args:
        committed: The group's commit; below 0 when there is none.
        metadata: The text beside it; untrusted.
        kept: Offsets the log holds: from the low to the high watermark.
        bound: What the text must be bound to.
    """
    low, high = kept
    if committed < 0:
        return Start(low)
    if committed > high:
        return Start(low, is_foreign=True)
    done = decode(metadata, binding=bound, position=committed, high=high)
    if committed >= low:
        return Start(committed, done, is_known=True)
    still_kept = [(max(first, low), end) for first, end in done if end > low]
    return Start(low, still_kept, without((committed, low), done))


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
    consumer: Consumer, partitions: Sequence[TopicPartition], group: str
) -> dict[Place, Start]:
    """Ask the broker where to begin each of these; one answer for all, or none.

    Raises:
        KafkaException: It did not say; the same call may be tried again.
    """
    starts: dict[Place, Start] = {}
    for at in consumer.committed(list(partitions), timeout=_ANSWER_S):
        if at.error is not None:
            raise KafkaException(at.error)
        place = (at.topic, at.partition)
        bound = binding(group, *place)
        starts[place] = where_to_start(
            at.offset, at.metadata, find_kept(consumer, place), bound
        )
    return starts


def find_kept(consumer: Consumer, place: Place) -> Range:
    """Offsets the log holds of a partition: from the low to the high watermark.

    Raises:
        KafkaException: The broker did not say.
    """
    found = consumer.get_watermark_offsets(
        TopicPartition(*place), timeout=_ANSWER_S, cached=False
    )
    if found is None:
        raise KafkaException(f"no watermarks of {place} within {_ANSWER_S:.0f} s")
    return found
