"""A start on a topic where the group has no commit says what happens, and a setting decides.

Kafka forgets the commits of a group that was idle for 7 days, and topics keep records
for 37: everything ran again and no line was logged. Where the log began above 0, what
it had deleted was not counted as lost. Now the member warns and does what
``without_commits`` says; a partition that was added to a topic is always read from its
start.
"""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka.admin import NewPartitions

from shifter.errors import StoreRefusedError
from shifter.ports import LostRange
from tests.integration.kafka.bench import Bench, Site, numbers

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


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


def said(bench, what):
    return [facts for found, facts in bench.heard if found == what]


async def test_all_that_is_kept_runs_and_a_warning_has_the_number(bench):
    lane = await bench.lane()
    await bench.write(lane, range(10))

    feed = await bench.opened(lane)

    assert numbers(await bench.collect(feed, 10)) == list(range(10))
    [facts] = said(bench, "no_commits")
    assert (facts["topic"], facts["records"], facts["start"]) == (lane, 10, "earliest")


async def test_what_is_skipped_by_setting_counts_as_lost(bench):
    lane = await bench.lane()
    await bench.write(lane, range(10))

    feed = await bench.opened(lane, without_commits="latest")
    await bench.write(lane, range(10, 13))

    assert numbers(await bench.collect(feed, 3)) == [10, 11, 12]
    assert feed.losses() == [LostRange(lane, 0, 0, 10)]
    assert said(bench, "no_commits")[0]["start"] == "latest"


async def test_a_start_can_be_refused(bench):
    lane = await bench.lane()
    await bench.write(lane, range(10))

    with pytest.raises(StoreRefusedError, match=r"no commits on .*10 records"):
        await bench.opened(lane, without_commits="refuse")


async def test_what_the_log_deleted_before_the_first_start_is_lost(bench):
    lane = await bench.lane()
    await bench.write(lane, range(10))
    await asyncio.to_thread(bench.site.forget_below, lane, 7)

    feed = await bench.opened(lane)

    assert numbers(await bench.collect(feed, 3)) == [7, 8, 9]
    assert feed.losses() == [LostRange(lane, 0, 0, 7)]


async def test_a_topic_without_records_logs_no_warning(bench):
    lane = await bench.lane(partitions=3)

    feed = await bench.opened(lane, without_commits="refuse")
    await bench.write(lane, range(5))

    assert sorted(numbers(await bench.collect(feed, 5))) == [0, 1, 2, 3, 4]
    assert said(bench, "no_commits") == []


async def test_added_partitions_are_read_from_their_start_within_seconds(bench):
    """Of a live topic, whatever the setting is for a group without commits."""
    lane = await bench.lane()
    feed = await bench.opened(lane, without_commits="latest")
    await bench.write(lane, range(5))
    await bench.collect(feed, 5)
    wider = bench.site.admin.create_partitions([NewPartitions(lane, 12)])
    await asyncio.to_thread(wider[lane].result, 20)

    bench.log = bench.site.writer(bench.site.namespace)
    await bench.write(lane, range(100, 200))
    found = await bench.collect(feed, 100, within_s=40)
    bench.log.close(timeout_s=5)

    assert sorted(numbers(found)) == list(range(100, 200))
    assert said(bench, "no_commits") == []
