"""Reads the topic of events, newest records first, up to a stated limit.

The topic has no index: a reader goes through it. Records are untrusted, and what cannot
be read is passed over.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Final, NamedTuple, TypeAlias

from shifter.errors import DecodeError
from shifter.model.lane import events_topic
from shifter.ports import Clock, LogAdmin, Span
from shifter.wire.job_event import JobEvent, decode_events

_FIRST_CHUNK: Final = 1_000
"""Records that are looked at first, the newest ones; each further look takes four times
as many."""

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with the records that were looked at, and how many there are to look at."""


class ScanLimit(NamedTuple):
    """How much of the topic is read at most.

    Attributes:
        records: Records, the newest ones, > 0; each has up to 1,000 events.
        seconds: Time, >= 0; the look that runs then is finished.
    """

    records: int = 200_000
    seconds: float = 30.0


class ScanExtent(NamedTuple):
    """How much was read.

    Attributes:
        looked_at: Records.
        total: Records that the asked span of time has.
    """

    looked_at: int
    total: int

    @property
    def is_complete(self) -> bool:
        """Whether the limit cut nothing off."""
        return self.looked_at >= self.total


NEWEST: Final = ScanLimit()
"""The limit of a reader that names none."""


class EventScan:
    """One pass over the topic of events, newest records first.

    Args:
        admin: Admin of the log.
        namespace: Namespace of the jobs.
        clock: Measures the time.
        limit: How much is read at most.
        on_progress: Called after each batch.

    Attributes:
        extent: How much was read so far.
    """

    def __init__(
        self,
        admin: LogAdmin,
        namespace: str,
        clock: Clock,
        limit: ScanLimit = NEWEST,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._admin, self._topic = admin, events_topic(namespace)
        self._clock, self._limit, self._on_progress = clock, limit, on_progress
        self.extent = ScanExtent(0, 0)

    async def batches(
        self, since_ms: int | None, *, containing: bytes = b""
    ) -> AsyncGenerator[tuple[str, list[JobEvent]]]:
        """Events that were written since an instant, a batch of one process at a time.

        Args:
            since_ms: Epoch milliseconds, by the clock of the log; ``None`` for all.
            containing: Only batches whose bytes have these are parsed.
        """
        spans = await self._admin.spans(self._topic, since_ms=since_ms)
        left = {part: span for part, span in spans.items() if span.first < span.end}
        total = sum(span.end - span.first for span in left.values())
        self.extent = ScanExtent(0, total)
        until = self._clock.monotonic() + self._limit.seconds
        chunk = _FIRST_CHUNK
        while left:
            room = self._limit.records - self.extent.looked_at
            if room <= 0 or (
                self.extent.looked_at and self._clock.monotonic() >= until
            ):
                return
            each = max(1, min(chunk, room) // len(left))
            newest = {
                part: Span(max(span.first, span.end - each), span.end)
                for part, span in left.items()
            }
            async for deliveries in self._admin.scan(self._topic, newest):
                for delivery in deliveries:
                    value = delivery.value or b""
                    if containing not in value:
                        continue
                    try:
                        batch = decode_events(value)
                    except DecodeError:
                        continue
                    yield batch.process, batch.events
            # Counted by offsets: what retention takes meanwhile is looked at too.
            done = sum(span.end - span.first for span in newest.values())
            self.extent = ScanExtent(self.extent.looked_at + done, total)
            if self._on_progress is not None:
                self._on_progress(*self.extent)
            left = {
                part: Span(span.first, newest[part].first)
                for part, span in left.items()
                if newest[part].first > span.first
            }
            chunk *= 4
