"""What the claim store does while its server is away, slow, full, locked or forgetful."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.exceptions import ResponseError

from shifter.adapters.redis.client import open_redis
from shifter.errors import StoreRefusedError, StoreUnavailableError
from shifter.model.claim import Busy, ClaimRequest, ClaimUpdate, Granted, JobState
from shifter.testing.conformance.claim_bench import ask, end, granted, state_of
from stack.process import free_port

pytestmark = pytest.mark.redis

CALLS = {
    "claim": lambda s: s.claim(
        [ClaimRequest("j", "j", 1, 1)], owner="w", lease_ms=9_000
    ),
    "renew": lambda s: s.renew([("j", 1)], lease_ms=9_000),
    "finish": lambda s: s.finish([ClaimUpdate("j", 1, JobState.DONE, 1, 1, 9_000)]),
    "cancel": lambda s: s.cancel("j", keep_ms=9_000),
    "status": lambda s: s.status("j"),
    "ping": lambda s: s.ping(),
}


async def seconds(call):
    """How long a call takes that must find the store away."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError) as caught:
        await call
    assert caught.value.store.startswith("redis ")
    return time.monotonic() - began


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_every_call_to_a_frozen_server_fails_within_its_timeout(
    server, stores, call
):
    warm, cold = (stores(server.url, timeout_s=0.5) for _ in range(2))
    await ask(warm)
    server.pause()

    took = [await seconds(call(warm)), await seconds(call(cold))]

    server.resume()
    # Twice the timeout, for connecting and answering, and what a slow machine adds;
    # the server answers none of them for as long as it is frozen.
    assert max(took) < 30


async def test_a_server_that_is_back_is_used_at_once(server, stores):
    store = stores(server.url, timeout_s=0.5)
    old = await granted(store)
    server.kill()
    await seconds(ask(store))

    server.start()

    grant = await granted(store)  # it forgot everything, its scripts too
    assert grant.fence > old.fence
    assert await end(store, old.fence) is False


async def test_a_port_without_a_server_fails_all_callers_at_once_and_every_time(stores):
    store = stores(f"redis://127.0.0.1:{free_port()}/0", timeout_s=1)

    began = time.monotonic()
    answers = await asyncio.gather(
        *(ask(store, f"j{i}") for i in range(200)), return_exceptions=True
    )

    assert {type(answer) for answer in answers} == {StoreUnavailableError}
    # Each of them would have waited on its own.
    assert time.monotonic() - began < 20


async def test_a_crowd_meets_a_silent_server_with_few_connections(proxy, stores):
    store = stores(proxy.url, timeout_s=0.5)
    proxy.answers.clear()

    answers = await asyncio.gather(
        *(ask(store, f"j{i}") for i in range(200)), return_exceptions=True
    )

    assert {type(answer) for answer in answers} == {StoreUnavailableError}
    assert proxy.connections <= 64


async def test_a_call_whose_answer_is_late_is_not_sent_again(proxy, stores, redis_url):
    store = stores(proxy.url, timeout_s=0.5)
    await ask(store, "warm")
    client = open_redis(redis_url)
    before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    proxy.answers.clear()

    await seconds(ask(store))

    after = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before == 1
    await client.aclose()


async def test_a_claim_whose_answer_was_lost_is_granted_when_asked_again(
    proxy, stores, redis_url
):
    store, other = stores(proxy.url, timeout_s=0.5), stores(redis_url)
    await ask(store, "warm")
    proxy.answers.clear()
    await seconds(ask(store))
    assert isinstance(await ask(other, owner="w2"), Busy)  # it was granted, unheard
    proxy.answers.set()

    answer = await ask(store)

    assert isinstance(answer, Granted)
    assert answer.losses == 0
    assert isinstance(await ask(store), Busy)  # but only once


async def test_a_cancelled_claim_is_granted_when_asked_again(proxy, stores, redis_url):
    store, other = stores(proxy.url), stores(redis_url)
    await ask(store, "warm")
    proxy.answers.clear()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask(store))
        while await state_of(other) is None:  # until the server has granted it
            await asyncio.sleep(0)
        asking.cancel()
    proxy.answers.set()

    assert isinstance(await ask(store), Granted)


