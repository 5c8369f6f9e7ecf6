"""Jobs with hours: submitted at any time, started only within them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from shifter import ConfigError, Deferred, Ran, Reason, Shed, Shifter, Window
from shifter.config import Settings
from shifter.jobs.request_scope import ambient, within
from shifter.testing import TestApp

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NIGHT = Window("22:00-06:00", days="mon-fri")


def make_app() -> Shifter:
    return Shifter("hours", settings=Settings(namespace="hours"))


async def test_a_job_submitted_by_day_runs_at_night():
    app = make_app()

    @app.job(window=NIGHT)
    async def report() -> None: ...

    async with TestApp(app, start=NOON) as test:
        answer = await report.submit()
        before = (await test.drain(advance="599m")).done
        after = (await test.drain(advance="2m")).done
        now_runs = await report.submit()

    assert isinstance(answer, Deferred)
    assert answer.reason is Reason.WINDOW_CLOSED
    assert (before, after) == (0, 1)
    assert report.calls[0].at.hour == 22
    assert isinstance(now_runs, Ran)


async def test_a_job_that_would_expire_before_its_hours_is_refused_at_once():
    app = make_app()

    @app.job(window=NIGHT, deadline="1h")
    async def report() -> None: ...

    @app.job(deadline="1h")
    async def soon() -> None: ...

    async with TestApp(app, start=NOON):
        with within(deadline_ms=int(NOON.timestamp() * 1_000) + 30_000):
            later = await soon.options(delay="10m").submit()
        answer = await report.submit()

    assert isinstance(answer, Shed)
    assert answer.reason is Reason.WINDOW_CLOSED
    assert answer.retry_after_s >= 3_600
    assert isinstance(later, Shed)
    assert later.reason is Reason.NOT_DUE


async def test_what_did_not_fit_into_a_night_waits_for_the_next_without_an_attempt():
    app = make_app()

    @app.job(window=Window("22:00-22:10"), timeout="10m")
    async def slow(number: int) -> None:
        await asyncio.sleep(240)

    async with TestApp(app, start=NOON) as test:
        for number in range(4):
            await slow.defer(number)
        await test.drain(advance="11h")
        first_night = len(slow.calls)
        await test.drain(advance="24h")

    started = [(call.at.day, call.at.hour, call.at.minute) for call in slow.calls]
    assert first_night == 3
    assert started[3][:2] == (2, 22)
    assert all(hour == 22 and minute < 10 for _, hour, minute in started)
    assert {call.attempt for call in slow.calls} == {1}


async def test_a_job_that_is_of_no_use_by_then_is_refused_at_once():
    app = make_app()

    @app.job(window=NIGHT, deadline="1h")
    async def report() -> None: ...

    async with TestApp(app, start=NOON):
        answer = await report.defer()

    assert isinstance(answer, Shed)
    assert answer.reason is Reason.EXPIRED


async def test_a_delay_that_ends_by_day_becomes_the_next_night():
    app = make_app()

    @app.job(window=NIGHT)
    async def report() -> None: ...

    async with TestApp(app, start=NOON) as test:
        await report.options(delay="20h").defer()
        await test.drain(advance="40h")

    assert (report.calls[0].at.day, report.calls[0].at.hour) == (2, 22)


def test_windows_are_checked_where_the_job_is_declared():
    with pytest.raises(ConfigError, match="contradicts"):
        make_app().job(window=[NIGHT, Window("23:00-23:30")])(lambda: None)


async def test_a_jobs_deadline_is_around_what_its_handler_does_in_a_worker():
    app, seen = make_app(), []

    @app.job(deadline="1h")
    async def outer() -> None:
        seen.append(ambient().deadline_ms)

    @app.job
    async def free() -> None:
        seen.append(ambient().deadline_ms)

    async with TestApp(app, start=NOON) as test:
        await outer.defer()
        await free.defer()
        await test.drain()

    assert sorted(seen, key=str) == [round(NOON.timestamp() * 1_000) + 3_600_000, None]
