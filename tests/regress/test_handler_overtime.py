"""An attempt is over when its handler has ended, not when its time is up.

A ``def`` handler that timed out went on in its thread while its retry ran beside it,
and, with a key, the next job of the key too; a handler that swallowed its cancellation
kept its slot for ever. Right: the stop is raised inside the thread, repeated, and until
the handler has ended its claim is renewed, its key blocked and its slot used. A handler
that does not end makes its process be replaced, which counts against its job alone.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shifter import Shed
from shifter.model.claim import JobState
from shifter.model.reason import Reason
from shifter.runtime.threads import ThreadCall
from shifter.testing import TestApp
from shifter.testing.report import StuckError
from shifter.work import attempt as attempts
from shifter.work.worker import held_claims
from tests.integration.drain_world import World, submit


@pytest.fixture
def hurried(monkeypatch):
    """Handlers are stopped again, and given up, sooner."""
    monkeypatch.setattr(attempts, "STOP_AGAIN_S", 0.3)
    monkeypatch.setattr(attempts, "STOP_GRACE_S", 1.5)
    monkeypatch.setattr(attempts, "LEAVE_GRACE_S", 1.5)


class Runs:
    """Begins and ends of runs, and how many ran at a time."""

    def __init__(self) -> None:
        self.now = self.most = self.begun = 0
        self.left_by: list[str] = []
        self._lock = threading.Lock()

    def __enter__(self):
        with self._lock:
            self.begun += 1
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, kind, error, trace):
        with self._lock:
            self.now -= 1
            self.left_by.append("" if kind is None else kind.__name__)


async def test_a_def_handler_is_stopped_in_its_thread_at_its_timeout():
    world, runs = World(), Runs()

    @world.app.job(timeout="500ms", attempts=3, backoff="10ms")
    def endless() -> None:
        with runs:
            while True:
                try:
                    time.sleep(0.001)
                except Exception:
                    continue

    await world.open()
    async with world.working(concurrency=4):
        job_id = await submit(endless)
        await world.ended(job_id, JobState.DEAD)

    assert (runs.begun, runs.most, runs.now) == (3, 1, 0)
    assert runs.left_by == ["CancelledError"] * 3
    [letter] = await world.dead_letters()
    assert dict(letter.headers)["shifter-error-type"] == b"TimeoutError"


@pytest.mark.parametrize("is_keyed", [True, False])
async def test_a_retry_waits_until_the_thread_has_ended(is_keyed):
    """A call into C is not interrupted: here, one long wait."""
    world, runs, released = World(), Runs(), threading.Event()

    @world.app.job(timeout="100ms", attempts=2, backoff="1ms")
    def slow(number: int) -> None:
        with runs:
            if runs.begun == 1:
                released.wait(30)
            else:
                time.sleep(0.8)

    await world.open()
    async with world.working(concurrency=4) as drain:
        key = "k" if is_keyed else None
        first = await submit(slow.options(key=key), 1)
        second = await submit(slow.options(key=key), 2) if is_keyed else None
        await world.until(lambda: runs.begun == 1)
        await asyncio.sleep(0.3)
        assert drain._executor.free == 3
        released.set()
        await world.ended(first, JobState.DEAD)
        if second is not None:
            await world.ended(second, JobState.DEAD)

    assert runs.begun == (4 if is_keyed else 2)
    assert runs.most == 1


async def test_the_claim_is_renewed_until_the_thread_has_ended():
    world, runs, released = World(), Runs(), threading.Event()

    @world.app.job(timeout="100ms", attempts=1)
    def slow() -> None:
        with runs:
            released.wait(30)

    await world.open()
    async with world.working(owner="w1", lease_ms=1_500):
        job_id = await submit(slow)
        await world.until(lambda: runs.begun == 1)
        await asyncio.sleep(2.0)
        status = await world.claims.status(job_id)
        [asked] = await world.claims.claim([claim_of(job_id)], owner="w2", lease_ms=400)
        released.set()
        await world.ended(job_id, JobState.DEAD)

    assert (status.state, status.owner) == (JobState.RUNNING, "w1")
    assert type(asked).__name__ == "Busy"


def claim_of(job_id: str):
    from shifter.model.claim import ClaimRequest

    return ClaimRequest(job_id, job_id, 1, 1)


async def test_a_stop_finds_a_thread_that_waits_for_its_turn():
    """A call that has not begun is taken out of the pool's line."""
    with ThreadPoolExecutor(1) as pool:
        held = threading.Event()
        first = ThreadCall(pool, held.wait, {"timeout": 30})
        second = ThreadCall(pool, time.sleep, {})
        second.stop()
        held.set()

        assert await first.value() is True
        with pytest.raises(asyncio.CancelledError):
            await second.value()


async def test_a_stop_never_reaches_the_next_call_of_a_thread():
    """The exception is raised in a thread that may just have left the handler."""
    draw = random.Random(1)
    left: list[str] = []

    def spin(rounds: int) -> str:
        for _ in range(rounds):
            pass
        return "ran"

    with ThreadPoolExecutor(1) as pool:
        for _ in range(3_000):
            call = ThreadCall(pool, spin, {"rounds": draw.randrange(400)})
            for _ in range(draw.randrange(60)):
                pass
            call.stop()
            try:
                left.append(await call.value())
            except asyncio.CancelledError:
                left.append("stopped")
            assert await ThreadCall(pool, spin, {"rounds": 10}).value() == "ran"

    assert {"ran", "stopped"} >= set(left)
    assert left.count("stopped") > 100


