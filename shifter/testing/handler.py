"""Handlers as a test runs them: in virtual time, with planned failures, recorded.

Handlers run in the test's own loop, with the test's own clients and fixtures, and call
``asyncio.sleep`` and ``asyncio.timeout`` as they always do. While a `TestApp` is open,
the timers of the loop are therefore replaced, but only for what a handler asks for. A
context variable, which the handler's tasks inherit, distinguishes it from the test,
whose own timers stay real.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Generator
from contextvars import Context as ContextOfTask, ContextVar, copy_context
from datetime import UTC, datetime
from typing import Any, Final, TypeVarTuple

from shifter.api.job import Job
from shifter.jobs.context import Context
from shifter.jobs.registered import Call
from shifter.model.job import Isolation, JobSpec
from shifter.policy.protection.dependency import Dependency
from shifter.runtime.handler import (
    check_value,
    completed,
    is_coroutine_function,
    is_unfinished,
)
from shifter.testing.clock import FakeClock
from shifter.wire.payload import PayloadCodec

Ts = TypeVarTuple("Ts")

_IN_LOOP: Final = frozenset({asyncio.locks.__file__, asyncio.queues.__file__})
_SLEEP: Final = asyncio.sleep.__code__
_CONTEXT: Final = "shifter-context"
"""Name of the argument with the context; no parameter of a handler can have it."""


class Handler:
    """A handler that runs.

    Attributes:
        clock: Its time.
        sleeps: Sleeps that it, or a task of its own, is in.
    """

    __slots__ = ("clock", "sleeps")

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.sleeps = clock, 0


HANDLER: Final[ContextVar[Handler | None]] = ContextVar("handler", default=None)
"""The handler on whose behalf this code runs."""


class HandlerClock(FakeClock):
    """A `FakeClock` that records which handlers sleep."""

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved this far; 0 gives way once."""
        handler = HANDLER.get()
        if handler is None:
            await super().sleep(seconds)
            return
        handler.sleeps += 1
        try:
            await super().sleep(seconds)
        finally:
            handler.sleeps -= 1


class _Timer(asyncio.TimerHandle):
    """A timer of the loop that fires when the test's clock was moved so far."""

    def __init__(  # as the loop makes them
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: ContextOfTask | None,
        due: asyncio.Future[None],
    ) -> None:
        # A future would take the context of the task that moves the clock.
        context = copy_context() if context is None else context
        super().__init__(when, callback, args, due.get_loop(), context)
        self._due = due

        def fire(due: asyncio.Future[None]) -> None:
            if not due.cancelled():
                callback(*args)

        due.add_done_callback(fire, context=context)

    def cancel(self) -> None:
        """Never fire."""
        # Not the parent's own, which reports to a loop without this timer.
        asyncio.Handle.cancel(self)
        self._due.cancel()


@contextlib.contextmanager
def virtual_timers(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Let the timers of handlers follow their clock while the block runs."""
    timers = _Timers(loop)
    # A loop may have such attributes of its own already; they are put back.
    own = vars(loop)
    names = ("time", "call_at", "call_later")
    before = {name: own[name] for name in names if name in own}
    for name in names:
        setattr(loop, name, getattr(timers, name))
    try:
        yield
    finally:
        for name in names:
            delattr(loop, name)
        own.update(before)


class _Timers:
    """The timers of a loop, kept apart for handlers and for the worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._time, self._call_at = loop.time, loop.call_at
        self._call_later = loop.call_later
        self._start = loop.time()

    def time(self) -> float:
        handler = HANDLER.get()
        if handler is None:
            return self._time()
        return self._start + handler.clock.monotonic()

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: ContextOfTask | None = None,
    ) -> asyncio.TimerHandle:
        handler = HANDLER.get()
        if handler is None:
            return self._call_at(when, callback, *args, context=context)
        due = handler.clock.timer(max(0.0, when - self.time()))
        return _Timer(when, callback, args, context, due)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: ContextOfTask | None = None,
    ) -> asyncio.TimerHandle:
        handler = HANDLER.get()
        if handler is None:
            return self._call_later(delay, callback, *args, context=context)
        due = handler.clock.timer(delay)
        frame = inspect.currentframe()
        caller = None if frame is None else frame.f_back
        # Only a sleep is idle time; a timeout also runs while its handler works.
        if caller is not None and caller.f_code is _SLEEP:
            handler.sleeps += 1
            due.add_done_callback(lambda _: _woke(handler))
        return _Timer(self.time() + delay, callback, args, context, due)


