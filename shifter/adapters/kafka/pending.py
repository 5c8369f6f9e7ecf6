"""Appends that wait for the cluster's word.

Delivery reports arrive on the poll thread, one at a time; each does one cheap step
there. What is finished goes to the inbox of its caller's event loop.

A report of success without an offset is none: the broker took the batch for one that
it has already, and it may be wrong. A partition that knows nothing of a producer yet
takes whatever sequence number comes first; where a client's first batch is tried again
(the leader had just changed, or was just made) while the second one got in, the first
is "a duplicate" and is gone (seen on 4.3, with 4 of 200 records, once in 200 fresh
topics). Nobody knows, says the answer; written again it is at most one job twice in the
log, which takes effect once.
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
    """What a delivery report is about."""

    def offset(self) -> int | None:
        """Where it was written; ``None`` if the broker did not say."""


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
        """Tell the caller what the report said."""
        self.bucket.discard(self)
        if not self._future.done():
            self._future.set_result(
                APPENDED
                if self._error is None
                else delivery_answer(self._error, self._last)
            )

    def give_up(self, detail: str | None) -> None:
        """Tell the caller that nobody knows."""
        if not self._future.done():
            self._future.set_result(self._last.unanswered(detail or TOO_LATE))


class PendingBatch:
    """Many records that one caller awaits.

    Reports come from any thread that polls; the caller counts what it sent. Whoever
    finds the two equal says so; where both do, saying it twice is harmless.
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
        """The delivery report of record ``index``; called by who polls."""
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
        """Whether sent records still have no report; `tell` will say when they have.

        Called once, when all records were sent or refused.
        """
        # In this order, so that the last report finds `_sent` or is counted here.
        self._sent = len(self._is_reported) - len(self._refused)
        return self._is_reported.count(1) != self._sent

    def answers(self, detail: str) -> list[AppendAnswer]:
        """What is known of each record; ``detail`` where that is nothing."""
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
