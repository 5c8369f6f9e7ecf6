"""A status of "waiting" was an answer to ids that no job ever had.

The HTTP status resource answered 200 for every UUID, while `app.status` and
``job show`` did not find a job that was accepted and not started yet. Right: an accepted
job is ``waiting`` from its acceptance on, and an unknown id is 404.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from uuid_utils import uuid4, uuid7

from shifter import Priority, Shifter
from shifter.adapters.system import SystemClock
from shifter.asgi import AdmissionMiddleware
from shifter.asgi.job_route import job_status
from shifter.cli import main
from shifter.config import Secret, Settings
from shifter.errors import StoreUnavailableError
from shifter.model.claim import ClaimRequest, ClaimUpdate, JobState, WaitingJobs
from shifter.model.job import gap_name
from shifter.produce.job_states import StoredJobStates
from shifter.testing import TestApp

BOUND_S = 40.0


async def nothing(*_):
    """No application of its own."""


def app_on(log, state, **settings):
    found = Settings(
        namespace="shop",
        log_url=Secret.of_url(log),
        state_url=Secret.of_url(state),
        **settings,
    )
    app = Shifter("shop", settings=found)

    @app.job
    async def mail(to: str) -> None:
        """Never run here."""

    return app, mail


async def state_of(app, job_id):
    status = await app.status(job_id)
    return None if status is None else status.state


async def until_state(app, job_id, state=JobState.WAITING):
    async with asyncio.timeout(BOUND_S):
        while await state_of(app, job_id) is not state:
            await asyncio.sleep(0.01)


@pytest.fixture
def file_url(tmp_path):
    return f"sqlite:///{tmp_path}/fleet.db"


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def state_url(request, file_url):
    if request.param == "sqlite":
        return file_url
    return request.getfixturevalue("redis_url")


async def test_a_test_app_finds_a_job_that_waits_and_no_other():
    app = Shifter("shop")

    @app.job
    async def mail(to: str) -> None:
        """Done at once."""

    async with TestApp(app) as test:
        plain = await mail.defer("ann")
        keyed = await mail.options(idempotency_key="k").defer("bob")
        later = await mail.options(delay="2d").defer("eve")
        many = await mail.defer_many([("x",), ("y",)])
        ids = [one.job_id for one in (plain, keyed, later, *many)]
        assert [await state_of(app, i) for i in ids] == [JobState.WAITING] * 5
        assert await app.status(uuid7()) is None

        await test.drain()
        assert await state_of(app, plain.job_id) is JobState.DONE
        assert await state_of(app, keyed.job_id) is JobState.DONE
        assert await state_of(app, later.job_id) is JobState.WAITING


async def test_status_resource_is_404_for_an_id_that_no_job_has():
    app = Shifter("shop")

    @app.job
    async def mail(to: str) -> None:
        """Never run here."""

    async with TestApp(app):
        door = AdmissionMiddleware(nothing, app)
        transport = httpx.ASGITransport(door)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as web:
            answer = await mail.defer("ann")
            waiting = await web.get(f"/jobs/{answer.job_id}")
            unknown = await web.get(f"/jobs/{uuid7()}")

    assert (waiting.status_code, waiting.json()["state"]) == (200, "waiting")
    assert unknown.status_code == 404
    assert unknown.headers["content-type"] == "application/problem+json"


async def test_a_service_finds_its_job_at_once_and_others_find_it_soon(
    file_url, state_url
):
    app, mail = app_on(file_url, state_url)
    other, _ = app_on(file_url, state_url)
    async with app:
        answers = [await mail.defer("a"), mail.defer_sync("b")]
        answers += await mail.defer_many([("c",)])
        answers += [
            await mail.options(**options).defer("d")
            for options in (
                {"idempotency_key": str(uuid7())},
                {"job_id": uuid4()},
                {"delay": "1h"},
                {"key": "k"},
                {"priority": Priority.LOW},
            )
        ]
        for answer in answers:
            assert await state_of(app, answer.job_id) is JobState.WAITING
        for answer in answers:
            await until_state(other, answer.job_id)
        assert await state_of(app, str(uuid7())) is None


async def test_a_service_that_ends_records_what_it_accepted_before(file_url, state_url):
    app, mail = app_on(file_url, state_url)
    with app:
        answer = mail.defer_sync("a")

    other, _ = app_on(file_url, state_url)
    assert await state_of(other, answer.job_id) is JobState.WAITING


async def test_a_due_time_far_off_prolongs_the_record(file_url):
    app, mail = app_on(file_url, file_url)
    due = datetime.now(UTC) + timedelta(days=7)
    with app:
        answer = mail.options(due_at=due).defer_sync("a")

    connection = sqlite3.connect(file_url.removeprefix("sqlite:///"))
    query = "SELECT until_ms FROM claim WHERE instr(key, ?)"
    wanted = (answer.job_id.encode(),)
    (until_ms,) = connection.execute(query, wanted).fetchone()
    connection.close()
    assert until_ms / 1_000 == pytest.approx(due.timestamp() + 7 * 86_400, abs=3_700)


def test_job_show_finds_a_job_that_waits(file_url, monkeypatch, capsys):
    app, mail = app_on(file_url, file_url)
    with app:
        answer = mail.defer_sync("a")
    monkeypatch.setenv("SHIFTER_LOG", file_url)
    monkeypatch.setenv("SHIFTER_STATE", file_url)
    monkeypatch.setenv("SHIFTER_NAMESPACE", "shop")

    assert main(["job", "show", answer.job_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "waiting"
    assert main(["job", "show", str(uuid7()), "--json"]) != 0


async def test_a_job_is_found_among_many_until_its_record_is_settled(
    file_url, tmp_path
):
    """In a file the log's own rows tell it; the id in another's payload does not."""
    app, mail = app_on(file_url, file_url)
    async with app:
        before = await mail.defer_many([(f"{i}",) for i in range(3_000)])
        keyed = await mail.options(key="k").defer("a")
        stranger = str(uuid7())
        await mail.defer(stranger)
        after = await mail.defer_many([(f"{i}",) for i in range(3_000)])
        ids = [one.job_id for one in (before[0], before[-1], keyed, *after[::999])]
        assert [await state_of(app, i) for i in ids] == [JobState.WAITING] * len(ids)
        assert await state_of(app, stranger) is None

        connection = sqlite3.connect(tmp_path / "fleet.db")
        with connection:
            connection.execute(
                "DELETE FROM job WHERE instr(body, ?)", (ids[1].encode(),)
            )
        connection.close()
        assert await state_of(app, ids[1]) is None
        assert await state_of(app, ids[0]) is JobState.WAITING


async def test_a_job_that_ended_is_not_set_to_waiting_again(file_url, state_url):
    """Also when its waiting is recorded late, and when its end is forgotten."""
    app, mail = app_on(file_url, state_url)
    async with app:
        answer = await mail.defer("a")
        await until_state(app, answer.job_id)
        async with app._claims() as claims:
            request = ClaimRequest(answer.job_id, answer.job_id, 1, 1)
            (granted,) = await claims.claim([request], owner="w", lease_ms=60_000)
            await app.cancel(answer.job_id)
            assert await state_of(app, answer.job_id) is JobState.RUNNING
            done = (answer.job_id, granted.fence, JobState.DONE, 1, 1, 60_000)
            assert await claims.finish([ClaimUpdate(*done)]) == [True]
            await claims.add_waiting([WaitingJobs([answer.job_id], 60_000)])
        assert await state_of(app, answer.job_id) is JobState.DONE


async def test_waiting_states_can_be_switched_off(file_url):
    """What lies in a lane is found all the same: that costs nothing."""
    app, mail = app_on(file_url, file_url, waiting_states="off")
    with app:
        plain = mail.defer_sync("a")
        later = mail.options(delay="1h").defer_sync("b")
        assert await state_of(app, plain.job_id) is JobState.WAITING
        assert await state_of(app, later.job_id) is None
        assert await app.may_wait(later.job_id) is True


async def test_a_forked_child_records_its_own_jobs(file_url, state_url):
    app, mail = app_on(file_url, state_url)
    with app:
        first = mail.defer_sync("a")
        await until_state(app, first.job_id)
        job_id = str(uuid7())
        pid = os.fork()
        if pid == 0:
            try:
                mail.options(job_id=job_id).defer_sync("b")
                app.close()
            finally:
                os._exit(0)
        await asyncio.to_thread(os.waitpid, pid, 0)
        assert await state_of(app, job_id) is JobState.WAITING


class SilentStore:
    """A state store that is away, until it is let back."""

    def __init__(self):
        self.is_away, self.names = True, []

    async def add_waiting(self, jobs):
        if self.is_away:
            raise StoreUnavailableError("redis", "claim.add_waiting", "away")
        self.names += [name for some in jobs for name in some.job_ids]
        return 0

    async def close(self):
        """Nothing to free."""


def until(condition):
    end_s = time.monotonic() + BOUND_S
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.01)
    assert condition()


def test_jobs_are_counted_as_lost_while_the_store_is_away():
    store = SilentStore()
    writer = StoredJobStates(lambda: store, SystemClock())
    for i in range(3):
        writer.add(WaitingJobs([str(i)], 1_000))
    until(lambda: writer.lost == 3)
    writer.close()

    assert not writer.holds("1")


def test_a_store_that_is_back_learns_in_which_minutes_jobs_were_lost():
    store, lost, later = SilentStore(), str(uuid7()), str(uuid7())
    writer = StoredJobStates(lambda: store, SystemClock())
    writer.add(WaitingJobs([lost, str(uuid4())], 1_000))
    until(lambda: writer.lost == 2)
    store.is_away = False
    writer.add(WaitingJobs([later], 1_000))
    until(lambda: len(store.names) >= 3)
    writer.close()

    assert set(store.names) == {later, gap_name(lost), "gap"}


def test_a_full_queue_loses_jobs_and_takes_no_more_memory(monkeypatch):
    monkeypatch.setattr("shifter.produce.job_states._MAX_QUEUED", 2)
    monkeypatch.setattr("shifter.produce.job_states._GATHER_S", 60.0)
    writer = StoredJobStates(SilentStore, SystemClock())
    for i in range(5):
        writer.add(WaitingJobs([str(i)], 1_000))

    assert writer.lost == 3
    assert writer.holds("1")
    writer.close()


async def test_status_resource_is_no_404_where_jobs_of_that_minute_were_lost(
    file_url, state_url
):
    app, _ = app_on(file_url, state_url)
    lost, other = str(uuid7()), "0192f3c4-aaaa-7000-8000-000000000000"
    async with app:
        async with app._claims() as claims:
            await claims.add_waiting([WaitingJobs([gap_name(lost)], 60_000)])
        found = await job_status(app, lost, result=None)
        unknown = await job_status(app, other, result=None)

    assert (found.status, found.body["state"]) == (200, "unknown")
    assert unknown.status == 404


@pytest.mark.redis
async def test_status_resource_is_no_404_where_states_are_not_recorded(
    file_url, redis_url
):
    """Nobody can know there which ids were accepted."""
    app, _ = app_on(file_url, redis_url, waiting_states="off")
    found = await job_status(app, str(uuid4()), result=None)
    app.close()

    assert (found.status, found.body["state"]) == (200, "unknown")
