"""`job.submit`: what really happens to a job, on the memory log or a real file."""

from __future__ import annotations

import asyncio
import itertools
import threading
from uuid import UUID, uuid5

import pytest

from shifter import (
    ConfigError,
    Context,
    Deferred,
    Degraded,
    PayloadError,
    Priority,
    Quality,
    Ran,
    Reason,
    Retry,
    Shed,
    Shifter,
    Throttled,
)
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneLog
from shifter.adapters.memory.state import MemoryClaimStore
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.config.endpoint import Secret
from shifter.jobs.request_scope import ambient, within
from shifter.policy.admission.admitter import AdmissionPolicy
from shifter.policy.admission.input import DependencyNeeds
from shifter.policy.admission.lane_outlook import LaneFacts
from shifter.produce.admission import Views
from shifter.produce.publisher import Publisher
from shifter.testing import TestApp

NAMES = (f"submit-{n}" for n in itertools.count())


class FixedLanes:
    """A view that says the same of every lane."""

    def __init__(self, waiting: int, rate_per_s: float) -> None:
        self.said, self.own = LaneFacts(waiting, rate_per_s), 0

    def facts(self, lane: str) -> LaneFacts:
        return self.said

    def deferred(self, lane: str) -> None:
        self.own += 1


def make_app(*, slots: int = 4, dark: bool = False) -> Shifter:
    name = next(NAMES)
    policy = AdmissionPolicy(is_dark=dark)
    settings = Settings(namespace=name, concurrency=slots)
    return Shifter(name, settings=settings, admission=policy)


def stuck(app: Shifter, **needs) -> FixedLanes:
    """A world in which no lane finishes anything in time."""
    lanes = FixedLanes(waiting=100, rate_per_s=10.0)
    app.admission.views = Views(lanes, lambda *_: DependencyNeeds(**needs))
    return lanes


async def test_a_job_runs_here_while_there_is_a_slot():
    app = make_app()
    seen = []

    @app.job
    async def add(ctx: Context, left: int, right: int = 1) -> int:
        seen.append((ctx.attempt, ctx.remaining_s, app.admission.inflight))
        return left + right

    async with TestApp(app):
        answer = await add.submit(2)
        assert app.admission.inflight == 0

    assert isinstance(answer, Ran)
    assert (answer.value, answer.reason) == (3, Reason.ACCEPTED)
    assert seen == [(1, 60.0, 1)]


async def test_a_plain_function_runs_in_a_thread_with_the_request_around_it():
    app = make_app()

    @app.job
    def where() -> tuple[str, float | None]:
        return threading.current_thread().name, ambient().draw

    async with TestApp(app):
        with within(draw=0.25):
            answer = await where.submit()

    assert answer.value[0] != threading.main_thread().name
    assert answer.value[1] == 0.25


async def test_every_slot_has_a_thread_of_its_own():
    """More than the loop's own pool would give on any small machine."""
    app, barrier = make_app(slots=50), threading.Barrier(45)

    @app.job
    def meet() -> int:
        return barrier.wait(30)

    async with TestApp(app), asyncio.TaskGroup() as group:
        tasks = [group.create_task(meet.submit()) for _ in range(45)]

    assert sorted(task.result().value for task in tasks) == list(range(45))


async def test_what_the_handler_raises_is_raised_and_the_slot_is_free():
    app = make_app()

    @app.job
    async def fail() -> None:
        raise ZeroDivisionError

    async with TestApp(app):
        with pytest.raises(ZeroDivisionError):
            await fail.submit()
        assert app.admission.inflight == 0


async def test_without_a_slot_a_job_is_deferred_and_drained_later():
    app, gate = make_app(slots=1), asyncio.Event()

    @app.job
    async def wait(number: int) -> int:
        if number == 1:
            await gate.wait()
        return number

    async with TestApp(app) as test:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(wait.submit(1))
            await asyncio.sleep(0)
            second = await wait.submit(2)
            gate.set()
        report = await test.drain()

    assert isinstance(first.result(), Ran)
    assert isinstance(second, Deferred)
    assert second.reason is Reason.LIMIT_REACHED
    assert report.done == 1
    assert wait.calls[0].arguments == {"number": 2}


@pytest.mark.parametrize(
    "options", [{"key": "k"}, {"idempotency_key": "i"}, {"delay": "5m"}]
)
async def test_what_needs_the_lane_goes_there(options):
    app = make_app()

    @app.job
    async def work() -> None: ...

    async with TestApp(app):
        answer = await work.options(**options).submit()

    assert isinstance(answer, Deferred)
    assert answer.reason in (Reason.NOT_INLINE, Reason.NOT_DUE)


