"""Every presence store in this repository meets the public conformance suite."""

from __future__ import annotations

import pytest

from shifter.adapters.memory.state import MemoryPresenceStore
from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.fleet import RedisPresenceStore
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.fleet import SqlitePresenceStore
from shifter.testing.clock import FakeClock
from shifter.testing.conformance.presence import PresenceStoreConformance
from tests.conformance.redis_time import age_reports


class MemoryBench:
    def __init__(self):
        self._clock = FakeClock()
        self._store = MemoryPresenceStore(self._clock)

    def open(self):
        return self._store

    async def advance(self, ms):
        self._clock.advance(ms / 1_000)


class RedisBench:
    def __init__(self, url, namespace):
        self._url, self._namespace = url, namespace
        self.client = open_redis(url, timeout_s=5)
        self.stores = []

    def open(self):
        client = open_redis(self._url, timeout_s=5)
        self.stores.append(RedisPresenceStore(client, self._namespace))
        return self.stores[-1]

    async def close(self):
        await self.client.aclose()
        for store in self.stores:
            await store.close()

    async def advance(self, ms):
        await age_reports(self.client, self._namespace, ms)


class SqliteBench:
    def __init__(self, path):
        self._clock, self._database = FakeClock(), Database(path)
        self._stores = []

    def open(self):
        store = SqlitePresenceStore(self._database.share(), "shop", self._clock)
        self._stores.append(store)
        return store

    async def advance(self, ms):
        self._clock.advance(ms / 1_000)

    async def close(self):
        for part in (*self._stores, self._database):
            await part.close()


class TestMemoryPresence(PresenceStoreConformance):
    """`MemoryPresenceStore`."""

    @pytest.fixture
    def presence_bench(self):
        return MemoryBench()


class TestSqlitePresence(PresenceStoreConformance):
    """`SqlitePresenceStore`."""

    @pytest.fixture
    async def presence_bench(self, tmp_path):
        bench = SqliteBench(tmp_path / "fleet.db")
        yield bench
        await bench.close()


@pytest.mark.redis
class TestRedisPresence(PresenceStoreConformance):
    """`RedisPresenceStore`."""

    @pytest.fixture
    async def presence_bench(self, redis_url, namespace):
        bench = RedisBench(redis_url, namespace)
        yield bench
        await bench.close()
