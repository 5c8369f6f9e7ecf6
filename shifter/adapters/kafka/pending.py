"""Appends that wait for the cluster's answer.

Delivery reports arrive on the poll thread, one at a time; each does one cheap step
there. What is finished goes to the inbox of its caller's event loop.

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
import itertools
from collections.abc import Callable
from typing import Final, Protocol

from confluent_kafka import KafkaError

from shifter.adapters.inbox import Inbox, Pending
from shifter.adapters.kafka.errors import LastError, delivery_answer
from shifter.ports import AppendAnswer, Appended, Refused

APPENDED: Final = Appended()
TOO_LATE: Final = "no answer from the cluster in time"
DOUBTED: Final = KafkaError(KafkaError.DUPLICATE_SEQUENCE_NUMBER)


class Reported(Protocol):
    """The record of a delivery report."""

    def offset(self) -> int | None:
        """Where it was written; ``None`` if the broker gave no offset."""


class PendingRecord:
    """One record that one task awaits."""

    __slots__ = ("_error", "_future", "_inbox", "_last", "bucket")

    def __init__(
        self, inbox: Inbox, future: asyncio.Future[AppendAnswer], last: LastError
    ) -> None:
        self._inbox, self._future, self._last = inbox, future, last
        self._error: KafkaError | None = None
        self.bucket: set[Pending]

    def report(self, error: KafkaError | None, message: Reported | None) -> None:
        """The delivery report; called on the poll thread."""
        if error is None:
            self._last.is_let_in = True
            if message is not None and message.offset() is None:
                error = DOUBTED
        self._error = error
        self._inbox.done.append(self)

    def finish(self) -> None:
        """Set the caller's answer from the report."""
        self.bucket.discard(self)
        if not self._future.done():
            self._future.set_result(
                APPENDED
                if self._error is None
                else delivery_answer(self._error, self._last)
            )

    def give_up(self, detail: str | None) -> None:
        """Set the caller's answer to `Unknown`."""
        if not self._future.done():
            self._future.set_result(self._last.unanswered(detail or TOO_LATE))


class PendingBatch:
    """Many records that one caller awaits.

    Reports come from any thread that polls; the caller counts the records it sent. The
    side that finds both counts equal calls ``tell``; a second call is harmless.
    """

    __slots__ = (
        "_errors",
        "_is_reported",
        "_last",
        "_number",
        "_refused",
        "_sent",
        "_tell",
    )

    def __init__(self, size: int, tell: Callable[[], object], last: LastError) -> None:
        self._is_reported = bytearray(size)
        self._errors: dict[int, KafkaError] = {}
        self._refused: dict[int, Refused] = {}
        # `next` of a counter is one step also between threads; `+= 1` is not.
        self._number = itertools.count(1)
        self._sent: int | None = None
        self._tell, self._last = tell, last

    def report(
        self, index: int, error: KafkaError | None, message: Reported | None
    ) -> None:
        """Take the delivery report of record ``index``; called on a polling thread."""
        if error is None:
            self._last.is_let_in = True
            if message is not None and message.offset() is None:
                self._errors[index] = DOUBTED
        else:
            self._errors[index] = error
        self._is_reported[index] = 1
        if next(self._number) == self._sent:
            self._tell()

    def refuse(self, index: int, refused: Refused) -> None:
        """Note that record ``index`` was not sent."""
        self._refused[index] = refused

    def is_awaited(self) -> bool:
        """Whether sent records still have no report; if so, ``tell`` is called later.

        Call it once, when all records were sent or refused.
        """
        # In this order, so that the last report finds `_sent` or is counted here.
        self._sent = len(self._is_reported) - len(self._refused)
        return self._is_reported.count(1) != self._sent

    def answers(self, detail: str) -> list[AppendAnswer]:
        """The answer of each record; `Unknown` with ``detail`` where no report came."""
        size = len(self._is_reported)
        if not self._errors and self._is_reported.count(1) == size:
            return [APPENDED] * size
        return [self._answer(index, detail) for index in range(size)]

    def _answer(self, index: int, detail: str) -> AppendAnswer:
        refused = self._refused.get(index)
        if refused is not None:
            return refused
        if not self._is_reported[index]:
            return self._last.unanswered(detail)
        error = self._errors.get(index)
        return APPENDED if error is None else delivery_answer(error, self._last)
