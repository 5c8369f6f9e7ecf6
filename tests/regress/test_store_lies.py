"""A state store that lies ended every worker, and every command of an operator.

Whoever could write one value to Redis (a load in hexadecimal, an end of 400 digits, a
score of infinity, nine thousand voices) made Lua and Python read different numbers, and
what the one accepted the other raised for: the worker died, was restarted, and died
again. Right is: every number is read once, by one grammar, and has bounds; a value that
is none of ours is counted and passed over; hashes and sets are bounded when they are
read; and nothing but a `StoreError` leaves a reader of the store.
"""

from __future__ import annotations

import time
import uuid

import pytest
from redis import Redis

from shifter.adapters.redis.claim_scripts import decode_claim
from shifter.adapters.redis.claims import RedisClaimStore
from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.fleet import RedisFleetStore, RedisPresenceStore
from shifter.adapters.redis.keys import ClaimKeys, fleet_keys, presence_keys
from shifter.adapters.redis.scripts import read_script
from shifter.adapters.system import SystemClock
from shifter.cli.status import window_cells
from shifter.config.load import load_settings
from shifter.errors import StoreRefusedError
from shifter.fleet.hours import Hours
from shifter.fleet.replica import FleetReplica
from shifter.fleet.shared_state import setting_text
from shifter.fleet.sync import FleetSync
from shifter.fleet.view import look
from shifter.model.claim import Busy, ClaimRequest, Granted
from shifter.model.fleet import (
    MAX_COUNT,
    MAX_PROCESSES,
    FleetLoad,
    FleetReport,
    FleetView,
    Proposal,
    read_load,
    read_whole,
)
from shifter.model.lane import Lane, Priority
from shifter.policy.delivery.claim_state import (
    MAX_LEASE_MS,
)
from shifter.policy.protection.budget import BudgetPolicy
from shifter.testing.conformance.fleet import fleet_report
from shifter.testing.conformance.presence import report_of
from tests.acceptance.fleet import Fleet
from tests.bad_inputs.catalogue import GOOD, OURS, with_id
from tests.bad_inputs.writers import writer_of

pytestmark = pytest.mark.timeout(240)

TARGET = "tests.regress.store_jobs:app"
FAR_MS = 59_000
NOBODY = FleetLoad(0, 0.0, 0.0)

TEXTS = [
    *(
        "0",
        "1",
        "42",
        "007",
        "00",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1_0",
        "0x10",
        "0X1F",
        "1e3",
    ),
    *("1e400", "1e-400", "inf", "-inf", "nan", "Infinity", "", ".", "1.", ".5", "0.5"),
    *("1.5e3", "1.5e+3", "1.5e-07", "1e", "1e+", "1E3", "1,5", "0b1", "1\0", "\0", "²"),
    *("٣", "1" * 15, "9" * 16, "9" * 17, "1" * 400, str(MAX_COUNT), str(MAX_COUNT + 1)),
    *(
        "1000000.0",
        "1000000.1",
        "5.551115123125783e-17",
        "0." + "1" * 40,
        "-0.0",
        "0.0",
    ),
]


@pytest.fixture
def redis(redis_url):
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def client(redis_url):
    client = open_redis(redis_url, timeout_s=20)
    yield client
    await client.aclose()


@pytest.fixture
def fleet(redis_url, namespace, tmp_path):
    """A file as log, Redis as state."""
    fleet = Fleet(f"sqlite://{tmp_path / 'log.db'}", redis_url, namespace, tmp_path)
    yield fleet
    fleet.close()


@pytest.mark.redis
def test_lua_and_python_read_the_same_numbers_from_every_text(redis):
    source = read_script("number").source
    script = redis.register_script(
        f"{source}\nlocal out = {{}}\nfor i, text in ipairs(ARGV) do\n"
        "local n, l = whole(text), load_of(text)\n"
        "out[i] = (n and int(n) or '-') .. ' ' .. (l and string.format('%.17g', l) or '-')"
        "\nend\nreturn out"
    )

    answers = script(args=TEXTS)

    for text, answer in zip(TEXTS, answers, strict=True):
        whole, load = answer.decode().split(" ")
        assert (None if whole == "-" else int(whole)) == read_whole(text), text
        assert (None if load == "-" else float(load)) == read_load(text), text


