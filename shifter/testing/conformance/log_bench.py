"""The bench the log's suites run on, and the few moves they share.

Nothing here knows a partition or an offset. Where a log remembers only soon (its commit
interval), the suites wait for it, but never longer than `PATIENCE_S`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

from shifter.ports import Appended, Clock, Delivery, LaneFeed, LaneLog, LogAdmin, Record

PATIENCE_S: Final = 20.0
"""Longest wait for anything that a log does soon, seconds."""


class LogBench(Protocol):
    """One log to be tested, with everything that belongs to it.

    Attributes:
        clock: The log's clock; it must pass by itself.
        max_record_bytes: Largest record the log takes.
        early_ms: How much before its due time a feed may hand out a delayed record
            (the worker holds it for the rest), >= 0.
        has_delay: Whether delayed records reach their lanes here.
        keeps_settled: Whether a record can still be scanned once it is settled.
        is_transactional: Whether `hand_over` ends the source together with writing its
            successor, unless that is a dead letter.
        rebalances: Whether a new member takes over what another holds unsettled.
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
        """An accepting side; closed by the bench. ``fresh``: one the test may close."""

    def feed(self, *topics: str) -> LaneFeed:
        """A new member of the bench's one group, not open; closed in the end."""

    def admin(self) -> LogAdmin:
        """The administration, made for the bench's group; closed in the end."""


def records_of(
    topic: str, values: Iterable[int], *, key: str | None = None
) -> list[Record]:
    """Records whose values are numbers as text."""
    raw = None if key is None else key.encode()
    return [Record(topic, b"%d" % value, [], raw) for value in values]


def spread_records(topic: str, values: Iterable[int]) -> list[Record]:
    """The same, each with a key of its own, so that all parts of a topic get some."""
    return [Record(topic, b"%d" % value, [], b"k%d" % value) for value in values]


def numbers(deliveries: Iterable[Delivery]) -> list[int]:
    """The numbers that `records_of` wrote."""
    return [int(delivery.value or b"-1") for delivery in deliveries]


async def append_all(bench: LogBench, records: Sequence[Record]) -> None:
    """Append records and see that all are durable."""
    answers = await bench.log().append(records, timeout_s=PATIENCE_S)
    assert answers == [Appended()] * len(records)


async def collect(
    feed: LaneFeed, count: int, *, clock: Clock, within_s: float = PATIENCE_S
) -> list[Delivery]:
    """Fetch until there are ``count`` deliveries, or the time is over."""
    found: list[Delivery] = []
    until = clock.monotonic() + within_s
    while len(found) < count and (left_s := until - clock.monotonic()) > 0:
        found += await feed.fetch(count - len(found), wait_s=min(left_s, 0.5))
    return found


async def eventually(
    check: Callable[[], Awaitable[bool]], *, clock: Clock, within_s: float = PATIENCE_S
) -> bool:
    """Whether ``check`` comes true within the time."""
    until = clock.monotonic() + within_s
    while clock.monotonic() < until:
        if await check():
            return True
        await clock.sleep(0.05)
    return False
