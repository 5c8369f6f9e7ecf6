"""The suite of a log's administration, and the door to the suites of its other sides.

Derive from each suite and give it the fixture ``log_bench``:

    class TestMyAppends(LaneLogConformance):
        @pytest.fixture
        async def log_bench(self): ...
"""

from __future__ import annotations

from typing import Final

from shifter.model.lane import Priority
from shifter.ports import (
    Delivery,
    LaneDepth,
    LaneFeed,
    LanePeek,
    Record,
    Span,
    TopicSpec,
)
from shifter.testing.conformance.lane_feed import LaneFeedConformance
from shifter.testing.conformance.lane_log import (
    AtomicLogBench,
    AtomicLogConformance,
    LaneLogConformance,
)
from shifter.testing.conformance.log_bench import (
    PATIENCE_S,
    LogBench,
    LogSuite,
    numbers,
    records_of,
    spread_records,
)
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import JSON, build_headers

__all__ = [
    "AtomicLogBench",
    "AtomicLogConformance",
    "LaneFeedConformance",
    "LaneLogConformance",
    "LogAdminConformance",
    "LogBench",
]

_WEEK_MS: Final = 7 * 86_400_000
_FAR: Final = 4_000_000_000_000
"""An instant in the year 2096."""


def _with_deadline(lane: str, deadline_ms: int | None) -> Record:
    envelope = EnvelopeV1(
        v=1,
        id="01890a5d-ac96-774b-bcce-b302099a8057",
        type="conformance",
        queue="default",
        priority=Priority.LOW,
        created_ms=0,
        deadline_ms=deadline_ms,
    )
    return Record(lane, b"1", build_headers(envelope, content_type=JSON))


