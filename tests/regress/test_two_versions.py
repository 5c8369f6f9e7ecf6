"""A rolling deploy dead-lettered new work: what one version does not know was bad to it.

With old and new workers side by side, half of the jobs of a new type became
`unknown_job`, and half of those with a new argument `undecodable_payload`, at once.
Right: such a job waits, uncharged and out of its lane's way, for a worker that knows it,
and is a dead letter only when the setting `deploy_grace` is over.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from shifter import Context, Deferred, Shifter
from shifter.config import Settings
from shifter.errors import ConfigError
from shifter.model.claim import JobState
from shifter.ports import Record
from shifter.testing import TestApp
from tests.acceptance.conftest import EMBEDDED, SERVERS
from tests.acceptance.fleet import Fleet
from tests.integration.drain_world import World, submit

TARGET = "tests.regress.deploy_jobs:app"
LANE = "shop.default.normal"
EACH = 10


# --- real workers of two versions ---------------------------------------------------


@pytest.fixture(params=[SERVERS, EMBEDDED])
def deploy(request, namespace: str, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of the app with two versions."""
    if request.param == "servers":
        log = request.getfixturevalue("kafka").url
        state = request.getfixturevalue("redis_url")
    else:
        log = state = f"sqlite://{tmp_path / 'fleet.db'}"
    fleet = Fleet(log, state, namespace, tmp_path)
    # One part of a lane for each of two workers.
    fleet.environment["SHIFTER_PARTITIONS"] = "2"
    fleet.run("topics", "apply", TARGET)
    try:
        yield fleet
    finally:
        fleet.close()


def work(fleet: Fleet, version: str) -> None:
    fleet.environment["VERSION"] = version
    fleet.work(target=TARGET)


def put(fleet: Fleet, job: str, arguments: dict[str, object]) -> None:
    head = json.dumps({"v": 1, "id": str(uuid.uuid4()), "type": job}).encode()
    topic = f"{fleet.namespace}.default.normal"
    fleet.put(topic, json.dumps(arguments).encode(), [("shifter", head)])


@pytest.mark.timeout(240)
def test_both_versions_beside_each_other_lose_nothing(deploy):
    work(deploy, "old")
    work(deploy, "new")
    put(deploy, "steady", {"number": -1})
    deploy.until(lambda: bool(deploy.effects("steady")))

    for number in range(EACH):
        # What new producers send, and what old ones do.
        put(deploy, "added", {"number": number})
        put(deploy, "more", {"number": number, "colour": "red"})
        put(deploy, "less", {"number": number})
        put(deploy, "after", {"number": number})
        put(deploy, "chosen", {"number": number, "kind": "b"})
        put(deploy, "removed", {"number": number})
        put(deploy, "less", {"number": 100 + number, "colour": "red"})
        put(deploy, "before", {"number": 100 + number})
        put(deploy, "steady", {"number": number})
    both = [*range(EACH), *range(100, 100 + EACH)]
    expected = {
        *((job, n, "new") for job in ("added", "more", "chosen") for n in range(EACH)),
        *(("removed", n, "old") for n in range(EACH)),
        *(("less", n, "new" if n < 100 else "old") for n in both),
    }

    def ran() -> list[tuple[str, int, str]]:
        return [(job, int(n), version) for job, n, version in deploy.effects()]

    deploy.until(lambda: len(ran()) == 9 * EACH + 1, timeout_s=100)

    found = set(ran())
    assert expected <= found
    assert {n for job, n, _ in found if job == "renamed"} == set(both)
    assert {v for job, n, v in found if job == "renamed" and n < 100} == {"new"}
    options = ("--namespace", deploy.namespace)
    assert deploy.json("dlt", "list", "default", *options) == []


def test_a_job_that_no_worker_has_is_a_dead_letter_after_its_grace(deploy):
    deploy.environment["SHIFTER_DEPLOY_GRACE"] = "2s"
    work(deploy, "new")
    put(deploy, "removed", {"number": 1})
    put(deploy, "less", {"number": 1, "colour": "red"})
    options = ("--namespace", deploy.namespace)

    def letters() -> list[dict[str, object]]:
        return deploy.json("dlt", "list", "default", *options)

    deploy.until(lambda: len(letters()) == 2)

    told = {letter["reason"]: letter["message"] for letter in letters()}
    assert set(told) == {"unknown_job", "undecodable_payload"}
    assert all("s for a worker that does" in text for text in told.values())


# --- two drains on one memory log ---------------------------------------------------


def other(world: World) -> World:
    """Another version of the app, on the same log and claims."""
    new = World()
    new.log, new.lane_log, new.claims = world.log, world.lane_log, world.claims
    new.publisher = new.app._publisher = world.publisher
    return new


