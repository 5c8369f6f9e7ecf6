"""What the draining side of a log must do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from shifter.ports import Appended, LaneFeed, Record, Refused
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


class LaneFeedConformance:
    """Tests of `shifter.ports.LaneFeed`; wants the fixture ``log_bench``."""

    async def test_fetch_hands_out_at_most_max(self, log_bench: LogBench) -> None:
        lane = await log_bench.lane()
        await append_all(log_bench, records_of(lane, range(10)))
        feed = log_bench.feed(lane)
        await feed.open()
        found = await collect(feed, 1, clock=log_bench.clock)

        found += await feed.fetch(4, wait_s=PATIENCE_S)

        assert 1 < len(found) <= 5
        found += await collect(feed, 10 - len(found), clock=log_bench.clock)
        assert numbers(found) == list(range(10))

    async def test_fetch_of_an_empty_lane_ends_after_its_wait(
        self, log_bench: LogBench
    ) -> None:
        feed = log_bench.feed(await log_bench.lane())
        await feed.open()
        began = log_bench.clock.monotonic()

        assert await feed.fetch(10, wait_s=0.3) == []

        assert 0.25 < log_bench.clock.monotonic() - began < PATIENCE_S / 2
        assert await feed.fetch(10, wait_s=0) == []

    async def test_fetch_ends_when_a_record_comes(self, log_bench: LogBench) -> None:
        lane = await log_bench.lane()
        feed = log_bench.feed(lane)
        await feed.open()
        began = log_bench.clock.monotonic()

        async with asyncio.TaskGroup() as group:
            fetching = group.create_task(feed.fetch(10, wait_s=PATIENCE_S))
            await append_all(log_bench, records_of(lane, [1]))

        assert numbers(fetching.result()) == [1]
        assert log_bench.clock.monotonic() - began < PATIENCE_S / 2

    async def test_settled_records_never_come_back(self, log_bench: LogBench) -> None:
        lane = await log_bench.lane()
        await append_all(log_bench, records_of(lane, range(10)))
        first = log_bench.feed(lane)
        await first.open()
        await first.settle(await collect(first, 10, clock=log_bench.clock))
        await first.close(timeout_s=PATIENCE_S)

        second = log_bench.feed(lane)
        await second.open()
        await append_all(log_bench, records_of(lane, [99]))

        assert numbers(await collect(second, 1, clock=log_bench.clock)) == [99]
        assert await second.fetch(10, wait_s=0.3) == []

    async def test_unsettled_records_come_back_after_close(
        self, log_bench: LogBench
    ) -> None:
        lane = await log_bench.lane()
        await append_all(log_bench, records_of(lane, range(10)))
        first = log_bench.feed(lane)
        await first.open()
        assert len(await collect(first, 10, clock=log_bench.clock)) == 10
        await first.close(timeout_s=PATIENCE_S)

        second = log_bench.feed(lane)
        await second.open()

        found = await collect(second, 10, clock=log_bench.clock)
        assert numbers(found) == list(range(10))

    async def test_settling_out_of_order_is_remembered(
        self, log_bench: LogBench
    ) -> None:
        lane = await log_bench.lane()
        await append_all(log_bench, records_of(lane, range(20)))
        first = log_bench.feed(lane)
        await first.open()
        found = await collect(first, 20, clock=log_bench.clock)
        await first.settle(found[19:4:-2])
        await first.settle(found[1:4:2])
        await first.close(timeout_s=PATIENCE_S)

        second = log_bench.feed(lane)
        await second.open()

        again = await collect(second, 10, clock=log_bench.clock)
        assert numbers(again) == list(range(0, 20, 2))
        assert await second.fetch(10, wait_s=0.3) == []

    async def test_a_successor_is_durable_before_its_source_is_settled(
        self, log_bench: LogBench
    ) -> None:
        lane, other = await log_bench.lane(), await log_bench.lane()
        await append_all(log_bench, records_of(lane, [1]))
        feed = log_bench.feed(lane)
        await feed.open()
        [source] = await collect(feed, 1, clock=log_bench.clock)

        [successor] = records_of(other, [2])
        answers = await feed.hand_over([(source, successor)], timeout_s=PATIENCE_S)

        assert answers == [Appended()]
        assert await log_bench.admin().count(other) == 1
        await feed.close(timeout_s=PATIENCE_S)
        again = log_bench.feed(lane)
        await again.open()
        if log_bench.is_transactional:
            assert await again.fetch(1, wait_s=0.5) == []
        else:
            assert numbers(await collect(again, 1, clock=log_bench.clock)) == [1]

    async def test_a_refused_successor_says_so(self, log_bench: LogBench) -> None:
        lane = await log_bench.lane()
        await append_all(log_bench, records_of(lane, [1]))
        feed = log_bench.feed(lane)
        await feed.open()
        [source] = await collect(feed, 1, clock=log_bench.clock)
        too_large = Record(lane, bytes(log_bench.max_record_bytes + 1), [])

        [answer] = await feed.hand_over([(source, too_large)], timeout_s=PATIENCE_S)

        assert isinstance(answer, Refused)
        assert feed.begin([source]) == [source]

    async def test_a_delayed_record_is_never_early_and_soon_there(
        self, log_bench: LogBench
    ) -> None:
        if not log_bench.has_delay:
            return
        lane, clock = await log_bench.lane(), log_bench.clock
        feed = log_bench.feed(lane)
        await feed.open()
        due_ms = clock.epoch_ms() + 1_800
        late = Record(lane, b"2", [("a", b"1")], None, due_ms)
        await append_all(log_bench, [late, *records_of(lane, [1])])

        first = await collect(feed, 1, clock=clock)
        second = await collect(feed, 1, clock=clock)
        late_ms = clock.epoch_ms() - due_ms

        assert numbers(first + second) == [1, 2]
        assert second[0].headers == [("a", b"1")]
        assert -log_bench.early_ms <= late_ms < 5_000

    async def test_a_record_due_in_the_past_is_there_at_once(
        self, log_bench: LogBench
    ) -> None:
        lane = await log_bench.lane()
        feed = log_bench.feed(lane)
        await feed.open()

        await append_all(log_bench, [Record(lane, b"1", [], None, 1)])

        assert numbers(await collect(feed, 1, clock=log_bench.clock)) == [1]

    async def test_begin_returns_nothing_of_a_closed_feed(
        self, log_bench: LogBench
    ) -> None:
        lane = await log_bench.lane()
        await append_all(log_bench, records_of(lane, range(3)))
        feed = log_bench.feed(lane)
        await feed.open()
        found = await collect(feed, 3, clock=log_bench.clock)
        assert feed.begin(found) == found

        await feed.close(timeout_s=PATIENCE_S)

        assert feed.begin(found) == []

    async def test_what_another_feed_took_over_does_not_begin(
        self, log_bench: LogBench
    ) -> None:
        if not log_bench.rebalances:
            return
        lane = await log_bench.lane(partitions=4)
        await append_all(log_bench, spread_records(lane, range(200)))
        old, new = log_bench.feed(lane), log_bench.feed(lane)
        await old.open()
        held = await collect(old, 200, clock=log_bench.clock)
        assert sorted(numbers(held)) == list(range(200))

        await new.open()
        moved = await collect(new, 1, clock=log_bench.clock)

        async def is_shared_out() -> bool:
            moved.extend(await new.fetch(200, wait_s=0.1))
            return len(old.begin(held)) + len(moved) >= 200

        assert moved
        assert await eventually(is_shared_out, clock=log_bench.clock)
        kept = old.begin(held)
        assert sorted(numbers(kept) + numbers(moved)) == list(range(200))

    async def test_two_feeds_split_the_work(self, log_bench: LogBench) -> None:
        lane, clock = await log_bench.lane(partitions=4), log_bench.clock
        feeds = [log_bench.feed(lane), log_bench.feed(lane)]
        for feed in feeds:
            await feed.open()
        await _balance(log_bench, lane, feeds)

        await append_all(log_bench, spread_records(lane, range(1_000, 1_400)))
        shares: list[list[int]] = [[], []]

        async def is_empty() -> bool:
            for share, feed in zip(shares, feeds, strict=True):
                share.extend(numbers(await feed.fetch(400, wait_s=0.3)))
            return len(shares[0]) + len(shares[1]) >= 400

        assert await eventually(is_empty, clock=clock)
        assert all(shares)
        assert sorted(shares[0] + shares[1]) == list(range(1_000, 1_400))
        assert [await feed.fetch(1, wait_s=0.3) for feed in feeds] == [[], []]

    async def test_a_feed_is_idle_once_all_is_settled(
        self, log_bench: LogBench
    ) -> None:
        lane, clock = await log_bench.lane(), log_bench.clock
        await append_all(log_bench, records_of(lane, range(3)))
        feed = log_bench.feed(lane)
        await feed.open()

        found = await collect(feed, 3, clock=clock)
        await feed.settle(found[:2])
        assert not feed.idle()

        async def is_idle() -> bool:
            await feed.fetch(1, wait_s=0.05)
            return feed.idle()

        await feed.settle(found[2:])
        assert await eventually(is_idle, clock=clock)

    async def test_nothing_is_lost_where_nothing_was_deleted(
        self, log_bench: LogBench
    ) -> None:
        lane = await log_bench.lane()
        await append_all(log_bench, records_of(lane, range(3)))
        feed = log_bench.feed(lane)
        await feed.open()
        await collect(feed, 3, clock=log_bench.clock)

        assert feed.losses() == []

    async def test_a_lane_at_rest_keeps_its_records_and_the_others_go_on(
        self, log_bench: LogBench
    ) -> None:
        resting, lane = await log_bench.lane(), await log_bench.lane()
        feed = log_bench.feed(resting, lane)
        await feed.open()
        feed.rest(frozenset({resting}))
        await append_all(log_bench, records_of(resting, [1]))
        await append_all(log_bench, records_of(lane, [2]))

        meanwhile = await collect(feed, 1, clock=log_bench.clock)
        none = await feed.fetch(10, wait_s=0.5)
        feed.rest(frozenset())
        later = await collect(feed, 1, clock=log_bench.clock)

        assert (numbers(meanwhile), none) == ([2], [])
        assert numbers(later) == [1]


async def _balance(log_bench: LogBench, lane: str, feeds: Sequence[LaneFeed]) -> None:
    """Feed and settle until each feed has its share twice, then leave the lane empty.

    A rebalance that is under way hands records out again; two rounds without one show
    that it is over.
    """
    shared_rounds = 0

    async def is_shared() -> bool:
        nonlocal shared_rounds
        await append_all(log_bench, spread_records(lane, range(80)))
        shares = [await _drain(feed) for feed in feeds]
        is_even = all(shares) and sum(shares) == 80
        shared_rounds = shared_rounds + 1 if is_even else 0
        return shared_rounds == 2

    assert await eventually(is_shared, clock=log_bench.clock)
    while any([await _drain(feed) for feed in feeds]):
        pass


async def _drain(feed: LaneFeed) -> int:
    count = 0
    while found := await feed.fetch(1_000, wait_s=0.3):
        await feed.settle(found)
        count += len(found)
    return count
