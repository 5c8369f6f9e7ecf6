"""A topic that is deleted and made again under live members is read from its start.

What a group committed for the old topic was believed for the new one, because a commit
did not name the topic that it counted: records below the old position were skipped for
ever. A client that had seen the topic vanish looked for it again only after 5 minutes.
Each commit names the topic by the id that the cluster gave it, and a commit of another
id says nothing.
"""

from __future__ import annotations

import asyncio

import pytest

from shifter.adapters.kafka.topic_ids import TopicIds
from tests.integration.kafka.bench import Bench, Site, numbers

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

PARTITIONS = 6
OLD, NEW = range(120), range(1_000, 1_600)
NOTICED_S = 40.0
"""5 s until the new id is seen, and what a busy machine adds."""


@pytest.fixture(scope="module")
def site(kafka):
    made = Site(kafka.bootstrap)
    yield made
    made.close()


@pytest.fixture
async def bench(site):
    made = Bench(site)
    yield made
    await made.close()


class Fleet:
    """Members of one group, each in a process of its own, as far as ids go."""

    def __init__(self, bench, *lanes):
        self._bench, self._lanes = bench, lanes
        self.feeds, self.read = [], []

    async def join(self, count=1):
        for _ in range(count):
            ids = TopicIds(self._bench.site.config, self._bench.clock)
            feed = self._bench.feed(*self._lanes, ids=ids)
            await feed.open()
            self.feeds.append(feed)

    async def leave(self):
        await self.feeds.pop(0).close(timeout_s=10)

    async def turn(self):
        """Read and settle, but for one in nine, so that commits have gaps."""
        for feed in self.feeds:
            batch = feed.begin(await feed.fetch(1_000, wait_s=0.05))
            self.read += numbers(batch)
            await feed.settle([one for one in batch if int(one.value) % 9 != 5])

    async def turn_for(self, seconds):
        until = self._bench.clock.monotonic() + seconds
        while self._bench.clock.monotonic() < until:
            await self.turn()

    async def skipped(self, wanted, *, within_s=NOTICED_S):
        """What of the wanted was not read in time."""
        until = self._bench.clock.monotonic() + within_s
        while not wanted <= set(self.read) and self._bench.clock.monotonic() < until:
            await self.turn()
        return sorted(wanted - set(self.read))


async def make_again(bench, lane, fleet, gap_s):
    """Delete a topic and make it again; its members turn on meanwhile."""
    await asyncio.to_thread(bench.site.delete, lane)
    await bench.until(
        lambda: lane not in bench.site.admin.list_topics(timeout=30).topics
    )
    await fleet.turn_for(gap_s)
    await asyncio.to_thread(bench.site.make, lane, partitions=PARTITIONS)
    bench.log = bench.site.writer(bench.site.namespace)


async def drained(bench, fleet, lane):
    """Twenty records of each partition were read, and positions committed."""
    await bench.write(lane, OLD)
    assert await fleet.skipped(set(OLD), within_s=NOTICED_S) == []
    await fleet.turn_for(0.5)


@pytest.mark.parametrize("gap_s", [0.0, 3.0, 9.0])
async def test_live_members_skip_nothing_of_the_new_topic(bench, gap_s):
    lane = await bench.lane(partitions=PARTITIONS)
    other = await bench.lane(partitions=PARTITIONS)
    fleet = Fleet(bench, lane, other)
    await fleet.join(2)
    await drained(bench, fleet, lane)

    await make_again(bench, lane, fleet, gap_s)
    await bench.write(lane, NEW)
    skipped = await fleet.skipped(set(NEW))
    bench.log.close(timeout_s=5)

    assert skipped == []


async def test_a_member_that_joins_does_not_believe_commits_of_the_old_topic(bench):
    lane = await bench.lane(partitions=PARTITIONS)
    fleet = Fleet(bench, lane)
    await fleet.join()
    await drained(bench, fleet, lane)

    await make_again(bench, lane, fleet, 0.0)
    await bench.write(lane, NEW)
    await fleet.turn_for(0.3)
    await fleet.join(2)
    skipped = await fleet.skipped(set(NEW))
    bench.log.close(timeout_s=5)

    assert skipped == []


async def test_the_only_member_is_replaced_while_it_believes_in_the_old_topic(bench):
    lane = await bench.lane(partitions=PARTITIONS)
    fleet = Fleet(bench, lane)
    await fleet.join()
    await drained(bench, fleet, lane)

    await make_again(bench, lane, fleet, 0.0)
    await bench.write(lane, NEW)
    await fleet.turn_for(0.5)
    await fleet.leave()
    await fleet.join()
    skipped = await fleet.skipped(set(NEW))
    bench.log.close(timeout_s=5)

    assert skipped == []
