"""Whatever leaves a handler ends its attempt.

A `BaseException` that was not one of three (a Rust panic, gevent's timeout,
`GeneratorExit`) left the attempt running for ever in its slot: two of them, and a
worker with two slots stood still. `StopIteration` in a thread did so until the timeout.
Right: each of them is a failure at once, wherever the handler runs.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from shifter import DeadLetter, Discard, Retry, Throttled
from shifter.errors import (
    CircuitOpenError,
    DeadlineExceededError,
    JobCancelledError,
    RejectedError,
)
from shifter.model.answer import Quality
from shifter.model.claim import JobState
from shifter.supervise.entrypoint import _spawn_isolated
from shifter.testing import TestApp
from shifter.work.attempt import RemoteError
from shifter.work.isolated import IsolatedProcesses
from shifter.work.isolated_child import IsolatedReply, raise_reply, reply_to
from tests.integration.drain_world import World, submit
from tests.regress.handler_jobs import app as process_app
from tests.regress.leaving import LEAVING, leave
from tests.regress.run_alone import run_alone

pytestmark = pytest.mark.timeout(240)

EACH = pytest.mark.parametrize("how", LEAVING)


def in_loop(world: World):
    @world.app.job(attempts=1, timeout="60s")
    async def leaves(how: str) -> None:
        leave(how)

    return leaves


def after_an_await(world: World):
    @world.app.job(attempts=1, timeout="60s")
    async def leaves(how: str) -> None:
        await asyncio.sleep(0)
        leave(how)

    return leaves


def in_thread(world: World):
    @world.app.job(attempts=1, timeout="60s")
    def leaves(how: str) -> None:
        leave(how)

    return leaves


def in_a_returned_coroutine(world: World):
    async def later(how: str) -> None:
        leave(how)

    @world.app.job(attempts=1, timeout="60s")
    def leaves(how: str):
        return later(how)

    return leaves


def in_a_block(world: World):
    mailer = world.app.dependency("mailer")

    @world.app.job(attempts=1, timeout="60s")
    async def leaves(how: str) -> None:
        async with mailer:
            leave(how)

    return leaves


def in_a_block_in_a_thread(world: World):
    mailer = world.app.dependency("mailer")

    @world.app.job(attempts=1, timeout="60s", uses=mailer)
    def leaves(how: str) -> None:
        with mailer:
            leave(how)

    return leaves


PLACES = [
    in_loop,
    after_an_await,
    in_thread,
    in_a_returned_coroutine,
    in_a_block,
    in_a_block_in_a_thread,
]


@EACH
@pytest.mark.parametrize("place", PLACES)
async def test_it_ends_its_attempt_and_frees_its_slot(place, how):
    world, ran = World(), []
    leaves = place(world)

    @world.app.job
    async def other() -> None:
        ran.append(1)

    await world.open()
    async with world.working(concurrency=1, drain_timeout_s=1.0):
        job_id = await submit(leaves, how=how)
        other_id = await submit(other)
        await world.ended(job_id, JobState.DEAD, timeout_s=40)
        await world.ended(other_id, JobState.DONE, timeout_s=40)

    assert ran == [1]


@EACH
async def test_it_ends_a_fallback(how):
    world = World()

    @world.app.job(attempts=1, timeout="60s")
    async def leaves(how: str) -> None: ...

    @leaves.fallback
    def cheaper(how: str) -> None:
        leave(how)

    await world.open()
    async with world.working(concurrency=1, drain_timeout_s=1.0) as drain:
        drain.replica._quality.by_load = Quality.MINIMAL
        job_id = await submit(leaves, how=how)
        await world.ended(job_id, JobState.DEAD, timeout_s=40)


@pytest.fixture(scope="module")
def processes():
    def spawn():
        return _spawn_isolated("tests.regress.handler_jobs:app")

    found = IsolatedProcesses(spawn, size=1)
    yield found
    found.close()


@pytest.mark.parametrize("name", ["leaves_process", "leaves_async_process"])
async def test_it_ends_an_attempt_in_a_process_of_its_own(processes, name):
    world = World()
    world.app.jobs.update(process_app.jobs)
    await world.open()
    drain = world.drain(processes=processes)

    for how in LEAVING:
        attempt = await run_alone(drain, world, process_app.jobs[name], how=how)
        assert attempt.error is not None, how


@EACH
@pytest.mark.parametrize("place", [in_loop, in_thread, in_a_returned_coroutine])
async def test_it_leaves_submit_at_once_and_frees_its_slot(place, how):
    world = World()
    leaves = place(world)

    raised = await leaving_submit(leaves, how)

    assert raised is not None
    assert world.app.admission.inflight == 0


async def leaving_submit(job, how: str) -> BaseException | None:
    try:
        async with asyncio.timeout(40):
            await job.submit(how=how)
    except BaseException as error:
        return error
    return None


@EACH
def test_it_leaves_submit_without_asyncio_and_frees_its_slot(how):
    world = World()
    leaves = in_a_returned_coroutine(world)

    raised = None
    try:
        leaves.submit_sync(how=how)
    except BaseException as error:
        raised = error

    assert raised is not None
    assert world.app.admission.inflight == 0


@EACH
@pytest.mark.parametrize("place", [in_loop, in_thread, in_a_returned_coroutine])
async def test_it_ends_an_attempt_in_a_test_app(place, how):
    world = World()
    leaves = place(world)

    async with TestApp(world.app, patience="5s") as test:
        await leaves.defer(how=how)
        report = await test.drain()

    assert report.dead == 1
    assert leaves.calls[0].error is not None


SIGNALS = {
    "a dead letter for an error": lambda: DeadLetter(ValueError("no such customer")),
    "a dead letter for nothing": lambda: DeadLetter(None),
    "a discard for a number": lambda: Discard(42),
    "a throttle for a word": lambda: Throttled("soon"),
    "a retry for a list": lambda: Retry(["1s"]),
}


@pytest.mark.parametrize("make", SIGNALS.values(), ids=SIGNALS)
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_signal_with_an_odd_reason_ends_its_attempt(make, is_async):
    world = World()

    async def in_loop() -> None:
        raise make()

    def in_thread() -> None:
        raise make()

    job = world.app.job(name="job", attempts=1)(in_loop if is_async else in_thread)
    await world.open()
    async with world.working(concurrency=1, drain_timeout_s=1.0):
        job_id = await submit(job)
        await world.until_terminal(job_id)


RAISED = {
    "a retry": lambda: Retry("3s"),
    "a retry without a wait": Retry,
    "a throttle": lambda: Throttled(2),
    "a discard": lambda: Discard("old"),
    "a dead letter": lambda: DeadLetter("bad"),
    "a cancel": lambda: JobCancelledError("id"),
    "a deadline": lambda: DeadlineExceededError("id", 0.5),
    "an open circuit": lambda: CircuitOpenError("mailer", 4.0),
}


def crossed(error: Exception) -> Exception:
    """What the worker sees of an error that a child raised."""
    sent = msgspec.msgpack.encode(reply_to(error))
    try:
        raise_reply(msgspec.msgpack.decode(sent, type=IsolatedReply), "id")
    except Exception as found:
        return found
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)
def test_a_signal_means_the_same_from_a_process_of_its_own(make):
    raised = make()
    raised.__cause__ = OSError("its cause")

    found = crossed(raised)

    is_refusal = isinstance(raised, RejectedError)
    assert type(found) is (RejectedError if is_refusal else type(raised))
    for name in ("reason", "dependency", "retry_in_s", "late_by_s", "job_id"):
        assert getattr(found, name, None) == getattr(raised, name, None)
    assert found.__cause__.facts.message == "its cause"


@pytest.mark.parametrize("make", SIGNALS.values(), ids=SIGNALS)
def test_a_signal_with_an_odd_reason_crosses_from_a_process_of_its_own(make):
    found = crossed(make())

    assert isinstance(found, DeadLetter | Discard | RemoteError)
