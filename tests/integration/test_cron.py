"""Jobs that fire by the clock: every worker fires them, one takes effect."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shifter import ConfigError, Shifter
from shifter.config import Settings
from shifter.jobs.schedule import next_firing_ms
from shifter.model.time import EpochMs
from shifter.supervise.cron import CronSchedule, firing_id
from shifter.testing import TestApp

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def make_app() -> Shifter:
    return Shifter("cron", settings=Settings(namespace="cron"))


def at(text: str) -> EpochMs:
    return EpochMs(round(datetime.fromisoformat(text).timestamp() * 1_000))


def timetable(app: Shifter, test: TestApp) -> CronSchedule:
    return CronSchedule(app.namespace, app.jobs, app.publisher, test.clock)


async def test_three_workers_fire_and_the_job_takes_effect_once_each_night():
    app = make_app()

    @app.job(cron="0 3 * * *")
    async def clean_up() -> None: ...

    async with TestApp(app, start=NOON) as test:
        workers = [timetable(app, test) for _ in range(3)]
        for _ in range(48):
            await test.drain(advance="1h")
            for worker in workers:
                await worker.fire()
        await test.drain()

    started = [(call.at.day, call.at.hour) for call in clean_up.calls]
    assert started == [(2, 3), (3, 3)]


async def test_a_worker_that_fires_hours_later_changes_nothing():
    app = make_app()

    @app.job(cron="0 3 * * *")
    async def clean_up() -> None: ...

    async with TestApp(app, start=NOON) as test:
        prompt, late = timetable(app, test), timetable(app, test)
        await test.drain(advance="15h")
        await prompt.fire()
        await test.drain(advance="6h")
        await late.fire()
        await test.drain()

    assert len(clean_up.calls) == 1


async def test_a_worker_that_comes_late_does_not_fire_what_is_past():
    app = make_app()

    @app.job(cron="*/5 * * * *")
    async def poll() -> None: ...

    async with TestApp(app, start=NOON) as test:
        await test.drain(advance="7m")
        await timetable(app, test).fire()
        await test.drain()

    assert poll.calls == []


async def test_a_machine_that_slept_fires_once_and_goes_on():
    app = make_app()

    @app.job(cron="*/5 * * * *")
    async def poll() -> None: ...

    async with TestApp(app, start=NOON) as test:
        table = timetable(app, test)
        await test.drain(advance="61m")
        for _ in range(3):
            await table.fire()
        await test.drain(advance="5m")
        await table.fire()
        await test.drain()

    assert len(poll.calls) == 2


async def test_an_app_without_such_jobs_has_nothing_to_wait_for():
    app = make_app()

    async with TestApp(app) as test:
        await timetable(app, test).run()


def test_the_id_of_a_firing_is_the_same_everywhere_and_another_one_each_time():
    first = firing_id("shop", "clean_up", EpochMs(1_000))

    assert first == firing_id("shop", "clean_up", EpochMs(1_000))
    assert first != firing_id("shop", "clean_up", EpochMs(2_000))
    assert first != firing_id("shop2", "clean_up", EpochMs(1_000))


@pytest.mark.parametrize(
    "text", ["", "soon", "0 3 * *", "61 3 * * *", "0 3 31 2 *", "@daily", 5]
)
def test_what_is_no_cron_expression_is_refused_with_its_text(text):
    with pytest.raises(ConfigError, match="cron is"):
        make_app().job(cron=text)(lambda: None)


def test_a_cron_job_must_do_without_arguments():
    with pytest.raises(ConfigError, match="missing: 'day'"):

        @make_app().job(cron="0 3 * * *")
        async def clean_up(day: str) -> None: ...


def test_the_next_firing_is_after_now():
    three = at("2026-06-02T03:00:00+00:00")

    assert next_firing_ms("0 3 * * *", at("2026-06-01T12:00:00+00:00")) == three
    assert next_firing_ms("0 3 * * *", three) == three + 86_400_000
