"""Time as a handler sees it: its sleeps and timeouts are moved by hand.

Handlers run in the test's own loop, with the test's own clients and fixtures, and call
``asyncio.sleep`` and ``asyncio.timeout`` as they always do. The loop's timers are
therefore replaced while a `TestApp` is open, but only for what a handler asks for,
known by a context variable that its tasks inherit: the test's own timers stay real.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVarTuple

from shifter.testing.clock import FakeClock

Ts = TypeVarTuple("Ts")

_IN_LOOP: Final = frozenset({asyncio.locks.__file__, asyncio.queues.__file__})
_SLEEP: Final = asyncio.sleep.__code__


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
        context: Context | None,
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
        context: Context | None = None,
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
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handler = HANDLER.get()
        if handler is None:
            return self._call_later(delay, callback, *args, context=context)
        due = handler.clock.timer(delay)
        frame = inspect.currentframe()
        caller = None if frame is None else frame.f_back
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
