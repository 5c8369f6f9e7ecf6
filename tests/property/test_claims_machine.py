"""Any order of asking, renewing, ending, cancelling, crashing and forgetting.

The machine looks at the rules alone; the twin test drives the Redis scripts and the
rules with the same operations and demands equal answers and equal records.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shifter.adapters.memory.state import MemoryClaimStore
from shifter.adapters.redis.claim_scripts import encode_claim
from shifter.adapters.redis.claims import RedisClaimStore
from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.keys import ClaimKeys
from shifter.model.claim import (
    Cancelled,
    ClaimRequest,
    ClaimUpdate,
    Finished,
    Granted,
    HandedOver,
    JobState,
)
from shifter.policy.delivery.claim import (
    ClaimAsk,
    decide_cancel,
    decide_claim,
    decide_finish,
    decide_renew,
)
from shifter.policy.delivery.claim_state import (
    Claim,
)
from shifter.testing.clock import FakeClock

LEASE_MS = 1_000
TERMINAL = [state for state in JobState if state.is_terminal]
ENDS = [*TERMINAL, JobState.WAITING]


class ClaimMachine(RuleBasedStateMachine):
    """One identity, three workers that may vanish or come back late."""

    def __init__(self):
        super().__init__()
        self.now = self.highest = 1_767_225_600_000
        self.floor = self.now - 10 * 3_600_000
        self.claim = None
        self.calls = 0
        self.unanswered = set()
        self.grants = {}  # worker: (fence, turn, trusted until)
        self.fences = []
        self.handed_over = 0
        self.final = None

    @rule(worker=st.integers(0, 2), turn=st.integers(1, 3), is_answered=st.booleans())
    def ask(self, worker, turn, is_answered):
        self.calls += 1
        answer, kept = self.told(self.claim, turn, self.now, owner=worker)
        self.keep(kept)
        if not isinstance(answer, Granted):
            assert self.final is None or isinstance(
                answer, Finished | Cancelled | HandedOver
            )
            return
        assert self.final is None, "a job that ended ran again"
        assert turn >= self.handed_over, "a turn that was handed over ran again"
        for other, (_, _, until) in self.grants.items():
            assert until <= self.now, f"{other} and {worker} run at the same time"
        self.fences.append(answer.fence)
        if is_answered:
            self.grants[worker] = (answer.fence, turn, self.now + LEASE_MS)
        else:
            self.unanswered.add(f"c{self.calls}")

    @rule(worker=st.integers(0, 2))
    def renew(self, worker):
        if worker not in self.grants:
            return
        fence, turn, _ = self.grants[worker]
        answer, kept = decide_renew(
            self.claim, fence=fence, lease_ms=LEASE_MS, now=self.now
        )
        self.keep(kept)
        if answer.held:
            assert fence == max(self.fences)
            self.grants[worker] = (fence, turn, self.now + LEASE_MS)
        else:
            del self.grants[worker]

    @rule(worker=st.integers(0, 2), state=st.sampled_from(ENDS), goes_on=st.booleans())
    def finish(self, worker, state, goes_on):
        if worker not in self.grants:
            return
        fence, turn, _ = self.grants.pop(worker)
        next_turn = turn + (state is JobState.WAITING and goes_on)
        update = ClaimUpdate("j", fence, state, next_turn, next_turn, 10_000)
        written, kept = decide_finish(self.claim, update, now=self.now)
        self.keep(kept)
        if written:
            assert fence == max(self.fences)
            self.handed_over = max(self.handed_over, next_turn)

    @rule(worker=st.integers(0, 2))
    def vanish(self, worker):
        self.grants.pop(worker, None)

    @rule()
    def cancel(self):
        after, kept = decide_cancel(self.claim, job_id="", keep_ms=9_000, now=self.now)
        self.keep(kept)
        assert after.state.is_terminal or after.state is JobState.RUNNING

    @rule(ms=st.sampled_from([1, LEASE_MS - 1, LEASE_MS, 5_000]))
    def wait(self, ms):
        self.now += ms

    @rule(ms=st.sampled_from([1, LEASE_MS, 3_600_000]))
    def clock_goes_back(self, ms):
        if self.now - ms < self.floor:
            return
        self.highest = max(self.highest, self.now)
        self.now -= ms
        # A worker's own clock did not: it stops trusting its lease in time.
        self.grants = {w: (f, t, u - ms) for w, (f, t, u) in self.grants.items()}

    @rule()
    def store_forgets(self):
        """Its clock is then the only thing that keeps fences growing."""
        self.now = self.floor = max(self.now, self.highest) + 1
        self.claim, self.final, self.handed_over = None, None, 0
        self.grants = {w: (f, t, 0) for w, (f, t, _) in self.grants.items()}

    @invariant()
    def fences_only_grow(self):
        assert self.fences == sorted(set(self.fences))

    @invariant()
    def an_ended_job_stays_as_it_ended(self):
        if self.final is not None:
            assert self.claim.state is self.final

    @invariant()
    def somebody_is_let_in_or_the_job_ends_within_one_lease(self):
        turn = self.claim.turn if self.claim is not None else 1
        _, kept = self.told(self.claim, turn, self.now)
        later = self.claim if kept is None else kept.claim
        answer, _ = self.told(later, turn, self.now + LEASE_MS)
        assert isinstance(answer, Granted | Finished | Cancelled)

    def told(self, claim, turn, now, *, owner=0):
        ask = ClaimAsk(
            turn=turn,
            attempt=turn,
            owner=f"w{owner}",
            lease_ms=LEASE_MS,
            op=f"c{self.calls}",
            unanswered=frozenset(self.unanswered),
        )
        return decide_claim(claim, ask, now=now)

    def keep(self, kept):
        if kept is not None:
            self.claim = kept.claim
            if kept.claim.state.is_terminal:
                self.final = kept.claim.state


TestClaimMachine = ClaimMachine.TestCase
TestClaimMachine.settings = settings(deadline=None, stateful_step_count=40)


# --- twins -----------------------------------------------------------------------

IDENTITIES = [("a", "a"), ("b", "b"), ("mail:k", "j1"), ("mail:k", "j2"), ("j1", "j1")]
JOBS = ["a", "b", "j1", "j2", "mail:k"]
KEYS = ["a", "b", "mail:k", "j1", "j2"]
# Of no version, half written, of another version, beyond all numbers, of another type.
SPOILED = [
    b"",
    b"1r",
    b"2r1;1;1;0;0;0;0;;",
    b"1r" + b"9" * 30 + b";1;1;0;9;9;0;;",
    None,
]
turns = st.integers(1, 3)
some_store = st.integers(0, 2)
leases = st.sampled_from([1, 60_000])
keeps = st.sampled_from([100_000, 200_000])

claims = st.tuples(
    st.just("claim"),
    some_store,
    st.lists(
        st.tuples(st.sampled_from(IDENTITIES), turns, turns),
        unique_by=lambda r: r[0][0],
        min_size=1,
        max_size=4,
    ),
    leases,
    st.booleans(),
)
renewals = st.tuples(
    st.just("renew"),
    some_store,
    st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 1)), max_size=3),
    leases,
)
ends = st.tuples(
    st.just("finish"),
    some_store,
    st.lists(
        st.tuples(
            st.sampled_from(KEYS),
            st.integers(0, 1),
            st.sampled_from(ENDS),
            turns,
            turns,
            keeps,
        ),
        unique_by=lambda u: u[0],
        min_size=1,
        max_size=4,
    ),
)
operations = st.lists(
    claims
    | claims
    | renewals
    | ends
    | ends
    | st.tuples(st.just("cancel"), some_store, st.sampled_from(JOBS), keeps)
    | st.tuples(st.just("status"), some_store, st.sampled_from(JOBS))
    | st.tuples(
        st.just("age"),
        st.sampled_from(KEYS),
        st.sampled_from([-90_000, 30_000, 60_000]),
    )
    | st.tuples(st.just("delete"), st.sampled_from(KEYS))
    | st.tuples(
        st.just("spoil"),
        st.sampled_from(KEYS),
        st.sampled_from(SPOILED),
    )
    | st.tuples(st.just("flush")),
    min_size=3,
    max_size=25,
)


class Twin(MemoryClaimStore):
    """The rules, told the names of calls as the Redis store tells its scripts."""

    op, unanswered = "", frozenset()

    def _ask(self, ask):
        return ask._replace(op=self.op, unanswered=self.unanswered)


class Pair:
    """Three handles to one Redis namespace, and the rules beside them."""

    def __init__(self, client, stores, namespace):
        self.client, self.stores = client, stores
        self.key = ClaimKeys(namespace).claim
        self.clock = FakeClock(0)
        self.twin = Twin(self.clock)
        self.fences, self.holders = {}, {}

    async def clean(self):
        await self.client.delete(*(self.key(name) for name in KEYS))
        for store in self.stores:
            store._calls.unanswered.clear()
            store._pointers.clear()

    async def do(self, operation):
        kind, *details = operation
        await getattr(self, kind)(*details)
        await self.compare()

    async def both(self, store, call):
        """The answer of each to one call, at the same instant of the store."""
        before = store.store_ms
        found = await call(store)
        if store.store_ms != before:
            self.clock.shift_wall(store.store_ms - self.clock.epoch_ms())
        wanted = await call(self.twin)
        assert found == wanted
        return found

    async def claim(self, n, wanted, lease_ms, is_answered):
        store = self.stores[n]
        requests = [ClaimRequest(*ids, turn, attempt) for ids, turn, attempt in wanted]
        self.twin.op = store._calls.next_name()
        self.twin.unanswered = frozenset(store._calls.unanswered)

        async def call(which):
            return await which.claim(requests, owner=f"w {n}", lease_ms=lease_ms)

        answers = await self.both(store, call)
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Granted):
                self.holders[request.identity] = store
        if not is_answered:
            store._calls.unanswered.append(self.twin.op)
            return
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Granted):
                older = self.fences.setdefault(request.identity, [])
                assert answer.fence > max(older, default=0)
                older.append(answer.fence)

    def fence(self, key, age):
        known = self.fences.get(key, [])
        return known[-1 - age] if len(known) > age else 1

    async def renew(self, n, wanted, lease_ms):
        for store, part in self.by_holder(n, wanted):
            held = [(key, self.fence(key, age)) for key, age in part]
            await self.both(
                store, lambda which, held=held: which.renew(held, lease_ms=lease_ms)
            )

    async def finish(self, n, wanted):
        for store, part in self.by_holder(n, wanted):
            updates = [
                ClaimUpdate(key, self.fence(key, age), state, turn, attempt, keep_ms)
                for key, age, state, turn, attempt, keep_ms in part
            ]
            await self.both(store, lambda which, updates=updates: which.finish(updates))

    def by_holder(self, n, wanted):
        """Who was granted a claim renews and ends it: it knows the claim's pointer."""
        parts = {}
        for one in wanted:
            store = self.holders.get(one[0], self.stores[n])
            parts.setdefault(id(store), (store, []))[1].append(one)
        return list(parts.values())

    async def cancel(self, n, job_id, keep_ms):
        await self.both(
            self.stores[n], lambda which: which.cancel(job_id, keep_ms=keep_ms)
        )

    async def status(self, n, job_id):
        await self.both(self.stores[n], lambda which: which.status(job_id))

    async def age(self, key, ms):
        claim = self.twin._kept.get(key)
        if claim is None:
            return
        aged = claim._replace(
            lease_end_ms=max(0, claim.lease_end_ms - ms) if claim.lease_end_ms else 0,
            updated_ms=claim.updated_ms - ms,
        )
        self.twin._entries[key] = self.twin._entries[key]._replace(value=aged)
        await self.client.set(self.key(key), encode_claim(aged), keepttl=True)

    async def delete(self, key):
        self.twin._entries.pop(key, None)
        await self.client.delete(self.key(key))

    async def spoil(self, key, value):
        await self.delete(key)
        if value is None:
            await self.client.rpush(self.key(key), "x")
        else:
            await self.client.set(self.key(key), value)

    async def flush(self):
        await self.client.script_flush()

    async def compare(self):
        for key in KEYS:
            entry = self.twin._entries.get(key)
            if entry is None:
                continue
            is_claim = isinstance(entry.value, Claim)
            value = await self.client.get(self.key(key))
            assert value == (
                encode_claim(entry.value)
                if is_claim
                else b"1p" + entry.value.identity.encode()
            )
            left_ms = await self.client.pttl(self.key(key))
            wanted_ms = entry.until_ms - self.clock.epoch_ms()
            assert left_ms > 0
            if is_claim:
                assert wanted_ms - 30_000 < left_ms <= wanted_ms + 50


@pytest.fixture
def pair(redis_url, namespace):
    """A runner for coroutines, and the pair they work on."""
    with asyncio.Runner() as runner:
        client = open_redis(redis_url, timeout_s=5)
        stores = [
            RedisClaimStore(open_redis(redis_url, timeout_s=5), namespace)
            for _ in range(3)
        ]
        yield runner, client, stores

        async def close():
            await client.aclose()
            for store in stores:
                await store.close()

        runner.run(close())


@pytest.mark.redis
def test_scripts_and_rules_answer_alike(pair, namespace):
    runner, client, stores = pair

    async def play(chosen):
        twins = Pair(client, stores, namespace)
        await twins.clean()
        for operation in chosen:
            await twins.do(operation)

    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(operations)
    def run(chosen):
        runner.run(play(chosen))

    run()
