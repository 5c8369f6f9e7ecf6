"""Runs a plain ``def`` handler of a ``grpc.aio`` server in a thread, as gRPC does.

grpc.aio runs such handlers in its thread pool, with a context whose ``abort`` and
``send_initial_metadata`` block, and with an iterator of requests that blocks. It does
so only for handlers that it calls itself; an interceptor that has to decide first calls
them instead, and this module is what it calls them with.

One call has one thread. If the caller leaves, a generator is closed at its next
``yield``; a handler that is no generator runs to its end. Both keep the slot of the
call until then.

Source: gRPC, ``_cygrpc/aio/server.pyx.pxi``, ``_SyncServicerContext``.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterator,
)
from concurrent.futures import Executor, Future
from typing import Any, Final, TypeVar

from shifter.fleet.calls import CALLER

T = TypeVar("T")

_END: Final = object()


def is_plain(behaviour: Callable[..., Any]) -> bool:
    """Whether grpc.aio would call a handler in a thread."""
    return not (
        inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)
    )


class PlainCall:
    """One call of a plain handler.

    Args:
        behaviour: The handler.
        context: The context of grpc.aio.
        threads: Where the handler runs.
    """

    def __init__(
        self, behaviour: Callable[..., Any], context: Any, threads: Executor
    ) -> None:
        self._behaviour, self._threads = behaviour, threads
        self._caller = CALLER.get()
        self._loop = asyncio.get_running_loop()
        self._context = _BlockingContext(context, self._loop)
        self._parts: asyncio.Queue[Any] = asyncio.Queue()
        self._sent, self._is_over = threading.Semaphore(0), False
        context.add_done_callback(lambda _: self._stop())

    async def value(self, request: Any) -> Any:
        """The answer of a handler that gives one."""
        thread = self._begin(self._call, request)
        await self._end_of(thread)
        found = thread.result()
        return await found if inspect.isawaitable(found) else found

    async def values(self, request: Any) -> AsyncGenerator[Any]:
        """The answers of a handler that gives a stream."""
        thread = self._begin(self._iterate, request)
        thread.add_done_callback(lambda _: self._hand_over(_END))
        try:
            while (part := await self._parts.get()) is not _END:
                yield part
                self._sent.release()
        finally:
            self._stop()
            await self._end_of(thread)
        found = thread.result()
        if inspect.isawaitable(found):
            await found
        elif found is not None:
            async for part in found:
                yield part

    def _begin(self, function: Callable[[Any], T], request: Any) -> Future[T]:
        if hasattr(request, "__aiter__"):
            request = _BlockingIterator(request, self._loop)
        run = contextvars.copy_context().run
        return self._threads.submit(run, function, request)

    def _call(self, request: Any) -> Any:
        return self._behaviour(request, self._context)

    def _iterate(self, request: Any) -> Any:
        """Hand over each answer; returns what has to be awaited instead, if any."""
        found = self._call(request)
        if inspect.isawaitable(found) or hasattr(found, "__aiter__"):
            return found
        try:
            for part in found:
                self._hand_over(part)
                # Until it is sent: gRPC takes one operation at a time, and the
                # handler may go on with an abort.
                self._sent.acquire()
                if self._is_over:
                    break
        finally:
            close = getattr(found, "close", None)
            if close is not None:
                close()
        return None

    def _hand_over(self, part: Any) -> None:
        self._loop.call_soon_threadsafe(self._parts.put_nowait, part)

    def _stop(self) -> None:
        """Let the thread go on, and end at its next answer; its calls are cut."""
        self._is_over = True
        if self._caller is not None:
            self._caller.cut()
        self._sent.release()

    async def _end_of(self, thread: Future[Any]) -> None:
        """Wait for a thread, also where the task is cancelled meanwhile."""
        ended, cancelled = asyncio.Event(), None
        call_on_loop = self._loop.call_soon_threadsafe
        thread.add_done_callback(lambda _: call_on_loop(ended.set))
        while not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError as error:
                cancelled = error
                thread.cancel()  # only what has not begun
                self._stop()
        if cancelled is not None:
            raise cancelled


class _BlockingContext:
    """The context of a call in a thread; on the event loop it is grpc.aio's own.

    A handler may return something to await, such as the coroutine of the function that
    it wraps. That runs on the event loop, where nothing may block.
    """

    def __init__(self, context: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._context, self._loop = context, loop
        self._loop_thread = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> Any:
        """End the call with a status; raises."""
        return self._do(self._context.abort(code, details, tuple(trailing_metadata)))

    def abort_with_status(self, status: Any) -> Any:
        """End the call with a `grpc.Status`; raises."""
        trailing_metadata = status.trailing_metadata or ()
        return self.abort(status.code, status.details, trailing_metadata)

    def send_initial_metadata(self, initial_metadata: Any) -> Any:
        """Send it before the first answer."""
        return self._do(self._context.send_initial_metadata(initial_metadata))

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call something when the call has ended; ``False`` if it has already."""
        if not self.is_active():
            return False
        self._context.add_done_callback(lambda _: callback())
        return True

    def is_active(self) -> bool:
        """Whether an answer can still be given."""
        return not (self._context.done() or self._context.cancelled())

    def _do(self, awaited: Coroutine[Any, Any, Any]) -> Any:
        if threading.get_ident() == self._loop_thread:
            return awaited
        return asyncio.run_coroutine_threadsafe(awaited, self._loop).result()


class _BlockingIterator:
    """Requests of a stream: for a thread, or for what it returns to await."""

    def __init__(self, requests: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._requests, self._loop = requests, loop

    def __aiter__(self) -> AsyncIterator[Any]:
        found: AsyncIterator[Any] = aiter(self._requests)
        return found

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        future = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
        part = future.result()
        if part is _END:
            raise StopIteration
        return part

    async def _next(self) -> Any:
        return await anext(self._requests, _END)