@pytest.mark.redis
def test_a_worker_lives_on_and_every_command_answers_whatever_is_planted(redis, fleet):
    state, cells, voices, evidence, budgets, rates, _ = fleet_keys(fleet.namespace)
    until, _reports = presence_keys(fleet.namespace)
    far_ms = int(time.time() * 1_000) + FAR_MS
    worker = fleet.work("--processes", "1", target=TARGET)
    run_a_job(fleet)
    before = fleet.children(worker)

    redis.hset(voices, "evil", f"{far_ms} 0x10")
    setting = f'{{"to":"closed","owner":"o","reason":"r","until_ms":{"9" * 400}}}'
    redis.hset(cells, "hand/window/queue/any", setting)
    redis.hset(cells, "hand/circuit/bank", setting)
    redis.hincrby(state, "version", 1)
    redis.zadd(until, {"forever": "inf"})
    redis.hset(budgets, "bank", b"\x93\x00\x00\xd2\xc4\x65\x36\x00")
    redis.hset(rates, "bank", "1e3")
    run_a_job(fleet)
    answer_all(fleet)

    redis.zadd(until, {f"x{i}": 1e300 for i in range(1_000)})
    # As 1,200 voices without a worker, and as 9,000: beyond what `unpack` takes.
    redis.hset(voices, mapping={f"v{i}": f"{far_ms} 0.5" for i in range(1_200)})
    answer_all(fleet)
    redis.hset(voices, mapping={f"v{i}": f"{far_ms} 0.5" for i in range(9_000)})
    redis.hset(evidence, mapping={f"v{i}": b"\x91\x80" for i in range(9_000)})
    redis.hset(cells, mapping={f"junk{i}": b"x" for i in range(9_000)})
    run_a_job(fleet)
    answer_all(fleet)

    shown = fleet.json("status", "--namespace", fleet.namespace)
    assert len(shown["workers"]) == 1
    assert fleet.children(worker) == before
    assert "Traceback" not in fleet.said(10**9), fleet.said(10**9)[-3_000:]
    assert redis.hlen(voices) <= MAX_PROCESSES


def run_a_job(fleet):
    job_id = str(uuid.uuid4())
    settings = load_settings(fleet.namespace, environ=fleet.environment)
    with writer_of(settings, f"{fleet.namespace}.default.normal") as writer:
        writer.put(job_id, with_id(OURS, job_id), GOOD)
        writer.flush()
    until = time.monotonic() + 60
    while job_id not in fleet.effects_file.read_text():
        assert time.monotonic() < until, fleet.said()
        time.sleep(0.02)


def answer_all(fleet):
    for verb in (("status",), ("circuit", "list"), ("window", "list", TARGET)):
        own = () if TARGET in verb else ("--namespace", fleet.namespace)
        shown = fleet.run(*verb, "--json", *own, check=False)
        assert shown.returncode == 0, shown.stderr


@pytest.mark.redis
async def test_an_end_of_400_digits_neither_closes_a_lane_nor_spoils_a_row(
    client, namespace
):
    clock, store = SystemClock(), RedisFleetStore(client, namespace)
    hours, lane = Hours(clock, {}), Lane(namespace, "any", Priority.NORMAL)
    for until in ("9" * 400, "1e300", "-1", '"soon"', str(2**63)):
        text = f'{{"to":"closed","owner":"o","reason":"r","until_ms":{until}}}'
        await store.sync(fleet_report(proposals=[]))
        await client.hset(fleet_keys(namespace)[1], "hand/window/queue/any", text)
        await client.hset(fleet_keys(namespace)[1], "hand/quality", text)
        view = await store.sync(fleet_report())
        hours.learn(view.cells, view.now_ms)

        assert not hours.is_lane_closed(lane, clock.epoch_ms())
        rows = await look(store, "operator")
        assert window_cells(rows.windows) == []
        assert rows.quality.by_hand is None