async def test_a_waiting_misfit_holds_no_other_job_up_and_is_not_charged():
    old, seen = World(), []
    new = other(old)

    @old.app.job
    async def known(number: int) -> None:
        seen.append(number)

    @new.app.job
    async def fresh(number: int) -> None:
        seen.append(number)

    await old.open()
    waiting = [await submit(fresh, n) for n in range(50)]
    behind = [await submit(known, 100 + n) for n in range(50)]

    async with old.working(concurrency=2):
        await old.until(lambda: len(seen) == 50)
        states = [await old.state(job_id) for job_id in waiting]
    async with new.working():
        for job_id in waiting:
            await new.ended(job_id, JobState.DONE)

    assert set(seen[:50]) == {100 + n for n in range(50)}
    assert set(seen[50:]) == set(range(50))
    assert states.count(JobState.WAITING) == 50
    told = [await old.claims.status(job_id) for job_id in waiting]
    assert {one.attempt for one in told} == {1}
    assert len(behind) == 50


async def test_a_key_keeps_its_order_while_its_first_job_waits():
    old, seen = World(), []
    new = other(old)

    @old.app.job(name="known")
    async def of_old(number: int) -> None:
        seen.append(("old", number))

    @new.app.job
    async def fresh(number: int) -> None:
        seen.append(("new", number))

    @new.app.job(name="known")
    async def of_new(number: int) -> None:
        seen.append(("new", number))

    await old.open()
    jobs = (fresh, of_new, fresh, of_new)
    ids = [
        await submit(job.options(key="k"), number) for number, job in enumerate(jobs)
    ]
    apart = await submit(of_old.options(key="another"), 9)

    async with old.working():
        await old.ended(apart, JobState.DONE)
        await asyncio.sleep(0)
        assert seen == [("old", 9)]
    async with new.working():
        await new.ended(ids[-1], JobState.DONE)

    assert seen[1:] == [("new", number) for number in range(4)]


async def test_many_keys_that_wait_do_not_stop_the_lane():
    old, seen = World(), []
    new = other(old)

    @old.app.job
    async def known() -> None:
        seen.append(1)

    @new.app.job
    async def fresh() -> None: ...

    await old.open()
    head = {"v": 1, "type": "fresh"}
    records = []
    for number in range(2_500):
        envelope = {**head, "id": str(uuid.uuid4()), "key": f"k{number}"}
        headers = [("shifter", json.dumps(envelope).encode())]
        records.append(Record(LANE, b"{}", headers, b"k%d" % number))
    await old.lane_log.append(records, timeout_s=5)
    job_id = await submit(known)

    async with old.working(concurrency=50):
        await old.ended(job_id, JobState.DONE)

    assert seen == [1]


# --- time, deadlines and counts, in a test's own time -------------------------------


def versions() -> tuple[Shifter, Shifter]:
    """The app under test, and a newer version of it."""
    name = f"v{uuid.uuid4().hex[:8]}"
    settings = Settings(namespace=name)
    old, new = Shifter(name, settings=settings), Shifter(name, settings=settings)

    @old.job
    async def mail(to: str) -> None: ...

    @new.job(name="mail")
    async def newer(to: str, colour: str = "") -> None: ...

    @new.job
    async def fresh(number: int = 0) -> None: ...

    return old, new


async def test_the_grace_is_a_quarter_of_an_hour_and_then_it_is_a_dead_letter():
    old, new = versions()
    async with TestApp(old) as test:
        with test.beside(new):
            await new.find_job("fresh").defer(1)
            await new.find_job("mail").defer("ann", colour="red")
            early = await test.drain("14m")
            late = await test.drain("2m")

        letters = test.dead_letters()

    assert (early.dead, early.waiting) == (0, 2)
    assert (late.dead, late.waiting) == (2, 0)
    # Offered often, so that it finds a worker that knows it; never more than that.
    assert 100 < early.misfits + late.misfits < 200
    assert early.retried == late.retried == 0
    reasons = sorted(letter.reason for letter in letters)
    assert reasons == ["undecodable_payload", "unknown_job"]
    assert {letter.attempts for letter in letters} == {1}
    assert "no job is registered as 'fresh'; waited" in str(letters)


async def test_a_deadline_ends_the_wait_as_expired():
    old, new = versions()
    async with TestApp(old) as test:
        with test.beside(new):
            await new.find_job("fresh").options(deadline="1m").defer()
            before = await test.drain("59s")
            after = await test.drain("1s")

    assert (before.waiting, before.expired) == (1, 0)
    assert (after.waiting, after.expired, after.dead) == (0, 1, 0)


async def test_a_due_time_counts_before_the_grace_does():
    old, new = versions()
    async with TestApp(old) as test:
        with test.beside(new):
            await new.find_job("fresh").options(delay="1h").defer()
            before = await test.drain("1h")
            after = await test.drain("14m")
            last = await test.drain("2m")

    assert (before.misfits, before.dead) == (1, 0)
    assert (after.dead, last.dead) == (0, 1)


async def test_a_job_that_waits_can_be_cancelled():
    old, new = versions()
    async with TestApp(old) as test:
        with test.beside(new):
            answer = await new.find_job("fresh").defer()
            await test.drain("10s")
            await old.cancel(answer.job_id)
            report = await test.drain("20s")

    assert (report.cancelled, report.waiting) == (1, 0)