async def test_a_job_may_ask_never_to_run_here():
    app = make_app()

    @app.job(inline=False)
    async def heavy() -> None: ...

    async with TestApp(app):
        assert isinstance(await heavy.submit(), Deferred)


async def test_inline_is_a_yes_or_a_no():
    with pytest.raises(ConfigError, match="use True or False"):
        make_app().job(inline="no")(lambda: None)


async def test_a_job_its_lane_cannot_finish_is_shed_with_a_time_to_come_back():
    app = make_app()

    @app.job(deadline="5s", inline=False)
    async def urgent() -> None: ...

    async with TestApp(app) as test:
        stuck(app)
        answer = await urgent.submit()
        waiting = (await test.drain()).waiting

    assert isinstance(answer, Shed)
    assert answer.reason is Reason.OVERLOADED
    assert 10.0 <= answer.retry_after_s < 15.0  # 10 s x 1.5 - 5 s, and jitter
    assert waiting == 0


async def test_a_job_with_a_fallback_is_degraded_instead():
    app = make_app()

    @app.job(deadline="5s", inline=False)
    async def render(page: int) -> str:
        return f"page {page}"

    @render.fallback
    def plain(page: int) -> str:
        return f"plain {page}"

    async with TestApp(app):
        stuck(app)
        answer = await render.submit(7)
        assert app.admission.fallbacks == 0

    assert isinstance(answer, Degraded)
    assert (answer.value, answer.quality) == ("plain 7", Quality.REDUCED)


async def test_an_open_circuit_takes_the_fallback_at_the_fleets_quality():
    app = make_app()

    @app.job
    async def render(ctx: Context, page: int) -> str:
        return f"page {page}"

    @render.fallback
    async def plain(page: int) -> str:
        return f"plain {page}"

    async with TestApp(app):
        stuck(app, is_open=True, quality=Quality.MINIMAL)
        answer = await render.submit(7)

    assert isinstance(answer, Degraded)
    assert (answer.reason, answer.quality) == (Reason.CIRCUIT_OPEN, Quality.MINIMAL)


async def test_a_cheaper_answer_is_mended_later_where_the_job_asks_for_it():
    app, rendered = make_app(), []

    @app.job(deadline="5s", priority=Priority.HIGH, repair=True)
    async def render(page: int) -> str:
        rendered.append(page)
        return f"page {page}"

    @render.fallback
    async def plain(page: int) -> str:
        return f"plain {page}"

    async with TestApp(app) as test:
        lanes = app.admission.views
        stuck(app, quality=Quality.MINIMAL)
        answer = await render.submit(7)
        app.admission.views = lanes
        await test.drain(advance="1m")  # past the deadline of the answer itself

    assert isinstance(answer, Degraded)
    assert isinstance(answer.repair, Deferred)
    assert answer.repair.lane == f"{app.namespace}.default.low"
    assert answer.repair.job_id == str(uuid5(UUID(answer.job_id), "repair"))
    assert rendered == [7]


def test_without_a_loop_a_cheaper_answer_is_mended_as_well():
    app = make_app()

    @app.job(repair=True)
    def render(page: int) -> str:
        return f"page {page}"

    @render.fallback
    def plain(page: int) -> str:
        return f"plain {page}"

    with TestApp(app):
        stuck(app, quality=Quality.MINIMAL)
        answer = render.submit_sync(7)

    assert answer.value == "plain 7"
    assert isinstance(answer.repair, Deferred)


def test_a_fallback_has_the_parameters_of_its_job_and_there_is_one():
    @make_app().job
    async def render(page: int) -> str:
        return ""

    with pytest.raises(ConfigError, match="parameters of 'render'"):
        render.fallback(lambda sheet: "")
    render.fallback(lambda page: "")
    with pytest.raises(ConfigError, match="a fallback already"):
        render.fallback(lambda page: "")


@pytest.mark.parametrize("signal", [Retry("10s"), Throttled("10s")])
async def test_a_handler_that_asks_for_time_gets_it_on_the_lane(signal):
    app, runs = make_app(), []

    @app.job
    async def shy() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise signal

    async with TestApp(app) as test:
        answer = await shy.submit()
        early = (await test.drain(advance="9s")).done
        late = (await test.drain(advance="2s")).done

    assert isinstance(answer, Deferred)
    assert answer.reason is Reason.RETRY_ASKED
    assert (early, late) == (0, 1)


async def test_arguments_that_do_not_fit_are_refused_before_anything_is_decided():
    app = make_app()

    @app.job
    async def add(left: int) -> None: ...

    async with TestApp(app):
        with pytest.raises(PayloadError):
            await add.submit("one")
        assert app.admission.report() == []


