"""The first records of a lane, and the first delayed ones; no group is joined.

Everything here blocks.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Final, NamedTuple

from msgspec import structs

from shifter.adapters.kafka.depth import DepthGauge, is_ahead, unsettled
from shifter.adapters.kafka.ladder import waiting
from shifter.adapters.kafka.reader import Partition, delivery
from shifter.ports import Clock, Delivery, LanePeek, Span

_SAMPLE_S: Final = 5.0
_GAPS: Final = 100
"""Offsets without a record that are read over: the markers of transactions."""
_MOST_BYTES: Final = 16_000_000
"""Of the records that are kept in memory, waiting and delayed ones each."""


class _Found(NamedTuple):
    """Records, and whether they are the first ones."""

    records: list[Delivery]
    is_complete: bool


def peek(gauge: DepthGauge, topic: str, most: int, clock: Clock) -> LanePeek:
    """The first records of a lane.

    Args:
        gauge: Finds and reads them.
        topic: The lane's name.
        most: The most waiting, and the most delayed records.
        clock: Limits the time that reading takes.
    """
    records, is_complete = _waiting(gauge, topic, most, clock)
    soonest: list[tuple[int, int, Delivery]] = []
    size, numbers = 0, itertools.count()
    for message, target in gauge.ladder():
        if message is None or target is None:
            is_complete = False
            break
        if target.topic != topic:
            continue
        found = delivery(message)
        found = structs.replace(found, headers=waiting(found.headers)[1])
        # The latest of those that are kept stands first, and goes when there are more.
        heapq.heappush(soonest, (-target.due_ms, -next(numbers), found))
        size += len(found.value or b"")
        while len(soonest) > most or size > _MOST_BYTES:
            is_complete = is_complete and len(soonest) > most
            _, _, latest = heapq.heappop(soonest)
            size -= len(latest.value or b"")
    delayed = [(-due, found) for due, _, found in sorted(soonest, reverse=True)]
    return LanePeek(records, delayed, is_complete)


def _waiting(gauge: DepthGauge, topic: str, most: int, clock: Clock) -> _Found:
    progress, spans = gauge.progress(topic), dict[Partition, Span]()
    for at, (kept, committed) in progress.items():
        position, open_count = unsettled(kept, committed)
        ahead = sum(end - first for first, end in committed.ahead)
        if open_count:
            spans[at] = Span(position, min(kept.end, position + ahead + most + _GAPS))
    found, size, until = list[Delivery](), 0, clock.monotonic() + _SAMPLE_S
    is_complete = True
    for batch in gauge.read(spans):
        for message in batch:
            at = (message.topic() or "", message.partition() or 0)
            if not is_ahead(message, progress[at][1]):
                found.append(delivery(message))
                size += len(message)
        if size > _MOST_BYTES or clock.monotonic() > until:
            is_complete = False
            break
    found.sort(key=lambda one: (one.appended_ms, one.partition, one.offset))
    return _Found(found[:most], is_complete)