async def test_a_payload_of_a_wrong_type_does_not_wait():
    old, _ = versions()
    async with TestApp(old) as test:
        head = {"v": 1, "id": str(uuid.uuid4()), "type": "mail"}
        headers = [("shifter", json.dumps(head).encode())]
        lane = f"{old.namespace}.default.normal"
        test._backend.log.append([Record(lane, b'{"to": 1}', headers)], 10**6)
        report = await test.drain()

    assert (report.dead, report.misfits) == (1, 0)


async def test_a_forged_wait_is_no_longer_than_the_grace():
    old, _ = versions()
    async with TestApp(old) as test:
        for since_ms in (0, 253_402_300_799_999):
            head = {"v": 1, "id": str(uuid.uuid4()), "type": "x"}
            head["misfit_since_ms"] = since_ms
            headers = [("shifter", json.dumps(head).encode())]
            lane = f"{old.namespace}.default.normal"
            test._backend.log.append([Record(lane, b"{}", headers)], 10**6)
        now = await test.drain()
        report = await test.drain("16m")

    assert (now.dead, report.dead, report.waiting) == (1, 1, 0)


async def test_a_type_is_one_line_and_counted(caplog):
    old, new = versions()
    async with TestApp(old) as test:
        with test.beside(new), caplog.at_level(logging.INFO, "shifter"):
            for number in range(100):
                await new.find_job("fresh").defer(number)
            await test.drain("2s")

        series = test._worker.tally.metrics.snapshot()["shifter_misfits_total"]

    lines = [line for line in caplog.messages if line.startswith("job.misfit")]
    assert len(lines) == 1
    assert "job=fresh reason=unknown_job" in lines[0]
    assert set(series) == {("default", "fresh", "unknown_job")}
    assert series["default", "fresh", "unknown_job"] >= 100


async def test_made_up_types_are_few_series(caplog):
    old, _ = versions()
    async with TestApp(old) as test:
        for number in range(300):
            head = {"v": 1, "id": str(uuid.uuid4()), "type": f"made up {number}"}
            headers = [("shifter", json.dumps(head).encode())]
            lane = f"{old.namespace}.default.normal"
            test._backend.log.append([Record(lane, b"{}", headers)], 10**6)
        await test.drain()

        series = test._worker.tally.metrics.snapshot()["shifter_misfits_total"]

    assert len(series) == 51
    assert series["default", "other", "unknown_job"] == 250
    assert len([x for x in caplog.messages if x.startswith("job.misfit")]) <= 201


def test_the_example_of_the_page_on_deploys_is_true():
    page = (Path(__file__).parents[2] / "docs/how-to/deploys.md").read_text("utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)

    exec(compile("from __future__ import annotations\n" + example, "page", "exec"), {})


# --- names ---------------------------------------------------------------------------


async def test_a_renamed_job_runs_what_comes_under_its_old_names():
    app = Shifter("renamed", settings=Settings(namespace="renamed"))
    old = Shifter("renamed", settings=Settings(namespace="renamed"))

    @old.job(name="send")
    async def was(to: str) -> None: ...

    @app.job(name="send_mail", aliases=["send", "post"])
    async def is_now(to: str) -> None: ...

    async with TestApp(app) as test:
        with test.beside(old):
            assert isinstance(await was.defer("ann"), Deferred)
        await is_now.defer("bob")
        report = await test.drain()

    assert report.done == 2
    assert [call.arguments["to"] for call in is_now.calls] == ["ann", "bob"]
    assert app.find_job("post") is app.find_job("send_mail") is is_now
    assert list(app.jobs) == ["send_mail"]


async def test_an_idempotency_key_counts_for_one_name():
    app = Shifter("renamed", settings=Settings(namespace="renamed"))
    old = Shifter("renamed", settings=Settings(namespace="renamed"))

    @old.job(name="send")
    async def was() -> None: ...

    @app.job(name="send_mail", aliases=["send"])
    async def is_now(ctx: Context) -> str:
        return ctx.job_type

    async with TestApp(app) as test:
        for job in (was, was, is_now, is_now):
            with test.beside(old):
                await job.options(idempotency_key="k").defer()
        report = await test.drain()

    assert (report.done, report.repeated) == (2, 2)


@pytest.mark.parametrize(
    "aliases", ["a", ["new"], ["b", "b"], [""], [1], 7, [" x"], ["x" * 201], None]
)
def test_an_alias_that_is_taken_or_no_name_is_refused(aliases):
    app = Shifter("renamed", settings=Settings(namespace="renamed"))

    @app.job(name="a")
    async def first() -> None: ...

    async def second() -> None: ...

    with pytest.raises(ConfigError, match="aliases"):
        app.job(name="new", aliases=aliases)(second)


def test_a_name_that_is_anothers_alias_is_taken():
    app = Shifter("renamed", settings=Settings(namespace="renamed"))

    @app.job(aliases="old")
    async def first() -> None: ...

    with pytest.raises(ConfigError, match="'old'"):

        @app.job(name="old")
        async def second() -> None: ...


def test_a_version_of_another_namespace_is_not_put_beside():
    old, _ = versions()
    with (
        TestApp(old) as test,
        pytest.raises(ConfigError, match="namespace"),
        test.beside(Shifter("elsewhere")),
    ):
        raise AssertionError("it was let in")
