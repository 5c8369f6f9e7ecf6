"""Every fleet store meets the public suite; Redis computes what the table says."""

from __future__ import annotations

import asyncio
import random
import sqlite3

import pytest

from shifter.adapters.memory.state import MemoryFleetStore
from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.fleet import RedisFleetStore
from shifter.adapters.redis.keys import fleet_keys
from shifter.adapters.sqlite.fleet import SqliteFleetStore
from shifter.adapters.system import SystemClock
from shifter.model.fleet import FleetReport, Proposal, RateWish
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.fleet_table import FleetTable
from shifter.testing.conformance.fleet import FleetStoreConformance, fleet_report


class MemoryBench:
    def __init__(self):
        self._table = FleetTable()

    def open(self):
        return MemoryFleetStore(SystemClock(), self._table)

    async def forget(self):
        self._table.__init__()


class SqliteBench:
    def __init__(self, path):
        self.path, self._stores = path, []

    def open(self):
        self._stores.append(SqliteFleetStore(self.path, "shop", SystemClock()))
        return self._stores[-1]

    async def forget(self):
        connection = sqlite3.connect(self.path)
        with connection:
            connection.execute("DELETE FROM fleet")
        connection.close()

    async def close(self):
        for store in self._stores:
            await store.close()


class RedisBench:
    def __init__(self, url, namespace):
        self._url, self.namespace = url, namespace
        self.client = open_redis(url, timeout_s=5)
        self._stores = []

    def open(self):
        client = open_redis(self._url, timeout_s=5)
        self._stores.append(RedisFleetStore(client, self.namespace))
        return self._stores[-1]

    async def forget(self):
        await self.client.delete(*fleet_keys(self.namespace))

    async def close(self):
        await self.client.aclose()
        for store in self._stores:
            await store.close()


class TestMemoryFleet(FleetStoreConformance):
    """`MemoryFleetStore`."""

    @pytest.fixture
    def fleet_bench(self):
        return MemoryBench()


class TestSqliteFleet(FleetStoreConformance):
    """`SqliteFleetStore`."""

    @pytest.fixture
    async def fleet_bench(self, tmp_path):
        bench = SqliteBench(tmp_path / "fleet.db")
        yield bench
        await bench.close()

    async def test_a_damaged_file_is_made_anew(self, fleet_bench):
        store = fleet_bench.open()
        await store.sync(fleet_report(proposals=[Proposal("c", b"", b"1")]))
        await store.close()
        fleet_bench.path.write_bytes(b"no database at all" * 500)
        store = fleet_bench.open()

        view = await store.sync(fleet_report(proposals=[Proposal("c", b"", b"2")]))

        assert view.cells == {"c": b"2"}
        assert store.unreadable == 1

    async def test_a_table_that_is_none_is_written_anew(self, fleet_bench):
        store = fleet_bench.open()
        await store.sync(fleet_report())
        connection = sqlite3.connect(fleet_bench.path)
        with connection:
            connection.execute("UPDATE fleet SET packed = x'ff00'")
        connection.close()

        view = await store.sync(fleet_report(proposals=[Proposal("c", b"", b"2")]))

        assert view.cells == {"c": b"2"}


