"""One file as one process sees it: a thread that writes for all, and a reader."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from shifter.adapters.sqlite.connection import connect, prepare
from shifter.adapters.sqlite.errors import store_error
from shifter.adapters.sqlite.writer import After, Task, Writer
from shifter.errors import StoreUnavailableError

T = TypeVar("T")

_CLOSE_S: Final = 10.0


class Database:
    """A file, shared by all parts of a process that use it. Safe between threads.

    Connections are opened when they are needed, and closed around a fork: the child
    opens its own. What the parent had queued stays the parent's.

    Args:
        path: Absolute; made where it is not there.

    Attributes:
        path: The same.

    Raises:
        ConfigError: Not a file of ours, of a newer version, or on a network.
        StoreRefusedError, StoreUnavailableError: It cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._users = 1
        self._begin()
        me = weakref.ref(self)
        os.register_at_fork(
            before=lambda: _call(me, Database._before_fork),
            after_in_parent=lambda: _call(me, Database._after_fork_in_parent),
            after_in_child=lambda: _call(me, Database._after_fork_in_child),
        )

    def _begin(self) -> None:
        self._lock = prepare(self.path)
        self._writer = Writer(self.path, self._lock)
        self._guard, self._reading = threading.Lock(), threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def share(self) -> Database:
        """The same for one more user; each closes its own."""
        with self._guard:
            self._users += 1
        return self

    def submit(self, task: Task) -> None:
        """Have a task run in the next transaction.

        Raises:
            StoreUnavailableError: The database is closed.
        """
        if self._thread is None:
            self._start()
        self._writer.tasks.put(task)

    async def write(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn`` in a write transaction; its answer, once that is durable.

        Args:
            fn: Given the connection; may run more than once. What it raises undoes
                what it did, and nothing of others.

        Raises:
            StoreUnavailableError, StoreRefusedError: From SQLite.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self.submit(_Awaited(fn, loop, future))
        return await future

    def write_sync(
        self, fn: Callable[[sqlite3.Connection], T], *, timeout_s: float | None = None
    ) -> T:
        """The same for callers without an event loop; blocks.

        Raises:
            StoreUnavailableError: Also when the time is over; the outcome is then
                unknown.
            StoreRefusedError: Nothing was written.
        """
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self.submit(_Blocking(fn, future))
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            store, op = f"sqlite {self.path}", "write"
            raise StoreUnavailableError(store, op, "no answer in time") from None

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn`` on what is committed; never waits for a writer."""
        return await asyncio.to_thread(self.read_sync, fn)

    def read_sync(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """The same, on the caller's thread.

        Raises:
            StoreUnavailableError, StoreRefusedError: From SQLite.
        """
        with self._reading:
            if self._is_closed:
                raise self._closed()
            if self._reader is None:
                self._reader = connect(self.path)
            try:
                return fn(self._reader)
            except sqlite3.Error as error:
                raise store_error(error, self.path, "read") from None

    async def close(self) -> None:
        """Free everything when the last user has closed; again is harmless."""
        await asyncio.to_thread(self.close_sync)

    def close_sync(self) -> None:
        """The same for callers without an event loop; blocks for some seconds."""
        with self._guard:
            self._users -= 1
            if self._users > 0 or self._is_closed:
                return
            self._is_closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._writer.tasks.put(None)
            thread.join(_CLOSE_S)
        with self._reading:
            self._disconnect()
        if thread is None or not thread.is_alive():
            self._lock.close()

    def _start(self) -> None:
        with self._guard:
            if self._is_closed:
                raise self._closed()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._writer.run, name="shifter-sqlite", daemon=True
                )
                self._thread.start()

    def _closed(self) -> StoreUnavailableError:
        return StoreUnavailableError(f"sqlite {self.path}", "use", "it is closed")

    def _disconnect(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with self._lock.held():
                reader.close()

    # SQLite forbids a fork with an open connection: the child would take the parent's
    # locks for its own.

    def _before_fork(self) -> None:
        for lock in (self._guard, self._writer.gate, self._reading):
            lock.acquire()
        if not self._is_closed:
            self._writer.disconnect()
            self._disconnect()

    def _after_fork_in_parent(self) -> None:
        for lock in (self._reading, self._writer.gate, self._guard):
            lock.release()

    def _after_fork_in_child(self) -> None:
        if not self._is_closed:
            self._lock.close()
            self._begin()


def _call(me: weakref.ref[Database], method: Callable[[Database], None]) -> None:
    database = me()
    if database is not None:
        method(database)


class _Awaited:
    """A write that a task of an event loop waits for."""

    __slots__ = ("_future", "_loop", "may_wait", "run")

    def __init__(
        self,
        fn: Callable[[sqlite3.Connection], Any],
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Any],
    ) -> None:
        self.may_wait, self.run = False, fn
        self._loop, self._future = loop, future

    def done(self, result: Any, error: BaseException | None, after: After) -> None:
        after.tell(self._loop, self._future, result, error)


class _Blocking:
    """A write that a thread waits for."""

    __slots__ = ("_future", "may_wait", "run")

    def __init__(
        self,
        fn: Callable[[sqlite3.Connection], Any],
        future: concurrent.futures.Future[Any],
    ) -> None:
        self.may_wait, self.run, self._future = False, fn, future

    def done(self, result: Any, error: BaseException | None, after: After) -> None:
        del after
        if error is None:
            self._future.set_result(result)
        else:
            self._future.set_exception(error)
