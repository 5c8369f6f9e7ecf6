"""The accepting side of the log on Kafka.

Records are handed to librdkafka from the caller's own thread; one thread of the package
polls for delivery reports, and each report does one cheap step there. What is finished
goes to the inbox of its caller's event loop. A caller waits for as long as it likes
(``timeout_s``), which is shorter than the client's own ``message.timeout.ms``: after
the timeout the answer is *unknown*, since the record may still arrive. Nothing is
written a second time here; what a caller sends again after *unknown* is recognised by
its job id.

A report of success without an offset is answered `Unknown`: the broker took the batch
for a duplicate, and may be wrong. A partition without state of a producer accepts any
sequence number first. If the client's first batch is sent again (the leader has just
changed, or was just elected) after its second batch was accepted, the broker drops the
first as a duplicate (seen on 4.3, with 4 of 200 records, once in 200 fresh topics). A
caller that writes it again puts a job into the log twice at most, and the claim store
lets it take effect once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message

from shifter.adapters.inbox import Inbox, Pending
from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.errors import LastError, delivery_answer, kafka_error
from shifter.adapters.kafka.ladder import route
from shifter.adapters.kafka.producer import LiveProducer, ProducerKeeper
from shifter.errors import ConfigError
from shifter.model.reason import Reason
from shifter.ports import (
    ANY_PARTITION,
    APPENDED,
    AppendAnswer,
    Clock,
    Record,
    Refused,
    Unknown,
)

_TOO_LATE: Final = "no answer from the cluster in time"
_DOUBTED: Final = KafkaError(KafkaError.DUPLICATE_SEQUENCE_NUMBER)
# Batches of this size go by a producer of their own, which lingers until its requests
# are well filled: half the work for the client and the broker, but 5 ms later.
_BULK: Final = 256
_BULK_LINGER_MS: Final = 5
# A big batch lets the loop's other tasks in after this many records.
_CHUNK: Final = 500
# … and serves delivery reports after this many; divides the above.
_SERVE: Final = 100
# How long a batch waits before it looks again whether the client has room.
_ROOM_S: Final = 0.005
# librdkafka counts its framing of a record too; `max_record_bytes` does not.
FRAMING_BYTES: Final = 4_096
_FULL: Final = Refused(Reason.QUEUE_FULL, "the client's queue is full")


class PendingRecord:
    """One record that one task awaits.

    Args:
        inbox: Brings the outcome to the task's event loop.
        future: Takes the answer; the task awaits it.
        last: The client's last error, for an answer that is not known.
    """

    __slots__ = ("_error", "_future", "_inbox", "_last", "bucket")

    def __init__(
        self, inbox: Inbox, future: asyncio.Future[AppendAnswer], last: LastError
    ) -> None:
        self._inbox, self._future, self._last = inbox, future, last
        self._error: KafkaError | None = None
        self.bucket: set[Pending]

    def report(self, error: KafkaError | None, message: Message | None) -> None:
        """The delivery report; called on the poll thread."""
        if error is None:
            self._last.is_let_in = True
            if message is not None and message.offset() is None:
                error = _DOUBTED
        self._error = error
        self._inbox.done.append(self)

    def finish(self) -> None:
        """Set the caller's answer from the report."""
        self.bucket.discard(self)
        if not self._future.done():
            error = self._error
            answer = APPENDED if error is None else delivery_answer(error, self._last)
            self._future.set_result(answer)

    def give_up(self, detail: str | None) -> None:
        """Set the caller's answer to `Unknown`."""
        if not self._future.done():
            self._future.set_result(self._last.unanswered(detail or _TOO_LATE))