async def test_a_request_without_time_left_is_shed_and_nested_ones_have_the_smaller():
    app, seen = make_app(), []

    @app.job(deadline="1h")
    async def inner() -> None: ...

    @app.job(deadline="1m")
    async def outer(ctx: Context) -> None:
        seen.append(ctx.remaining_s)
        seen.append(await inner.options(key="k").submit())

    async with TestApp(app) as test:
        now_ms = test.clock.epoch_ms()
        with within(deadline_ms=now_ms + 2_000):
            await outer.submit()
        with within(deadline_ms=now_ms):
            late = await outer.submit()
            late_deferral = await inner.defer()
        drained = await test.drain(advance="1m")

    assert seen[0] == 2.0
    assert isinstance(seen[1], Deferred)
    assert (late.reason, late.retry_after_s) == (Reason.EXPIRED, None)
    assert late_deferral.reason is Reason.EXPIRED
    assert drained.done == 1


async def test_work_that_runs_into_its_deadline_is_expired_not_failed():
    app = make_app()

    @app.job(deadline="300ms", timeout="10s")
    async def slow() -> None:
        await asyncio.Event().wait()

    clock = SystemClock()
    publisher = Publisher(MemoryLaneLog(MemoryLog(clock)), clock, timeout_s=1.0)
    with app.served_by(publisher, MemoryClaimStore(clock)):
        answer = await slow.submit()

    assert isinstance(answer, Shed)
    assert (answer.reason, answer.retry_after_s) == (Reason.EXPIRED, None)


async def test_in_the_dark_everything_runs_and_the_report_has_what_would_not_have():
    app, gate = make_app(slots=1, dark=True), asyncio.Event()

    @app.job(deadline="5s", priority=Priority.LOW)
    async def work() -> None:
        await gate.wait()

    async with TestApp(app):
        stuck(app)
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(work.submit()) for _ in range(4)]
            await asyncio.sleep(0)
            gate.set()
        report, summary = app.admission.report(), app.admission.summary()

    assert all(isinstance(task.result(), Ran) for task in running)
    assert [(row.verdict.value, row.times, row.ratio) for row in report] == [
        ("shed", 3, 0.75),
        ("run", 1, 0.25),
    ]
    assert summary == ["would have shed 75.0 % of LOW (limit_reached 75.0 %)"]


async def test_a_signal_of_the_users_own_keeps_low_work_out():
    app = make_app()

    @app.job(priority=Priority.LOW)
    async def work() -> None: ...

    async with TestApp(app) as test:
        app.admission.watch(lambda: 3.0)
        for _ in range(4):
            answers = [await work.submit() for _ in range(50)]
            await test.drain(advance="600ms")

    assert any(isinstance(answer, Deferred) for answer in answers)
    assert {a.reason for a in answers if isinstance(a, Deferred)} == {Reason.OVERLOADED}


async def test_a_signal_that_fails_is_ignored_and_counted():
    app = make_app()

    @app.job
    async def work() -> None: ...

    async with TestApp(app) as test:
        app.admission.watch(lambda: 1 / 0)
        await test.drain(advance="600ms")
        answer = await work.submit()
        failures = app.admission.signal_failures

    assert isinstance(answer, Ran)
    assert failures == 1


def test_a_service_without_asyncio_runs_plain_handlers_and_defers_the_others():
    app = make_app()

    @app.job
    def add(left: int) -> int:
        return left + 1

    @app.job
    async def later() -> None: ...

    with TestApp(app):
        assert add.submit_sync(1).value == 2
        deferred = later.submit_sync()

    assert isinstance(deferred, Deferred)
    assert deferred.reason is Reason.NOT_INLINE


async def test_on_a_real_file_lanes_are_watched_and_deferred_work_counts(tmp_path):
    """The embedded default: what waits there, with nobody draining it, is seen."""
    url = Secret.of_url(f"sqlite://{tmp_path}/shop.db")
    name = next(NAMES)
    settings = Settings(namespace=name, log_url=url, state_url=url)
    app = Shifter(name, settings=settings)

    @app.job(inline=False)
    async def heavy() -> None: ...

    before = set(threading.enumerate())
    async with app:
        for _ in range(3):
            assert isinstance(await heavy.submit(), Deferred)
        lanes = app.admission.views.lanes
        lane = f"{name}.default.normal"
        async with asyncio.timeout(20):
            while (found := lanes.facts(lane)) is None or found.waiting != 3:
                await asyncio.sleep(0.02)
        begun = set(threading.enumerate())

    assert found.rate_per_s is None
    # The close waits for the thread for a limited time only.
    async with asyncio.timeout(20):
        while any(t.name == "shifter-watch" for t in begun - before if t.is_alive()):
            await asyncio.sleep(0.02)