async def test_an_end_whose_answer_was_lost_may_be_said_again(proxy, stores):
    store = stores(proxy.url, timeout_s=0.5)
    grant = await granted(store)
    proxy.answers.clear()
    await seconds(end(store, grant.fence))
    proxy.answers.set()

    assert await end(store, grant.fence) is True


async def test_cancelled_calls_never_mix_up_answers(stores, redis_url):
    store = stores(redis_url)
    for i in range(20):
        await store.cancel(f"gone{i}", keep_ms=60_000)

    async def one(i):
        asked = f"gone{i % 20}" if i % 2 else f"new{i}"
        answer = await ask(store, asked)
        return (type(answer).__name__ == "Cancelled") == asked.startswith("gone")

    tasks = [asyncio.ensure_future(one(i)) for i in range(400)]
    for round_ in range(40):
        await asyncio.sleep(0)
        tasks[round_ * 10].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    told = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(told) >= 300
    assert all(told)


async def test_forgotten_scripts_are_loaded_once_for_all_callers(server, stores):
    store = stores(server.url)

    await asyncio.gather(*(ask(store, f"j{i}") for i in range(100)))

    assert store._runner.loads == 1


@pytest.mark.parametrize("by_tag", [False, True])
async def test_scripts_may_be_flushed_at_any_time(stores, redis_url, by_tag):
    store, client = stores(redis_url, by_tag=by_tag), open_redis(redis_url)

    for i in range(30):
        names = [f"{i}.{n}" for n in range(40)]
        answers, _ = await asyncio.gather(
            store.claim(
                [ClaimRequest(n, n, 1, 1) for n in names], owner="w", lease_ms=9_000
            ),
            client.script_flush(),
        )
        assert {type(answer) for answer in answers} == {Granted}
    await client.aclose()


async def test_a_full_server_refuses_and_writes_nothing(server, stores):
    store = stores(server.url)
    await ask(store, "warm")
    admin = open_redis(server.url)
    await admin.config_set("maxmemory", 1)

    with pytest.raises(StoreRefusedError, match="OOM"):
        await store.claim(
            [ClaimRequest(f"j{i}", f"j{i}", 1, 1) for i in range(50)],
            owner="w",
            lease_ms=9_000,
        )

    assert await admin.dbsize() == 1
    await admin.config_set("maxmemory", 0)
    assert isinstance(await ask(store), Granted)
    await admin.aclose()


async def test_a_full_server_still_lets_jobs_end_or_reports_that_it_does_not(
    server, stores
):
    store = stores(server.url)
    grant = await granted(store)
    admin = open_redis(server.url)
    await admin.config_set("maxmemory", 1)

    with pytest.raises(StoreRefusedError, match="OOM"):
        await end(store, grant.fence)

    await admin.config_set("maxmemory", 0)
    assert await end(store, grant.fence) is True
    await admin.aclose()


async def test_a_replica_refuses(server, stores):
    store, admin = stores(server.url), open_redis(server.url)
    await ask(store)
    await admin.replicaof("127.0.0.1", free_port())

    with pytest.raises(StoreRefusedError, match="READONLY"):
        await ask(store, "new")

    await admin.replicaof("NO", "ONE")
    await admin.aclose()


async def test_a_busy_server_is_unavailable_until_it_is_not(server, stores):
    store, admin = stores(server.url), open_redis(server.url, timeout_s=5)
    await ask(store, "warm")
    await admin.config_set("lua-time-limit", 20)
    stuck = open_redis(server.url, timeout_s=5)
    looping = asyncio.ensure_future(stuck.eval("while true do end", 0))
    with pytest.raises(StoreUnavailableError, match="BUSY"):
        while True:
            await ask(store)

    await admin.script_kill()
    with pytest.raises(ResponseError, match="killed"):
        await looping

    assert isinstance(await ask(store, "after"), Granted)
    await asyncio.gather(stuck.aclose(), admin.aclose())


