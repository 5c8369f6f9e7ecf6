"""Whole appends on Kafka: one transaction each, which only the newest sender commits.

The transactional id is the sender's name. A sender that opens it moves it to a new
epoch: the transaction that an earlier sender had open is aborted, and what is still on
its way from that sender is refused. Nothing has to be looked for afterwards.

Readers of committed records stop at the first record of a transaction that is open, so
a sender that dies in the middle of one would hold up its lanes until the broker's own
time limit. A second process (`shifter.adapters.kafka.txn_reaper`) ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from confluent_kafka import KafkaException, Producer

from shifter.adapters.kafka.config import KafkaConfig, Property
from shifter.adapters.kafka.errors import (
    LastError,
    kafka_error,
    make_client,
    store_error,
    unheard,
)
from shifter.adapters.kafka.txn_reaper import TransactionReaper
from shifter.adapters.kafka.writer import FRAMING_BYTES, PendingBatch, too_large
from shifter.errors import StoreError, StoreUnavailableError
from shifter.ports import Clock, Record, Refused

_Answer = TypeVar("_Answer")
OPEN_MS: Final = 15_000
"""How long a transaction may stay open. A record that is not acknowledged within that
time fails its transaction, and is not sent again under another number: the reason why a
time limit of this length is harmful elsewhere does not hold here."""

# Twice the time that the transaction of an earlier sender may stay open.
_OPEN_S: Final = 30.0
_CALL_S: Final = 5.0
_ROOM_S: Final = 0.01
_REPORTS_S: Final = 0.1
_PROPERTIES: Final[dict[str, Property]] = {
    "transaction.timeout.ms": OPEN_MS,
    "message.timeout.ms": OPEN_MS,
    # A transaction right behind another one is answered "not yet" first; the default
    # of 100 ms would be most of what it takes.
    "retry.backoff.ms": 10,
    "linger.ms": 2,
}
_NO_COORDINATOR: Final = (
    "there are no transactions with fewer brokers than "
    "transaction.state.log.replication.factor"
)
# The errors of a sender whose name was taken over, or whose transaction was timed out.
_FENCED: Final = frozenset(
    {
        "INVALID_PRODUCER_EPOCH",
        "INVALID_PRODUCER_ID_MAPPING",
        "PRODUCER_FENCED",
        "_FENCED",
    }
)
_TAKEN: Final = (
    f"another process took its place, or this one was silent for {OPEN_MS // 1_000} s"
)


class KafkaAtomicLog:
    """`shifter.ports.AtomicLog` on Kafka.

    Args:
        config: The cluster.
        name: The transactional id.
        clock: For time limits.
        max_record_bytes: Largest record: value, key, header names and values.

    Raises:
        ConfigError: librdkafka refuses a property.
    """

    def __init__(
        self,
        config: KafkaConfig,
        name: str,
        clock: Clock,
        *,
        max_record_bytes: int = 1_000_000,
    ) -> None:
        self._name, self._clock, self._limit_bytes = name, clock, max_record_bytes
        self._config: dict[str, Property] = {
            **config.producer_config(),
            **_PROPERTIES,
            "transactional.id": name,
            "message.max.bytes": max_record_bytes + FRAMING_BYTES,
        }
        self._last = LastError()
        # The client blocks. One thread, so that a call begins when the call before it
        # has ended, even if the caller of that one was cancelled.
        self._thread = ThreadPoolExecutor(1, "shifter-kafka-atomic")
        self._producer: Producer | None = None
        self._reaper = TransactionReaper(self._config)
        self._is_closed = False

    async def open(self) -> None:
        """Take the name over from the sender that has it.

        Raises:
            StoreRefusedError, StoreUnavailableError: The cluster refuses, or does not
                answer.
        """
        await self._call(self._open)

    async def append(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> dict[int, Refused]:
        """Write all of these, or none of them.

        Raises:
            StoreUnavailableError, StoreRefusedError: The outcome is unknown, or another
                sender has the name. `open` again to go on.
        """
        until = self._clock.monotonic() + timeout_s
        return await self._call(partial(self._append, records, until))

    async def close(self) -> None:
        """Abort what is under way, and free everything; open no more after that."""
        if not self._is_closed:
            self._is_closed = True
            await self._call(self._close)
            self._thread.shutdown()

    async def _call(self, function: Callable[[], _Answer]) -> _Answer:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function)

    def _open(self) -> None:
        self._close()
        self._reaper.start()
        producer = make_client(
            Producer, {**self._config, "logger": unheard()}, self._last
        )
        try:
            # Without a connection the client takes half a second to its first answer.
            producer.list_topics(timeout=_OPEN_S)
            self._patiently(producer.init_transactions, _OPEN_S)
        except KafkaException as exc:
            error = kafka_error(exc)
            if error is not None and error.name() == "_TIMED_OUT":
                detail = self._last.beside(f"{error.str()}; {_NO_COORDINATOR}")
                raise StoreUnavailableError("kafka", "open", detail) from exc
            raise store_error(exc, "open", self._last) from exc
        self._producer = producer

    def _append(self, records: Sequence[Record], until: float) -> dict[int, Refused]:
        oversized = self._oversized(records)
        if oversized:
            return oversized
        while True:
            producer = self._producer
            if producer is None:
                raise self._unknown("the log is not open")
            batch = PendingBatch(len(records), _no_waiter, self._last)
            try:
                self._send(producer, records, batch, until)
            except KafkaException as exc:
                refused = self._recover(producer, exc, batch)
            else:
                return {}
            if refused:
                return refused
            if self._clock.monotonic() > until:
                raise self._unknown("not written in time, and taken back")

    def _send(
        self,
        producer: Producer,
        records: Sequence[Record],
        batch: PendingBatch,
        until: float,
    ) -> None:
        producer.begin_transaction()
        for place, record in enumerate(records):
            report = partial(batch.report, place)
            try:
                while not _is_taken(producer.produce, record, report):
                    producer.poll(_ROOM_S)
            except KafkaException as exc:
                if (error := kafka_error(exc)) is not None:
                    report(error, None)
                raise
        # Every record is reported within the client's own time limit; `flush` would
        # call back with an exception pending when the client breaks.
        while len(producer):
            producer.poll(_REPORTS_S)
        for error in batch.errors.values():
            raise KafkaException(error)
        left_s = until - self._clock.monotonic()
        self._patiently(producer.commit_transaction, left_s)

    def _recover(
        self, producer: Producer, exc: KafkaException, batch: PendingBatch
    ) -> dict[int, Refused]:
        """Take a transaction back; returns what of it is refused for good.

        Raises:
            StoreUnavailableError, StoreRefusedError: It cannot be taken back, so that
                the outcome is unknown.
        """
        error = kafka_error(exc)
        if error is None or error.fatal() or error.name() in _FENCED:
            raise self._over(exc) from exc
        try:
            self._patiently(producer.abort_transaction, _OPEN_S)
        except KafkaException as again:
            raise self._over(again) from again
        answers = enumerate(batch.answers(""))
        return {place: found for place, found in answers if isinstance(found, Refused)}

    def _over(self, exc: KafkaException) -> StoreError:
        """Give the producer up until the next `open`; returns the reason."""
        self._producer = None
        error = kafka_error(exc)
        if error is not None and error.name() in _FENCED:
            return self._unknown(_TAKEN)
        return store_error(exc, "append", self._last)

    def _patiently(self, call: Callable[[float], None], limit_s: float) -> None:
        """Call again while the cluster answers that a later call may succeed."""
        until = self._clock.monotonic() + limit_s
        while True:
            try:
                call(_CALL_S)
            except KafkaException as exc:
                error = kafka_error(exc)
                is_passing = error is not None and error.retriable()
                if not is_passing or self._clock.monotonic() > until:
                    raise
            else:
                return

    def _oversized(self, records: Sequence[Record]) -> dict[int, Refused]:
        measured = (too_large(record, self._limit_bytes) for record in records)
        return {at: found for at, found in enumerate(measured) if found is not None}

    def _close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaException):
                producer.abort_transaction(_CALL_S)
        self._reaper.stop()

    def _unknown(self, detail: str) -> StoreUnavailableError:
        return StoreUnavailableError("kafka", "append", self._last.beside(detail))


def _is_taken(
    produce: Callable[..., None], record: Record, report: Callable[..., None]
) -> bool:
    """Whether the client had room for a record."""
    try:
        # With keywords it takes half as long again.
        produce(
            record.topic, record.value, record.key, -1, report, None, 0, record.headers
        )
    except BufferError:
        return False
    return True


def _no_waiter() -> None:
    """No caller waits for the reports: they are polled for until all are in."""
