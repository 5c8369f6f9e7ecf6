from __future__ import annotations

import asyncio
import contextlib
import random
import uuid

import pytest

from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.mover import KafkaDelayMover
from shifter.errors import StoreRefusedError
from shifter.model.lane import Priority, dead_letter_topic, delay_topic
from shifter.ports import Appended, Record
from shifter.wire.dead_letter import read_dead_letter
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import headers_by_id

pytestmark = pytest.mark.kafka


class Ladder:
    """A namespace with delay topics and one lane, and the lane's reader."""

    def __init__(self, bench, namespace):
        self.bench, self.site, self.namespace = bench, bench.site, namespace
        self.lane = f"{namespace}.mail.low"
        self.log = self.site.writer(namespace)
        self.clock = bench.clock

    def mover(self, **options):
        return KafkaDelayMover(
            self.site.config, self.namespace, self.log, self.clock, **options
        )

    def record(self, delay_ms, value=b"v", *, lane=None):
        """Delays are long enough not to go straight to the lane on a slow machine."""
        due_ms = self.clock.epoch_ms() + delay_ms
        text = b"%s %d" % (value, due_ms)
        return Record(lane or self.lane, text, [("a", b"1")], b"key", due_ms)

    async def write(self, *records):
        answers = await self.log.append(records, timeout_s=20)
        assert answers == [Appended()] * len(records)

    @contextlib.asynccontextmanager
    async def moving(self, **options):
        """Run a mover while the block runs; then end it as a worker does."""
        mover = self.mover(**options)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(mover.run())
            try:
                await self.bench.until(lambda: mover._feed.epochs)
                yield mover
            finally:
                task.cancel()

    async def arrivals(self, feed, count, *, within_s=60):
        """How late each record reached the lane, in milliseconds."""
        found, until = [], self.clock.monotonic() + within_s
        while len(found) < count and self.clock.monotonic() < until:
            batch = await feed.fetch(1_000, wait_s=0.1)
            now_ms = self.clock.epoch_ms()
            found += [now_ms - int(d.value.split()[-1]) for d in batch]
            await feed.settle(batch)
        return found


@pytest.fixture
async def ladder(bench):
    namespace = f"m{uuid.uuid4().hex[:8]}"
    made = Ladder(bench, namespace)
    await asyncio.to_thread(bench.site.make_ladder, namespace, partitions=2)
    await asyncio.to_thread(bench.site.make, made.lane)
    yield made
    await asyncio.to_thread(made.log.close, timeout_s=5)


