"""Work that a handler hands back unfinished is done, wherever the handler runs.

A plain wrapper around an ``async def``, or a ``def`` that returns a coroutine, was
called and its result dropped: the job was ``done`` without an effect, and ``submit``
answered with a coroutine. The future of an executor was dropped likewise. Right: any
awaitable and any such future is waited for wherever a handler can run, and a generator,
of which a call runs nothing, is refused at registration.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import types
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from shifter import Context, Degraded, Ran, Shifter
from shifter.errors import ConfigError
from shifter.model.answer import Quality
from shifter.model.claim import JobState
from shifter.policy.admission.input import DependencyNeeds
from shifter.produce.admission import Views
from shifter.supervise.entrypoint import _spawn_isolated
from shifter.testing import TestApp
from shifter.work.isolated import IsolatedProcesses
from tests.integration.drain_world import World, submit
from tests.regress.handler_jobs import app as process_app
from tests.regress.run_alone import run_in_process

effects: list[str] = []
BOUND: contextvars.ContextVar[str] = contextvars.ContextVar("bound", default="")


@pytest.fixture(autouse=True)
def _no_effects():
    effects.clear()


@pytest.fixture
def release():
    """Set at the end, so that no thread outlives the test."""
    event = threading.Event()
    yield event
    event.set()


async def effect(word: str) -> str:
    await asyncio.sleep(0)
    effects.append(word)
    return word


def plain_wrapper(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Awaited:
    def __init__(self, word):
        self.word = word

    def __await__(self):
        return effect(self.word).__await__()


class AsyncCallable:
    async def __call__(self, word: str) -> str:
        return await effect(word)


class PlainCallable:
    def __call__(self, word: str):
        return effect(word)


class Service:
    async def method(self, word: str) -> str:
        return await effect(word)

    def returns_coroutine(self, word: str):
        return effect(word)

    @classmethod
    async def of_class(cls, word: str) -> str:
        return await effect(word)

    @staticmethod
    async def static(word: str) -> str:
        return await effect(word)


def returns_coroutine(word: str):
    return effect(word)


def returns_awaitable(word: str):
    return Awaited(word)


async def returns_another(word: str):
    return effect(word)


def returns_one_of_one(word: str):
    return returns_another(word)


async def with_prefix(prefix: str, word: str) -> str:
    return await effect(prefix + word)


def slow_effect(word: str) -> str:
    threading.Event().wait(0.05)
    effects.append(word)
    return word


def in_executor(function, *args) -> Future:
    executor = ThreadPoolExecutor(1)
    future = executor.submit(function, *args)
    executor.shutdown(wait=False)
    return future


def returns_future(word: str):
    return in_executor(slow_effect, word)


async def returns_future_later(word: str):
    return in_executor(slow_effect, word)


def returns_future_of_coroutine(word: str):
    return in_executor(effect, word)


def returns_future_of_a_loop(word: str):
    """As from `asyncio.run_coroutine_threadsafe`, to the loop of another thread."""
    return in_executor(asyncio.run, effect(word))


@types.coroutine
def old_style(word: str):
    return (yield from effect(word).__await__())


HANDLERS = {
    "wraps": plain_wrapper(effect),
    "wraps twice": plain_wrapper(plain_wrapper(effect)),
    "def, coroutine": returns_coroutine,
    "def, __await__": returns_awaitable,
    "async def, coroutine": returns_another,
    "def, coroutine of a coroutine": returns_one_of_one,
    "partial of async def": functools.partial(with_prefix, ""),
    "partial of def": functools.partial(returns_coroutine),
    "async __call__": AsyncCallable(),
    "def __call__": PlainCallable(),
    "bound method": Service().method,
    "bound def method": Service().returns_coroutine,
    "class method": Service.of_class,
    "static method": Service.static,
    "static method object": staticmethod(effect),
    "lambda": lambda word: effect("" + word),
    "types.coroutine": old_style,
    "def, future": returns_future,
    "async def, future": returns_future_later,
    "def, future of a coroutine": returns_future_of_coroutine,
    "def, future of another loop": returns_future_of_a_loop,
}
EACH = pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)


@EACH
async def test_a_worker_awaits_what_a_handler_returns(handler):
    world = World()
    job = world.app.job(name="job")(handler)
    await world.open()

    async with world.working():
        job_id = await submit(job, word="x")
        await world.ended(job_id, JobState.DONE)

    assert effects == ["x"]


@EACH
async def test_submit_answers_with_the_value(handler):
    world = World()
    job = world.app.job(name="job")(handler)

    answer = await job.submit(word="x")

    assert isinstance(answer, Ran)
    assert (answer.value, effects) == ("x", ["x"])


@EACH
@pytest.mark.parametrize("has_loop", [True, False])
async def test_submit_without_asyncio_runs_or_defers_it(handler, has_loop):
    world = World()
    job = world.app.job(name="job")(handler)
    await world.open()

    if has_loop:
        answer = job.submit_sync(word="x")
    else:
        answer = await asyncio.to_thread(job.submit_sync, word="x")

    ran = isinstance(answer, Ran)
    assert effects == (["x"] if ran else [])
    assert not ran or answer.value == "x"


@EACH
@pytest.mark.parametrize("is_sync", [True, False])
async def test_a_fallback_answers_with_the_value(handler, is_sync):
    world = World()
    job = world.app.job(name="job")(effect)
    job.fallback(handler)
    world.app.admission.views = Views(None, lambda *_: DependencyNeeds(is_open=True))

    answer = job.submit_sync(word="x") if is_sync else await job.submit(word="x")

    assert isinstance(answer, Degraded)
    assert (answer.value, effects) == ("x", ["x"])


@EACH
async def test_a_worker_awaits_what_a_fallback_returns(handler):
    world = World()
    job = world.app.job(name="job")(effect_of_the_job_itself)
    job.fallback(handler)
    await world.open()

    async with world.working() as drain:
        drain.replica._quality.by_load = Quality.MINIMAL
        job_id = await submit(job, word="x")
        await world.ended(job_id, JobState.DONE)

    assert effects == ["x"]


async def effect_of_the_job_itself(word: str) -> None:
    effects.append(f"not {word}")


@EACH
def test_a_test_app_awaits_it(handler):
    app = Shifter("shop")
    job = app.job(name="job")(handler)

    with TestApp(app) as test:
        job.defer_sync(word="x")
        report = test.drain_sync()

    assert (report.done, effects) == (1, ["x"])
    assert job.calls[0].error is None


async def test_what_a_decorator_binds_is_seen_by_the_coroutine_it_returns():
    """Decorators bind log fields so; the thread of a ``def`` has a context of its own."""
    world, seen = World(), []

    async def inner() -> None:
        seen.append(BOUND.get())

    @world.app.job
    def wrapper():
        BOUND.set("request 7")
        return inner()

    await world.open()
    async with world.working():
        job_id = await submit(wrapper)
        await world.ended(job_id, JobState.DONE)
    await wrapper.submit()

    assert seen == ["request 7", "request 7"]


async def test_a_timeout_cancels_the_coroutine_that_a_def_returned():
    world, seen = World(), []

    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("cancelled")

    @world.app.job(timeout="500ms", attempts=1)
    def wrapper():
        return endless()

    await world.open()
    async with world.working():
        job_id = await submit(wrapper)
        await world.ended(job_id, JobState.DEAD)

    assert seen == ["cancelled"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_timeout_cancels_the_future_that_a_handler_returned(is_async):
    """Of a future that nobody runs yet; a call that runs cannot be cancelled."""
    world, future = World(), Future()

    def plain():
        return future

    async def later():
        return future

    job = world.app.job(name="job", timeout="500ms", attempts=1)
    handler = job(later if is_async else plain)
    await world.open()
    async with world.working():
        job_id = await submit(handler)
        await world.ended(job_id, JobState.DEAD)

    assert future.cancelled()
    [letter] = await world.dead_letters()
    assert dict(letter.headers)["shifter-error-type"] == b"TimeoutError"


async def test_a_future_cannot_hold_a_job_beyond_its_timeout(release):
    world = World()

    @world.app.job(timeout="500ms", attempts=1)
    def waits():
        return in_executor(release.wait)

    await world.open()
    async with world.working():
        job_id = await submit(waits)
        await world.ended(job_id, JobState.DEAD)
    with pytest.raises(TimeoutError):
        await waits.submit()
    # The last: a loop that was blocked so long takes no more calls for a while.
    with pytest.raises(TimeoutError):
        waits.submit_sync()


async def test_a_future_that_was_cancelled_fails_its_attempt():
    world, future = World(), Future()
    future.cancel()

    @world.app.job(attempts=1)
    def returns_cancelled():
        return future

    await world.open()
    async with world.working():
        job_id = await submit(returns_cancelled)
        await world.ended(job_id, JobState.DEAD)


async def test_an_isolated_process_waits_for_a_future(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFECTS", str(tmp_path / "effects"))
    processes = IsolatedProcesses(
        lambda: _spawn_isolated("tests.regress.handler_jobs:app"), size=1
    )
    try:
        good, bad = [
            await run_in_process(
                processes, process_app, "returns_a_future", fails=fails
            )
            for fails in (False, True)
        ]
    finally:
        processes.close()

    assert good.error is None
    assert bad.error.type == "ValueError"
    assert (tmp_path / "effects").read_text().split()[0] == "later"


def generator(word: str):
    effects.append(word)
    yield word


async def async_generator(word: str):
    effects.append(word)
    yield word


class GeneratorCall:
    def __call__(self, word: str):
        yield word

    async def later(self, word: str):
        yield word


GENERATORS = {
    "generator": generator,
    "async generator": async_generator,
    "partial": functools.partial(async_generator),
    "static method": staticmethod(generator),
    "bound method": GeneratorCall().later,
    "__call__": GeneratorCall(),
}


@pytest.mark.parametrize("handler", GENERATORS.values(), ids=GENERATORS)
def test_a_generator_is_refused_at_registration(handler):
    app = Shifter("shop")

    with pytest.raises(ConfigError, match="yield"):
        app.job(name="job")(handler)
    with pytest.raises(ConfigError, match="yield"):
        app.job(name="good")(effect).fallback(handler)


@pytest.mark.parametrize("handler", [generator, async_generator])
async def test_a_generator_behind_a_wrapper_fails_its_attempt(handler):
    """What a wrapper returns is not known before it is called."""
    world = World()
    job = world.app.job(name="job", attempts=1)(plain_wrapper(handler))
    await world.open()

    async with world.working():
        job_id = await submit(job, word="x")
        await world.ended(job_id, JobState.DEAD)

    [letter] = await world.dead_letters()
    assert b"generator" in dict(letter.headers)["shifter-error-message"]
    for answer in (job.submit_sync, job.submit):
        with pytest.raises(TypeError, match="generator"):
            result = answer(word="x")
            if asyncio.iscoroutine(result):
                await result


@pytest.mark.parametrize("handler", [dict, Service, 7, None, classmethod(effect)])
def test_what_cannot_be_a_handler_is_refused(handler):
    with pytest.raises(ConfigError):
        Shifter("shop").job(name="job")(handler)


def test_a_callable_without_a_name_is_asked_for_one():
    with pytest.raises(ConfigError, match="name"):
        Shifter("shop").job()(functools.partial(effect))


class Mailer:
    def send(self, address: str) -> None: ...

    async def send_later(self, ctx: Context, address: str) -> None: ...

    @classmethod
    def of_class(cls, address: str) -> None: ...


@pytest.mark.parametrize(
    "method", [Mailer.send, Mailer.send_later, plain_wrapper(Mailer.send)]
)
def test_a_method_without_its_instance_is_refused(method):
    """``self`` was registered as a field of the payload, which no caller can give."""
    with pytest.raises(ConfigError, match="bound method"):
        Shifter("shop").job(name="job")(method)


@pytest.mark.parametrize(
    "method", [Mailer().send, Mailer().send_later, Mailer.of_class]
)
def test_a_bound_method_takes_its_own_parameters(method):
    job = Shifter("shop").job(name="job")(method)

    assert job.codec.encode((), {"address": "a@x"}) == b'{"address":"a@x"}'


async def test_a_job_defined_in_a_class_without_self_is_a_function_like_any_other():
    world = World()

    class Jobs:
        @world.app.job
        @staticmethod
        async def first(word: str) -> str:
            return await effect(word)

        @staticmethod
        @world.app.job
        async def second(word: str) -> str:
            return await effect(word)

    assert isinstance(await Jobs.first.submit("a"), Ran)
    assert isinstance(await Jobs.second.submit("b"), Ran)
    assert effects == ["a", "b"]