async def test_wrong_or_missing_credentials_are_refused_without_showing_them(
    server, stores
):
    admin = open_redis(server.url)
    await admin.acl_setuser("ann", enabled=True, passwords=["+c4nary"], keys=["*"])
    await admin.acl_setuser("default", passwords=["+other"], nopass=False)
    address = server.url.partition("//")[2]

    for login, code in (
        ("", "NOAUTH"),
        ("ann:wr0ng-c4nary@", "WRONGPASS"),
        ("ann:c4nary@", "NOPERM"),
    ):
        with pytest.raises(StoreRefusedError, match=code) as caught:
            await ask(stores(f"redis://{login}{address}"))

        assert "c4nary" not in str(caught.value) + repr(caught.value.__cause__)
    await admin.aclose()


async def test_values_of_other_kinds_count_as_absent_and_are_counted(
    stores, redis_url, namespace
):
    store, client = stores(redis_url), open_redis(redis_url)
    names = ["list", "empty", "half", "other version", "too large", "good"]
    grant = await granted(store, "good")
    key = store._key
    await client.rpush(key("list"), "x")
    await client.set(key("empty"), b"")
    await client.set(key("half"), b"1r17672256")
    await client.set(key("other version"), b"2r1;1;1;0;0;0;0;;")
    await client.set(key("too large"), b"1r" + b"9" * 30 + b";1;1;0;0;0;0;;")

    written = await store.finish(
        [ClaimUpdate(name, 1, JobState.DONE, 1, 1, 9_000) for name in names]
    )
    answers = await store.claim(
        [ClaimRequest(name, name, 1, 1) for name in names], owner="w", lease_ms=9_000
    )

    assert written == [False] * 6
    assert [type(answer) for answer in answers] == [Granted] * 5 + [Busy]
    assert store.resets == 10
    assert [await state_of(store, name) for name in names] == [JobState.RUNNING] * 6
    assert await end(store, grant.fence, identity="good")
    await client.aclose()


async def test_a_value_of_another_type_has_no_status_and_can_be_cancelled(
    stores, redis_url
):
    store, client = stores(redis_url), open_redis(redis_url)
    await client.rpush(store._key("j1"), "x")

    assert await store.status("j1") is None
    assert (await store.cancel("j1", keep_ms=9_000)).state is JobState.CANCELLED
    assert store.resets == 2  # once by each
    await client.aclose()


async def test_everything_written_fades(stores, redis_url, namespace):
    store, client = stores(redis_url), open_redis(redis_url)
    running, keyed = await granted(store), await granted(store, "mail:k", job_id="j2")
    await end(store, keyed.fence, JobState.WAITING, identity="mail:k", turn=2)
    await store.renew([("j1", running.fence)], lease_ms=9_000)
    await store.cancel("j1", keep_ms=9_000)
    await store.cancel("j3", keep_ms=9_000)

    left_ms = {
        key: await client.pttl(key)
        async for key in client.scan_iter(match=f"shifter:{{{namespace}:*}}:*")
    }

    assert len(left_ms) == 4
    assert all(0 < ms <= 3_630_000 for ms in left_ms.values()), left_ms
    await client.aclose()


async def test_closing_twice_is_harmless(stores, redis_url):
    store = stores(redis_url)
    await ask(store)

    await store.close()
    await store.close()


@pytest.mark.parametrize("by_tag", [False, True])
async def test_a_server_that_keeps_no_scripts_still_runs_them(
    stores, redis_url, by_tag, monkeypatch
):
    store, client = stores(redis_url, by_tag=by_tag), open_redis(redis_url)
    load = store._runner._load

    async def load_in_vain(loads):
        await load(loads)
        await client.script_flush()

    monkeypatch.setattr(store._runner, "_load", load_in_vain)
    await client.script_flush()

    answers = await store.claim(
        [ClaimRequest(f"j{i}", f"j{i}", 1, 1) for i in range(40)],
        owner="w",
        lease_ms=9_000,
    )

    assert {type(answer) for answer in answers} == {Granted}
    await client.aclose()
