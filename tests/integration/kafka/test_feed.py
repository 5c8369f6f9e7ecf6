from __future__ import annotations

import asyncio
import threading

import pytest
from confluent_kafka import Consumer, TopicPartition

from shifter.errors import StoreRefusedError, StoreUnavailableError
from shifter.ports import LostRange
from tests.integration.kafka.bench import numbers

pytestmark = pytest.mark.kafka


@pytest.fixture(params=["classic", "consumer"])
def protocol(request):
    return request.param


class TestFetching:
    async def test_a_cancelled_fetch_loses_nothing(self, bench):
        lane = await bench.lane()
        feed = await bench.opened(lane)
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    while True:
                        await feed.fetch(10, wait_s=5)

        await bench.write(lane, range(50))
        found = []
        while len(found) < 50:
            try:
                async with asyncio.timeout(0.003):
                    found += await feed.fetch(7, wait_s=5)
            except TimeoutError:
                continue

        assert numbers(found) == list(range(50))

    async def test_partitions_without_a_fetch_are_not_read(self, bench):
        lane = await bench.lane()
        await bench.write(lane, range(3_000))
        feed = await bench.opened(lane)
        first = await bench.collect(feed, 10, at_once=10)

        await asyncio.sleep(0.3)

        [part] = _parts(feed)
        assert part.acks.position == len(first) == 10

    async def test_reading_goes_on_after_a_long_rest(self, bench):
        lane = await bench.lane()
        await bench.write(lane, range(100))
        feed = await bench.opened(lane)
        first = await bench.collect(feed, 10, at_once=10)
        [part] = _parts(feed)
        await bench.until(lambda: part.is_paused)

        rest = await bench.collect(feed, 90)

        assert numbers(first + rest) == list(range(100))
        assert not part.is_paused

    async def test_a_member_that_rests_takes_part_in_rebalances(self, bench):
        lane = await bench.lane(partitions=2)
        await bench.write(lane, range(100))
        old = await bench.opened(lane)
        parts = list(_parts(old))
        await bench.until(lambda: all(part.is_paused for part in parts))

        new = await bench.opened(lane)

        await bench.until(lambda: len(old.epochs) == len(new.epochs) == 1)
        found = old.begin(await bench.collect(old, 100, within_s=3))
        found += new.begin(await bench.collect(new, 100 - len(found)))
        assert sorted(numbers(found)) == list(range(100))

    async def test_a_partition_that_comes_back_is_read_again(self, bench):
        """Paused, taken away and given back: the client would leave it paused."""
        lane = await bench.lane(partitions=2)
        old = await bench.opened(lane)
        parts = list(_parts(old))
        await bench.until(lambda: all(part.is_paused for part in parts))
        new = await bench.opened(lane)
        await bench.until(lambda: len(old.epochs) == len(new.epochs) == 1)
        await new.close(timeout_s=10)
        await bench.until(lambda: len(old.epochs) == 2)

        await bench.write(lane, range(100))

        assert len(await bench.collect(old, 100)) == 100

    async def test_a_held_partition_is_not_read(self, bench):
        lane, other = await bench.lane(), await bench.lane()
        feed = await bench.opened(lane, other)
        await bench.write(lane, [1])
        [first] = await bench.collect(feed, 1)

        feed.hold(frozenset({first.epoch}))
        await bench.write(lane, [2])
        await bench.write(other, [3])

        assert numbers(await bench.collect(feed, 1)) == [3]
        assert await bench.collect(feed, 1, within_s=1) == []
        feed.hold(frozenset())
        assert numbers(await bench.collect(feed, 1)) == [2]

    async def test_it_is_idle_behind_the_markers_of_transactions(self, bench):
        lane = await bench.lane()
        write = bench.site.transact
        await asyncio.to_thread(write, lane, [1, 2], [3, None], [4], [5, 6, None])
        feed = await bench.opened(lane)

        found = await bench.collect(feed, 3)
        await feed.settle(found)

        assert numbers(found) == [1, 2, 4]
        await self.until_idle(bench, feed)
        [part] = _parts(feed)
        assert part.acks.frontier == 10  # six records, four markers
        await feed.close(timeout_s=10)
        assert committed(bench, lane).offset == 10

    async def until_idle(self, bench, feed):
        async with asyncio.timeout(30):
            while not feed.idle():
                assert await feed.fetch(1, wait_s=0.05) == []


