"""One file as one process sees it: a thread that writes for all, and a reader.

Whatever is to be written at the same time goes into one transaction and is made durable
by one sync (group commit): the writer takes what is queued, commits, and answers
all callers, each event loop once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from shifter.adapters.sqlite.connection import check_same, connect, prepare
from shifter.adapters.sqlite.file import FileLock, Identity, identity, store_error
from shifter.errors import StoreUnavailableError
from shifter.runtime.forking import put_away_for_forks
from shifter.runtime.threads import in_thread

T = TypeVar("T")

# Each may be a batch of its own, and the first of a group waits for the last.
_MOST_AT_ONCE: Final = 2_000
# With these two the WAL stayed below 6 MB at 60,000 to 90,000 appends a second.
_CHECKPOINT_TRANSACTIONS: Final = 256
_CHECKPOINT_ROWS: Final = 10_000
# 4 MB: large records fill the WAL long before they are many.
_CHECKPOINT_PAGES: Final = 512
# A thousand pages take 16 ms, and other processes wait meanwhile.
_VACUUM_PAGES: Final = 500
# Shorter than what a worker with nothing to do still writes: its report, its beat.
_IDLE_S: Final = 0.2
# A process that ends does not wait for a disk that hangs.
_CLOSE_S: Final = 5.0

Answer = Callable[[Any, BaseException | None], None]


class _Task(NamedTuple):
    """Something to be written; ``answer`` is called on the writer's thread."""

    fn: Callable[[sqlite3.Connection], Any]
    answer: Answer


