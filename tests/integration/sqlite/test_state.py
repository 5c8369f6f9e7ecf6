"""The fleet's state in a file that fades, is shared, and may hold what is not ours."""

from __future__ import annotations

import pytest

from shifter.adapters.sqlite.claim_rows import key_prefix
from shifter.adapters.sqlite.claims import SqliteClaimStore
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.fleet import SqlitePresenceStore
from shifter.errors import ConfigError
from shifter.model.claim import Busy, ClaimRequest, Granted, JobState
from shifter.testing.clock import FakeClock
from shifter.testing.conformance.claim_bench import KEEP_MS, ask, end, granted, state_of
from shifter.testing.conformance.presence import report_of

PREFIX = key_prefix("shop")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def file(tmp_path):
    database = Database(tmp_path / "fleet.db")
    yield database
    await database.close()


@pytest.fixture
def store(file, clock):
    return SqliteClaimStore(file, "shop", clock)


@pytest.fixture
def presence(file, clock):
    return SqlitePresenceStore(file, "shop", clock)


async def rows(file, table):
    (found,) = await file.read(
        lambda c: c.execute(f"SELECT count(*) FROM {table}").fetchone()
    )
    return found


async def put(file, table, key, value, until_ms=2**50):
    await file.write(
        lambda c: c.execute(
            f"REPLACE INTO {table} VALUES (?, ?, ?)", (PREFIX + key, until_ms, value)
        )
    )


async def test_namespaces_share_a_file_and_nothing_else(file, clock, store, presence):
    other = SqliteClaimStore(file, "shop-2", clock)
    others = SqlitePresenceStore(file, "shop-2", clock)
    grant = await granted(store, "mail:k", job_id="j1")
    await presence.report(report_of("w1"), keep_ms=KEEP_MS)

    assert isinstance(await ask(other, "mail:k", job_id="j1"), Granted)
    assert await other.status("mail:k") is not None
    assert await others.workers() == []
    await others.withdraw("w1")
    assert len(await presence.workers()) == 1
    await end(store, grant.fence, identity="mail:k")
    assert await state_of(other, "j1") is JobState.RUNNING


@pytest.mark.parametrize("name", ["", "Shop", "a\0b", "a b"])
def test_a_namespace_that_is_no_name_is_refused(file, clock, name):
    with pytest.raises(ConfigError):
        SqliteClaimStore(file, name, clock)


async def test_a_claim_whose_answer_was_lost_is_granted_again_at_once(
    file, clock, store
):
    write = file.write

    async def write_and_lose_the_answer(fn):
        await write(fn)
        raise TimeoutError

    file.write = write_and_lose_the_answer
    with pytest.raises(TimeoutError):
        await ask(store)
    file.write = write

    other = await ask(SqliteClaimStore(file, "shop", clock))
    mine = await ask(store)

    assert isinstance(other, Busy)
    assert isinstance(mine, Granted)
    assert mine.losses == 0


async def test_values_that_are_no_claims_count_as_absent_and_are_counted(file, store):
    values = [b"", b"\xc1", b"\x92\x01", b"\xc4\x00", b"x" * 9_000, b"\x90"]
    for i, value in enumerate(values):
        await put(file, "claim", b"j%d" % i, value)
    names = [f"j{i}" for i in range(len(values))]

    answers = await store.claim(
        [ClaimRequest(name, name, 1, 1) for name in names], owner="w", lease_ms=9_000
    )

    assert [type(answer) for answer in answers] == [Granted] * len(values)
    assert store.resets == len(values)


async def test_claims_that_faded_leave_the_file_as_others_are_claimed(
    file, clock, store
):
    for n in range(40):
        batch = [ClaimRequest(f"{n}-{i}", f"{n}-{i}", 1, 1) for i in range(50)]
        await store.claim(batch, owner="w", lease_ms=1)
        clock.advance(3_600)  # each lives about one of these steps

        assert await rows(file, "claim") <= 50 * 3


async def test_reports_of_an_idle_worker_sweep_the_claims_that_faded(
    file, clock, store, presence
):
    batch = [ClaimRequest(f"j{i}", f"j{i}", 1, 1) for i in range(12_000)]
    await store.claim(batch, owner="w", lease_ms=1)
    clock.advance(2 * 3_600)

    for _ in range(3):
        await presence.report(report_of("w1"), keep_ms=KEEP_MS)

    assert await rows(file, "claim") == 0


async def test_reports_that_faded_leave_the_file_with_the_next_one(
    file, clock, presence
):
    for i in range(150):
        await presence.report(report_of(f"gone{i}"), keep_ms=1_000)
    clock.advance(2)

    await presence.report(report_of("alive"), keep_ms=10_000)

    assert await rows(file, "presence") == 1


async def test_what_is_no_report_is_left_out_and_counted(file, clock, presence):
    await presence.report(report_of("w1"), keep_ms=10_000)
    bad = [b'{"worker_id": "half"', b"[]", b"\xff", b"[" * 5_000, b"x" * 70_000]
    for i, value in enumerate(bad):
        await put(file, "presence", b"bad%d" % i, value, clock.epoch_ms() + 9_000)

    assert await presence.workers() == [report_of("w1")]
    assert presence.unreadable == len(bad)


async def test_ends_without_a_report_hide_no_worker(file, clock, presence):
    await presence.report(report_of("w1"), keep_ms=10_000)
    for i in range(1_005):
        await put(file, "presence", b"x%d" % i, b"", clock.epoch_ms() + 90_000)

    assert await presence.workers() == [report_of("w1")]
    assert presence.unreadable == 1_005


async def test_ping_names_the_file(file, store):
    assert str(file.path) in await store.ping()