def _woke(handler: Handler) -> None:
    handler.sleeps -= 1


def waits_in_loop(task: asyncio.Task[Any]) -> bool:
    """Whether a task waits for another task, at a lock or a queue."""
    coroutine: Any = task.get_coro()
    while inspect.iscoroutine(getattr(coroutine, "cr_await", None)):
        coroutine = coroutine.cr_await
    code = getattr(coroutine, "cr_code", None)
    return code is not None and code.co_filename in _IN_LOOP


class Failures:
    """The planned failures of handlers, by job name."""

    def __init__(self) -> None:
        self._planned: dict[str, list[tuple[BaseException, int | None]]] = {}

    def plan(self, name: str, error: BaseException, times: int | None) -> None:
        """Let the next runs of a job fail, after those planned before.

        Args:
            name: The job's name.
            error: What each of the runs raises.
            times: How many runs; ``None``: all that follow.
        """
        self._planned.setdefault(name, []).append((error, times))

    def strike(self, name: str) -> None:
        """Raise the failure that is planned for this run, if there is one."""
        planned = self._planned.get(name)
        if not planned:
            return
        error, times = planned[0]
        if times is not None and times > 1:
            planned[0] = (error, times - 1)
        elif times is not None:
            planned.pop(0)
        # One error may be raised many times; a traceback would grow with each.
        raise error.with_traceback(None)


class RehearsedJob:
    """A registered job as the worker of a test runs it.

    An ``isolate="process"`` job runs in this process: in the loop if it is ``async``,
    else in a thread.

    Attributes:
        spec: As declared, except for the isolation.
        codec: As declared.
        dependency: As declared.
        cheaper: As declared.
        context_parameter: Set for every job, since each run records its context.
        handlers: Handlers that run in the loop, by their task.
    """

    def __init__(
        self,
        job: Job[..., Any],
        clock: HandlerClock,
        failures: Failures,
        handlers: dict[asyncio.Task[Any], Handler],
    ) -> None:
        self._job, self._clock, self._failures = job, clock, failures
        self.handlers = handlers
        self.spec: JobSpec = dataclasses.replace(job.spec, isolation=_place(job))
        self.codec: PayloadCodec = job.codec
        self.dependency: Dependency | None = job.dependency
        self.cheaper: Callable[..., Any] | None = job.cheaper
        self.context_parameter: str | None = _CONTEXT

    @property
    def function(self) -> Callable[..., Any]:
        """The handler, which records its run."""
        is_async = self.spec.isolation is Isolation.LOOP
        return self._run if is_async else self._run_in_thread

    async def _run(self, **arguments: Any) -> None:
        call = self._begun(arguments)
        with _noted(call), self._in_loop():
            self._failures.strike(self.spec.name)
            await completed(self._job.function(**arguments))

    def _run_in_thread(self, **arguments: Any) -> Any:
        call = self._begun(arguments)
        with _noted(call):
            self._failures.strike(self.spec.name)
            value = self._job.function(**arguments)
            if is_unfinished(value):
                return self._ending(call, value)
            check_value(value)
            return None

    async def _ending(self, call: Call, value: Any) -> None:
        with _noted(call), self._in_loop():
            await completed(value)

    @contextlib.contextmanager
    def _in_loop(self) -> Generator[None]:
        """Let the task that runs the block be known as a handler's."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a handler runs in a task")
        self.handlers[task] = handler = Handler(self._clock)
        token = HANDLER.set(handler)
        try:
            yield
        finally:
            HANDLER.reset(token)
            del self.handlers[task]

    def _begun(self, arguments: dict[str, Any]) -> Call:
        context: Context = arguments.pop(_CONTEXT)
        at = datetime.fromtimestamp(self._clock.epoch_ms() / 1_000, UTC)
        call = Call({**arguments}, context.job_id, context.attempt, at)
        if self._job.context_parameter is not None:
            arguments[self._job.context_parameter] = context
        self._job.calls.append(call)
        return call


@contextlib.contextmanager
def _noted(call: Call) -> Generator[None]:
    """Record the error that ends the block."""
    try:
        yield
    except BaseException as error:
        call.error = error
        raise


def _place(job: Job[..., Any]) -> Isolation:
    if job.spec.isolation is not Isolation.PROCESS:
        return job.spec.isolation
    is_async = is_coroutine_function(job.function)
    return Isolation.LOOP if is_async else Isolation.THREAD
