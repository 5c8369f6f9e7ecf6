"""Every claim store in this repository meets the public conformance suites."""

from __future__ import annotations

import pytest

from shifter.adapters.memory.state import MemoryClaimStore
from shifter.adapters.redis.claims import RedisClaimStore
from shifter.adapters.redis.client import open_redis
from shifter.adapters.sqlite.claims import SqliteClaimStore
from shifter.adapters.sqlite.database import Database
from shifter.testing.clock import FakeClock
from shifter.testing.conformance.claims import (
    CancelConformance,
    ClaimStoreConformance,
    KeyedClaimConformance,
    WaitingConformance,
)
from tests.conformance.redis_time import age_claims, forget


class MemoryBench:
    """Claims in memory, on a clock that moves by hand."""

    def __init__(self):
        self._clock = FakeClock()
        self._store = MemoryClaimStore(self._clock)

    def open(self):
        return self._store

    async def advance(self, ms):
        self._clock.advance(ms / 1_000)

    async def set_back(self, ms):
        self._clock.shift_wall(-ms)

    async def forget(self):
        self._store = MemoryClaimStore(self._clock)


class RedisBench:
    """Claims in a real server; time goes on by rewriting what it dated."""

    def __init__(self, url, namespace, *, by_tag):
        self._url, self._namespace, self._by_tag = url, namespace, by_tag
        self.client = open_redis(url, timeout_s=5)
        self.stores = []

    def open(self):
        client = open_redis(self._url, timeout_s=5)
        store = RedisClaimStore(client, self._namespace, by_tag=self._by_tag)
        self.stores.append(store)
        return store

    async def advance(self, ms):
        await age_claims(self.client, self._namespace, ms)

    async def set_back(self, ms):
        await age_claims(self.client, self._namespace, -ms)

    async def forget(self):
        await forget(self.client, self._namespace)

    async def close(self):
        for store in self.stores:
            await store.close()
        await self.client.aclose()


class SqliteBench:
    """Claims in a file, on a clock that moves by hand."""

    def __init__(self, path):
        self._clock, self._database = FakeClock(), Database(path)
        self._stores = []

    def open(self):
        store = SqliteClaimStore(self._database.share(), "shop", self._clock)
        self._stores.append(store)
        return store

    async def advance(self, ms):
        self._clock.advance(ms / 1_000)

    async def set_back(self, ms):
        self._clock.shift_wall(-ms)

    async def forget(self):
        await self._database.write(lambda c: c.execute("DELETE FROM claim"))

    async def close(self):
        for part in (*self._stores, self._database):
            await part.close()


@pytest.fixture
async def redis_bench(redis_url, namespace):
    bench = RedisBench(redis_url, namespace, by_tag=False)
    yield bench
    await bench.close()


@pytest.fixture
async def tagged_bench(redis_url, namespace):
    bench = RedisBench(redis_url, namespace, by_tag=True)
    yield bench
    await bench.close()


@pytest.fixture
async def sqlite_bench(tmp_path):
    bench = SqliteBench(tmp_path / "fleet.db")
    yield bench
    await bench.close()


class InMemory:
    @pytest.fixture
    def claim_bench(self):
        return MemoryBench()


class OnSqlite:
    @pytest.fixture
    def claim_bench(self, sqlite_bench):
        return sqlite_bench


@pytest.mark.redis
class InRedis:
    @pytest.fixture
    def claim_bench(self, redis_bench):
        return redis_bench


@pytest.mark.redis
class ByHashTag:
    """As on a cluster: one call per hash tag, pointers ahead."""

    @pytest.fixture
    def claim_bench(self, tagged_bench):
        return tagged_bench


class TestMemoryClaims(InMemory, ClaimStoreConformance):
    """`MemoryClaimStore`."""


class TestMemoryCancels(InMemory, CancelConformance):
    """`MemoryClaimStore`."""


class TestMemoryKeyedClaims(InMemory, KeyedClaimConformance):
    """`MemoryClaimStore`."""


class TestSqliteClaims(OnSqlite, ClaimStoreConformance):
    """`SqliteClaimStore`."""


class TestSqliteCancels(OnSqlite, CancelConformance):
    """`SqliteClaimStore`."""


class TestSqliteKeyedClaims(OnSqlite, KeyedClaimConformance):
    """`SqliteClaimStore`."""


class TestRedisClaims(InRedis, ClaimStoreConformance):
    """`RedisClaimStore`."""


class TestRedisCancels(InRedis, CancelConformance):
    """`RedisClaimStore`."""


class TestRedisKeyedClaims(InRedis, KeyedClaimConformance):
    """`RedisClaimStore`."""


class TestTaggedClaims(ByHashTag, ClaimStoreConformance):
    """`RedisClaimStore` as on a cluster."""


class TestTaggedCancels(ByHashTag, CancelConformance):
    """`RedisClaimStore` as on a cluster."""


class TestTaggedKeyedClaims(ByHashTag, KeyedClaimConformance):
    """`RedisClaimStore` as on a cluster."""


class TestMemoryWaitingJobs(InMemory, WaitingConformance):
    """`MemoryClaimStore`."""


class TestSqliteWaitingJobs(OnSqlite, WaitingConformance):
    """`SqliteClaimStore`."""


class TestRedisWaitingJobs(InRedis, WaitingConformance):
    """`RedisClaimStore`."""


class TestTaggedWaitingJobs(ByHashTag, WaitingConformance):
    """`RedisClaimStore`."""