class TestWindow:
    async def test_a_record_that_never_ends_holds_up_its_partition_alone(self, bench):
        lane, other = await bench.lane(), await bench.lane()
        await bench.write(lane, range(200))
        feed = await bench.opened(lane, other, window=50)
        [stuck, *rest] = await bench.collect(feed, 200, within_s=5, at_once=10)
        assert numbers([stuck, *rest]) == list(range(len(rest) + 1))
        assert 25 <= len(rest) < 50
        await feed.settle(rest)

        await bench.write(other, range(1_000, 1_010))
        assert numbers(await bench.collect(feed, 10)) == [*range(1_000, 1_010)]
        assert await bench.collect(feed, 1, within_s=1) == []

        await feed.settle([stuck])
        more = await bench.collect(feed, 10)
        assert numbers(more)[0] == len(rest) + 1
        assert ("partition_full", lane) in [
            (what, facts.get("topic")) for what, facts in bench.heard
        ]


class TestRebalance:
    async def test_what_has_begun_may_end_before_its_partition_goes(
        self, bench, protocol
    ):
        lane = await bench.lane(partitions=2)
        await bench.write(lane, range(60))
        old = await bench.opened(lane, protocol=protocol)
        held = old.begin(await bench.collect(old, 60))
        assert len(held) == 60
        new = bench.feed(lane, protocol=protocol)

        async with asyncio.TaskGroup() as group:
            group.create_task(new.open())
            await bench.until(lambda: len(old.epochs) == 1)
            await old.settle(held)

        assert await bench.collect(new, 60, within_s=1.5) == []
        assert not any(facts.get("unfinished") for _, facts in bench.heard)

    async def test_what_waited_goes_to_the_next_owner(self, bench, protocol):
        lane = await bench.lane(partitions=2)
        await bench.write(lane, range(60))
        old = await bench.opened(lane, protocol=protocol)
        held = await bench.collect(old, 60)

        new = await bench.opened(lane, protocol=protocol)
        await bench.until(lambda: len(new.epochs) == 1)

        kept = old.begin(held)
        moved = await bench.collect(new, 60 - len(kept))
        assert sorted(numbers(kept) + numbers(moved)) == list(range(60))
        await old.settle(held)
        assert new.begin(moved) == moved

    async def test_more_members_than_partitions_all_open(self, bench):
        lane = await bench.lane()
        first = await bench.opened(lane)
        second = await bench.opened(lane)
        await bench.write(lane, [1])

        found = await bench.collect(first, 1) or await bench.collect(second, 1)

        assert numbers(found) == [1]
        assert sorted([len(first.epochs), len(second.epochs)]) == [0, 1]
        assert first.idle() is not second.idle()

    async def test_a_member_of_each_protocol_share_the_lane(self, bench):
        lane = await bench.lane(partitions=4)
        old = await bench.opened(lane)
        new = await bench.opened(lane, protocol="consumer")

        await bench.until(lambda: len(old.epochs) == len(new.epochs) == 2)


class TestLosses:
    async def test_what_retention_took_before_the_start_is_reported(self, bench):
        lane = await bench.lane()
        await bench.write(lane, range(30))
        first = await bench.opened(lane)
        found = await bench.collect(first, 30)
        await first.settle(found[:5] + found[7:9])
        await first.close(timeout_s=10)
        bench.site.forget_below(lane, 20)

        second = await bench.opened(lane)

        assert numbers(await bench.collect(second, 10)) == list(range(20, 30))
        assert second.losses() == [LostRange(lane, 0, 5, 7), LostRange(lane, 0, 9, 20)]
        assert second.losses() == []

    async def test_what_retention_takes_from_under_a_reader_is_reported(self, bench):
        lane = await bench.lane()
        await bench.write(lane, range(30))
        feed = await bench.opened(lane)
        found = await bench.collect(feed, 10, at_once=10)
        [part] = _parts(feed)
        await bench.until(lambda: part.is_paused)
        bench.site.forget_below(lane, 25)

        more = await bench.collect(feed, 5)

        assert numbers(found + more) == [*range(10), *range(25, 30)]
        assert feed.losses() == [LostRange(lane, 0, 10, 25)]
        await feed.settle(feed.begin(found + more))
        await feed.close(timeout_s=10)
        assert committed(bench, lane).offset == 30

    async def test_a_new_group_has_a_commit_before_anything_is_settled(self, bench):
        """What retention takes from then on is seen as lost."""
        lane = await bench.lane()
        await bench.write(lane, range(10))
        feed = await bench.opened(lane)
        await bench.until(lambda: not next(iter(_parts(feed))).is_dirty)
        await feed.close(timeout_s=10)
        bench.site.forget_below(lane, 4)

        again = await bench.opened(lane)

        assert numbers(await bench.collect(again, 6)) == list(range(4, 10))
        assert again.losses() == [LostRange(lane, 0, 0, 4)]

    async def test_a_topic_that_is_made_again_is_read_from_its_beginning(self, bench):
        lane = await bench.lane()
        await bench.write(lane, range(20))
        feed = await bench.opened(lane)
        old = feed.begin(await bench.collect(feed, 20))
        await asyncio.to_thread(bench.site.delete, lane)
        await asyncio.to_thread(bench.site.make, lane)
        await self.write_to_the_new_one(bench, lane)

        new = await bench.collect(feed, 5)

        assert numbers(new) == [100, 101, 102, 103, 104]
        await feed.settle(old)
        assert feed.begin(old) == []
        assert feed.begin(new) == new
        await feed.settle(new[:3])
        await feed.close(timeout_s=10)
        assert committed(bench, lane).offset == 3

    async def write_to_the_new_one(self, bench, lane):
        """A producer that knew the old topic may take a while; a new one does not."""
        bench.log = bench.site.writer(bench.site.namespace)
        await bench.write(lane, range(100, 105))
        bench.log.close(timeout_s=5)