@pytest.mark.redis
class TestRedisFleet(FleetStoreConformance):
    """`RedisFleetStore`."""

    @pytest.fixture
    async def fleet_bench(self, redis_url, namespace):
        bench = RedisBench(redis_url, namespace)
        yield bench
        await bench.close()

    async def test_every_key_fades(self, fleet_bench):
        store = fleet_bench.open()
        budget = BudgetPolicy().wish("mailer", 1_800, (1, 0, 0, 0))
        rate, cell = RateWish("mailer", 1_000, 1, 1), Proposal("c", b"", b"1")
        report = fleet_report(evidence=b"e", budgets=[budget], rates=[rate])
        await store.sync(report._replace(proposals=[cell]))

        for key in fleet_keys(fleet_bench.namespace):
            assert await fleet_bench.client.pttl(key) > 0

    async def test_keys_of_another_type_are_rewritten(self, fleet_bench):
        store, keys = fleet_bench.open(), fleet_keys(fleet_bench.namespace)
        for key in keys:
            await fleet_bench.client.set(key, b"foreign")
        view = await store.sync(fleet_report(proposals=[Proposal("c", b"", b"1")]))

        assert view.cells == {"c": b"1"}

    @pytest.mark.parametrize(
        "garbage",
        [
            *(b"", b"x", b"\xff" * 99, b"99 nan x", b"-1 1", b"nan", b"inf", b"-7"),
            *(b"1e300", b"1.5", b"0x", b"99999999999999 nan", b"1 -3", b"\x93\x01\x02"),
            b"\x93\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00\x00\x00",  # infinity, 0, 0
        ],
    )
    async def test_values_that_are_none_of_ours_are_none(self, fleet_bench, garbage):
        store = fleet_bench.open()
        state, _, voices, _, budgets, rates, _ = fleet_keys(fleet_bench.namespace)
        for key, field in (
            (state, "version"),
            (state, "alarm"),
            (voices, "stranger"),
            (budgets, "mailer"),
            (rates, "mailer"),
        ):
            await fleet_bench.client.hset(key, field, garbage)
        budget = BudgetPolicy().wish("mailer", 0, (1, 0, 0, 0))
        rate = RateWish("mailer", 1_000, 1, 1)
        view = await store.sync(fleet_report(budgets=[budget], rates=[rate]))

        assert view.load.processes == 1
        assert list(view.granted) == [(1, 0, 0, 0)]
        assert view.rates[0].calls == 1
        assert view.strange >= 4
        assert (await store.sync(fleet_report(budgets=[budget]))).strange == 0

    async def test_numbers_of_a_far_future_hold_no_process_up(self, fleet_bench):
        """Somebody lies, or the server's clock went back by a year."""
        store = fleet_bench.open()
        state, _, voices, evidence, budgets, rates, _ = fleet_keys(
            fleet_bench.namespace
        )
        client, far_ms = fleet_bench.client, 4_000_000_000_000
        await client.hset(state, "alarm", far_ms)
        await client.hset(voices, "stranger", f"{far_ms} 0.25")
        await client.hset(evidence, "stranger", b"\x91\x80")
        row = b"\x93\xcf" + (far_ms // 500).to_bytes(8, "big") + b"\x00\xcd\xff\xff"
        await client.hset(budgets, "mailer", row)
        await client.hset(rates, "mailer", far_ms * 1_000)
        budget = BudgetPolicy().wish("mailer", 0, (1, 0, 0, 0))
        view = await store.sync(
            fleet_report(budgets=[budget], rates=[RateWish("mailer", 1_000, 1, 1)])
        )

        assert (view.load.processes, view.evidence) == (1, {})
        assert list(view.granted) == [(1, 0, 0, 0)]
        assert view.rates[0].calls == 1

    async def test_forgotten_scripts_and_keys_are_made_anew_in_between(
        self, fleet_bench
    ):
        store, table = fleet_bench.open(), FleetTable()
        draw, now_us = random.Random(5), 1_700_000_000_000_000
        for turn in range(60):
            now_us += 50_000
            if turn % 7 == 3:
                await fleet_bench.client.script_flush()
            if turn % 11 == 5:
                await fleet_bench.forget()
                table.__init__()
            report = full_report(draw)
            _, found = await store.sync_at(report, now_us)
            want = table.sync(report, now_ms=now_us // 1_000, now_us=now_us)
            assert comparable(found) == comparable(want)

    async def test_a_change_reaches_each_listener(self, fleet_bench):
        heard = asyncio.Event()
        listener, store = fleet_bench.open(), fleet_bench.open()
        listening = asyncio.create_task(listener.listen(heard.set))
        n = 0
        async with asyncio.timeout(10):
            while not heard.is_set():
                n += 1
                change = Proposal(f"c{n}", b"", b"1")
                await store.sync(fleet_report(proposals=[change]))
                await asyncio.sleep(0.02)
        listening.cancel()

    @pytest.mark.parametrize("seed", range(40))
    async def test_the_script_answers_as_the_table_in_memory(self, fleet_bench, seed):
        draw = random.Random(seed)
        store, table = fleet_bench.open(), FleetTable()
        now_us = 1_700_000_000_000_000 + draw.randrange(10**6)
        for _ in range(30):
            report = full_report(draw)
            now_us += draw.choice((0, 1, 999, 50_000, 400_000, 3_000_000, -2_000))
            found_us, found = await store.sync_at(report, now_us)
            want = table.sync(report, now_ms=now_us // 1_000, now_us=now_us)
            assert found_us == now_us
            assert comparable(found) == comparable(want)


def comparable(view):
    return view._replace(
        accepted=list(view.accepted),
        load=tuple(round(number, 9) for number in view.load),
        granted=[tuple(row) for row in view.granted],
        rates=list(view.rates),
    )


CELLS = ("circuit/a", "circuit/b", "quality")
TEXTS = (b"", b"1", b"2", b"\x00", b"x" * 5_000)


def full_report(draw):
    names = draw.sample(("mailer", "bank", "db"), draw.randrange(4))
    policy = BudgetPolicy(ratio=draw.choice((0.0, 0.2, 2.0)), floor_per_s=2)
    return FleetReport(
        draw.choice("abcd"),
        draw.choice((0.0, 0.5, 1e-9, 3.25)),
        draw.choice((b"", b"\x00\x01", b"e" * 300)),
        draw.random() < 0.2,
        draw.choice((1, 500, 2_000)),
        draw.choice((0, 1_700_000_000_000)),
        [
            Proposal(draw.choice(CELLS), draw.choice(TEXTS), draw.choice(TEXTS))
            for _ in range(draw.randrange(4))
        ],
        [
            policy.wish(
                name,
                draw.randrange(-9_000, 50_000),
                tuple(draw.choice((0, 0, 1, 30)) for _ in range(4)),
            )
            for name in names
        ],
        [
            RateWish(
                name,
                draw.choice((1, 333, 100_000, 86_400_000_000)),
                draw.randrange(1, 9),
                draw.randrange(1, 9),
            )
            for name in names
        ],
    )
