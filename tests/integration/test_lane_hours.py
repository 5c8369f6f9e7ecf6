"""Lanes with hours, hours set by hand, and quiet time, in virtual time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from shifter import ConfigError, Deferred, Priority, Ran, Reason, Shed, Shifter, Window
from shifter.config import Settings
from shifter.testing import TestApp

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NIGHT = Window("22:00-06:00")
LOW = Priority.LOW


@pytest.fixture
def app():
    return Shifter("hours", settings=Settings(namespace="hours"))


def times(job):
    return [(call.at.hour, call.at.minute) for call in job.calls]


async def test_a_lane_is_drained_within_its_hours_and_other_lanes_at_any_time(app):
    app.lane("mail", priority=LOW, window=NIGHT)

    @app.job(queue="mail", priority=LOW)
    async def digest() -> None: ...

    @app.job(queue="mail")
    async def receipt() -> None: ...

    async with TestApp(app, start=NOON) as test:
        answer = await digest.submit()
        await receipt.defer()
        await test.drain(advance="12h")

    assert isinstance(answer, Deferred)
    assert answer.reason is Reason.WINDOW_CLOSED
    assert times(receipt) == [(12, 0)]
    assert times(digest) == [(22, 0)]


async def test_a_job_starts_while_its_own_window_and_its_lanes_are_open(app):
    app.lane("mail", window=NIGHT)

    @app.job(queue="mail", window=Window("05:00-08:00"))
    async def digest() -> None: ...

    async with TestApp(app, start=NOON) as test:
        await digest.defer()
        await test.drain(advance="24h")

    assert times(digest) == [(5, 0)]


async def test_what_a_lane_did_not_get_done_stays_in_it_without_an_attempt(app):
    app.lane("mail", window=Window("22:00-22:10"))

    @app.job(queue="mail", timeout="10m")
    async def slow(number: int) -> None:
        await asyncio.sleep(240)

    async with TestApp(app, start=NOON) as test:
        for number in range(4):
            await slow.defer(number)
        first = await test.drain(advance="11h")
        await test.drain(advance="24h")

    assert (first.done, first.waiting) == (3, 1)
    assert times(slow) == [(22, 0), (22, 4), (22, 8), (22, 0)]
    assert {call.attempt for call in slow.calls} == {1}


async def test_a_job_whose_lane_opens_after_its_deadline_is_refused_at_once(app):
    app.lane("mail", window=NIGHT)

    @app.job(queue="mail", deadline="1h")
    async def digest() -> None: ...

    async with TestApp(app, start=NOON):
        answer = await digest.defer()

    assert isinstance(answer, Shed)
    assert answer.reason is Reason.EXPIRED


@pytest.mark.parametrize("scope", [{"queue": "mail"}, {"job": "digest"}])
async def test_opened_by_hand_what_waited_for_its_own_hours_runs_at_once(app, scope):
    @app.job(queue="mail", window=NIGHT)
    async def digest(number: int) -> None: ...

    async with TestApp(app, start=NOON) as test:
        await digest.defer(1)
        await test.drain(advance="30m")
        test.open_now(**scope, for_="1h")
        await test.drain(advance="1m")
        await digest.defer(2)
        here = await digest.submit(3)
        await test.drain(advance="1m")
        by_hand = times(digest)
        await test.drain(advance="1h")
        await digest.defer(4)
        await test.drain(advance="12h")

    assert by_hand == [(12, 30), (12, 31)]
    assert isinstance(here, Ran)
    assert times(digest)[2:] == [(22, 0)]


async def test_a_lane_opened_by_hand_keeps_a_delay_that_was_asked_for(app):
    @app.job(queue="mail", window=NIGHT)
    async def digest() -> None: ...

    async with TestApp(app, start=NOON) as test:
        await digest.options(delay="2h").defer()
        test.open_now("mail", for_="5h")
        await test.drain(advance="5h")

    assert times(digest) == [(14, 0)]


async def test_opened_by_hand_a_lane_is_drained_outside_its_hours(app):
    app.lane("mail", window=NIGHT)

    @app.job(queue="mail")
    async def digest() -> None: ...

    async with TestApp(app, start=NOON) as test:
        await digest.defer()
        await test.drain(advance="10m")
        test.open_now("mail", priority=Priority.NORMAL, for_="1h")
        await test.drain(advance="1m")

    assert times(digest) == [(12, 10)]


@pytest.mark.parametrize("scope", [{"queue": "mail"}, {"job": "receipt"}])
async def test_closed_by_hand_nothing_starts_until_it_ends(app, scope):
    @app.job(queue="mail")
    async def receipt(number: int) -> None: ...

    @app.job(queue="other")
    async def report() -> None: ...

    async with TestApp(app, start=NOON) as test:
        test.close_now(**scope, for_="2h")
        for number in range(3):
            await receipt.defer(number)
        await report.defer()
        await test.drain(advance="1h")
        meanwhile = len(receipt.calls), len(report.calls)
        await test.drain(advance="2h")

    assert meanwhile == (0, 1)
    assert times(receipt) == [(14, 0)] * 3
    assert {call.attempt for call in receipt.calls} == {1}


@pytest.mark.parametrize("scope", [{"queue": "mail"}, {"job": "receipt"}])
async def test_let_go_by_hand_what_was_held_up_runs_at_once(app, scope):
    @app.job(queue="mail")
    async def receipt(number: int) -> None: ...

    async with TestApp(app, start=NOON) as test:
        test.close_now(**scope, for_="2h")
        for number in range(3):
            await receipt.defer(number)
        await test.drain(advance="1h")
        test.auto()
        await test.drain(advance="1m")

    assert times(receipt) == [(13, 0)] * 3


async def test_a_closed_queue_wins_over_an_opened_job_of_it(app):
    @app.job(queue="mail")
    async def receipt() -> None: ...

    async with TestApp(app, start=NOON) as test:
        test.open_now(job="receipt", for_="5h")
        test.close_now("mail", for_="1h")
        await receipt.defer()
        await test.drain(advance="3h")

    assert times(receipt) == [(13, 0)]


async def test_the_order_of_a_key_survives_hours_set_by_hand(app):
    @app.job(queue="mail", window=NIGHT)
    async def digest(number: int) -> None: ...

    async with TestApp(app, start=NOON) as test:
        for number in range(20):
            await digest.options(key="k").defer(number)
        await test.drain(advance="1m")
        test.open_now("mail")
        await test.drain(advance="1m")

    assert [call.arguments["number"] for call in digest.calls] == list(range(20))


# --- quiet time -------------------------------------------------------------------------


async def test_opportunistic_work_comes_after_all_other_and_in_a_quiet_time(app):
    order = []

    @app.job(queue="mail", priority=LOW, opportunistic=True)
    async def mend(number: int) -> None:
        order.append("mend")

    @app.job(queue="mail", priority=LOW)
    async def digest(number: int) -> None:
        order.append("digest")

    async with TestApp(app, start=NOON) as test:
        for number in range(10):
            await mend.defer(number)
            await digest.defer(number)
        await test.drain()

    assert order == ["digest"] * 10 + ["mend"] * 10


async def test_while_some_process_has_load_no_opportunistic_work_starts(app):
    app.lane("mail", priority=LOW, opportunistic=True)

    @app.job(queue="mail", priority=LOW)
    async def digest(number: int) -> None: ...

    async with TestApp(app, start=NOON) as test:
        test.fleet_load(0.9)
        for number in range(50):
            await digest.defer(number)
        await test.drain(advance="8h")
        under_load = len(digest.calls)
        test.fleet_load(0.1)
        report = await test.drain(advance="5s")

    assert under_load == 0
    assert (report.done, report.waiting) == (50, 0)


async def test_an_imminent_deadline_is_reason_enough_under_load(app):
    app.lane("mail", priority=LOW, opportunistic=True)

    @app.job(queue="mail", priority=LOW, timeout="30s")
    async def digest(number: int) -> None: ...

    async with TestApp(app, start=NOON) as test:
        test.fleet_load(1.0)
        await digest.defer(0)
        await digest.options(deadline="2h").defer(1)
        await digest.options(deadline="1h").defer(2)
        await test.drain(advance="4h")

    # Its timeout and half a minute before the deadline.
    assert [call.arguments["number"] for call in digest.calls] == [2, 1]
    assert times(digest) == [(12, 59), (13, 59)]


async def test_a_repair_waits_for_a_quiet_time(app):
    answers = []

    @app.job(queue="mail", repair=True, inline=False)
    async def report() -> None:
        answers.append("whole")

    @report.fallback
    async def short() -> None:
        answers.append("short")

    async with TestApp(app, start=NOON) as test:
        await report.options(priority=LOW).defer()
        test.fleet_load(1.0)
        await test.drain(advance="1h")
        under_load = list(answers)
        test.fleet_load(0.0)
        await test.drain(advance="5s")

    assert under_load == []
    assert answers == ["whole"]


async def test_a_lane_is_drained_earliest_deadline_first(app):
    @app.job
    async def bake(name: str) -> None: ...

    async with TestApp(app, start=NOON) as test:
        await bake.defer("plain")
        await bake.options(deadline="3h").defer("late")
        await bake.options(deadline="5m").defer("soon")
        await bake.options(deadline="1h").defer("later")
        await test.drain()

    names = [call.arguments["name"] for call in bake.calls]
    assert names == ["soon", "plain", "later", "late"]


# --- what is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "lane"),
        ({"windows": NIGHT}, "'windows'"),
        ({"window": "22:00-06:00"}, "22:00-06:00"),
        ({"window": [NIGHT, Window("23:00-23:30")]}, "contradicts"),
        ({"opportunistic": True}, "LOW"),
        ({"opportunistic": True, "priority": Priority.HIGH}, "LOW"),
        ({"opportunistic": "yes", "priority": LOW}, "'yes'"),
        ({"priority": "LOW", "window": NIGHT}, "'LOW'"),
    ],
    ids=str,
)
def test_a_lane_is_checked_where_it_is_declared(app, options, says):
    with pytest.raises(ConfigError, match=says):
        app.lane("mail", **options)


def test_a_lane_is_declared_once(app):
    app.lane("mail", window=NIGHT)

    with pytest.raises(ConfigError, match=r"hours\.mail\.low"):
        app.lane("mail", priority=LOW, opportunistic=True)


@pytest.mark.parametrize("is_lane_first", [True, False])
def test_hours_of_a_job_that_never_meet_its_lanes_are_refused(app, is_lane_first):
    def declare_lane():
        app.lane("mail", window=NIGHT)

    def declare_job():
        app.job(queue="mail", window=Window("11:00-13:00"))(lambda: None)

    first, second = declare_lane, declare_job
    if not is_lane_first:
        first, second = second, first
    first()

    with pytest.raises(ConfigError, match=r"11:00-13:00 daily UTC.*22:00-06:00"):
        second()


def test_only_low_jobs_may_be_opportunistic(app):
    with pytest.raises(ConfigError, match="LOW"):
        app.job(opportunistic=True)(lambda: None)


@pytest.mark.parametrize(
    "scope", [{}, {"queue": "mail", "job": "x"}, {"job": ""}, {"job": "a\nb"}], ids=str
)
async def test_an_override_of_hours_names_one_queue_or_job(app, scope):
    async with TestApp(app) as test:
        with pytest.raises(ConfigError):
            test.open_now(**scope)