class Database:
    """A file, shared by all parts of a process that use it. Safe between threads.

    A forked child opens the file anew; what the parent had queued stays the parent's.

    Args:
        path: Absolute; made where it is not there.

    Raises:
        ConfigError: Not a file of ours, of a newer version, or on a network.
        StoreRefusedError: It cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock, self._identity = prepare(path), identity(path)
        self._users, self._guard = 1, threading.Lock()
        self._begin()
        put_away_for_forks(self)

    def _begin(self) -> None:
        self._queue: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._reading = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer = _Writer(self.path, self._identity, self._lock, self._queue)
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def share(self) -> Database:
        """Count one more user of this database; each user closes it once."""
        with self._guard:
            self._users += 1
        return self

    def submit(self, fn: Callable[[sqlite3.Connection], T], answer: Answer) -> None:
        """Have ``fn`` run in the next write transaction; it may run more than once.

        Args:
            fn: Given the connection; what it raises undoes only what it did.
            answer: Called with the result or the error, after the commit, on the
                writer's thread.
        """
        # With the guard, so that nothing is queued behind the end that `close_sync`
        # queues: the writer would never answer it.
        with self._guard:
            self._start()
            self._queue.put(_Task(fn, answer))

    async def write(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn`` in a write transaction; its answer, once that is durable.

        Raises:
            StoreUnavailableError, StoreRefusedError: Nothing was written, unless the
                error states that the outcome is unknown.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def answer(result: Any, error: BaseException | None) -> None:
            _tell(loop, future, result, error)

        self.submit(fn, answer)
        return await future

    def write_sync(
        self, fn: Callable[[sqlite3.Connection], T], *, timeout_s: float | None = None
    ) -> T:
        """Write as `write` does, for callers without an event loop; blocks.

        Raises:
            StoreUnavailableError: Also when the time is over; the outcome is unknown.
            StoreRefusedError: Nothing was written.
        """
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def answer(result: Any, error: BaseException | None) -> None:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.submit(fn, answer)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            store, op = f"sqlite {self.path}", "write"
            raise StoreUnavailableError(store, op, "no answer in time") from None

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``fn`` on what is committed; never waits for a writer."""
        return await in_thread(self.read_sync, fn)

    def read_sync(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Read as `read` does, on the caller's thread.

        Raises:
            StoreUnavailableError, StoreRefusedError: SQLite refuses.
        """
        with self._reading:
            if self._is_closed:
                raise self._closed()
            check_same(self.path, self._identity, "read")
            if self._reader is None:
                self._reader = connect(self.path)
            try:
                return fn(self._reader)
            except sqlite3.Error as error:
                raise store_error(error, self.path, "read") from None

    async def close(self) -> None:
        """Free everything when the last user has closed; again is harmless."""
        await in_thread(self.close_sync)

    def close_sync(self) -> None:
        """Close as `close` does, without an event loop; blocks for some seconds."""
        with self._guard:
            self._users -= 1
            if self._users > 0 or self._is_closed:
                return
            self._is_closed = True
            thread, self._thread = self._thread, None
            if thread is not None:
                self._queue.put(None)
        if thread is not None:
            thread.join(_CLOSE_S)
        with self._reading:
            if self._reader is not None:
                self._reader.close()
        if thread is None or not thread.is_alive():
            self._lock.close()

    def _start(self) -> None:
        """Start the writer at first use; the caller holds the guard."""
        if self._is_closed:
            raise self._closed()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._writer.run, name="shifter-sqlite", daemon=True
            )
            self._thread.start()

    def _closed(self) -> StoreUnavailableError:
        return StoreUnavailableError(f"sqlite {self.path}", "use", "it is closed")

    # SQLite forbids a fork with an open connection: the child would take the parent's
    # locks for its own, and a parent that leaves would delete the log that the child
    # writes. So there is none while a process forks.

    def before_fork(self) -> None:
        """Wait for the transaction under way, and close the file."""
        for lock in (self._guard, self._writer.gate, self._reading):
            lock.acquire()
        self._writer.disconnect()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def after_fork_in_parent(self) -> None:
        """Go on; the next use opens the file."""
        for lock in (self._reading, self._writer.gate, self._guard):
            lock.release()

    def after_fork_in_child(self) -> None:
        """Begin with nothing queued and a thread of its own."""
        self._guard, is_closed = threading.Lock(), self._is_closed
        if not is_closed:
            # While the child had it open, a parent killed with the lock held would
            # never let it go.
            self._lock.close()
            self._lock = FileLock(self.path)
        self._begin()
        self._is_closed = is_closed


class _Writer:
    """The thread's own: takes what is queued, writes it, answers.

    Attributes:
        gate: Held while the connection is used.
    """

    def __init__(
        self,
        path: Path,
        file: Identity | None,
        lock: FileLock,
        tasks: queue.SimpleQueue[_Task | None],
    ) -> None:
        self.gate = threading.Lock()
        self._path, self._identity, self._lock = path, file, lock
        self._tasks = tasks
        self._connection: sqlite3.Connection | None = None
        self._transactions = self._rows = self._pages = 0
        self._is_over, self._is_tidy = False, True

    def run(self) -> None:
        while not self._is_over:
            try:
                first = self._tasks.get(timeout=_IDLE_S)
            except queue.Empty:
                with self.gate:
                    self._tidy()
                continue
            tasks = self._more(first)
            with self.gate:
                if tasks:
                    self._serve(tasks)
                self._checkpoint_if_due()
        with self.gate:
            self._checkpoint()
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connection, holding the gate; the next transaction opens one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _more(self, first: _Task | None) -> list[_Task]:
        tasks: list[_Task] = []
        task = first
        while True:
            if task is None:
                self._is_over = True
            else:
                tasks.append(task)
            if self._is_over or len(tasks) >= _MOST_AT_ONCE:
                return tasks
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return tasks

    def _serve(self, tasks: list[_Task]) -> None:
        try:
            results = self._commit([task.fn for task in tasks])
        except BaseException as error:  # noqa: BLE001  # answered, whatever it is
            if len(tasks) > 1:
                # One of them spoils it: each on its own.
                for task in tasks:
                    self._serve([task])
                return
            tasks[0].answer(None, self._translated(error))
            return
        for task, result in zip(tasks, results, strict=True):
            task.answer(result, None)

    def _commit(self, fns: list[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        with self._lock.held():
            # What is written to a file without a name is lost when its last user ends.
            check_same(self._path, self._identity, "write")
            if self._connection is None:
                self._connection = connect(self._path)
            connection = self._connection
            before = connection.total_changes
            connection.execute("BEGIN IMMEDIATE")
            try:
                results = [fn(connection) for fn in fns]
                connection.execute("COMMIT")
            except BaseException:
                # SQLite may have rolled back by itself, e.g. on a full disk.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        self._transactions += 1
        self._rows += connection.total_changes - before
        self._is_tidy = False
        return results

    def _checkpoint_if_due(self) -> None:
        # After all answers are given, so that no caller waits for it.
        used = self._used_pages()
        # What is drained and filled again counts again.
        self._pages = min(self._pages, used)
        if (
            self._transactions >= _CHECKPOINT_TRANSACTIONS
            or self._rows >= _CHECKPOINT_ROWS
            or used >= self._pages + _CHECKPOINT_PAGES
        ):
            self._checkpoint()

    def _used_pages(self) -> int:
        if self._connection is None:
            return 0
        try:
            (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        except sqlite3.Error:
            return 0  # the next write or read raises it
        return int(pages - free)

    def _checkpoint(self) -> None:
        if self._connection is None or not self._transactions:
            return
        self._transactions = self._rows = 0
        self._pages = self._used_pages()
        # What was committed stands; the next checkpoint tries again.
        with contextlib.suppress(sqlite3.Error), self._lock.held():
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _tidy(self) -> None:
        """While nothing else is to be done: give pages back."""
        if self._is_tidy or self._connection is None:
            return
        with contextlib.suppress(sqlite3.Error):  # the next write or read raises it
            while self._tasks.empty():
                if not self._give_pages_back(self._connection):
                    self._is_tidy = True
                    return
                self._transactions += 1
                self._checkpoint()

    def _give_pages_back(self, connection: sqlite3.Connection) -> bool:
        """Take a few, so that no other process waits long; whether there were any."""
        with self._lock.held():
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            if free <= _VACUUM_PAGES or free * 4 <= pages:
                return False
            # `execute` would free one page only.
            connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        return True

    def _translated(self, error: BaseException) -> BaseException:
        if isinstance(error, sqlite3.Error):
            return store_error(error, self._path, "write")
        return error


def _tell(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    result: Any,
    error: BaseException | None,
) -> None:
    def settle() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    # The event loop was closed before its answer came: no caller waits.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)
