"""Kafka as the log's suites want it: fresh lanes, one group, everything closed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import uuid

from shifter.adapters.kafka.admin import KafkaLogAdmin
from shifter.adapters.kafka.atomic import KafkaAtomicLog
from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.feed import KafkaLaneFeed
from shifter.adapters.kafka.mover import KafkaDelayMover
from shifter.adapters.kafka.writer import KafkaLaneLog
from shifter.adapters.system import SystemClock
from shifter.model.lane import delay_topic
from shifter.policy.delivery.delay import TIERS_S

MAX_RECORD_BYTES = 900_000


class Cluster:
    """A cluster with a namespace, its delay topics and one writer for all tests."""

    def __init__(self, bootstrap, make_topic, **properties):
        self.config, self.make_topic = KafkaConfig(bootstrap, properties), make_topic
        self.namespace = f"t{uuid.uuid4().hex[:8]}"
        for tier_s in TIERS_S:
            make_topic(delay_topic(self.namespace, tier_s), 2)
        self.log = self.open_log()

    @contextlib.contextmanager
    def moving(self):
        """Run the delay mover on a loop of its own."""
        mover = KafkaDelayMover(self.config, self.namespace, self.log, SystemClock())
        loop = asyncio.new_event_loop()
        task = loop.create_task(mover.run())

        def run():
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
            loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(task.cancel)
            thread.join(30)

    def open_log(self):
        return KafkaLaneLog(
            self.config,
            namespace=self.namespace,
            clock=SystemClock(),
            max_record_bytes=MAX_RECORD_BYTES,
        )


class KafkaBench:
    """`LogBench` on a cluster; lanes and group are of this test alone."""

    max_record_bytes = MAX_RECORD_BYTES
    early_ms = 1_000
    has_delay = True
    keeps_settled = True
    is_transactional = False
    rebalances = True

    def __init__(self, cluster):
        self.clock, self._cluster = SystemClock(), cluster
        self._queue, self._serial = uuid.uuid4().hex[:8], itertools.count()
        self._group = f"{cluster.namespace}.{self._queue}"
        self._logs, self._feeds, self._admins = [], [], []
        self._atomics = []

    async def lane(self, *, partitions=1):
        name = f"{self._cluster.namespace}.{self._queue}-{next(self._serial)}.low"
        await asyncio.to_thread(self._cluster.make_topic, name, partitions)
        return name

    def log(self, *, fresh=False):
        if not fresh:
            return self._cluster.log
        self._logs.append(self._cluster.open_log())
        return self._logs[-1]

    def feed(self, *topics):
        feed = KafkaLaneFeed(
            self._cluster.config,
            topics,
            group=f"{self._group}.low",
            writer=self._cluster.log,
            clock=self.clock,
            commit_interval_s=0.1,
        )
        self._feeds.append(feed)
        return feed

    def atomic(self, name):
        log = KafkaAtomicLog(
            self._cluster.config,
            f"{self._group}.{name}",
            self.clock,
            max_record_bytes=MAX_RECORD_BYTES,
        )
        self._atomics.append(log)
        return log

    def admin(self):
        config, namespace = self._cluster.config, self._cluster.namespace
        self._admins.append(KafkaLogAdmin(config, namespace, self._group))
        return self._admins[-1]

    async def close(self):
        for feed in self._feeds:
            await feed.close(timeout_s=10)
        for log in self._atomics:
            await log.close()
        for admin in self._admins:
            await admin.close()
        for log in self._logs:
            log.close(timeout_s=5)
