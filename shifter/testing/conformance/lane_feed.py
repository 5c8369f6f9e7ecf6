"""The suite of the draining side of a log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from shifter.ports import Appended, LaneFeed, Record, Refused
from shifter.testing.conformance.log_bench import (
    PATIENCE_S,
    LogSuite,
    numbers,
    records_of,
    spread_records,
)


class LaneFeedConformance(LogSuite):
    """Tests of `shifter.ports.LaneFeed`; needs the fixture ``log_bench``."""

    async def test_fetch_hands_out_at_most_max(self) -> None:
        lane = await self.lane_of(range(10))
        feed = await self.opened(lane)
        found = await self.collect(feed, 1)

        found += await feed.fetch(4, wait_s=PATIENCE_S)

        assert 1 < len(found) <= 5
        found += await self.collect(feed, 10 - len(found))
        assert numbers(found) == list(range(10))

    async def test_fetch_of_an_empty_lane_ends_after_its_wait(self) -> None:
        feed = await self.opened(await self.bench.lane())
        began = self.clock.monotonic()

        assert await feed.fetch(10, wait_s=0.3) == []

        assert 0.25 < self.clock.monotonic() - began < PATIENCE_S / 2
        assert await feed.fetch(10, wait_s=0) == []

    async def test_fetch_ends_when_a_record_comes(self) -> None:
        lane = await self.bench.lane()
        feed = await self.opened(lane)
        began = self.clock.monotonic()

        async with asyncio.TaskGroup() as group:
            fetching = group.create_task(feed.fetch(10, wait_s=PATIENCE_S))
            await self.append(records_of(lane, [1]))

        assert numbers(fetching.result()) == [1]
        assert self.clock.monotonic() - began < PATIENCE_S / 2

    async def test_settled_records_never_come_back(self) -> None:
        lane = await self.lane_of(range(10))
        first = await self.opened(lane)
        await first.settle(await self.collect(first, 10))
        await first.close(timeout_s=PATIENCE_S)

        second = await self.opened(lane)
        await self.append(records_of(lane, [99]))

        assert numbers(await self.collect(second, 1)) == [99]
        assert await second.fetch(10, wait_s=0.3) == []

    async def test_unsettled_records_come_back_after_close(self) -> None:
        lane = await self.lane_of(range(10))
        first = await self.opened(lane)
        assert len(await self.collect(first, 10)) == 10
        await first.close(timeout_s=PATIENCE_S)

        second = await self.opened(lane)

        found = await self.collect(second, 10)
        assert numbers(found) == list(range(10))

    async def test_settling_out_of_order_is_remembered(self) -> None:
        lane = await self.lane_of(range(20))
        first = await self.opened(lane)
        found = await self.collect(first, 20)
        await first.settle(found[19:4:-2])
        await first.settle(found[1:4:2])
        await first.close(timeout_s=PATIENCE_S)

        second = await self.opened(lane)

        again = await self.collect(second, 10)
        assert numbers(again) == list(range(0, 20, 2))
        assert await second.fetch(10, wait_s=0.3) == []

    async def test_a_successor_is_durable_before_its_source_is_settled(self) -> None:
        lane, other = await self.lane_of([1]), await self.bench.lane()
        feed = await self.opened(lane)
        [source] = await self.collect(feed, 1)

        [successor] = records_of(other, [2])
        answers = await feed.hand_over([(source, successor)], timeout_s=PATIENCE_S)

        assert answers == [Appended()]
        assert await self.bench.admin().count(other) == 1
        await feed.close(timeout_s=PATIENCE_S)
        again = await self.opened(lane)
        if self.bench.is_transactional:
            assert await again.fetch(1, wait_s=0.5) == []
        else:
            assert numbers(await self.collect(again, 1)) == [1]

    async def test_a_refused_successor_leaves_its_source_open(self) -> None:
        lane = await self.lane_of([1])
        feed = await self.opened(lane)
        [source] = await self.collect(feed, 1)
        too_large = Record(lane, bytes(self.bench.max_record_bytes + 1), [])

        [answer] = await feed.hand_over([(source, too_large)], timeout_s=PATIENCE_S)

        assert isinstance(answer, Refused)
        assert feed.begin([source]) == [source]

    async def test_a_delayed_record_is_never_early_and_arrives_soon(self) -> None:
        if not self.bench.has_delay:
            return
        lane, clock = await self.bench.lane(), self.clock
        feed = await self.opened(lane)
        due_ms = clock.epoch_ms() + 1_800
        late = Record(lane, b"2", [("a", b"1")], None, due_ms)
        await self.append([late, *records_of(lane, [1])])

        first = await self.collect(feed, 1)
        second = await self.collect(feed, 1)
        late_ms = clock.epoch_ms() - due_ms

        assert numbers(first + second) == [1, 2]
        assert second[0].headers == [("a", b"1")]
        assert -self.bench.early_ms <= late_ms < 5_000

    async def test_a_record_due_in_the_past_arrives_at_once(self) -> None:
        lane = await self.bench.lane()
        feed = await self.opened(lane)

        await self.append([Record(lane, b"1", [], None, 1)])

        assert numbers(await self.collect(feed, 1)) == [1]

    async def test_begin_returns_nothing_of_a_closed_feed(self) -> None:
        lane = await self.lane_of(range(3))
        feed = await self.opened(lane)
        found = await self.collect(feed, 3)
        assert feed.begin(found) == found

        await feed.close(timeout_s=PATIENCE_S)

        assert feed.begin(found) == []

    async def test_deliveries_that_another_feed_took_over_do_not_begin(self) -> None:
        if not self.bench.rebalances:
            return
        lane = await self.bench.lane(partitions=4)
        await self.append(spread_records(lane, range(200)))
        old = await self.opened(lane)
        held = await self.collect(old, 200)
        assert sorted(numbers(held)) == list(range(200))

        new = await self.opened(lane)
        moved = await self.collect(new, 1)

        async def is_shared_out() -> bool:
            moved.extend(await new.fetch(200, wait_s=0.1))
            return len(old.begin(held)) + len(moved) >= 200

        assert moved
        assert await self.eventually(is_shared_out)
        kept = old.begin(held)
        assert sorted(numbers(kept) + numbers(moved)) == list(range(200))

    async def test_two_feeds_split_the_work(self) -> None:
        lane = await self.bench.lane(partitions=4)
        feeds = [await self.opened(lane), await self.opened(lane)]
        await self._balance(lane, feeds)

        await self.append(spread_records(lane, range(1_000, 1_400)))
        shares: list[list[int]] = [[], []]

        async def is_empty() -> bool:
            for share, feed in zip(shares, feeds, strict=True):
                share.extend(numbers(await feed.fetch(400, wait_s=0.3)))
            return len(shares[0]) + len(shares[1]) >= 400

        assert await self.eventually(is_empty)
        assert all(shares)
        assert sorted(shares[0] + shares[1]) == list(range(1_000, 1_400))
        assert [await feed.fetch(1, wait_s=0.3) for feed in feeds] == [[], []]

    async def test_a_feed_is_idle_once_all_records_are_settled(self) -> None:
        lane = await self.lane_of(range(3))
        feed = await self.opened(lane)

        found = await self.collect(feed, 3)
        await feed.settle(found[:2])
        assert not feed.idle()

        async def is_idle() -> bool:
            await feed.fetch(1, wait_s=0.05)
            return feed.idle()

        await feed.settle(found[2:])
        assert await self.eventually(is_idle)

    async def test_no_loss_is_reported_where_no_record_was_deleted(self) -> None:
        lane = await self.lane_of(range(3))
        feed = await self.opened(lane)
        await self.collect(feed, 3)

        assert feed.losses() == []

    async def test_a_lane_at_rest_is_not_fetched_while_others_are(
        self,
    ) -> None:
        resting, lane = await self.bench.lane(), await self.bench.lane()
        feed = await self.opened(resting, lane)
        feed.rest(frozenset({resting}))
        await self.append(records_of(resting, [1]))
        await self.append(records_of(lane, [2]))

        meanwhile = await self.collect(feed, 1)
        none = await feed.fetch(10, wait_s=0.5)
        feed.rest(frozenset())
        later = await self.collect(feed, 1)

        assert (numbers(meanwhile), none) == ([2], [])
        assert numbers(later) == [1]

    async def _balance(self, lane: str, feeds: Sequence[LaneFeed]) -> None:
        """Feed and settle until each feed has its share twice; then empty the lane.

        A rebalance that is under way delivers records again. Two rounds without one
        show that it is over.
        """
        shared_rounds = 0

        async def is_shared() -> bool:
            nonlocal shared_rounds
            await self.append(spread_records(lane, range(80)))
            shares = [await _drain(feed) for feed in feeds]
            is_even = all(shares) and sum(shares) == 80
            shared_rounds = shared_rounds + 1 if is_even else 0
            return shared_rounds == 2

        assert await self.eventually(is_shared)
        while any([await _drain(feed) for feed in feeds]):
            pass


async def _drain(feed: LaneFeed) -> int:
    count = 0
    while found := await feed.fetch(1_000, wait_s=0.3):
        await feed.settle(found)
        count += len(found)
    return count