class PendingBatch:
    """Many records that one caller awaits.

    Reports come from any thread that polls; the caller counts the records it sent. The
    side that finds both counts equal calls ``notify``; a second call is harmless.

    Attributes:
        errors: What went wrong, by the record's index.
    """

    def __init__(
        self, size: int, notify: Callable[[], object], last: LastError
    ) -> None:
        self._is_reported = bytearray(size)
        self.errors: dict[int, KafkaError] = {}
        self._refused: dict[int, Refused] = {}
        # `next` of a counter is one step also between threads; `+= 1` is not.
        self._number = itertools.count(1)
        self._sent: int | None = None
        self._notify, self._last = notify, last

    def report(
        self, index: int, error: KafkaError | None, message: Message | None
    ) -> None:
        """Take the delivery report of one record; a polling thread calls this.

        Args:
            index: The record's place in the batch.
            error: Why it was not written, if so.
            message: The record as written. One without an offset is a duplicate whose
                first copy may be missing, so it counts as an error.
        """
        if error is None:
            self._last.is_let_in = True
            if message is not None and message.offset() is None:
                self.errors[index] = _DOUBTED
        else:
            self.errors[index] = error
        self._is_reported[index] = 1
        if next(self._number) == self._sent:
            self._notify()

    def refuse(self, index: int, refused: Refused) -> None:
        """Note that record ``index`` was not sent."""
        self._refused[index] = refused

    def is_awaited(self) -> bool:
        """Whether sent records still have no report; if so, ``notify`` is called later.

        Call it once, when all records were sent or refused.
        """
        # In this order, so that the last report finds `_sent` or is counted here.
        self._sent = len(self._is_reported) - len(self._refused)
        return self._is_reported.count(1) != self._sent

    def answers(self, detail: str) -> list[AppendAnswer]:
        """The answer of each record; `Unknown` with ``detail`` where no report came."""
        size = len(self._is_reported)
        if not self.errors and self._is_reported.count(1) == size:
            return [APPENDED] * size
        return [self._answer(index, detail) for index in range(size)]

    def _answer(self, index: int, detail: str) -> AppendAnswer:
        refused = self._refused.get(index)
        if refused is not None:
            return refused
        if not self._is_reported[index]:
            return self._last.unanswered(detail)
        error = self.errors.get(index)
        return APPENDED if error is None else delivery_answer(error, self._last)


