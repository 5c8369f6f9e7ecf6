"""The claims in a file answer, and are written, exactly as the rules in memory say."""

from __future__ import annotations

import asyncio
import sqlite3

from hypothesis import given, settings, strategies as st

from shifter.adapters.memory.state import MemoryClaimStore
from shifter.adapters.sqlite.claim_rows import ClaimRows, ClaimSweep, key_prefix
from shifter.adapters.sqlite.claims import SqliteClaimStore
from shifter.adapters.sqlite.connection import CLAIMS_DDL
from shifter.model.claim import ClaimRequest, ClaimUpdate, Granted, JobState
from shifter.policy.delivery.claim_state import (
    Claim,
)
from shifter.testing.clock import FakeClock
from shifter.wire.untrusted import bounded

PREFIX = key_prefix("shop")
IDENTITIES = [("a", "a"), ("b", "b"), ("mail:k", "j1"), ("mail:k", "j2"), ("j1", "j1")]
KEYS = ["a", "b", "mail:k", "j1", "j2"]
ENDS = [state for state in JobState if state is not JobState.RUNNING]
turns = st.integers(1, 3)
keys = st.sampled_from(KEYS)
leases = st.sampled_from([1, 60_000])
keeps = st.sampled_from([1_000, 100_000])
ages = st.integers(0, 1)
stores = st.integers(0, 1)

operations = st.one_of(
    st.tuples(
        st.just("claim"),
        stores,
        st.lists(
            st.tuples(st.sampled_from(IDENTITIES), turns, turns),
            unique_by=lambda request: request[0][0],
            max_size=4,
        ),
        leases,
        st.booleans(),
    ),
    st.tuples(
        st.just("renew"),
        stores,
        st.lists(st.tuples(keys, ages), max_size=3, unique_by=lambda held: held[0]),
        leases,
    ),
    st.tuples(
        st.just("finish"),
        stores,
        st.lists(
            st.tuples(keys, ages, st.sampled_from(ENDS), turns, turns, keeps),
            unique_by=lambda update: update[0],
            max_size=4,
        ),
    ),
    st.tuples(st.just("cancel"), stores, keys, keeps),
    st.tuples(st.just("status"), stores, keys),
    st.tuples(st.just("wait"), st.sampled_from([1, 999, 60_000, 4_000_000])),
    st.tuples(st.just("set_back"), st.sampled_from([1, 60_000, 4_000_000])),
    st.tuples(st.just("spoil"), keys, st.sampled_from([b"", b"\xc1", b"\x92\x01"])),
)


class PlainFile:
    """`Database` without a thread: each call is a transaction of its own."""

    def __init__(self):
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for statement in CLAIMS_DDL:
            self.connection.execute(statement)

    async def write(self, fn):
        return self.write_sync(fn)

    def write_sync(self, fn):
        self.connection.execute("BEGIN IMMEDIATE")
        with self.connection:
            return fn(self.connection)

    async def read(self, fn):
        return fn(self.connection)


class Twin(MemoryClaimStore):
    """The rules, told the names of calls as the store in a file tells them."""

    op, unanswered = "", frozenset()

    def _ask(self, ask):
        return ask._replace(op=self.op, unanswered=self.unanswered)


