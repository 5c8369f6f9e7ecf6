"""What the Kafka tests share: topics, records, feeds that are closed in the end."""

from __future__ import annotations

import asyncio
import itertools
import uuid

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.feed import KafkaLaneFeed
from shifter.adapters.kafka.writer import KafkaLaneLog
from shifter.adapters.system import SystemClock
from shifter.model.lane import delay_topic
from shifter.policy.delivery.delay import TIERS_S
from shifter.ports import Appended, Record


class Site:
    """A cluster, seen by its administrator."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.config, self.clock = KafkaConfig(bootstrap), SystemClock()
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self.namespace = f"i{uuid.uuid4().hex[:8]}"
        self.log = self.writer(self.namespace)

    def writer(self, namespace):
        return KafkaLaneLog(self.config, namespace=namespace, clock=self.clock)

    def make(self, *topics, partitions=1):
        made = self.admin.create_topics([NewTopic(t, partitions, 1) for t in topics])
        for future in made.values():
            future.result(30)

    def make_ladder(self, namespace, *, partitions=1):
        tiers = [delay_topic(namespace, tier_s) for tier_s in TIERS_S]
        self.make(*tiers, partitions=partitions)

    def delete(self, topic):
        for future in self.admin.delete_topics([topic]).values():
            future.result(30)

    def forget_below(self, topic, offset, *, partition=0):
        """Delete records as retention does."""
        at = TopicPartition(topic, partition, offset)
        for future in self.admin.delete_records([at]).values():
            future.result(30)

    def transact(self, topic, *batches):
        """Write each batch in a transaction; those ending in ``None`` are aborted."""
        producer = Producer(
            {"bootstrap.servers": self.bootstrap, "transactional.id": uuid.uuid4().hex}
        )
        producer.init_transactions(30)
        for batch in batches:
            producer.begin_transaction()
            for value in batch:
                if value is not None:
                    producer.produce(topic, b"%d" % value)
            if None in batch:
                producer.flush(10)
                producer.abort_transaction(30)
            else:
                producer.commit_transaction(30)

    def close(self):
        self.log.close(timeout_s=5)


class Bench:
    """Lanes and a group of one test."""

    def __init__(self, site):
        self.site, self.clock, self.log = site, site.clock, site.log
        self.queue, self._serial = uuid.uuid4().hex[:8], itertools.count()
        self.group = f"{site.namespace}.{self.queue}.low"
        self.heard = []
        self._feeds = []

    async def lane(self, *, partitions=1):
        name = f"{self.site.namespace}.{self.queue}-{next(self._serial)}.low"
        await asyncio.to_thread(self.site.make, name, partitions=partitions)
        return name

    async def write(self, topic, values, *, key=None):
        records = [Record(topic, b"%d" % value, [], key) for value in values]
        answers = await self.log.append(records, timeout_s=60)
        assert answers == [Appended()] * len(records)

    def feed(self, *topics, protocol=None, **options):
        config = self.site.config
        if protocol is not None:
            config = KafkaConfig(self.site.bootstrap, {"group.protocol": protocol})
        options = {"commit_interval_s": 0.1, "observer": self._hear, **options}
        feed = KafkaLaneFeed(
            config,
            topics,
            group=self.group,
            writer=self.log,
            clock=self.clock,
            **options,
        )
        self._feeds.append(feed)
        return feed

    def _hear(self, what, facts):
        self.heard.append((what, facts))

    async def opened(self, *topics, **options):
        feed = self.feed(*topics, **options)
        await feed.open()
        return feed

    async def collect(self, feed, count, *, within_s=60, at_once=1_000):
        """Fetch until there are so many, or the time is over."""
        found, until = [], self.clock.monotonic() + within_s
        while len(found) < count and self.clock.monotonic() < until:
            left = count - len(found)
            found += await feed.fetch(min(at_once, left), wait_s=0.2)
        return found

    async def until(self, check, *, within_s=60):
        async with asyncio.timeout(within_s):
            while not check():
                await asyncio.sleep(0.02)

    async def close(self):
        for feed in self._feeds:
            await feed.close(timeout_s=10)


def numbers(deliveries):
    return [int(delivery.value) for delivery in deliveries]
