"""What the administration of a log must do."""

from __future__ import annotations

from typing import Final

from shifter.ports import LaneDepth, Record, Span, TopicSpec
from shifter.testing.conformance.log_bench import (
    PATIENCE_S,
    LogBench,
    append_all,
    collect,
    eventually,
    numbers,
    records_of,
    spread_records,
)

_WEEK_MS: Final = 7 * 86_400_000


class LogAdminConformance:
    """Tests of `shifter.ports.LogAdmin`; wants the fixture ``log_bench``."""

    async def test_scan_sees_all_records_that_are_kept(
        self, log_bench: LogBench
    ) -> None:
        lane, clock = await log_bench.lane(partitions=3), log_bench.clock
        await append_all(log_bench, spread_records(lane, range(1_200)))
        feed = log_bench.feed(lane)
        await feed.open()
        settled = await collect(feed, 100, clock=clock)
        await feed.settle(settled)

        found = [d async for batch in log_bench.admin().scan(lane) for d in batch]

        seen = sorted(numbers(found))
        # What was settled may vanish at any moment, also in the middle of the scan.
        may_miss = set() if log_bench.keeps_settled else set(numbers(settled))
        assert len(seen) == len(set(seen))
        assert set(range(1_200)) - set(seen) <= may_miss

    async def test_scan_of_an_empty_topic_ends(self, log_bench: LogBench) -> None:
        lane = await log_bench.lane()

        assert [batch async for batch in log_bench.admin().scan(lane)] == []

    async def test_scan_reads_the_spans_it_is_given(self, log_bench: LogBench) -> None:
        lane, admin = await log_bench.lane(partitions=2), log_bench.admin()
        await append_all(log_bench, spread_records(lane, range(300)))
        spans = await admin.spans(lane)
        halves = {at: Span(s.first, (s.first + s.end) // 2) for at, s in spans.items()}
        rest = {at: Span(halves[at].end, s.end) for at, s in spans.items()}

        first = [d async for batch in admin.scan(lane, halves) for d in batch]
        second = [d async for batch in admin.scan(lane, rest) for d in batch]

        assert sorted(numbers([*first, *second])) == list(range(300))
        assert len(first) == sum(span.end - span.first for span in halves.values())
        assert [d async for batch in admin.scan(lane, {}) for d in batch] == []
        assert await admin.spans(f"{lane}-unknown") == {}

    async def test_each_topic_has_an_id_that_stays(self, log_bench: LogBench) -> None:
        lanes, admin = [await log_bench.lane() for _ in range(2)], log_bench.admin()

        first = await admin.topic_ids([*lanes, f"{lanes[0]}-unknown"])
        await append_all(log_bench, records_of(lanes[0], range(3)))
        second = await log_bench.admin().topic_ids(lanes)

        assert set(first) == set(lanes)
        assert len(set(first.values())) == 2
        assert second == first

    async def test_spans_are_narrowed_by_time(self, log_bench: LogBench) -> None:
        lane, admin, clock = await log_bench.lane(), log_bench.admin(), log_bench.clock
        await append_all(log_bench, records_of(lane, range(5)))
        await clock.sleep(0.05)
        between_ms = clock.epoch_ms()
        await clock.sleep(0.05)
        await append_all(log_bench, records_of(lane, range(5, 9)))

        async def read(**bounds: int) -> list[int]:
            spans = await admin.spans(lane, **bounds)
            found = [d async for batch in admin.scan(lane, spans) for d in batch]
            return sorted(numbers(found))

        assert await read(since_ms=between_ms) == [5, 6, 7, 8]
        assert await read(until_ms=between_ms) == [0, 1, 2, 3, 4]
        assert await read(since_ms=between_ms, until_ms=between_ms) == []
        assert await read(since_ms=between_ms + 3_600_000) == []
        assert await read(since_ms=0) == list(range(9))

    async def test_count_is_what_a_topic_keeps(self, log_bench: LogBench) -> None:
        lane, admin = await log_bench.lane(partitions=2), log_bench.admin()
        assert await admin.count(lane) == 0

        await append_all(log_bench, records_of(lane, range(7)))

        assert await admin.count(lane) == 7

    async def test_depths_count_what_nobody_has_read(self, log_bench: LogBench) -> None:
        full, empty = await log_bench.lane(partitions=2), await log_bench.lane()
        before = log_bench.clock.epoch_ms()
        await append_all(log_bench, records_of(full, range(5)))

        depths = await log_bench.admin().depths([empty, full])

        assert [(d.topic, d.waiting) for d in depths] == [(empty, 0), (full, 5)]
        assert depths[0].oldest_ms is None
        assert abs((depths[1].oldest_ms or 0) - before) < 1_000 * PATIENCE_S

    async def test_depths_forget_what_is_settled(self, log_bench: LogBench) -> None:
        lane, clock = await log_bench.lane(), log_bench.clock
        await append_all(log_bench, records_of(lane, range(10)))
        feed, admin = log_bench.feed(lane), log_bench.admin()
        await feed.open()
        found = await collect(feed, 10, clock=clock)
        depth = LaneDepth(lane, -1, None, None)

        async def waits(count: int) -> bool:
            nonlocal depth
            [depth] = await admin.depths([lane])
            return depth.waiting == count

        await feed.settle([*found[:4], *found[6:9]])
        assert await eventually(lambda: waits(3), clock=clock), depth
        assert depth.oldest_ms == found[4].appended_ms
        await feed.settle([*found[4:6], found[9]])
        assert await eventually(lambda: waits(0), clock=clock), depth
        assert depth.oldest_ms is None

    async def test_depths_count_delayed_records(self, log_bench: LogBench) -> None:
        lane, other = await log_bench.lane(), await log_bench.lane()
        due_ms = log_bench.clock.epoch_ms() + 3_600_000
        delayed = [Record(lane, b"1", [], None, due_ms + n) for n in range(6)]
        await append_all(log_bench, delayed)

        depths = await log_bench.admin().depths([lane, other])

        assert [(d.waiting, d.delayed) for d in depths] == [(0, 6), (0, 0)]

    async def test_apply_creates_what_is_missing(self, log_bench: LogBench) -> None:
        lane, admin = await log_bench.lane(), log_bench.admin()
        spec = TopicSpec(f"{lane}-new", 3, _WEEK_MS, 900_000)

        planned = await admin.diff([spec])
        assert spec.name not in await admin.topics()
        done = await admin.apply([spec])

        assert [change.action for change in planned] == ["create"]
        assert done == planned
        assert spec.name in await admin.topics()
        assert await admin.diff([spec]) == []
        await append_all(log_bench, records_of(spec.name, [1]))

    async def test_apply_widens_and_never_narrows(self, log_bench: LogBench) -> None:
        lane, admin = await log_bench.lane(), log_bench.admin()
        wide = TopicSpec(f"{lane}-wide", 4, 2 * _WEEK_MS, 900_000)
        narrow = TopicSpec(wide.name, 2, _WEEK_MS, 100_000)
        await admin.apply([narrow])

        actions = {change.action for change in await admin.apply([wide])}
        after = await admin.apply([narrow])

        assert actions == {"add_partitions", "set"}
        assert [change.action for change in after] == ["warn"]
        assert await admin.diff([wide]) == []

    async def test_topics_are_sorted(self, log_bench: LogBench) -> None:
        lanes = {await log_bench.lane() for _ in range(3)}

        topics = await log_bench.admin().topics()

        assert lanes <= set(topics)
        assert topics == sorted(topics)

    async def test_ping_is_one_line(self, log_bench: LogBench) -> None:
        line = await log_bench.admin().ping()

        assert line
        assert "\n" not in line