class Pair:
    """Two workers' handles to one file, and the rules beside them."""

    def __init__(self):
        self.clock = FakeClock(1_767_225_600_000)
        self.twin = Twin(self.clock)
        self.file = PlainFile()
        self.stores = [
            SqliteClaimStore(self.file, "shop", self.clock) for _ in range(2)
        ]
        self.fences = {}

    async def do(self, kind, *details):
        await getattr(self, kind)(*details)
        self.compare()

    async def both(self, store, call):
        answer = await call(self.stores[store])
        assert answer == await call(self.twin)
        return answer

    async def claim(self, n, wanted, lease_ms, is_answered):
        store = self.stores[n]
        requests = [ClaimRequest(*ids, turn, attempt) for ids, turn, attempt in wanted]
        self.twin.op = store._calls.next_name()
        self.twin.unanswered = frozenset(store._calls.unanswered)
        answers = await self.both(
            n, lambda which: which.claim(requests, owner=f"w{n}", lease_ms=lease_ms)
        )
        if not is_answered:
            store._calls.unanswered.append(self.twin.op)
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Granted) and is_answered:
                self.fences.setdefault(request.identity, []).append(answer.fence)

    def fence(self, key, age):
        known = self.fences.get(key, [])
        return known[-1 - age] if len(known) > age else 1

    async def renew(self, n, wanted, lease_ms):
        held = [(key, self.fence(key, age)) for key, age in wanted]
        await self.both(n, lambda which: which.renew(held, lease_ms=lease_ms))

    async def finish(self, n, wanted):
        updates = [
            ClaimUpdate(key, self.fence(key, age), *rest) for key, age, *rest in wanted
        ]
        await self.both(n, lambda which: which.finish(updates))

    async def cancel(self, n, job_id, keep_ms):
        await self.both(n, lambda which: which.cancel(job_id, keep_ms=keep_ms))

    async def status(self, n, job_id):
        await self.both(n, lambda which: which.status(job_id))

    async def wait(self, ms):
        self.clock.advance(ms / 1_000)

    async def set_back(self, ms):
        # What fades is forgotten for ever in memory; a row that is merely hidden by
        # the clock would come back with it.
        await self.twin.status("")
        self.file.write_sync(self.sweep)
        self.clock.shift_wall(-ms)

    def sweep(self, connection):
        ClaimSweep().step(connection, self.clock.epoch_ms(), rows=100)

    async def spoil(self, key, value):
        self.twin._entries.pop(key, None)
        row = (PREFIX + key.encode(), 2**50, value)
        self.file.write_sync(
            lambda c: c.execute("REPLACE INTO claim VALUES (?, ?, ?)", row)
        )

    def compare(self):
        now = self.clock.epoch_ms()
        rows = ClaimRows(self.file.connection, now)
        rows.load([PREFIX + key.encode() for key in KEYS])
        until_ms = dict(
            self.file.connection.execute("SELECT key, until_ms FROM claim").fetchall()
        )
        for name in KEYS:
            key = PREFIX + name.encode()
            entry = self.twin._entries.get(name)
            if entry is None or entry.until_ms <= now:
                assert (rows.claims.get(key), rows.follow(key)) == (None, key)
                continue
            if isinstance(entry.value, Claim):
                assert rows.claims[key] == entry.value
            else:
                assert rows.follow(key) == PREFIX + entry.value.identity.encode()
            assert until_ms[key] == entry.until_ms


@settings(deadline=None)
@given(st.lists(operations, min_size=3, max_size=25))
def test_the_file_and_the_rules_answer_alike(chosen):
    async def play():
        pair = Pair()
        for operation in chosen:
            await pair.do(*operation)
        pair.file.connection.close()

    asyncio.run(play())


@given(st.text(), st.text())
def test_no_two_names_become_one_and_all_can_be_written(one, other):
    assert (bounded(one) == bounded(other)) is (one == other)
    assert len(bounded(one).encode()) <= 4 * 128


@given(st.binary(max_size=80))
def test_whatever_lies_at_a_key_is_a_claim_a_pointer_or_counted(value):
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE claim (key, until_ms, value)")
    connection.execute("INSERT INTO claim VALUES (?, ?, ?)", (b"k", 9, value))
    rows = ClaimRows(connection, 1)

    rows.load([b"k"])

    found = bool(rows.claims) + (rows.follow(b"k") != b"k") + rows.unreadable
    assert found == 1 or value == b"\xc4\x01k"
    connection.close()


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans())), st.integers(1, 7))
def test_a_sweep_removes_what_has_faded_and_nothing_else(rows, step):
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE claim (key BLOB PRIMARY KEY, until_ms, value)")
    alive = {bytes([key]): fades for key, fades in rows}
    for key, fades in alive.items():
        connection.execute(
            "INSERT INTO claim VALUES (?, ?, x'')", (key, 10 if fades else 11)
        )
    sweep = ClaimSweep()

    swept = [sweep.step(connection, 10, rows=step) for _ in range(61 // step + 1)]

    left = {key for (key,) in connection.execute("SELECT key FROM claim")}
    assert left == {key for key, fades in alive.items() if not fades}
    assert sum(swept) == sum(alive.values())
    connection.close()
