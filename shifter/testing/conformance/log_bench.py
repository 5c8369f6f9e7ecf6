"""The bench of the log suites, and their base class with the steps they share.

The suites use no partition and no offset. Where a log records something only after an
interval, such as its commit interval, they wait for it, at most `PATIENCE_S`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import pytest

from shifter.ports import (
    Appended,
    Clock,
    Delivery,
    LaneFeed,
    LaneLog,
    LogAdmin,
    Record,
    Span,
)

PATIENCE_S: Final = 20.0
"""Longest wait for what a log does after an interval, in seconds."""


class LogBench(Protocol):
    """Access of the suites to the log under test.

    Attributes:
        clock: The log's clock; it must run by itself.
        max_record_bytes: Largest record the log takes.
        early_ms: How much before its due time a feed may return a delayed record (the
            worker holds it for the rest), >= 0.
        has_delay: Whether delayed records reach their lanes here.
        keeps_settled: Whether a record can still be scanned once it is settled.
        is_transactional: Whether `hand_over` ends the source together with writing its
            successor, unless that is a dead letter.
        rebalances: Whether a new member takes over unsettled records of another one.
    """

    clock: Clock
    max_record_bytes: int
    early_ms: int
    has_delay: bool
    keeps_settled: bool
    is_transactional: bool
    rebalances: bool

    async def lane(self, *, partitions: int = 1) -> str:
        """A new, empty lane, ready to be used."""

    def log(self, *, fresh: bool = False) -> LaneLog:
        """An accepting side; the bench closes it. ``fresh``: one the test may close."""

    def feed(self, *topics: str) -> LaneFeed:
        """A new member of the bench's one group, not open; the bench closes it."""

    def admin(self) -> LogAdmin:
        """The administration for the bench's group; the bench closes it."""


class LogSuite:
    """Base of the log suites; needs the fixture ``log_bench``."""

    bench: LogBench

    @pytest.fixture(autouse=True)
    def _take_bench(self, log_bench: LogBench) -> None:
        self.bench = log_bench

    @property
    def clock(self) -> Clock:
        """The log's clock."""
        return self.bench.clock

    async def lane_of(self, values: Iterable[int]) -> str:
        """A new lane that holds `records_of` these values."""
        lane = await self.bench.lane()
        await self.append(records_of(lane, values))
        return lane

    async def append(self, records: Sequence[Record]) -> None:
        """Append records, all of which must become durable."""
        answers = await self.bench.log().append(records, timeout_s=PATIENCE_S)
        assert answers == [Appended()] * len(records)

    async def opened(self, *lanes: str) -> LaneFeed:
        """A new member of the group, open."""
        feed = self.bench.feed(*lanes)
        await feed.open()
        return feed

    async def collect(self, feed: LaneFeed, count: int) -> list[Delivery]:
        """Fetch until there are ``count`` deliveries, or the time is over."""
        found: list[Delivery] = []
        until = self.clock.monotonic() + PATIENCE_S
        while len(found) < count and (left_s := until - self.clock.monotonic()) > 0:
            found += await feed.fetch(count - len(found), wait_s=min(left_s, 0.5))
        return found

    async def scan(
        self, lane: str, spans: Mapping[int, Span] | None = None
    ) -> list[int]:
        """The numbers in a lane, or in spans of it."""
        batches = self.bench.admin().scan(lane, spans)
        return [number async for batch in batches for number in numbers(batch)]

    async def eventually(self, check: Callable[[], Awaitable[bool]]) -> bool:
        """Whether ``check`` comes true within the time."""
        until = self.clock.monotonic() + PATIENCE_S
        while self.clock.monotonic() < until:
            if await check():
                return True
            await self.clock.sleep(0.05)
        return False


def records_of(
    topic: str, values: Iterable[int], *, key: str | None = None
) -> list[Record]:
    """Records whose values are numbers as text.

    Args:
        topic: The records' topic.
        values: The number of each record.
        key: The key of all records; ``None`` without one.
    """
    raw = None if key is None else key.encode()
    return [Record(topic, b"%d" % value, [], raw) for value in values]


def spread_records(topic: str, values: Iterable[int]) -> list[Record]:
    """Records with a key each, so that every partition of a topic gets some."""
    return [Record(topic, b"%d" % value, [], b"k%d" % value) for value in values]


def numbers(deliveries: Iterable[Delivery]) -> list[int]:
    """The numbers that `records_of` wrote."""
    return [int(delivery.value or b"-1") for delivery in deliveries]