class TestTrouble:
    async def test_a_lane_that_is_not_there_is_named(self, bench, protocol):
        lane = await bench.lane()

        with pytest.raises(StoreRefusedError, match=r"'shop\.nowhere\.low'"):
            await bench.opened(lane, "shop.nowhere.low", protocol=protocol)

    async def test_a_lane_that_goes_away_is_named_and_its_member_goes_on(self, bench):
        lane = await bench.lane()
        feed = await bench.opened(lane)
        await asyncio.to_thread(bench.site.delete, lane)
        feed._member._doubt_at = 0.0

        await bench.until(lambda: "topic_gone" in dict(bench.heard))

        assert lane in dict(bench.heard)["topic_gone"]["detail"]
        assert await bench.collect(feed, 1, within_s=0.5) == []

    async def test_a_cluster_that_is_not_there_is_unavailable(self, bench, monkeypatch):
        monkeypatch.setattr("shifter.adapters.kafka.member._CONNECT_S", 1.0)
        bench.site.config, real = (
            type(bench.site.config)("127.0.0.1:1"),
            bench.site.config,
        )
        feed = bench.feed("shop.mail.low")
        bench.site.config = real

        with pytest.raises(StoreUnavailableError, match="check the address"):
            await feed.open()

        with pytest.raises(StoreUnavailableError):
            await feed.fetch(1, wait_s=0)
        assert feed.begin([]) == []

    async def test_a_feed_that_was_never_opened_is_empty(self, bench):
        feed = bench.feed("shop.mail.low")

        assert await feed.fetch(1, wait_s=0) == []
        assert (feed.begin([]), feed.losses(), feed.idle()) == ([], [], True)
        assert feed.epochs == frozenset()
        await feed.settle([])
        await feed.close(timeout_s=1)

    async def test_opening_and_closing_twice_is_harmless(self, bench):
        lane = await bench.lane()
        feed = await bench.opened(lane)
        await feed.open()
        await feed.close(timeout_s=10)

        await feed.close(timeout_s=10)

        assert await feed.fetch(1, wait_s=0) == []

    async def test_nonsense_beside_a_commit_skips_nothing(self, bench):
        lane = await bench.lane()
        await bench.write(lane, range(5))
        commit(bench, TopicPartition(lane, 0, 1, "s1" + "A" * 4_000))

        feed = await bench.opened(lane)

        assert numbers(await bench.collect(feed, 4)) == [1, 2, 3, 4]

    async def test_threads_end_with_their_feeds(self, bench):
        lane = await bench.lane()
        feed = await bench.opened(lane)

        await feed.close(timeout_s=10)

        assert feed._bridge.is_over.is_set()
        for thread in threading.enumerate():
            if bench.group in thread.name:
                await asyncio.to_thread(thread.join, 5)
                assert not thread.is_alive()


class TestCounts:
    async def test_what_ended_and_is_not_committed_is_the_gap(self, bench):
        lane = await bench.lane()
        await bench.write(lane, range(10))
        feed = await bench.opened(lane)
        found = await bench.collect(feed, 10)
        assert feed.counts().frontier_gap == 0

        await feed.settle(found[1:])
        await bench.until(lambda: feed.counts().frontier_gap == 9)
        await feed.settle(found[:1])
        await bench.until(lambda: feed.counts().frontier_gap == 0)
        await bench.until(lambda: feed.counts().commits >= 1)
        await bench.until(lambda: committed(bench, lane).offset == 10)

        assert feed.counts().rebalances >= 1
        assert feed.counts().commits_failed == 0


def _parts(feed):
    return feed._member.assignment.parts.values()


def committed(bench, lane):
    """What the test's group committed for a lane's first partition."""
    consumer = _outsider(bench)
    [found] = consumer.committed([TopicPartition(lane, 0)], timeout=40)
    consumer.close()
    return found


def commit(bench, at):
    consumer = _outsider(bench)
    consumer.commit(offsets=[at], asynchronous=False)
    consumer.close()


def _outsider(bench):
    return Consumer(
        {"bootstrap.servers": bench.site.bootstrap, "group.id": bench.group}
    )
