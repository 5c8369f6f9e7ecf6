"""A user's app in memory and in virtual time: every end a job can have."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from shifter import (
    ConfigError,
    Context,
    DeadLetter,
    Deferred,
    Discard,
    JobState,
    Priority,
    Ran,
    Reason,
    Retry,
    Shifter,
    Throttled,
)
from shifter.testing import DrainReport, StuckError, TestApp

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def app():
    return Shifter("shop")


def since(call):
    """Seconds of virtual time at which a call started."""
    return (call.at - START).total_seconds()


async def test_nothing_runs_before_a_drain_and_everything_due_in_one(app):
    @app.job
    async def greet(name: str, times: int = 1) -> None: ...

    async with TestApp(app) as test:
        answer = await greet.defer("ann", times=2)
        await greet.defer_many([("bob",), {"name": "cid"}])
        for _ in range(100):
            await asyncio.sleep(0)
        assert isinstance(answer, Deferred)
        assert greet.calls == []

        report = await test.drain()

    assert report == DrainReport(started=3, done=3)
    assert [call.arguments for call in greet.calls] == [
        {"name": "ann", "times": 2},
        {"name": "bob", "times": 1},
        {"name": "cid", "times": 1},
    ]
    assert (greet.calls[0].job_id, greet.calls[0].attempt) == (answer.job_id, 1)


async def test_nothing_runs_between_two_drains_either(app):
    @app.job
    async def work() -> None: ...

    async with TestApp(app) as test:
        await test.drain()
        await work.defer()
        for _ in range(100):
            await asyncio.sleep(0)
        assert work.calls == []
        assert (await test.drain()).done == 1


async def test_delayed_jobs_start_at_their_time_in_due_order(app):
    @app.job
    async def later(name: str) -> None: ...

    async with TestApp(app) as test:
        for name, delay in (("c", "2h"), ("a", "10m"), ("d", "121m"), ("b", "90m")):
            await later.options(delay=delay).defer(name)
        due_at = test.now + timedelta(minutes=20)
        await later.options(due_at=due_at).defer("at")

        assert await test.drain() == DrainReport(waiting=5)
        report = await test.drain(advance="2h")

        assert test.now == START + timedelta(hours=2)
    assert report == DrainReport(started=4, done=4, waiting=1)
    assert [(c.arguments["name"], since(c)) for c in later.calls] == [
        ("a", 600),
        ("at", 1_200),
        ("b", 5_400),
        ("c", 7_200),
    ]


async def test_failed_attempts_are_repeated_with_backoff_and_die_with_their_story(app):
    @app.job(queue="mail", attempts=3, backoff="10s")
    async def send(order_id: int) -> None:
        raise ValueError(f"no way {order_id}")

    async with TestApp(app) as test:
        answer = await send.defer(7)
        first = await test.drain()
        rest = await test.drain(advance="30s")
        status = await app.status(answer.job_id)
        [letter] = test.dead_letters("mail")

    assert first == DrainReport(started=1, retried=1, waiting=1)
    assert rest == DrainReport(started=2, retried=1, dead=1)
    assert [call.attempt for call in send.calls] == [1, 2, 3]
    assert 0 < since(send.calls[1]) < 10
    assert since(send.calls[1]) < since(send.calls[2]) < 30
    assert status.state is JobState.DEAD
    assert (letter.reason, letter.attempts) == ("attempts_exhausted", 3)
    assert (letter.error_type, letter.error_message) == ("ValueError", "no way 7")
    assert (letter.job, letter.arguments) == ("send", {"order_id": 7})


async def test_fail_with_fails_as_often_as_asked_then_lets_the_handler_run(app):
    ran = []

    @app.job(attempts=9, backoff="1s", max_backoff="1s")
    async def send() -> None:
        ran.append(1)

    async with TestApp(app) as test:
        test.fail_with(send, TimeoutError("slow"), times=2)
        test.fail_with(send, Retry("1m"))
        test.fail_with(send, ConnectionError)
        await send.defer()
        report = await test.drain(advance="2m")

    assert [type(call.error) for call in send.calls] == [
        TimeoutError,
        TimeoutError,
        Retry,
        ConnectionError,
        type(None),
    ]
    assert (report.retried, report.done, ran) == (4, 1, [1])
    assert since(send.calls[3]) - since(send.calls[2]) == 60


async def test_fail_with_goes_on_failing_without_a_number_of_times(app):
    @app.job(attempts=2, backoff="1s")
    async def send() -> None: ...

    async with TestApp(app) as test:
        test.fail_with(send, OSError("down"), times=None)
        await send.defer()
        await send.defer()
        assert (await test.drain(advance="1m")).dead == 2


@pytest.mark.parametrize(
    ("signal", "field"),
    [
        (Discard("stale"), "discarded"),
        (DeadLetter("bad"), "dead"),
        (Throttled("10s"), "retried"),
    ],
)
async def test_signals_are_answers(app, signal, field):
    @app.job
    async def ends() -> None:
        raise signal

    async with TestApp(app) as test:
        await ends.defer()
        report = await test.drain()

    assert getattr(report, field) == 1
    assert ends.calls[0].error is signal


async def test_sleeps_of_handlers_cost_no_real_time_and_end_at_their_instant(app):
    woke = []

    @app.job(timeout="5h")
    async def nap(ctx: Context) -> None:
        await asyncio.sleep(4 * 3_600)
        woke.append((test.now, ctx.remaining_s))

    began_cpu_s = time.process_time()
    async with TestApp(app) as test:
        await nap.defer()
        report = await test.drain()

    assert report == DrainReport(started=1, done=1)
    assert woke == [(START + timedelta(hours=4), 3_600)]
    # A real sleep would reach the test's timeout; processor time is that of this test
    # alone, whatever else runs on the machine.
    assert time.process_time() - began_cpu_s < 5


async def test_sleeps_of_a_handlers_own_tasks_are_virtual_too(app):
    @app.job
    async def fan_out() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(5))
            group.create_task(asyncio.sleep(9))
        await asyncio.gather(asyncio.sleep(3), asyncio.sleep(1))

    async with TestApp(app) as test:
        await fan_out.defer()
        await test.drain()
        assert test.now == START + timedelta(seconds=12)


async def test_a_timeout_inside_a_handler_is_kept_in_virtual_time(app):
    @app.job
    async def impatient() -> None:
        async with asyncio.timeout(2):
            await asyncio.sleep(60)

    async with TestApp(app) as test:
        await impatient.defer()
        await test.drain()

        assert test.now == START + timedelta(seconds=2)
    assert isinstance(impatient.calls[0].error, TimeoutError)


async def test_timers_a_handler_sets_find_its_time_when_they_fire(app):
    """As the timeouts of anyio do, which look at the time once more."""
    seen = []

    @app.job
    async def sets() -> None:
        loop, start = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        loop.call_at(start + 7, lambda: seen.append(loop.time() - start))
        loop.call_later(3, lambda: seen.append(loop.time() - start))
        loop.call_later(5, seen.append, "cancelled").cancel()
        await asyncio.sleep(8)

    async with TestApp(app) as test:
        await sets.defer()
        await test.drain()

    assert seen == pytest.approx([3, 7])


async def test_an_attempt_is_stopped_at_its_timeout(app):
    @app.job(timeout="30s", attempts=1)
    async def hangs() -> None:
        await asyncio.sleep(1e6)

    async with TestApp(app) as test:
        await hangs.defer()
        report = await test.drain()

        assert timedelta() <= test.now - START - timedelta(seconds=30) < timedelta(0.1)
        [letter] = test.dead_letters()
    assert report.dead == 1
    assert letter.error_message == "attempt ran longer than 30.000 s"


async def test_an_attempt_that_slept_until_just_before_is_stopped_in_time_too(app):
    @app.job(timeout="30s", attempts=1)
    async def hangs() -> None:
        await asyncio.sleep(29.99)
        await asyncio.sleep(1e6)

    async with TestApp(app) as test:
        await hangs.defer()
        assert (await test.drain()).dead == 1

        late_s = (test.now - START).total_seconds() - 30
    assert 0 <= late_s < 0.1


async def test_code_that_takes_a_clock_may_take_the_tests(app):
    @app.job
    async def nap() -> None:
        await test.clock.sleep(40)

    async with TestApp(app, patience="1s") as test:
        await nap.defer()
        assert (await test.drain()).done == 1
        assert test.clock.monotonic() == 40


async def test_a_handler_that_another_thread_is_about_to_wake_is_waited_for(app):
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    @app.job(timeout="10s", attempts=1)
    async def waits() -> None:
        threading.Timer(0.05, loop.call_soon_threadsafe, (woken.set,)).start()
        await woken.wait()

    async with TestApp(app) as test:
        await waits.defer()
        assert (await test.drain()).done == 1
        assert test.now == START


async def test_an_attempt_that_hangs_at_a_lock_is_stopped_at_its_timeout(app):
    @app.job(timeout="45s", attempts=1)
    async def hangs() -> None:
        await asyncio.Event().wait()

    async with TestApp(app) as test:
        await hangs.defer()
        assert (await test.drain()).dead == 1
        assert timedelta(0) <= test.now - START - timedelta(seconds=45)


async def test_handlers_that_take_turns_at_a_lock_do_so_in_virtual_time(app):
    lock, starts = asyncio.Lock(), []

    @app.job
    async def turn() -> None:
        async with lock:
            starts.append((test.now - START).total_seconds())
            await asyncio.sleep(10)

    began = time.monotonic()
    async with TestApp(app, concurrency=5) as test:
        await turn.defer_many([()] * 5)
        assert (await test.drain()).done == 5

    assert starts == [0, 10, 20, 30, 40]
    assert time.monotonic() - began < 20


async def test_a_job_past_its_deadline_is_not_started(app):
    @app.job(deadline="1m")
    async def brief() -> None: ...

    async with TestApp(app) as test:
        test.fail_with(brief, Retry("2m"))
        answer = await brief.defer()
        report = await test.drain(advance="1h")

        assert (await app.status(answer.job_id)) is None  # remembered for 5 minutes
    assert (report.expired, len(brief.calls)) == (1, 1)


async def test_a_cancelled_job_is_not_run(app):
    @app.job
    async def never() -> None: ...

    async with TestApp(app) as test:
        answer = await never.options(delay="1m").defer()
        await app.cancel(answer.job_id)
        report = await test.drain(advance="2m")

        assert (await app.status(answer.job_id)).state is JobState.CANCELLED
    assert (report.cancelled, never.calls) == (1, [])


async def test_an_idempotency_key_takes_effect_once_within_its_window(app):
    @app.job(dedup_window="24h")
    async def pay(amount: int) -> None: ...

    once = pay.options(idempotency_key="invoice-7")
    async with TestApp(app) as test:
        first = await once.defer(1)
        await once.defer(2)
        assert await test.drain() == DrainReport(started=1, done=1, repeated=1)
        await test.drain(advance="23h")
        # It is done, so the repeat is answered at the door and never written.
        repeat = await once.defer(3)
        assert (repeat.job_id, repeat.reason) == (first.job_id, Reason.DUPLICATE)
        assert await test.drain() == DrainReport()
        await test.drain(advance="2h")
        await once.defer(4)
        await test.drain()

    assert [call.arguments["amount"] for call in pay.calls] == [1, 4]


async def test_jobs_of_a_key_keep_their_order_through_retries(app):
    done = []

    @app.job(attempts=5, backoff="10s")
    async def step(number: int, ctx: Context) -> None:
        if number % 2 == 0 and ctx.attempt < 3:
            raise OSError("again")
        done.append(number)

    async with TestApp(app, concurrency=10) as test:
        bound = step.options(key="order-1")
        for number in range(6):
            await bound.defer(number)
        report = await test.drain(advance="10m")

    assert done == list(range(6))
    assert (report.done, report.retried, report.waiting) == (6, 6, 0)


async def test_a_key_held_up_for_too_long_loses_its_head(app):
    @app.job(attempts=1000, backoff="1m", max_backoff="1m", max_block="5m")
    async def step(number: int) -> None: ...

    async with TestApp(app) as test:
        test.fail_with(step, OSError("down"), times=None)
        await step.options(key="k").defer(0)
        report = await test.drain(advance="1h")
        [letter] = test.dead_letters()

    assert (report.dead, letter.reason) == (1, "blocked_too_long")


async def test_priorities_are_drained_as_in_production(app):
    @app.job
    async def work(name: str) -> None: ...

    async with TestApp(app) as test:
        await work.options(priority=Priority.LOW).defer_many([("low",)] * 20)
        await work.options(priority=Priority.CRITICAL).defer("critical")
        await test.drain()

    assert work.calls[0].arguments == {"name": "critical"}


async def test_plain_functions_run_in_threads_and_may_take_real_time(app):
    threads = set()

    @app.job
    def plain(number: int, ctx: Context) -> None:
        time.sleep(0.03)
        threads.add(threading.current_thread())
        assert ctx.attempt == 1

    async with TestApp(app) as test:
        await plain.defer_many([(number,) for number in range(5)])
        report = await test.drain(advance="1m")

    assert report == DrainReport(started=5, done=5)
    assert [call.arguments["number"] for call in plain.calls] == [0, 1, 2, 3, 4]
    assert [since(call) for call in plain.calls] == [0.0] * 5
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_job_with_a_process_of_its_own_runs_in_this_one(app, is_async):
    seen = []

    def plain() -> None:
        seen.append(threading.current_thread() is threading.main_thread())

    async def fluent() -> None:
        seen.append(threading.current_thread() is threading.main_thread())

    handler = fluent if is_async else plain
    job = app.job(name="apart", isolate="process")(handler)
    async with TestApp(app) as test:
        await job.defer()
        await test.drain()

    assert seen == [is_async]


async def test_a_handler_may_submit_and_wait_for_real_work(app):
    @app.job
    async def second(number: int) -> None: ...

    @app.job
    async def first() -> None:
        number = await asyncio.to_thread(lambda: (time.sleep(0.02), 7)[1])
        await second.defer(number)
        await second.options(delay="1h").defer(number + 1)

    async with TestApp(app) as test:
        await first.defer()
        report = await test.drain()

    assert report == DrainReport(started=2, done=2, waiting=1)
    assert second.calls[0].arguments == {"number": 7}


async def test_what_becomes_due_while_a_handler_overruns_waits_for_the_next_drain(app):
    @app.job
    async def slow() -> None:
        await asyncio.sleep(50)

    @app.job
    async def later() -> None: ...

    async with TestApp(app) as test:
        await slow.defer()
        await later.options(delay="30s").defer()
        first = await test.drain(advance="10s")
        assert (test.now - START).total_seconds() == 50
        second = await test.drain()

    assert first == DrainReport(started=1, done=1, waiting=1)
    assert second == DrainReport(started=1, done=1)


async def test_a_handler_that_waits_for_something_real_is_named(app):
    never = asyncio.get_running_loop().create_future()

    @app.job
    async def hangs() -> None:
        await never

    async with TestApp(app, patience="50ms") as test:
        await hangs.defer()
        with pytest.raises(StuckError, match="'hangs' waits") as caught:
            await test.drain(advance="1h")

        assert test.now == START
    assert caught.value.jobs == ("hangs",)
    assert isinstance(hangs.calls[0].error, asyncio.CancelledError)


async def test_jobs_that_submit_themselves_later_end_with_the_time(app):
    @app.job
    async def tick() -> None:
        await tick.options(delay="10m").defer()

    async with TestApp(app) as test:
        await tick.defer()
        report = await test.drain(advance="2h")

    assert (report.done, report.waiting) == (13, 1)


async def test_a_drain_of_many_days_does_not_take_long(app):
    @app.job
    async def work() -> None: ...

    began = time.monotonic()
    async with TestApp(app) as test:
        await work.options(delay="29d").defer()
        assert (await test.drain(advance="30d")).done == 1

    assert time.monotonic() - began < 20


async def test_equal_seeds_make_equal_runs(app):
    @app.job(attempts=6, backoff="1m")
    async def fails() -> None:
        raise OSError

    runs = []
    for seed in (1, 1, 2):
        async with TestApp(app, seed=seed) as test:
            await fails.defer()
            await test.drain(advance="1d")
        runs.append([call.at for call in fails.calls])

    assert runs[0] == runs[1] != runs[2]
    assert len(runs[2]) == 6


async def test_the_app_is_itself_again_after_the_block(app, monkeypatch):
    @app.job
    async def work() -> None: ...

    loop = asyncio.get_running_loop()
    before = loop.call_later, loop.call_at, loop.time
    async with TestApp(app) as test:
        async with app:  # as the service under test does
            await work.defer()
        await work.defer()
        await test.drain()
    opened = []
    monkeypatch.setattr(
        "shifter.wiring.service.open_publisher", lambda *given: opened.append(given)
    )

    _ = app.publisher

    assert len(work.calls) == 2
    assert len(opened) == 1
    assert (loop.call_later, loop.call_at, loop.time) == before


async def test_a_busy_machine_changes_no_answer(app):
    @app.job
    async def work() -> None: ...

    async with TestApp(app):
        first = await work.submit()
        time.sleep(0.8)  # the loop is late by more than its limit of 0.5 s
        second = await work.submit()

    assert [type(first), type(second)] == [Ran, Ran]


async def test_timers_of_the_test_itself_stay_real(app):
    @app.job
    async def work() -> None: ...

    async with TestApp(app) as test:
        await work.defer()
        await test.drain(advance="1h")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        loop = asyncio.get_running_loop()

        assert abs(loop.time() - time.monotonic()) < 60


def test_a_service_without_asyncio_is_tested_without_it(app):
    @app.job(attempts=2, backoff="1s")
    def work(number: int) -> None: ...

    with TestApp(app) as test:
        test.fail_with(work, OSError("once"))
        work.defer_sync(1)
        assert test.drain_sync().retried == 1
        assert test.drain_sync(advance="1m").done == 1

    assert [call.attempt for call in work.calls] == [1, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"patience": "soon"},
        {"patience": 0},
        {"start": datetime(2026, 1, 1)},
    ],
)
def test_a_wrong_argument_is_named(app, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TestApp(app, **wrong)


async def test_a_wrong_name_or_number_is_named(app):
    @app.job
    async def work() -> None: ...

    @Shifter("other").job
    async def strange() -> None: ...

    async with TestApp(app) as test:
        with pytest.raises(ConfigError, match="queue"):
            test.dead_letters("mial")
        with pytest.raises(ConfigError, match="strange"):
            test.fail_with(strange, OSError())
        with pytest.raises(ConfigError, match="times"):
            test.fail_with(work, OSError(), times=0)
        with pytest.raises(ConfigError, match="advance"):
            await test.drain(advance="2 hours")