class LogAdminConformance(LogSuite):
    """Tests of `shifter.ports.LogAdmin`; needs the fixture ``log_bench``."""

    async def test_scan_returns_every_record_that_is_kept(self) -> None:
        lane = await self.bench.lane(partitions=3)
        await self.append(spread_records(lane, range(1_200)))
        feed = await self.opened(lane)
        settled = await self.collect(feed, 100)
        await feed.settle(settled)

        seen = sorted(await self.scan(lane))

        # A settled record may be deleted at any moment, also during the scan.
        may_miss = set() if self.bench.keeps_settled else set(numbers(settled))
        assert len(seen) == len(set(seen))
        assert set(range(1_200)) - set(seen) <= may_miss

    async def test_scan_of_an_empty_topic_ends(self) -> None:
        lane = await self.bench.lane()

        assert [batch async for batch in self.bench.admin().scan(lane)] == []

    async def test_scan_reads_the_spans_it_is_given(self) -> None:
        lane, admin = await self.bench.lane(partitions=2), self.bench.admin()
        await self.append(spread_records(lane, range(300)))
        spans = await admin.spans(lane)
        halves = {at: Span(s.first, (s.first + s.end) // 2) for at, s in spans.items()}
        rest = {at: Span(halves[at].end, s.end) for at, s in spans.items()}

        first, second = await self.scan(lane, halves), await self.scan(lane, rest)

        assert sorted(first + second) == list(range(300))
        assert len(first) == sum(span.end - span.first for span in halves.values())
        assert await self.scan(lane, {}) == []
        assert await admin.spans(f"{lane}-unknown") == {}
        assert await admin.kept([lane, f"{lane}-unknown"]) == {lane: spans}

    async def test_each_topic_has_an_id_that_stays(self) -> None:
        lanes, admin = [await self.bench.lane() for _ in range(2)], self.bench.admin()

        first = await admin.topic_ids([*lanes, f"{lanes[0]}-unknown"])
        await self.append(records_of(lanes[0], range(3)))
        second = await self.bench.admin().topic_ids(lanes)

        assert set(first) == set(lanes)
        assert len(set(first.values())) == 2
        assert second == first

    async def test_spans_are_narrowed_by_time(self) -> None:
        lane, clock = await self.lane_of(range(5)), self.clock
        await clock.sleep(0.05)
        between_ms = clock.epoch_ms()
        await clock.sleep(0.05)
        await self.append(records_of(lane, range(5, 9)))

        async def read(**bounds: int) -> list[int]:
            spans = await self.bench.admin().spans(lane, **bounds)
            return sorted(await self.scan(lane, spans))

        assert await read(since_ms=between_ms) == [5, 6, 7, 8]
        assert await read(until_ms=between_ms) == [0, 1, 2, 3, 4]
        assert await read(since_ms=between_ms, until_ms=between_ms) == []
        assert await read(since_ms=between_ms + 3_600_000) == []
        assert await read(since_ms=0) == list(range(9))

    async def test_count_is_the_number_of_records_a_topic_keeps(self) -> None:
        lane, admin = await self.bench.lane(partitions=2), self.bench.admin()
        assert await admin.count(lane) == 0

        await self.append(records_of(lane, range(7)))

        assert await admin.count(lane) == 7

    async def test_depths_count_records_that_no_feed_has_read(self) -> None:
        full, empty = await self.bench.lane(partitions=2), await self.bench.lane()
        before = self.clock.epoch_ms()
        await self.append(records_of(full, range(5)))

        depths = await self.bench.admin().depths([empty, full])

        assert [(d.topic, d.waiting) for d in depths] == [(empty, 0), (full, 5)]
        assert depths[0].oldest_ms is None
        assert abs((depths[1].oldest_ms or 0) - before) < 1_000 * PATIENCE_S

    async def test_depths_exclude_settled_records(self) -> None:
        lane, admin = await self.lane_of(range(10)), self.bench.admin()
        feed = await self.opened(lane)
        found = await self.collect(feed, 10)
        depth = LaneDepth(lane, -1, None, None)

        async def waits(count: int) -> bool:
            nonlocal depth
            [depth] = await admin.depths([lane])
            return depth.waiting == count

        await feed.settle([*found[:4], *found[6:9]])
        assert await self.eventually(lambda: waits(3)), depth
        assert depth.oldest_ms == found[4].appended_ms
        await feed.settle([*found[4:6], found[9]])
        assert await self.eventually(lambda: waits(0)), depth
        assert depth.oldest_ms is None

    async def test_depths_count_delayed_records(self) -> None:
        lane, other = await self.bench.lane(), await self.bench.lane()
        due_ms = self.clock.epoch_ms() + 3_600_000
        delayed = [Record(lane, b"1", [], None, due_ms + n) for n in range(6)]
        await self.append(delayed)

        depths = await self.bench.admin().depths([lane, other])

        assert [(d.waiting, d.delayed) for d in depths] == [(0, 6), (0, 0)]

    async def test_depths_count_delayed_records_that_are_due(self) -> None:
        lane, admin = await self.bench.lane(), self.bench.admin()
        due_ms = self.clock.epoch_ms() + 1_500
        await self.append([Record(lane, b"1", [], None, at) for at in (due_ms, _FAR)])
        depth = LaneDepth(lane, -1, None, None)

        async def is_due() -> bool:
            nonlocal depth
            [depth] = await admin.depths([lane])
            return depth.waiting + (depth.overdue or 0) == 1

        # A log without a mover that runs keeps the record among the delayed ones.
        assert await self.eventually(is_due), depth
        assert self.clock.epoch_ms() >= due_ms - self.bench.early_ms
        assert depth.delayed == 1 + (depth.overdue or 0)

    async def test_depths_have_the_earliest_deadline_of_what_waits(self) -> None:
        lane, other = await self.bench.lane(), await self.bench.lane()
        at_ms = self.clock.epoch_ms() + 3_600_000
        deadlines = [at_ms + 9_000, at_ms + 4_000, None, at_ms + 7_000]
        await self.append([_with_deadline(lane, at) for at in deadlines])
        await self.append(records_of(other, [1]))
        feed, depth = await self.opened(lane), LaneDepth(lane, -1, None, None)

        first, second = await self.bench.admin().depths([lane, other])
        found = await self.collect(feed, 4)
        await feed.settle([found[1]])

        async def has_next_deadline() -> bool:
            nonlocal depth
            [depth] = await self.bench.admin().depths([lane])
            return depth.deadline_ms == at_ms + 7_000

        assert (first.deadline_ms, second.deadline_ms) == (at_ms + 4_000, None)
        assert await self.eventually(has_next_deadline), depth

    async def test_a_peek_shows_the_oldest_unsettled_records_and_takes_none(
        self,
    ) -> None:
        lane, admin = await self.lane_of(range(10)), self.bench.admin()
        feed = await self.opened(lane)
        found = await self.collect(feed, 10)
        await feed.settle([*found[:4], *found[5:7]])
        seen: list[int] = []

        async def shows_the_rest() -> bool:
            seen[:] = numbers((await admin.peek(lane, 3)).waiting)
            return seen == [4, 7, 8]

        assert await self.eventually(shows_the_rest), seen
        assert numbers((await admin.peek(lane, 100)).waiting) == [4, 7, 8, 9]
        # What was looked at is this member's as before, and can be settled.
        assert await self.settles_all(feed, found[4:5] + found[7:], lane)
        assert await admin.peek(f"{lane}-unknown", 3) == LanePeek(
            [], [], is_complete=True
        )

    async def settles_all(
        self, feed: LaneFeed, found: list[Delivery], lane: str
    ) -> bool:
        """Whether nothing is shown any more after the rest is settled."""
        assert feed.begin(found) == found
        await feed.settle(found)

        async def is_empty() -> bool:
            return (await self.bench.admin().peek(lane, 3)).waiting == []

        return await self.eventually(is_empty)

    async def test_a_peek_shows_the_delayed_records_that_are_due_soonest(self) -> None:
        lane, other = await self.bench.lane(), await self.bench.lane()
        due_ms = self.clock.epoch_ms() + 3_600_000
        ahead_ms = [9_000, 1_000, 5_000, 3_000, 7_000]
        await self.append(
            [Record(lane, b"%d" % at, [], b"k", due_ms + at) for at in ahead_ms]
        )
        await self.append([Record(other, b"1", [], None, due_ms)])

        found = await self.bench.admin().peek(lane, 3)

        assert found.waiting == []
        assert [(at - due_ms, one.value) for at, one in found.delayed] == [
            (1_000, b"1000"),
            (3_000, b"3000"),
            (5_000, b"5000"),
        ]
        assert {(one.key, tuple(one.headers)) for _, one in found.delayed} == {
            (b"k", ())
        }
        assert found.is_complete

    async def test_delay_tiers_count_the_delayed_records_of_lanes(self) -> None:
        lane, other = await self.bench.lane(), await self.bench.lane()
        admin, soon_ms = self.bench.admin(), self.clock.epoch_ms() + 100_000
        far_ms = soon_ms + 7_200_000
        await self.append(
            [Record(lane, b"1", [], None, at) for at in (far_ms, soon_ms, far_ms)]
        )
        await self.append([Record(other, b"1", [], None, soon_ms - 1)])

        await admin.depths([lane, other])
        tiers = await admin.delay_tiers([lane]) or []
        both = await admin.delay_tiers([lane, other]) or []

        assert sum(tier.records for tier in tiers) == 3
        assert min(tier.next_due_ms for tier in tiers) == soon_ms
        assert sum(tier.records for tier in both) == 4
        assert min(tier.next_due_ms for tier in both) == soon_ms - 1
        assert [tier.tier_s or 0 for tier in both] == sorted(
            {tier.tier_s or 0 for tier in both}
        )
        assert await self.bench.admin().delay_tiers([f"{lane}-unknown"]) == []

    async def test_apply_creates_missing_topics(self) -> None:
        lane, admin = await self.bench.lane(), self.bench.admin()
        spec = TopicSpec(f"{lane}-new", 3, _WEEK_MS, 900_000)

        planned = await admin.diff([spec])
        assert spec.name not in await admin.topics()
        done = await admin.apply([spec])

        assert [change.action for change in planned] == ["create"]
        assert done == planned
        assert spec.name in await admin.topics()
        assert await admin.diff([spec]) == []
        await self.append(records_of(spec.name, [1]))

    async def test_apply_widens_and_never_narrows(self) -> None:
        lane, admin = await self.bench.lane(), self.bench.admin()
        wide = TopicSpec(f"{lane}-wide", 4, 2 * _WEEK_MS, 900_000)
        narrow = TopicSpec(wide.name, 2, _WEEK_MS, 100_000)
        await admin.apply([narrow])

        actions = {change.action for change in await admin.apply([wide])}
        after = await admin.apply([narrow])

        assert actions == {"add_partitions", "set"}
        assert [change.action for change in after] == ["warn"]
        assert await admin.diff([wide]) == []

    async def test_topics_are_sorted(self) -> None:
        lanes = {await self.bench.lane() for _ in range(3)}

        topics = await self.bench.admin().topics()

        assert lanes <= set(topics)
        assert topics == sorted(topics)

    async def test_ping_is_one_line(self) -> None:
        line = await self.bench.admin().ping()

        assert line
        assert "\n" not in line
