"""Reading topics without joining a group: for scans, samples and counts.

What is read is bounded by the ends the topics had when the reading began, so that it
ends under any rate of appends. Everything here blocks; callers bring a thread.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from operator import methodcaller
from typing import Final

from confluent_kafka import (
    Consumer,
    KafkaException,
    Message,
    TopicPartition,
)

from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.errors import LastError, make_client, store_error
from shifter.errors import StoreUnavailableError
from shifter.ports import Clock, Delivery, Span
from shifter.wire.headers import Headers

Partition = tuple[str, int]
"""A topic and the number of one of its partitions."""

_BATCH: Final = 500
# Records may have a megabyte each.
_BATCH_BYTES: Final = 8_000_000
# The two limits above are checked after each step.
_STEP: Final = 25
# Longer than a failover with the brokers' default session: 11 to 13 s, as measured.
_SILENCE_S: Final = 15.0
_WAIT_S: Final = 0.2
_METADATA_S: Final = 10.0
# A reader must end on any topic, a compacted one too: a partition's last offsets may
# hold no record, and only this event reports that.
_END: Final = "_PARTITION_EOF"

UNREADABLE: Final = "\ufffd"
"""The one name of a record's headers that cannot be read.

No reader of envelopes accepts it, so that the record becomes a dead letter that shows
why. Its own headers stay in the record it was made of.
"""

# Not `message.headers()`: once a call is hot the interpreter no longer looks whether an
# exception was left behind, and whatever is called next fails of it.
_read: Final = methodcaller("headers")


class TopicReader:
    """A consumer that reads given spans of partitions.

    Args:
        config: The cluster.
        group: A name for the broker's log; the group is never joined.
        clock: For the time limit on silence.
    """

    def __init__(self, config: KafkaConfig, group: str, clock: Clock) -> None:
        self._last, self._clock = LastError(), clock
        self._known: set[str] = set()
        self._consumer = make_client(
            Consumer,
            {
                **config.consumer_config(group),
                # The ends are known beforehand; what retention takes meanwhile is gone.
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                # How many records of a partition are fetched ahead.
                "queued.min.messages": 10_000,
                # A change of partitions waits for the fetch that is under way.
                "fetch.wait.max.ms": 10,
            },
            self._last,
        )

    def read(self, spans: Mapping[Partition, Span]) -> Generator[list[Message]]:
        """Records within the spans, in batches, each partition in order.

        An empty batch is yielded while nothing comes, so that a caller with a time
        limit of its own can stop.

        Raises:
            StoreUnavailableError: Nothing came for 15 s.
            StoreRefusedError: A topic may not be read.
        """
        open_spans = {at: span for at, span in spans.items() if span.first < span.end}
        self._learn({topic for topic, _ in open_spans})
        self._consumer.assign(
            [TopicPartition(*at, span.first) for at, span in open_spans.items()]
        )
        last_read_at = self._clock.monotonic()
        while open_spans:
            found = list(self._batch(open_spans))
            if found:
                last_read_at = self._clock.monotonic()
            elif self._clock.monotonic() > last_read_at + _SILENCE_S:
                detail = self._last.beside(f"nothing came for {_SILENCE_S:.0f} s")
                raise StoreUnavailableError("kafka", "read", detail)
            yield found
        self._consumer.unassign()

    def _learn(self, topics: set[str]) -> None:
        # The client looks for the leaders of a new topic by a timer of one second; a
        # request for metadata finds them at once.
        if topics <= self._known:
            return
        try:
            self._consumer.list_topics(timeout=_METADATA_S)
        except KafkaException as exc:
            raise store_error(exc, "read", self._last) from exc
        self._known |= topics

    def _batch(self, open_spans: dict[Partition, Span]) -> Generator[Message]:
        for message in self._messages():
            at = (message.topic() or "", message.partition() or 0)
            if at not in open_spans:
                continue
            error = message.error()
            if error is not None:
                if error.name() == _END:
                    del open_spans[at]
                elif not error.retriable():
                    raise store_error(error, "read", self._last)
                continue
            offset, end = message.offset() or 0, open_spans[at].end
            if offset >= end - 1:
                del open_spans[at]
            if offset < end:
                yield message

    def _messages(self) -> Generator[Message]:
        """What the client has, up to a number of records and of bytes."""
        # The timeout of `consume` is its latency: wait for one, then take the rest.
        first = self._consumer.poll(_WAIT_S)
        found, count, size = [] if first is None else [first], 0, 0
        while found:
            yield from found
            count, size = count + len(found), size + sum(map(len, found))
            if count >= _BATCH or size >= _BATCH_BYTES:
                return
            found = self._consumer.consume(_STEP, 0)

    def close(self) -> None:
        """Free the consumer."""
        self._consumer.close()


def headers_of(message: Message) -> Headers:
    """A record's headers: names and values as written; none is an empty list.

    Kafka lets any bytes be a header's name. The client makes text of a name, and where
    the bytes are no UTF-8 it returns headers *and* leaves an exception behind (seen
    with 2.16). One such record would end every worker that reads it, one after the
    other. Never raises.
    """
    try:
        return _read(message) or []
    except (SystemError, UnicodeDecodeError):
        return [(UNREADABLE, None)]


def delivery(message: Message) -> Delivery:
    """A record as a reader of the log sees it."""
    _, appended_ms = message.timestamp()
    return Delivery(
        topic=message.topic() or "",
        key=message.key(),
        value=message.value(),
        headers=headers_of(message),
        appended_ms=appended_ms,
        partition=message.partition() or 0,
        offset=message.offset() or 0,
    )
