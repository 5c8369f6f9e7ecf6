"""Threads of this package: a pool, calls that can be stopped, and event loops.

`asyncio.to_thread` uses the loop's default threads, six on two cores. Handlers use them
too, and so does each DNS lookup of asyncio: a DNS server that does not answer occupies
all of them for half a minute. Calls to the log and the state store, and the end of a
process, must not wait for them.

Python cannot end a thread from outside. It can raise an exception in one: the thread
sees it at its next bytecode, so not before a call into C (a socket, a lock, a sleep)
has returned. The exception is `asyncio.CancelledError`, as in a coroutine: ``finally``
blocks run, and ``except Exception`` does not catch it.

Source: CPython, Python/C API, PyThreadState_SetAsyncExc.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import functools
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from shifter.runtime.forking import renew_in_child
from shifter.runtime.handler import adopt, completed

P = ParamSpec("P")
T = TypeVar("T")

# More than a worker process has stores, feeds and movers that block at once.
_MOST: Final = 16


class _Threads:
    """One pool a process, made at first use; a forked child makes its own."""

    def __init__(self) -> None:
        self.renew()
        renew_in_child(self.renew)

    def renew(self) -> None:
        """Forget threads that only the parent has."""
        self._pool: ThreadPoolExecutor | None = None

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The pool of threads."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_MOST, thread_name_prefix="shifter-io")
        return self._pool


_THREADS: Final = _Threads()


async def in_thread(
    function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Like `asyncio.to_thread`, in a thread of this package.

    Args:
        function: Called in a copy of the caller's context.
        *args: Its arguments.
        **kwargs: Its arguments by name.

    Returns:
        What the function returns.

    Raises:
        Exception: What the function raises.
    """
    call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_THREADS.pool, call)


class ThreadCall:
    """One call of a handler in a thread of a pool, begun at once.

    Args:
        threads: The pool.
        function: What is called.
        arguments: By name.

    Attributes:
        future: Done once the thread has really left the handler.
    """

    def __init__(
        self,
        threads: Executor,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
    ) -> None:
        self._function, self._arguments = function, arguments
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._is_stopped = False
        self.future: Future[Any] = threads.submit(self._run)

    def stop(self) -> None:
        """Raise `asyncio.CancelledError` in the handler; again is harmless."""
        if self.future.cancel():
            return
        with self._lock:
            self._is_stopped = True
            if self._thread is not None:
                _raise_in(self._thread, asyncio.CancelledError)

    async def returned(self) -> Any:
        """What the call returned, which may be an awaitable: see `completed`.

        Cancelling the caller leaves the thread alone; `stop` does not.
        """
        value = await asyncio.wrap_future(self.future)
        adopt(self._context)
        return value

    async def value(self) -> Any:
        """What the call came to; what it returned is awaited in this loop."""
        return await completed(await self.returned())

    def _run(self) -> Any:
        try:
            try:
                self._enter()
                return self._context.run(self._function, **self._arguments)
            finally:
                self._leave()
        except (StopIteration, GeneratorExit) as error:
            # Both mean something to a coroutine that waits: the first is refused by
            # its future, so that it waits for ever, and the second closes it.
            name = type(error).__name__
            raise RuntimeError(f"the handler raised {name}") from error
        finally:
            # Again, since the exception may have come in the middle of the first one.
            self._leave()

    def _enter(self) -> None:
        with self._lock:
            if self._is_stopped:
                raise asyncio.CancelledError
            self._thread = threading.get_ident()

    def _leave(self) -> None:
        """From here on nothing is raised in this thread: it serves another call."""
        with self._lock:
            if self._is_stopped and self._thread is not None:
                _raise_in(self._thread, None)
            self._thread = None


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise an exception in a thread; ``None`` takes back one not raised yet."""
    import ctypes  # noqa: PLC0415  # only where a handler is stopped

    found = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), found)


async def stopped_within(stopped: asyncio.Event, wait_s: float) -> None:
    """Wait until a background loop is asked to stop, or for so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await stopped.wait()


def until_stopped(
    main: Callable[[], Coroutine[Any, Any, None]],
) -> Callable[[asyncio.Event], Coroutine[Any, Any, None]]:
    """Run something until it is cancelled because the loop is asked to stop."""

    async def run(stopped: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(main())
            await stopped.wait()
            task.cancel()

    return run


class BackgroundLoop:
    """A daemon thread with an event loop, for what runs beside a service.

    The interpreter schedules nothing on threads at its end, before it calls any
    function of `atexit`. Loops that still run then are asked to end first, and what
    they raise afterwards is dropped: it is no fault of the service.

    Args:
        mains: Run together until the loop is asked to stop; each is given an event that
            is set then. If one raises, its error is reported as that of a thread is,
            and the others go on.
        name: Name of the thread.
    """

    def __init__(
        self,
        *mains: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
        name: str,
    ) -> None:
        self._mains = mains
        self._is_stopping, self._is_exiting = threading.Event(), False
        self._asked: Callable[[], object] = _nothing
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        renew_in_child(self._after_fork)
        _running.add(self)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ask it to end; blocks until it has, up to the timeout."""
        _running.discard(self)
        self._is_stopping.set()
        # A loop that has ended takes no calls.
        with contextlib.suppress(RuntimeError):
            self._asked()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def exit(self, timeout_s: float) -> None:
        """Stop at the interpreter's end."""
        self._is_exiting = True
        self.stop(timeout_s)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException:
            if not self._is_exiting:
                raise

    async def _serve(self) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._asked = lambda: loop.call_soon_threadsafe(stopped.set)
        if self._is_stopping.is_set():
            stopped.set()
        await asyncio.gather(*(self._reported(main(stopped)) for main in self._mains))

    async def _reported(self, main: Coroutine[Any, Any, None]) -> None:
        try:
            await main
        except Exception as error:  # noqa: BLE001  # any, as at the end of a thread
            if not self._is_exiting:
                facts = (type(error), error, error.__traceback__, self._thread)
                threading.excepthook(threading.ExceptHookArgs(facts))

    def _after_fork(self) -> None:
        # The thread stayed with the parent, and so did its loop.
        self._asked = _nothing
        _running.discard(self)


_EXIT_S: Final = 0.5
"""How long the interpreter's end waits for all background loops together."""

_running: Final[weakref.WeakSet[BackgroundLoop]] = weakref.WeakSet()


def _nothing() -> None:
    """Do nothing: stands for a request to a loop that does not run here."""


def _exit() -> None:
    for thread in list(_running):
        thread.exit(_EXIT_S / max(1, len(_running)))


# Functions of `atexit` come too late: executors are shut down before them.
getattr(threading, "_register_atexit", atexit.register)(_exit)
