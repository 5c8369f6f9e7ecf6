"""What each verb prints, and the shapes that scripts rely on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import uuid

import pytest

from shifter.cli import work_run as work_module
from shifter.errors import StoreUnavailableError
from shifter.model.claim import ClaimRequest, ClaimUpdate, JobState
from shifter.model.reason import Reason
from shifter.ports import Record, Refused, Unknown, WorkerReport
from shifter.wire.dead_letter import DeadLetterInfo, dead_letter_headers
from shifter.wire.headers import read_headers

LANES = [
    f"shop.{queue}.{priority}"
    for queue in ("default", "mail")
    for priority in ("critical", "high", "normal", "low")
]
NOW = 1_767_225_600_000


def job_id(number: int) -> str:
    return str(uuid.UUID(int=number))


# --- version, config ----------------------------------------------------------


@pytest.mark.parametrize("arguments", ["version", "--version"])
def test_version_is_one_line(world, arguments):
    ended = world.run(arguments)

    assert ended.code == 0
    assert ended.out.startswith("shifter ")
    assert ended.out.count("\n") == 1


def test_version_as_json_names_what_it_runs_on(world):
    found = world.run("version", "--json").json

    assert list(found) == ["shifter", "python", "confluent-kafka", "redis", "msgspec"]


def test_config_show_shows_the_origin_of_each_value(world, tmp_path):
    (tmp_path / "shifter.toml").write_text('lease = "20s"')

    found = world.run("--state", "redis://r2", "config", "show", "--json").json

    assert found["lease"] == {"value": "20s", "origin": "file shifter.toml"}
    assert found["state"] == {"value": "redis://r2", "origin": "flag --state"}
    assert found["log"]["origin"] == "env SHIFTER_LOG"
    assert found["processes"] == {"value": 1, "origin": "default"}


def test_config_show_with_origins_is_a_table(world):
    lines = world.run("config", "show", "--origin").out.splitlines()

    assert lines[0].split() == ["SETTING", "VALUE", "ORIGIN"]
    assert "namespace" in lines[1]
    assert lines[1].endswith("env SHIFTER_NAMESPACE")


# --- topics ---------------------------------------------------------------------


def test_topics_are_planned_applied_and_then_equal(world, shop):
    planned = world.run("topics", "plan", shop, "--json").json
    before = world.run("topics", "diff", shop)
    applied = world.run("topics", "apply", shop, "--json")
    after = world.run("topics", "diff", shop, "--json")
    again = world.run("topics", "plan", shop, "--json").json

    assert all(set(row) == {"topic", "action", "detail"} for row in planned)
    names = {row["topic"] for row in planned}
    assert {*LANES, "shop.mail.dlt", "shop.delay.1s"} <= names
    assert {"shop.replays", "shop.mail.dlt.parking"} <= names
    assert {row["action"] for row in planned} == {"create"}
    assert before.code == 1
    assert applied.code == 0
    assert {row["topic"] for row in applied.json} == names
    assert (after.code, after.json) == (0, [])
    assert {row["action"] for row in again} == {"keep"}


def test_what_needs_a_person_ends_with_3(world, shop):
    world.log.create_lanes("shop.mail.low", partitions=99)

    ended = world.run("topics", "apply", shop)

    assert ended.code == 3
    assert "shop.mail.low" in ended.out
    assert "never narrows or deletes" in ended.err


# --- submit ----------------------------------------------------------------------


def lane_records(world, lane: str):
    async def collect():
        return [record async for batch in world.admin.scan(lane) for record in batch]

    return asyncio.run(collect())


def test_submit_prints_the_id_of_a_durable_job(world, shop):
    world.run("topics", "apply", shop)

    ended = world.run("submit", shop, "send_receipt", "--json", '{"order_id": 7}')

    assert (ended.code, ended.err) == (0, "")
    (record,) = lane_records(world, "shop.mail.low")
    assert json.loads(record.value) == {"order_id": 7}
    assert read_headers(record.headers).envelope.id == ended.out.strip()


def test_submit_hands_over_every_option(world, shop):
    world.run("topics", "apply", shop)

    options = "--priority high --key k --idempotency-key i --deadline 6h --delay 5m"
    ended = world.run("submit", shop, "ping", *options.split(), "--format", "json")

    assert ended.json["lane"] == "shop.default.high"
    assert set(ended.json) == {"job_id", "lane", "reason"}
    assert lane_records(world, "shop.default.high") == []
    world.clock.advance(10**9)
    assert asyncio.run(world.admin.depths(["shop.default.high"]))[0].waiting == 1
    (record,) = lane_records(world, "shop.default.high")
    envelope = read_headers(record.headers).envelope
    assert (envelope.key, envelope.idempotency_key) == ("k", "i")
    assert envelope.deadline_ms - envelope.created_ms == 6 * 3_600_000
    assert envelope.due_ms - envelope.created_ms == 5 * 60_000


@pytest.mark.parametrize("priority", ["LOW", "low", "Low"])
def test_a_priority_may_be_written_in_any_case(world, shop, priority):
    world.run("topics", "apply", shop)

    ended = world.run("submit", shop, "ping", "--priority", priority, "--format=json")

    assert ended.json["lane"] == "shop.default.low"


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (Refused(Reason.QUEUE_FULL, "full"), 75, "try again in"),
        (Refused(Reason.TOO_LARGE, "big"), 65, "reference"),
        (Refused(Reason.REFUSED_BY_LOG, "no right"), 77, "doctor"),
        (Unknown("broker is silent"), 75, "--idempotency-key"),
    ],
)
def test_a_job_that_was_not_accepted_is_no_success(world, shop, answer, code, said):
    world.log.answer_instead = answer

    ended = world.run("submit", shop, "ping")

    assert ended.code == code
    assert ended.out == ""
    assert said in ended.problem[2]


# --- status ---------------------------------------------------------------------


def report(**lanes: tuple[int, float]) -> WorkerReport:
    return WorkerReport(
        worker_id="w1",
        host="h",
        pid=7,
        started_ms=1,
        reported_ms=2,
        concurrency=100,
        running={f"shop.{lane}.low": n for lane, (n, _) in lanes.items()},
        rate_per_s={f"shop.{lane}.low": rate for lane, (_, rate) in lanes.items()},
    )


@pytest.fixture
def busy(world, shop):
    """Three jobs wait on mail.low, one is delayed, one is dead; a worker lives."""
    world.run("topics", "apply", shop)
    for _ in range(3):
        world.run("submit", shop, "send_receipt", "--json", '{"order_id": 7}')
    world.run("submit", shop, "send_receipt", "--json", "{}")
    world.run(
        *("submit", shop, "send_receipt", "--json", '{"order_id": 1}', "--delay=29d")
    )
    world.log.append([Record("shop.mail.dlt", b"{}", [])], 10**6)
    asyncio.run(world.presence.report(report(mail=(2, 1.5)), keep_ms=10**9))
    world.clock.advance(12.5)
    return world


def test_status_has_exactly_the_published_shape(busy):
    found = busy.run("status", "--json").json

    assert list(found) == [
        *("as_of_ms", "lanes", "dead_letters", "circuits", "budgets", "workers"),
        "quality",
        "admission",
        "windows",
        "endpoints",
        "services",
        "delay_tiers",
    ]
    mail_low = {
        "queue": "mail",
        "priority": "LOW",
        "waiting": 3,
        "delayed": 1,
        "running": 2,
        "oldest_age_s": 12.5,
        "rate_per_s": 1.5,
        "eta_s": 2.0,
        "due": 3,
        "due_backlog_s": 2.0,
        "tightest_deadline_s": None,
        "partitions": None,
    }
    assert found["lanes"][-1] == mail_low
    assert found["dead_letters"] == [
        {"queue": "default", "count": 0},
        {"queue": "mail", "count": 1},
    ]
    assert (found["circuits"], found["budgets"]) == ([], [])
    assert found["workers"][0]["worker_id"] == "w1"
    assert found["as_of_ms"] == NOW + 12_500


def test_lanes_come_by_queue_and_most_urgent_first(busy):
    lanes = busy.run("status", "--json").json["lanes"]

    assert [
        f"shop.{lane['queue']}.{lane['priority'].lower()}" for lane in lanes
    ] == LANES


def test_an_idle_lane_has_no_age_and_no_eta(busy):
    first = busy.run("status", "--json").json["lanes"][0]

    assert first["oldest_age_s"] is None
    assert first["eta_s"] is None
    assert (first["due"], first["due_backlog_s"]) == (0, None)
    assert (first["running"], first["rate_per_s"]) == (0, 0)


def test_a_delayed_job_is_due_when_its_time_has_come(busy):
    busy.clock.shift_wall(busy.log.next_due_ms() - busy.clock.epoch_ms())

    lane = busy.run("status", "--json").json["lanes"][-1]

    assert (lane["due"], lane["waiting"], lane["delayed"]) == (4, 4, 0)


def test_status_shows_the_tightest_deadline_of_a_lane(world, shop):
    world.run("topics", "apply", shop)
    for left in (60, 20, 40):
        job = ("send_receipt", "--json", '{"order_id": 7}', f"--deadline={left}h")
        world.run("submit", shop, *job)
    [first] = asyncio.run(world.admin.depths(["shop.mail.low"]))
    world.clock.shift_wall(first.deadline_ms - 15_000 - world.clock.epoch_ms())
    lane = world.run("status", "--json").json["lanes"][-1]
    world.clock.advance(76)
    text = world.run("status").out

    assert lane["tightest_deadline_s"] == 15
    assert "-1m1s" in text


def test_status_shows_another_namespace_on_request(busy):
    assert busy.run("status", "--json", "--namespace", "other").json["lanes"] == []


@pytest.mark.parametrize("is_set", [True, False])
def test_without_the_state_store_the_log_is_still_shown(busy, monkeypatch, is_set):
    async def workers():
        raise StoreUnavailableError("redis", "workers", "gone")

    monkeypatch.setattr(busy.presence, "workers", workers)
    if not is_set:
        del os.environ["SHIFTER_STATE"]

    ended = busy.run("status", "--json")

    lane = ended.json["lanes"][-1]
    assert ended.code == 0
    assert (lane["waiting"], lane["running"], lane["rate_per_s"]) == (3, None, None)
    assert ended.json["workers"] == []
    assert ("workers are not shown" in ended.err) == is_set


def test_status_for_eyes_has_three_tables(busy):
    out = busy.run("status").out

    mail = next(line for line in out.splitlines() if line.startswith("mail     LOW"))
    cells = "mail LOW 3 3 1 2 12.5s 1.5/s 2.0s 2.0s -"
    assert mail.split() == cells.split()
    assert "DEAD LETTERS" in out
    assert "w1" in out


def test_a_workers_host_name_cannot_move_the_cursor(busy):
    hostile = report(mail=(0, 0.0))
    fields = {name: getattr(hostile, name) for name in hostile.__struct_fields__}
    hostile = WorkerReport(**{**fields, "host": "h\x1b[2J\r\n", "worker_id": "w2"})
    asyncio.run(busy.presence.report(hostile, keep_ms=10**9))

    out = busy.run("status").out

    assert "h\\x1b[2J\\r\\n" in out
    assert out.replace("\n", "").isprintable()


def test_a_watch_prints_one_object_each_second_until_ctrl_c(busy, monkeypatch):
    rounds = []

    async def sleep(seconds):
        rounds.append(seconds)
        if len(rounds) == 3:
            signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)

    monkeypatch.setattr(busy.clock, "sleep", sleep)

    ended = busy.run("status", "--watch", "--json")

    assert ended.code == 130
    assert min(rounds) >= 1.0
    lines = [json.loads(line)["as_of_ms"] for line in ended.out.splitlines()]
    assert len(lines) >= 2


# --- job --------------------------------------------------------------------------


@pytest.fixture
def running(world):
    """Job 1 runs, job 2 is done."""
    requests = [ClaimRequest(job_id(n), job_id(n), 1, 1) for n in (1, 2)]

    async def arrange():
        granted = await world.claims.claim(requests, owner="w1", lease_ms=60_000)
        done = ClaimUpdate(job_id(2), granted[1].fence, JobState.DONE, 1, 1, 10**6)
        await world.claims.finish([done])

    asyncio.run(arrange())
    return world


def test_job_show_as_json(running):
    found = running.run("job", "show", job_id(1), "--json").json

    assert found == {
        "job_id": job_id(1),
        "state": "running",
        "attempt": 1,
        "owner": "w1",
        "updated_ms": NOW,
        "started_ms": NOW,
        "story": [
            {"at_ms": NOW, "event": "started", "attempt": 1, "process": "w1"},
        ],
        "story_is_complete": True,
    }


def test_job_show_takes_any_spelling_of_a_uuid(running):
    ended = running.run("job", "show", job_id(1).upper().replace("-", ""))

    assert "running" in ended.out


def test_a_waiting_job_is_cancelled(running):
    ended = running.run("job", "cancel", job_id(3), "--json")

    assert (ended.code, ended.json["state"]) == (0, "cancelled")


def test_an_ended_job_cannot_be_cancelled(running):
    ended = running.run("job", "cancel", job_id(2))

    assert ended.code == 1
    assert "'done'" in ended.problem[1]


# --- dlt --------------------------------------------------------------------------


def letter(number: int, **changes) -> DeadLetterInfo:
    facts = {
        "job_id": job_id(number),
        "job_type": "send_receipt",
        "queue": "mail",
        "reason": "attempts_exhausted",
        "origin_topic": "shop.mail.low",
        "origin_partition": 2,
        "origin_offset": number,
        "origin_timestamp_ms": 1_000,
        "attempts": 4,
        "first_failed_ms": 2_000,
        "last_failed_ms": 3_000 + number,
        "error_type": "ValueError",
        "error_message": f"no such address {number}",
        "error_stack": "jobs.py:7 in send\njobs.py:9 in connect",
        "fingerprint": "0123456789ab",
        "worker": "w1",
    }
    return DeadLetterInfo(**{**facts, **changes})


@pytest.fixture
def dead(world):
    """Three dead letters of one kind, one of another, one of a stranger."""
    world.log.create_lanes("shop.mail.dlt", "orders-dlt")
    letters = [letter(n) for n in (1, 2, 3)]
    letters += [letter(4, fingerprint="ff00ff00ff00", error_type="KeyError")]
    records = [
        Record(
            "shop.mail.dlt",
            b'{"email": "a\\u202e@b"}' if info.job_id != job_id(4) else b"\xff\x00",
            dead_letter_headers(info, [("x-tenant", b"\x1b[2J"), ("raw", b"\xfe")]),
        )
        for info in letters
    ]
    world.log.append([*records, Record("shop.mail.dlt", b"?", [])], 10**6)
    return world


def test_dlt_list_has_exactly_the_published_shape(dead):
    found = dead.run("dlt", "list", "mail", "--json").json

    assert found[0] == {
        "fingerprint": "0123456789ab",
        "count": 3,
        "error": "ValueError",
        "message": "no such address 3",
        "reason": "attempts_exhausted",
        "first_seen_ms": 3_001,
        "last_seen_ms": 3_003,
        "sample_job_id": job_id(3),
    }
    assert [(row["fingerprint"], row["count"]) for row in found[1:]] == [
        ("ff00ff00ff00", 1),
        ("foreign", 1),
    ]


def test_dlt_list_takes_a_topic_by_its_own_name(dead):
    by_queue = dead.run("dlt", "list", "mail", "--json")
    by_topic = dead.run("dlt", "list", "shop.mail.dlt", "--json")
    other = dead.run("dlt", "list", "orders-dlt", "--json")

    assert by_queue.json == by_topic.json
    assert (other.code, other.json) == (0, [])


def test_dlt_list_is_limited_and_reports_it(dead):
    ended = dead.run("dlt", "list", "mail", "--limit", 1)

    assert len(ended.out.splitlines()) == 2
    assert "2 smaller groups" in ended.err


def test_groups_of_a_strangers_topic_are_bounded(dead, monkeypatch):
    monkeypatch.setattr("shifter.deadletter.triage.MAX_GROUPS", 2)

    found = dead.run("dlt", "list", "mail", "--json").json

    assert {row["fingerprint"] for row in found} == {
        *("0123456789ab", "ff00ff00ff00", "others"),
    }


@pytest.mark.parametrize("which", [[job_id(2)], ["0/1"], [job_id(2).upper()]], ids=str)
def test_dlt_show_finds_one_by_id_or_place(dead, which):
    found = dead.run("dlt", "show", "mail", *which, "--json").json

    assert (found["topic"], found["partition"], found["offset"]) == (
        "shop.mail.dlt",
        0,
        1,
    )
    assert found["dead_letter"]["job_id"] == job_id(2)
    assert found["payload"] == {"email": "a\u202e@b"}
    assert found["payload_encoding"] == "json"
    assert {"name": "raw", "value": "hex:fe"} in found["headers"]


def test_dlt_show_takes_topic_partition_offset_in_one(dead):
    found = dead.run("dlt", "show", "shop.mail.dlt/0/3", "--json").json

    assert (found["payload"], found["payload_encoding"]) == ("ff00", "hex")


@pytest.mark.parametrize("place", ["0/0", "0/3", "0/4"])
def test_dlt_show_for_eyes_cannot_move_the_cursor(dead, place):
    ended = dead.run("dlt", "show", "mail", place)

    assert ended.code == 0
    assert all(line.isprintable() for line in ended.out.split("\n"))
    assert "payload (" in ended.out
    if place == "0/0":
        assert "  jobs.py:9 in connect" in ended.out
        assert "x-tenant: \\x1b[2J" in ended.out


# --- schemas ----------------------------------------------------------------------


def test_schemas_are_written_and_then_found_current(world, tmp_path):
    written = world.run("schemas", "--write", tmp_path / "contracts")
    checked = world.run("schemas", "--check", tmp_path / "contracts")
    listed = world.run("schemas")

    assert (written.code, checked.code) == (0, 0)
    assert len(written.out.splitlines()) == len(listed.out.splitlines()) > 0


def test_a_stale_contract_is_named(world, tmp_path):
    world.run("schemas", "--write", tmp_path)
    first = world.run("schemas").out.splitlines()[0]
    (tmp_path / first).write_text("{}")

    ended = world.run("schemas", "--check", tmp_path)

    assert ended.code == 1
    assert first in ended.problem[1]


def test_a_folder_that_cannot_be_made_ends_with_73(world, tmp_path):
    (tmp_path / "file").touch()

    assert world.run("schemas", "--write", tmp_path / "file").code == 73


# --- work -------------------------------------------------------------------------


@pytest.fixture
def supervised(world, shop, monkeypatch):
    """Runs ``shifter work`` with a supervisor that only notes what it was told."""
    told = []

    async def supervise(options, app, *, until, first):
        told.append((options, app.settings.drain_timeout_ms / 1_000))
        if until is not None:
            await until
        return 0

    async def drained(admin, topics, *, depths):
        depths[:] = await admin.depths(topics)

    monkeypatch.setattr(work_module, "supervise", supervise)
    monkeypatch.setattr(work_module, "drained", drained)
    world.run("topics", "apply", shop)

    def run(*arguments):
        ended = world.run("work", shop, *arguments)
        return ended, told[-1] if told else None

    return run


def test_work_hands_its_options_to_the_supervisor(supervised, shop):
    options = (
        "--processes 2 --concurrency 7 --queue mail --priority low --priority HIGH"
    )

    ended, (told, drain_timeout_s) = supervised(*options.split(), "--wait", "60s")

    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert (told.target, told.processes, told.concurrency) == (shop, 2, 7)
    assert (told.queues, told.priorities) == (("mail",), ("LOW", "HIGH"))
    assert (told.burst, told.wait_s, drain_timeout_s) == (False, 60.0, 30.0)


def test_work_takes_counts_from_the_settings(supervised, monkeypatch):
    os.environ |= {"SHIFTER_PROCESSES": "3", "SHIFTER_CONCURRENCY": "9"}

    _, (told, _) = supervised()

    assert (told.processes, told.concurrency) == (3, 9)


def test_a_burst_ends_with_0_when_nothing_is_left(supervised):
    ended, (told, _) = supervised("--burst")

    assert (ended.code, told.burst) == (0, True)


def test_flags_reach_the_environment_of_worker_processes(supervised):
    supervised("--log", "kafka://other:1", "--state", "redis://other")

    assert os.environ["SHIFTER_LOG"] == "kafka://other:1"
    assert os.environ["SHIFTER_STATE"] == "redis://other"


def test_work_starts_without_the_state_store_but_reports_it(
    supervised, world, monkeypatch
):
    async def ping():
        raise StoreUnavailableError("redis", "ping", "gone")

    monkeypatch.setattr(world.claims, "ping", ping)

    ended, told = supervised()

    assert (ended.code, told is None) == (0, False)
    assert "starting without the state store" in ended.err


def test_work_does_not_start_without_the_log(supervised, world, monkeypatch):
    async def ping():
        raise StoreUnavailableError("kafka", "ping", "gone")

    monkeypatch.setattr(world.admin, "ping", ping)

    ended, told = supervised()

    assert (ended.code, told) == (69, None)


def test_an_app_without_jobs_has_nothing_to_do(world, module):
    name = module("from shifter import Shifter\napp = Shifter('shop')\n")

    assert world.run("work", f"{name}:app").code == 78


# --- doctor -----------------------------------------------------------------------


@pytest.fixture
def healthy(world, monkeypatch):
    """A state store without faults; a test may plant one."""
    from shifter.adapters.redis import doctor

    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))

    facts = doctor.RedisHealth(
        "redis h", "8.6.3", "master", "noeviction", 0, "aof", NOW
    )

    def plant(**changes):
        async def read_health(url, *, timeout_s):
            return facts._replace(**changes)

        async def lets_anybody_in(url, *, timeout_s):
            return False

        monkeypatch.setattr(doctor, "read_health", read_health)
        monkeypatch.setattr(doctor, "lets_anybody_in", lets_anybody_in)

    plant()
    world.plant = plant
    return world


def statuses(ended) -> dict[str, str]:
    return {row["name"]: row["status"] for row in ended.json["findings"]}


def test_a_healthy_deployment_has_no_findings_to_mend(healthy, shop):
    healthy.run("topics", "apply", shop)
    os.environ["SHIFTER_LOG"] = "kafka://127.0.0.1:9092"
    os.environ["SHIFTER_STATE"] = "rediss://nowhere:6379/0"

    ended = healthy.run("doctor", shop, "--json")

    assert (ended.code, ended.json["ok"]) == (0, True)
    assert set(statuses(ended).values()) == {"ok"}
    assert set(statuses(ended)) >= {
        *("python", "kafka_client", "sqlite", "log", "log.transport", "topics"),
        *("state", "state.version", "state.eviction", "state.persistence", "clock"),
    }
    assert all(
        set(row) == {"name", "status", "detail", "fix"}
        for row in ended.json["findings"]
    )


@pytest.mark.parametrize(
    ("fault", "name", "status", "code"),
    [
        ({"version": "7.0.15"}, "state.version", "warn", 0),
        ({"version": "7.2.10"}, "state.version", "warn", 0),
        ({"version": "?"}, "state.version", "warn", 0),
        ({"role": "slave"}, "state.role", "fail", 3),
        ({"eviction": "allkeys-lru"}, "state.eviction", "warn", 0),
        (
            {"eviction": "allkeys-lru", "max_memory_bytes": 1},
            *("state.eviction", "fail", 3),
        ),
        ({"persistence": "none"}, "state.persistence", "warn", 0),
        ({"epoch_ms": NOW + 5_000}, "clock", "warn", 0),
        ({"epoch_ms": NOW - 5_000}, "clock", "warn", 0),
    ],
)
def test_each_fault_of_the_state_store_is_found(healthy, fault, name, status, code):
    healthy.plant(**fault)

    ended = healthy.run("doctor", "--json")

    assert ended.code == code
    assert statuses(ended)[name] == status
    row = next(row for row in ended.json["findings"] if row["name"] == name)
    assert row["fix"]


@pytest.mark.parametrize(
    "version", ["7.2.11", "7.4.6", "8.0.4", "8.2.9", "8.6.3", "9.0.0"]
)
def test_a_mended_redis_is_fine(healthy, version):
    healthy.plant(version=version)

    assert statuses(healthy.run("doctor", "--json"))["state.version"] == "ok"


def test_missing_topics_are_a_failure_with_their_fix(healthy, shop):
    ended = healthy.run("doctor", shop)

    assert ended.code == 3
    assert f"fix topics: shifter topics apply {shop}" in ended.out


def test_a_log_in_the_clear_across_the_network_is_a_warning(healthy):
    assert statuses(healthy.run("doctor", "--json"))["log.transport"] == "warn"


def test_a_fleet_without_a_state_store_is_a_failure(healthy):
    del os.environ["SHIFTER_STATE"]

    ended = healthy.run("doctor", "--json")

    assert ended.code == 69
    assert statuses(ended)["state"] == "fail"


def test_the_doctor_waits_as_long_as_asked(healthy, monkeypatch):
    asked = []

    async def ping():
        asked.append(healthy.clock.monotonic())
        if len(asked) < 4:
            raise StoreUnavailableError("kafka", "ping", "starting")
        return "kafka"

    async def sleep(seconds):
        healthy.clock.advance(seconds)

    monkeypatch.setattr(healthy.admin, "ping", ping)
    monkeypatch.setattr(healthy.clock, "sleep", sleep)

    too_short = healthy.run("doctor", "--wait", "1s").code
    assert (too_short, len(asked)) == (69, 3)
    assert healthy.run("doctor", "--wait", "1s").code == 0


# --- no terminal, narrow terminal ---------------------------------------------------


def test_a_narrow_terminal_gets_blocks_instead_of_a_cut_table(busy, monkeypatch):
    monkeypatch.setattr("shifter.cli.output.is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "20")

    out = busy.run("status").out

    assert "queue: mail\npriority: LOW\nwaiting: 3\n" in out


def test_a_pipe_gets_whole_lines_however_long(dead):
    message = next(
        line for line in dead.run("dlt", "list", "mail").out.splitlines()[1:]
    )

    assert message.endswith("0123456789ab")


@pytest.mark.parametrize("arguments", ["--help", "work --help", "topics --help"])
def test_help_fits_twenty_columns(world, monkeypatch, arguments):
    monkeypatch.setenv("COLUMNS", "20")

    ended = world.run(*arguments.split())

    assert ended.code == 0
    assert max(map(len, ended.out.splitlines())) <= 20


def test_output_without_a_terminal_has_no_colours(world, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")

    assert "\x1b" not in world.run("--help").out


def test_every_verb_of_the_design_is_there(world):
    out = world.run("--help").out

    for verb in ("work", "submit", "status", "topics", "job", "dlt", "doctor"):
        assert f" {verb} " in out