async def test_a_handler_that_swallows_one_cancellation_gets_another(hurried):
    world, seen = World(), []

    @world.app.job(timeout="300ms", attempts=1)
    async def swallows() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("first")
        await asyncio.sleep(60)

    await world.open()
    async with world.working(concurrency=1) as drain:
        job_id = await submit(swallows)
        await world.ended(job_id, JobState.DEAD)
        assert drain._executor.free == 1

    assert seen == ["first"]


async def test_a_cleanup_after_a_cancellation_is_left_in_peace():
    world, seen = World(), []

    @world.app.job(timeout="300ms", attempts=1)
    async def cleans_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.5)
            seen.append("cleaned up")

    await world.open()
    async with world.working():
        job_id = await submit(cleans_up)
        await world.ended(job_id, JobState.DEAD)

    assert seen == ["cleaned up"]


def stubborn_in_loop(world: World, released: threading.Event, timeout: str = "50ms"):
    @world.app.job(timeout=timeout, attempts=1)
    async def stubborn() -> None:
        while not released.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    return stubborn


def stubborn_in_thread(world: World, released: threading.Event, timeout: str = "50ms"):
    @world.app.job(timeout=timeout, attempts=1)
    def stubborn() -> None:
        released.wait()

    return stubborn


STUBBORN = pytest.mark.parametrize("make", [stubborn_in_loop, stubborn_in_thread])


@STUBBORN
async def test_a_handler_that_does_not_end_lets_its_process_be_replaced(make, hurried):
    world, released, ended = World(), threading.Event(), []
    stubborn = make(world, released)

    @world.app.job(timeout="40s")
    async def beside() -> None:
        await asyncio.sleep(3.0)
        ended.append("beside")

    await world.open()
    drain = world.drain(concurrency=3)
    for feed in drain.feeds.values():
        await feed.open()
    other_id, job_id = await submit(beside), await submit(stubborn)
    try:
        async with asyncio.timeout(40):
            await drain.run(drain_timeout_s=20.0)
        left = drain.progress().attempts
        await world.claims.finish(held_claims(drain))
        status = await world.claims.status(job_id)
    finally:
        released.set()

    assert ended == ["beside"]
    assert await world.state(other_id) is JobState.DONE
    assert [attempt.item.envelope.id for attempt in left] == [job_id]
    assert left[0].is_stuck
    # Its claim is left to run out: the loss of the process counts for this job.
    assert status.state is JobState.RUNNING


@STUBBORN
async def test_a_shutdown_is_not_charged_to_a_handler_that_does_not_end(make, hurried):
    world, released = World(), threading.Event()
    stubborn = make(world, released, timeout="60s")
    await world.open()
    drain = world.drain(concurrency=1)
    for feed in drain.feeds.values():
        await feed.open()
    job_id = await submit(stubborn)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(drain.run(drain_timeout_s=0.1))
        await world.until(lambda: bool(drain.running))
        drain.stop()
        await task
    before = await world.state(job_id)

    await world.claims.finish(held_claims(drain))

    released.set()
    assert before is JobState.RUNNING
    assert await world.state(job_id) is JobState.WAITING
    [answer] = await world.claims.claim([claim_of(job_id)], owner="w2", lease_ms=400)
    assert answer.losses == 0


@pytest.mark.parametrize("error", [RuntimeError("cut"), OSError()])
async def test_what_a_shutdown_makes_a_handler_raise_is_not_charged(error):
    world = World()

    @world.app.job(attempts=1)
    async def raises_when_cut() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise error from None

    await world.open()
    async with world.working(drain_timeout_s=0.0) as drain:
        job_id = await submit(raises_when_cut)
        await world.until(lambda: bool(drain.running))

    assert await world.state(job_id) is JobState.WAITING


def test_a_test_app_names_the_handler_that_swallows_its_cancellation():
    world, released = World(), threading.Event()
    stubborn = stubborn_in_loop(world, released)

    with TestApp(world.app) as test:
        stubborn.defer_sync()
        try:
            with pytest.raises(StuckError, match=r"stubborn.*CancelledError"):
                test.drain_sync()
        finally:
            released.set()


async def test_submit_answers_at_the_timeout_and_keeps_the_slot_until_the_end():
    world, runs, released = World(), Runs(), threading.Event()

    @world.app.job(timeout="1s")
    def slow() -> None:
        with runs:
            released.wait(30)

    with pytest.raises(TimeoutError):
        await slow.submit()
    inflight_meanwhile = world.app.admission.inflight
    released.set()
    await world.until(lambda: world.app.admission.inflight == 0)

    assert (inflight_meanwhile, runs.left_by) == (1, ["CancelledError"])


async def test_submit_stops_a_def_handler_at_its_deadline():
    world, runs = World(), Runs()

    @world.app.job(timeout="10s", deadline="1s")
    def endless() -> None:
        with runs:
            while True:
                time.sleep(0.001)

    answer = await endless.submit()

    assert isinstance(answer, Shed)
    assert answer.reason is Reason.EXPIRED
    await world.until(lambda: runs.left_by == ["CancelledError"])
    await world.until(lambda: world.app.admission.inflight == 0)
