"""The drain over the memory adapters: every end a job can have."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from shifter import (
    Context,
    DeadLetter,
    Discard,
    JobState,
    Priority,
    Retry,
    Throttled,
)
from shifter.adapters.memory.state import MemoryClaimStore
from shifter.ports import Record
from shifter.wire.dead_letter import VALUE_DROPPED, read_dead_letter
from tests.integration.drain_world import World, submit


@pytest.fixture
def world() -> World:
    return World()


async def test_a_job_runs_once_with_its_arguments_and_ends_done(world):
    calls = []

    @world.app.job
    async def greet(name: str, times: int = 1) -> None:
        calls.append((name, times))

    await world.open()
    job_id = await submit(greet, "ann", times=2)
    async with world.working():
        await world.ended(job_id, JobState.DONE)

    assert calls == [("ann", 2)]


async def test_a_plain_function_runs_in_a_thread(world):
    threads = []

    @world.app.job
    def greet() -> None:
        threads.append(threading.current_thread().name)

    await world.open()
    job_id = await submit(greet)
    async with world.working():
        await world.ended(job_id, JobState.DONE)

    assert threads[0].startswith("shifter")


async def test_a_failed_job_is_retried_with_growing_attempts_then_done(world):
    attempts = []

    @world.app.job(attempts=5, backoff="5ms")
    async def flaky(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise OSError("away")

    await world.open()
    job_id = await submit(flaky)
    async with world.working():
        await world.ended(job_id, JobState.DONE)

    assert attempts == [1, 2, 3]


async def test_exhausted_attempts_end_in_the_dead_letters_with_their_story(world):
    @world.app.job(attempts=2, backoff="5ms")
    async def broken(number: int) -> None:
        raise ValueError("no way")

    await world.open()
    job_id = await submit(broken, 7)
    async with world.working():
        await world.ended(job_id, JobState.DEAD)

    (letter,) = await world.dead_letters()
    info = read_dead_letter(letter.headers)
    assert letter.value == b'{"number":7}'
    assert (info.job_id, info.reason, info.attempts) == (
        job_id,
        "attempts_exhausted",
        2,
    )
    assert (info.error_type, info.error_message) == ("ValueError", "no way")
    assert "broken" in info.error_stack
    assert info.origin_topic == "shop.default.normal"
    assert info.first_failed_ms <= info.last_failed_ms


async def test_retry_asks_for_its_own_delay_and_is_charged(world):
    starts = []

    @world.app.job(attempts=2)
    async def later(ctx: Context) -> None:
        starts.append((ctx.attempt, time.monotonic()))
        if ctx.attempt == 1:
            raise Retry("200ms")

    await world.open()
    job_id = await submit(later)
    async with world.working():
        await world.ended(job_id, JobState.DONE)

    (first, at_first), (second, at_second) = starts
    assert (first, second) == (1, 2)
    assert at_second - at_first >= 0.2


async def test_throttled_waits_without_being_charged(world):
    attempts = []

    @world.app.job(attempts=1)
    async def polite(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) < 3:
            raise Throttled("10ms")

    await world.open()
    job_id = await submit(polite)
    async with world.working():
        await world.ended(job_id, JobState.DONE)

    assert attempts == [1, 1, 1]


@pytest.mark.parametrize(
    ("signal", "state"),
    [(Discard("stale"), JobState.DISCARDED), (DeadLetter("bad"), JobState.DEAD)],
)
async def test_signals_end_a_job_at_once(world, signal, state):
    @world.app.job(attempts=9)
    async def ends() -> None:
        raise signal

    await world.open()
    job_id = await submit(ends)
    async with world.working():
        await world.ended(job_id, state)

    assert len(await world.dead_letters()) == (state is JobState.DEAD)


async def test_an_attempt_past_its_timeout_is_stopped_and_charged(world):
    @world.app.job(attempts=1, timeout="50ms")
    async def slow() -> None:
        await asyncio.sleep(30)

    await world.open()
    job_id = await submit(slow)
    async with world.working():
        await world.ended(job_id, JobState.DEAD)

    (letter,) = await world.dead_letters()
    assert read_dead_letter(letter.headers).error_type == "TimeoutError"


async def test_a_job_is_never_started_after_its_deadline(world):
    ran = []

    @world.app.job(deadline="30ms")
    async def brief() -> None:
        ran.append(1)

    await world.open()
    job_id = await submit(brief)
    await asyncio.sleep(0.05)
    async with world.working():
        await world.ended(job_id, JobState.EXPIRED)

    assert ran == []
    assert await world.dead_letters() == []


async def test_a_deadline_stops_a_running_attempt_as_expired(world):
    @world.app.job(deadline="100ms", timeout="10s")
    async def slow() -> None:
        await asyncio.sleep(30)

    await world.open()
    job_id = await submit(slow)
    async with world.working():
        await world.ended(job_id, JobState.EXPIRED)


async def test_a_delayed_job_never_starts_early(world):
    starts = []

    @world.app.job
    async def later() -> None:
        starts.append(time.time())

    await world.open()
    due = time.time() + 0.3
    job_id = await submit(later.options(delay="300ms"))
    async with world.working():
        await world.ended(job_id, JobState.DONE)

    assert due - 0.002 <= starts[0] < due + 30


async def test_jobs_of_a_key_keep_their_order_through_retries(world):
    done, running = [], []

    @world.app.job(attempts=5, backoff="20ms", max_backoff="20ms")
    async def step(number: int, ctx: Context) -> None:
        assert not running
        running.append(number)
        await asyncio.sleep(0)
        running.pop()
        if number % 3 == 0 and ctx.attempt < 3:
            raise OSError("again")
        done.append(number)

    await world.open()
    bound = step.options(key="order-1")
    ids = [await submit(bound, number) for number in range(10)]
    async with world.working():
        for job_id in ids:
            await world.ended(job_id, JobState.DONE)

    assert done == list(range(10))


async def test_a_key_held_up_too_long_lets_its_head_go_to_the_dead_letters(world):
    done = []

    @world.app.job(attempts=100, backoff="50ms", max_backoff="50ms", max_block="200ms")
    async def step(number: int) -> None:
        if number == 0:
            raise OSError("for ever")
        done.append(number)

    await world.open()
    bound = step.options(key="k")
    first, second = await submit(bound, 0), await submit(bound, 1)
    async with world.working():
        await world.ended(first, JobState.DEAD)
        await world.ended(second, JobState.DONE)

    (letter,) = await world.dead_letters()
    assert read_dead_letter(letter.headers).reason == "blocked_too_long"
    assert done == [1]


async def test_an_idempotency_key_takes_effect_once(world):
    ran = []

    @world.app.job
    async def pay(amount: int) -> None:
        ran.append(amount)

    await world.open()
    bound = pay.options(idempotency_key="invoice-1")
    first, second = await submit(bound, 1), await submit(bound, 2)
    async with world.working():
        await world.ended(first, JobState.DONE)
        await world.ended(second, JobState.DONE)

    assert len(ran) == 1


async def test_a_cancelled_job_is_not_run(world):
    ran = []

    @world.app.job
    async def never() -> None:
        ran.append(1)

    await world.open()
    job_id = await submit(never)
    await world.claims.cancel(job_id, keep_ms=60_000)
    other = await submit(never.options(priority=Priority.LOW))
    async with world.working():
        await world.ended(other, JobState.DONE)

    assert ran == [1]
    assert await world.state(job_id) is JobState.CANCELLED


async def test_a_record_that_cannot_be_read_goes_to_the_dead_letters_as_it_is(world):
    @world.app.job
    async def fine() -> None:
        pass

    await world.open()
    headers = [("shifter", b"\xff{"), ("x", b"1")]
    lane = "shop.default.normal"
    world.lane_log.append_sync([Record(lane, b"\x00raw", headers)], timeout_s=1)
    job_id = await submit(fine)
    async with world.working():
        await world.ended(job_id, JobState.DONE)
        async with asyncio.timeout(40):
            while not await world.dead_letters():
                await asyncio.sleep(0.001)

    (letter,) = await world.dead_letters()
    assert letter.value == b"\x00raw"
    assert read_dead_letter(letter.headers).reason == "undecodable_envelope"


@pytest.mark.parametrize(
    ("envelope", "value", "reason"),
    [
        (b'{"v":1,"id":"%s","type":"nobody"}', b"{}", "unknown_job"),
        (b'{"v":1,"id":"%s","type":"fine"}', b"[", "undecodable_payload"),
        (b'{"v":1,"id":"%s","type":"fine","queue":"other"}', b"{}", "wrong_lane"),
        (b'{"v":9,"id":"%s","type":"fine"}', b"{}", "unsupported_version"),
    ],
)
async def test_a_job_that_cannot_be_run_is_dead_with_its_reason(
    world, envelope, value, reason
):
    @world.app.job(attempts=3)
    async def fine() -> None:
        pass

    await world.open()
    job_id = b"0190b6a8-0000-7000-8000-000000000001"
    record = Record("shop.default.high", value, [("shifter", envelope % job_id)])
    world.lane_log.append_sync([record], timeout_s=1)
    async with world.working(grace_ms=0):
        async with asyncio.timeout(40):
            while not await world.dead_letters():
                await asyncio.sleep(0.001)

    (letter,) = await world.dead_letters()
    assert read_dead_letter(letter.headers).reason == reason


async def test_stopping_hands_running_jobs_back_uncharged(world):
    attempts = []
    started = asyncio.Event()

    @world.app.job(attempts=1, timeout="1m")
    async def long(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        started.set()
        if len(attempts) == 1:
            await asyncio.sleep(60)

    await world.open()
    job_id = await submit(long)
    async with world.working(drain_timeout_s=0.05):
        await started.wait()
    assert await world.state(job_id) is JobState.WAITING
    async with world.working(owner="w2"):
        await world.ended(job_id, JobState.DONE)

    assert attempts == [1, 1]


async def test_a_stop_in_the_middle_of_a_key_lets_its_job_end(world):
    done, started = [], asyncio.Event()

    @world.app.job
    async def step(number: int) -> None:
        started.set()
        await asyncio.sleep(0.05)
        done.append(number)

    await world.open()
    bound = step.options(key="k")
    first, second = await submit(bound, 0), await submit(bound, 1)
    async with world.working():
        await started.wait()
    assert await world.state(first) is JobState.DONE
    async with world.working(owner="w2"):
        await world.ended(second, JobState.DONE)

    assert done == [0, 1]


async def test_critical_jobs_start_before_a_flood_of_low_ones(world):
    order = []

    @world.app.job(priority=Priority.LOW)
    async def work(name: str) -> None:
        order.append(name)
        await asyncio.sleep(0.001)

    await world.open()
    lows = [await submit(work, "low") for _ in range(200)]
    urgent = await submit(work.options(priority=Priority.CRITICAL), "critical")
    async with world.working(concurrency=1):
        await world.ended(urgent, JobState.DONE)
        position = order.index("critical")
        await world.ended(lows[-1], JobState.DONE)

    assert position < 20


async def test_a_job_that_lost_three_workers_is_not_run_again(world):
    ran = []

    @world.app.job
    async def deadly() -> None:
        ran.append(1)

    await world.open()
    job_id = await submit(deadly)
    from shifter.model.claim import ClaimRequest

    request = ClaimRequest(job_id, job_id, 1, 1)
    for _ in range(3):
        await world.claims.claim([request], owner="gone", lease_ms=1)
        await asyncio.sleep(0.005)
    async with world.working():
        await world.ended(job_id, JobState.DEAD)

    (letter,) = await world.dead_letters()
    assert read_dead_letter(letter.headers).reason == "worker_lost"
    assert ran == []


async def test_long_handlers_keep_their_claims_alive(world):
    @world.app.job(timeout="10s")
    async def long() -> None:
        await asyncio.sleep(2.5)

    await world.open()
    job_id = await submit(long)
    async with world.working(lease_ms=900):
        await world.ended(job_id, JobState.DONE)

    assert world.metrics.attempts.of("default", "NORMAL").read() == 1


async def test_what_took_effect_is_not_run_again_when_the_store_forgot_its_claim(
    world,
):
    effects = []

    @world.app.job
    async def note(number: int) -> None:
        effects.append(number)
        world.claims._entries.clear()

    await world.open()
    job_ids = [await submit(note, number) for number in range(20)]
    async with world.working():
        for job_id in job_ids:
            await world.ended(job_id, JobState.DONE)

    assert sorted(effects) == list(range(20))


async def test_a_running_attempt_goes_on_when_the_store_forgot_its_claim(world):
    begun = []

    @world.app.job
    async def long() -> None:
        begun.append(1)
        world.claims._entries.clear()
        await asyncio.sleep(2.5)

    await world.open()
    job_id = await submit(long)
    async with world.working(lease_ms=900):
        await world.ended(job_id, JobState.DONE)

    assert begun == [1]


async def test_a_dead_letter_too_large_for_its_topic_is_cut_until_it_fits(world):
    @world.app.job
    async def fail(text: str) -> None:
        raise DeadLetter("no such customer")

    await world.open()
    world.narrow("shop.default.dlt", 9_000)
    small, large = await submit(fail, "x" * 100), await submit(fail, "x" * 20_000)
    async with world.working():
        await world.ended(small, JobState.DEAD)
        await world.ended(large, JobState.DEAD, timeout_s=20)

    letters = {}
    for letter in await world.dead_letters():
        info = read_dead_letter(letter.headers)
        letters[info.job_id] = letter
    assert VALUE_DROPPED not in dict(letters[small].headers)
    assert letters[large].value == b""
    assert dict(letters[large].headers)[VALUE_DROPPED] == b"20011"
    info = read_dead_letter(letters[large].headers)
    assert info.origin_topic == "shop.default.normal"
    assert info.reason == "dead_lettered_by_handler"


async def test_a_retry_too_large_for_its_lane_ends_as_a_dead_letter(world):
    @world.app.job(attempts=5, backoff="1ms")
    async def fail(text: str) -> None:
        world.narrow("shop.default.normal", 5_000)
        raise ValueError

    await world.open()
    job_id = await submit(fail, "x" * 20_000)
    async with world.working():
        await world.ended(job_id, JobState.DEAD, timeout_s=20)

    [letter] = await world.dead_letters()
    info = read_dead_letter(letter.headers)
    assert (info.reason, info.error_type) == ("too_large", "ValueError")
    assert len(letter.value) == 20_011


async def test_ends_that_piled_up_and_went_through_let_jobs_start_again():
    """Nothing else happens then: all that was running has ended, the line is full."""
    world, may_end, ran = World(), asyncio.Event(), []

    @world.app.job
    async def note(number: int) -> None:
        ran.append(number)

    await world.open()

    class Slow(MemoryClaimStore):
        async def finish(self, updates):
            await may_end.wait()
            return await super().finish(updates)

    await note.defer_many([(number,) for number in range(2_500)])
    async with world.working(concurrency=1, claims=Slow(world.clock)) as drain:
        await world.until(lambda: not drain._starter.may_start and len(ran) > 1_000)
        assert len(ran) < 2_000
        may_end.set()
        await world.until(lambda: len(ran) == 2_500)