@pytest.mark.redis
async def test_an_operator_who_looks_is_no_voice_and_is_answered_by_a_full_fleet(
    client, namespace
):
    store, voices = RedisFleetStore(client, namespace), fleet_keys(namespace)[2]
    far_ms = int(time.time() * 1_000) + FAR_MS
    await client.hset(voices, mapping={f"v{i}": f"{far_ms} 0.5" for i in range(1_000)})

    rows = await look(store, "operator")

    assert rows.quality.processes == 1_000
    assert not await client.hexists(voices, "operator")


@pytest.mark.redis
async def test_more_voices_than_a_fleet_has_are_dropped_and_counted(client, namespace):
    store, voices = RedisFleetStore(client, namespace), fleet_keys(namespace)[2]
    far_ms = int(time.time() * 1_000) + FAR_MS
    await client.hset(
        voices, mapping={f"v{i}": f"{far_ms} 0.5" for i in range(MAX_PROCESSES + 1)}
    )

    view = await store.sync(fleet_report("alive", is_alarmed=True))

    assert view.load.processes == 1
    assert view.strange == 1


@pytest.mark.redis
async def test_the_reports_of_a_thousand_alarmed_processes_all_count(client, namespace):
    store = RedisFleetStore(client, namespace)
    _, _, voices, evidence, *_ = fleet_keys(namespace)
    far_ms = int(time.time() * 1_000) + FAR_MS
    await client.hset(voices, mapping={f"v{i}": f"{far_ms} 0.5" for i in range(999)})
    await client.hset(evidence, mapping={f"v{i}": f"{i}" for i in range(999)})

    view = await store.sync(fleet_report("alive", is_alarmed=True))

    assert view.evidence["v998"] == b"998"
    assert len(view.evidence) == view.load.processes == 1_000


@pytest.mark.redis
async def test_cells_that_no_fleet_can_have_are_dropped_and_read_anew(
    client, namespace
):
    store, cells = RedisFleetStore(client, namespace), fleet_keys(namespace)[1]
    first = await store.sync(fleet_report(proposals=[Proposal("quality", b"", b"1")]))
    await client.hset(cells, "large", b"x" * 100_000)
    await client.hset(cells, "n" * 5_000, b"x")
    view = await store.sync(fleet_report())
    assert view.cells == {"quality": b"1"}
    assert view.strange == 2

    await client.hset(cells, mapping={f"c{i}": b"x" for i in range(5_000)})
    view = await store.sync(fleet_report(version=first.version))

    assert view.cells == {}
    assert view.version != first.version