async def test_delays_of_any_length_are_never_early(ladder, bench):
    feed = await bench.opened(ladder.lane)
    draw = random.Random(7)
    delays = [4_000, 5_000, *(draw.randrange(3_000, 7_000) for _ in range(500))]
    async with ladder.moving() as mover:
        await ladder.write(*(ladder.record(delay) for delay in delays))

        late_ms = await ladder.arrivals(feed, len(delays))

    assert len(late_ms) == len(delays)
    assert min(late_ms) >= 0
    assert sorted(late_ms)[len(delays) // 2] < 5_000
    assert mover.counts["onward"] >= len(delays)


async def test_a_record_arrives_as_it_was_written(ladder, bench):
    feed = await bench.opened(ladder.lane)
    async with ladder.moving():
        await ladder.write(ladder.record(2_100, b"payload"))
        [found] = await bench.collect(feed, 1)

    assert found.value.startswith(b"payload")
    assert (found.key, found.headers) == (b"key", [("a", b"1")])


async def test_what_is_under_way_survives_a_change_of_movers(ladder, bench):
    """A mover that goes takes nothing with it and leaves nothing twice."""
    feed = await bench.opened(ladder.lane)
    await ladder.write(*(ladder.record(3_000 + 10 * n) for n in range(300)))

    found = []
    for _ in range(3):
        async with ladder.moving():
            found += await ladder.arrivals(feed, 300, within_s=1.2)
    async with ladder.moving():
        found += await ladder.arrivals(feed, 300 - len(found))
        found += await ladder.arrivals(feed, 1, within_s=0.5)

    assert len(found) == 300
    assert min(found) >= 0


async def test_two_movers_share_the_work(ladder, bench):
    feed = await bench.opened(ladder.lane)
    async with ladder.moving() as first, ladder.moving() as second:
        await bench.until(lambda: len(first._feed.epochs) == 8)
        await ladder.write(*(ladder.record(2_500) for _ in range(200)))

        late_ms = await ladder.arrivals(feed, 200)

    assert min(late_ms) >= 0
    assert len(late_ms) == 200
    assert second._feed.epochs == frozenset()


async def test_memory_is_bounded_and_a_long_delay_holds_up_no_short_one(ladder, bench):
    feed = await bench.opened(ladder.lane)
    await ladder.write(*(ladder.record(3_600_000) for _ in range(6_000)))
    async with ladder.moving(limit=500) as mover:
        await ladder.write(*(ladder.record(2_500) for _ in range(50)))

        late_ms = await ladder.arrivals(feed, 50)

        assert len(late_ms) == 50
        assert max(late_ms) < 5_000
        assert len(mover._heap) <= 2_000


class TestUndeliverable:
    async def test_a_bad_record_holds_up_nothing_and_goes_round(self, ladder, bench):
        feed = await bench.opened(ladder.lane)
        shortest = delay_topic(ladder.namespace, 1)
        longest = await bench.opened(
            delay_topic(ladder.namespace, 16_384), window=1_000
        )
        bad = [
            Record(shortest, b"bad", []),
            Record(shortest, b"bad", [("shifter-lane", b"other.mail.low")]),
            Record(shortest, b"", [("shifter", b"\xff" * 100)], b"k"),
        ]
        async with ladder.moving() as mover:
            await ladder.write(*bad, ladder.record(2_500))

            assert len(await ladder.arrivals(feed, 1)) == 1
            found = await bench.collect(longest, 3)

        assert sorted(d.value for d in found) == [b"", b"bad", b"bad"]
        assert {tuple(d.headers) for d in found} == {tuple(r.headers) for r in bad}
        # A try that the lane refused counts too.
        assert mover.counts["ladder"] >= 3

    async def test_an_absurd_due_time_becomes_a_dead_letter(self, ladder, bench):
        dead = dead_letter_topic(ladder.namespace, "mail")
        await asyncio.to_thread(bench.site.make, dead)
        feed = await bench.opened(dead)
        headers = [
            ("shifter-lane", ladder.lane.encode()),
            ("shifter-due", b"%d" % 10**14),
        ]
        async with ladder.moving() as mover:
            await ladder.write(Record(delay_topic(ladder.namespace, 1), b"v", headers))
            [found] = await bench.collect(feed, 1)

        assert read_dead_letter(found.headers).reason == "undecodable_envelope"
        assert found.value == b"v"
        assert mover.counts["dead_letter"] == 1

    async def test_a_lane_that_is_not_there_holds_up_no_other(self, ladder, bench):
        feed = await bench.opened(ladder.lane)
        waiting = await bench.opened(delay_topic(ladder.namespace, 64))
        gone = f"{ladder.namespace}.gone.low"
        async with ladder.moving() as mover:
            await ladder.write(
                *(ladder.record(2_500, lane=gone) for _ in range(3)),
                *(ladder.record(2_500) for _ in range(20)),
            )

            late_ms = await ladder.arrivals(feed, 20)
            found = await bench.collect(waiting, 3)

        assert len(late_ms) == 20
        assert [dict(d.headers)["shifter-lane"] for d in found] == [gone.encode()] * 3
        # A try that the lane refused counts too.
        assert mover.counts["ladder"] >= 3


async def test_a_missing_delay_topic_is_named(bench):
    config = bench.site.config
    mover = KafkaDelayMover(config, "nobody", bench.log, bench.clock)

    with pytest.raises(StoreRefusedError, match=r"'nobody\.delay\.1s'"):
        await mover.run()


async def test_movers_of_a_namespace_are_one_group(ladder, bench):
    async with ladder.moving():
        await asyncio.sleep(0)
    group = KafkaConfig.group(ladder.namespace, "delay")

    groups = bench.site.admin.list_consumer_groups().result(40).valid

    assert group in {found.group_id for found in groups}


# --- hours set by hand ---------------------------------------------------------------


def waiting_for_hours(ladder, number, *, job="digest", own_ms=None):
    """A record that its log delays for an hour, and its envelope not so long."""
    now = ladder.clock.epoch_ms()
    envelope = EnvelopeV1(
        v=1,
        id=str(uuid.uuid4()),
        type=job,
        queue="mail",
        priority=Priority.LOW,
        created_ms=now,
        due_ms=None if own_ms is None else now + own_ms,
    )
    headers = headers_by_id(envelope, content_type="application/json")(envelope.id, [])
    return Record(ladder.lane, b"%d %d" % (number, now), headers, b"k", now + 3_600_000)


async def test_what_waits_for_its_hours_is_on_its_lane_soon_after_they_changed(
    ladder, bench
):
    feed = await bench.opened(ladder.lane)
    # Records of other jobs lie before and between them in the same tier.
    await ladder.write(
        *(waiting_for_hours(ladder, n, job="other") for n in range(2_000)),
        *(waiting_for_hours(ladder, n) for n in range(500)),
        waiting_for_hours(ladder, 900, own_ms=3_000_000),
    )
    async with ladder.moving() as mover:
        before = await feed.fetch(10, wait_s=2)
        mover.rush(lambda job, lane: job == "digest" and lane.queue == "mail")
        began = ladder.clock.monotonic()
        late_ms = await ladder.arrivals(feed, 500)
        took_s = ladder.clock.monotonic() - began
        await ladder.write(waiting_for_hours(ladder, 501))
        later = await ladder.arrivals(feed, 1)
        more = await feed.fetch(10, wait_s=1)

    print(f"500 records of 2,501 on their lane within {took_s:.2f} s")
    assert before == []
    assert len(late_ms) == 500
    assert len(later) == 1
    assert more == []


async def test_hours_that_count_again_delay_what_comes_then(ladder, bench):
    feed = await bench.opened(ladder.lane)
    async with ladder.moving() as mover:
        mover.rush(lambda job, lane: True)
        await ladder.write(waiting_for_hours(ladder, 1))
        first = await ladder.arrivals(feed, 1)
        mover.rush(None)
        await ladder.write(waiting_for_hours(ladder, 2))
        second = await feed.fetch(10, wait_s=2)

    assert len(first) == 1
    assert second == []
