"""What a service records of its jobs, and that it never waits for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shifter import Deferred, Shed, Shifter
from shifter.adapters.system import SystemClock
from shifter.config import Secret, Settings
from shifter.model.lane import events_topic
from shifter.ops.job_history import Entry
from shifter.ops.job_reader import JobReader
from shifter.wiring import opened_admin, topic_specs
from tests.integration.test_job_events import kinds

ROOT = Path(__file__).parents[2]
PROGRAM = "tests.integration.forked_service"


def settings_of(tmp_path: Path, events: str) -> Settings:
    url = Secret.of_url(f"sqlite://{tmp_path / 'shop.db'}")
    return Settings(namespace="shop", log_url=url, events=events)


async def history(settings: Settings, job_id: str) -> list[Entry]:
    async with opened_admin(settings) as admin:
        return (await JobReader(admin, "shop", SystemClock()).recorded(job_id)).story


def shop(settings: Settings):
    app = Shifter("shop", settings=settings)

    @app.job(deadline="1h")
    async def send(number: int) -> int:
        return number

    return app, send


def late(send):
    """Due after its deadline, so that it is refused."""
    due_at = datetime.now(UTC) + timedelta(hours=2)
    return send.options(due_at=due_at, deadline="1h")


async def test_with_all_a_decision_and_an_acceptance_are_told_with_their_reasons(
    tmp_path,
):
    settings = settings_of(tmp_path, "all")
    app, send = shop(settings)
    async with app:
        ran = await send.submit(1)
        deferred = await send.defer(2)
        bulk = await send.defer_many([(3,), (4,)])

    [decided] = await history(settings, ran.job_id)
    assert (decided["event"], decided["answer"]) == ("decided", "ran")
    for answer in (deferred, *bulk):
        [submitted] = await history(settings, answer.job_id)
        assert (submitted["event"], submitted["answer"]) == ("submitted", "deferred")
        assert (submitted["reason"], submitted["queue"]) == ("accepted", "default")


async def test_with_failures_only_what_was_refused_is_told(tmp_path):
    settings = settings_of(tmp_path, "failures")
    app, send = shop(settings)
    async with app:
        ran = await send.submit(1)
        deferred = await send.defer(2)
        refused = await late(send).defer(3)

    assert isinstance(refused, Shed)
    assert await history(settings, ran.job_id) == []
    assert await history(settings, deferred.job_id) == []
    [told] = await history(settings, refused.job_id)
    assert (told["event"], told["answer"], told["reason"]) == (
        *("submitted", "shed", "expired"),
    )


async def test_with_none_nothing_is_written_and_no_topic_is_needed(tmp_path):
    settings = settings_of(tmp_path, "none")
    app, send = shop(settings)
    async with app:
        await send.submit(1)
        refused = await late(send).defer(3)

    topic = events_topic("shop")
    assert topic not in {spec.name for spec in topic_specs(settings, app.queues)}
    async with opened_admin(settings) as admin:
        assert topic not in await admin.topics()
    assert await history(settings, refused.job_id) == []


@pytest.mark.timeout(240)
def test_a_log_that_is_away_holds_up_no_call_and_losses_are_counted(tmp_path):
    settings = Settings(
        namespace="shop",
        log_url=Secret.of_url("kafka://127.0.0.1:1"),
        accept_timeout_ms=1_000,
        spool=str(tmp_path / "spool.db"),
        events="all",
    )
    app, send = shop(settings)
    took = []
    with app:
        for number in range(50):
            began = time.monotonic()
            answer = send.defer_sync(number)
            took.append(time.monotonic() - began)
            assert isinstance(answer, Deferred)
        until = time.monotonic() + 60
        while not lost(app) and time.monotonic() < until:
            time.sleep(0.1)
        assert lost(app) >= 1
    # Each of them waited for the log alone: at most its own timeout.
    assert sorted(took)[len(took) // 2] < 1


def lost(app: Shifter) -> float:
    return app.metrics()["shifter_job_events_total"].get(("lost",), 0)


@pytest.mark.timeout(240)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_records_its_own_jobs_and_no_event_twice(tmp_path):
    settings = settings_of(tmp_path, "all")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", PROGRAM, settings.log_url.reveal()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    ids = done.stdout.split()
    assert len(ids) == 3
    for job_id in ids:
        assert kinds(asyncio.run(history(settings, job_id))) == ["submitted"]