class KafkaLaneLog:
    """`shifter.ports.LaneLog` on Kafka. Connects at the first append, or `warm_up`.

    A forked child makes its own connection; records the parent had not yet sent stay
    the parent's.

    Args:
        config: The cluster.
        namespace: First part of the delay topics' names.
        clock: A real one: patience is kept on the event loop's own timers.
        max_record_bytes: Largest record: value, key, header names and values.
    """

    def __init__(
        self,
        config: KafkaConfig,
        *,
        namespace: str,
        clock: Clock,
        max_record_bytes: int = 1_000_000,
    ) -> None:
        self._namespace, self._clock = namespace, clock
        self._limit_bytes = max_record_bytes
        # The rule of `too_large`, since one call more for each record takes time.
        self._close_to_limit = max_record_bytes - FRAMING_BYTES
        settings = config.producer_config()
        settings["message.max.bytes"] = max_record_bytes + FRAMING_BYTES
        self._keeper = ProducerKeeper(settings, clock)
        bulk = {**settings, "linger.ms": settings["linger.ms"] or _BULK_LINGER_MS}
        self._bulk_keeper = ProducerKeeper(bulk, clock)
        for keeper in (self._keeper, self._bulk_keeper):
            weakref.finalize(self, keeper.retire).atexit = False

    async def append(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Write records; one answer for each, in order, within the timeout.

        A single record is refused at once when the client's queue is full; a batch
        waits for room.

        Raises:
            ConfigError: The first connection found a property librdkafka refuses.
        """
        # In the child of a fork the keeper has removed the producer of the parent.
        producer = self._keeper.current
        if producer is None or producer.is_dead or len(records) > 1:
            fresh = self._live_producer(len(records))
            if isinstance(fresh, Refused):
                return [fresh] * len(records)
            producer = fresh
        loop = asyncio.get_running_loop()
        inbox = producer.inboxes.of(loop)
        future: asyncio.Future[AppendAnswer] = loop.create_future()
        waiter = PendingRecord(inbox, future, producer.last)
        inbox.enroll(waiter, timeout_s)
        if len(records) == 1:
            refused = self._send(producer, records[0], waiter.report)
            if refused is None:
                return [await future]
            waiter.bucket.discard(waiter)
            return [refused]
        batch = PendingBatch(
            len(records), partial(waiter.report, None, None), producer.last
        )
        until = self._clock.monotonic() + timeout_s
        for pause_s in self._send_all(producer, records, batch, until):
            await self._clock.sleep(pause_s)
        outcome = await future if batch.is_awaited() else None
        waiter.bucket.discard(waiter)
        detail = outcome.detail if isinstance(outcome, Refused | Unknown) else ""
        return batch.answers(detail)

    def append_sync(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Append as `append` does, without an event loop; blocks up to the timeout.

        Raises:
            ConfigError: As `append`.
        """
        producer = self._live_producer(len(records))
        if isinstance(producer, Refused):
            return [producer] * len(records)
        until = self._clock.monotonic() + timeout_s
        answered = threading.Event()
        batch = PendingBatch(len(records), answered.set, producer.last)
        with producer.signalling(answered):
            for pause_s in self._send_all(producer, records, batch, until):
                threading.Event().wait(pause_s)
            if batch.is_awaited():
                answered.wait(max(0.0, until - self._clock.monotonic()))
        return batch.answers(producer.failure or _TOO_LATE)

    def _live_producer(self, count: int) -> LiveProducer | Refused:
        if count >= _BULK:
            bulk = self._bulk_keeper.fresh()
            # A fresh producer takes half a second to its first record: the first batch
            # goes by the other one, which is warm.
            if isinstance(bulk, LiveProducer) and bulk.is_warm:
                return bulk
        return self._keeper.fresh()

    def _send_all(
        self,
        producer: LiveProducer,
        records: Sequence[Record],
        batch: PendingBatch,
        until: float,
    ) -> Generator[float]:
        """Send a batch, yielding how many seconds to pause where it must wait."""
        rest: Refused | None = None
        with producer.sending():
            for index, record in enumerate(records):
                if index and index % _SERVE == 0:
                    producer.serve()
                    if index % _CHUNK == 0:
                        yield 0.0
                if producer.is_dead:
                    rest = producer.closed_answer()
                if rest is not None:
                    # None may slip in behind one of the same key that was refused.
                    batch.refuse(index, rest)
                    continue
                report = partial(batch.report, index)
                refused = self._send(producer, record, report)
                while refused is _FULL and self._clock.monotonic() < until:
                    yield _ROOM_S
                    producer.serve()
                    refused = self._send(producer, record, report)
                if refused is not None:
                    batch.refuse(index, refused)
                    rest = refused if refused is _FULL else None

    def _send(
        self, producer: LiveProducer, record: Record, report: Callable[..., None]
    ) -> Refused | None:
        topic, headers = record.topic, record.headers
        if record.due_ms is not None:
            topic, headers = route(self._namespace, record, self._clock.epoch_ms())
        try:
            if len(record.value) > self._close_to_limit:
                refused = too_large(record, self._limit_bytes)
                if refused is not None:
                    return refused
            producer.produce(
                *(topic, record.value, record.key),
                *(record.partition, report, None, 0, headers),
            )
        except BufferError:
            return _FULL
        except KafkaException as exc:
            if record.partition != ANY_PARTITION and _is_no_partition(exc):
                # The topic was made again since, with fewer partitions.
                anywhere = msgspec.structs.replace(record, partition=ANY_PARTITION)
                return self._send(producer, anywhere, report)
            return _refusal(producer, exc)
        except (TypeError, ValueError) as exc:
            return _refusal(producer, exc)
        return None

    def warm_up(self) -> None:
        """Connect ahead of the first append; returns at once, never raises."""
        # What is wrong with the settings is raised by `append`: its caller can act.
        for keeper in (self._keeper, self._bulk_keeper):
            with contextlib.suppress(ConfigError):
                keeper.fresh()

    def close(self, *, timeout_s: float) -> int:
        """Wait for all reports; returns how many records had none by then.

        Blocks. Those records are answered `Unknown`. Closing twice is harmless.
        """
        until = self._clock.monotonic() + timeout_s
        unanswered = self._bulk_keeper.close(timeout_s)
        left_s = max(0.0, until - self._clock.monotonic())
        return unanswered + self._keeper.close(left_s)


def too_large(record: Record, limit_bytes: int) -> Refused | None:
    """The refusal of a record that is larger than the limit; ``None`` if it is not.

    A record's size is that of its value, key, header names and header values. Only a
    value close to the limit is measured with its headers: headers are small, and where
    they are not, librdkafka's own limit holds.
    """
    if len(record.value) <= limit_bytes - FRAMING_BYTES:
        return None
    named = sum(len(name) + len(value or b"") for name, value in record.headers)
    size = len(record.value) + len(record.key or b"") + named
    if size <= limit_bytes:
        return None
    return Refused(Reason.TOO_LARGE, f"{size} bytes; at most {limit_bytes}")


def _is_no_partition(exc: KafkaException) -> bool:
    error = kafka_error(exc)
    return error is not None and error.name() == "_UNKNOWN_PARTITION"


def _refusal(producer: LiveProducer, exc: Exception) -> Refused:
    """The client did not take the record: it is certainly not in the log."""
    error = kafka_error(exc)
    if error is None:
        return Refused(Reason.REFUSED_BY_LOG, f"not a record: {exc}")
    answer = delivery_answer(error, producer.last)
    if isinstance(answer, Refused):
        return answer
    # Nothing is wrong with the record: the client has just broken, and is replaced.
    return Refused(Reason.LOG_AWAY, answer.detail)