@pytest.mark.redis
@pytest.mark.parametrize(
    "row",
    [
        b"\x93\x00\x00\xd2\xc4\x65\x36\x00",  # 0, 0, -1000000000
        b"\x93\x00\x00\xff",  # 0, 0, -1
        b"\x93\xff\x00\x00",  # -1, 0, 0
        b"\x93\x00\xcb\x7e\x37\xe4\x3c\x88\x00\x75\x9c\x00",  # 0, 1e300, 0
        b"\x93\x00\xcf\x00\x1f\xff\xff\xff\xff\xff\xff\x00",  # 0, 2**53 - 1, 0
        b"\xdd\x00\x01\x00\x00" + b"\x00" * 65_536,
    ],
)
async def test_a_budget_row_that_no_fleet_wrote_grants_nothing_more(
    client, namespace, row
):
    store, policy = RedisFleetStore(client, namespace), BudgetPolicy()
    now_ms = int(time.time() * 1_000)
    bucket = (now_ms // policy.bucket_ms).to_bytes(8, "big")
    row = row.replace(b"\x93\x00", b"\x93\xcf" + bucket, 1)
    await client.hset(fleet_keys(namespace)[4], "mailer", row)
    asked = policy.wish("mailer", 0, (1_000_000, 0, 0, 0))

    view = await store.sync(fleet_report(budgets=[asked]))

    assert sum(view.granted[0]) == policy.floor_milli // 1_000
    assert view.strange == 1


@pytest.mark.redis
@pytest.mark.parametrize(
    "value",
    [
        b"1r1;1;1;0;9007199254740990;1;0;op who;",  # a lease without an end
        b"1r1;1;1;0;253402300799999;1;0;op who;",
        b"1q1;1;1;0;1;1;0;op who;",  # asked to stop, and to be kept for no time
        b"1r1;1;1;0;1;1;9;op who;",
        b"1r0x1;1;1;0;1;1;0;op who;",
        b"1r01;1;1;0;1;1;0;op who;",
        b"1r1;1;1;0;1;1;0;" + b"x" * 9_000 + b";",
        b"1p\xff\xfe",
        b"1p" + b"x" * 1_000_000,
    ],
)
async def test_a_claim_that_no_worker_wrote_is_none_and_can_be_cancelled(
    client, namespace, value
):
    store, key = RedisClaimStore(client, namespace), ClaimKeys(namespace).claim("j1")
    assert decode_claim(value) is None
    await client.set(key, value)
    assert await store.status("j1") is None

    [answer] = await store.claim(
        [ClaimRequest("j1", "j1", 1, 1)], owner="w", lease_ms=9_000
    )
    assert isinstance(answer, Granted)

    await client.set(key, value)
    assert (await store.cancel("j1", keep_ms=9_000)).state.is_terminal


@pytest.mark.redis
async def test_a_lease_that_lies_ahead_holds_no_job_up_for_longer_than_a_lease(
    client, namespace
):
    store, key = RedisClaimStore(client, namespace), ClaimKeys(namespace).claim("m:k")
    ahead_ms = int(time.time() * 1_000) + 10**12
    lie = f"1r1;1;1;0;{ahead_ms + 1_000};{ahead_ms};0;op who;other!"
    await client.set(key, lie)

    [answer] = await store.claim(
        [ClaimRequest("m:k", "j1", 1, 1)], owner="w", lease_ms=9_000
    )

    assert isinstance(answer, Busy)
    assert answer.retry_in_ms <= MAX_LEASE_MS


@pytest.mark.redis
async def test_a_score_of_infinity_fails_no_report(client, namespace):
    store = RedisPresenceStore(client, namespace)
    await client.zadd(presence_keys(namespace)[0], {"a": "inf", "b": "1e300", "c": -1})

    await store.report(report_of("w1"), keep_ms=10_000)

    assert await store.workers() == [report_of("w1")]


@pytest.mark.redis
@pytest.mark.parametrize("number", ["-1", "9" * 400, "1e308", str(2**60)])
async def test_a_report_with_a_number_out_of_its_bounds_is_none(
    client, namespace, number
):
    store, (until, reports) = (
        RedisPresenceStore(client, namespace),
        presence_keys(namespace),
    )
    text = (
        '{"worker_id":"w","host":"h","pid":1,"started_ms":1,"reported_ms":1,'
        f'"concurrency":1,"running":{{}},"rate_per_s":{{"l":{number}}}}}'
    )
    await client.hset(reports, "w", text)
    await client.zadd(until, {"w": time.time() * 1_000 + 9_000})

    assert await store.workers() == []
    assert store.unreadable == 1


class Nonsense:
    """A fleet store whose answers fit no question."""

    async def sync(self, report: FleetReport) -> FleetView:
        return FleetView(0, 0, {"load": 7}, [], {}, NOBODY, [], [])  # type: ignore[dict-item]

    async def listen(self, changed):
        return

    async def close(self):
        return


async def test_an_answer_that_cannot_be_read_counts_as_no_answer():
    replica = FleetReplica([], SystemClock(), process="p")
    replica.tenants.append(Hours(SystemClock(), {}))
    store = Nonsense()

    class Tenant:
        def propose(self):
            return ()

        def learn(self, cells, now_ms):
            raise OverflowError("int too large to convert to float")

    replica.tenants.append(Tenant())
    await FleetSync(replica, store, SystemClock()).once()

    assert replica.failures == 1


async def test_an_operators_rows_raise_nothing_but_a_store_error():
    class Odd(Nonsense):
        async def sync(self, report):
            cells = {"hand/quality": setting_text}
            return FleetView(0, 0, cells, [], {}, NOBODY, [], [])

    with pytest.raises(StoreRefusedError, match="cannot be read"):
        await look(Odd(), "operator")
