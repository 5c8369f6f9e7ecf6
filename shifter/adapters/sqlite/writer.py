"""The thread that writes for a whole process: one transaction, one sync for many.

It takes what is queued, commits, and answers everybody, each event loop once (group
commit). While it waits for the disk the next group gathers, so that groups grow with
the load by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from shifter.adapters.sqlite.bell import Ringer
from shifter.adapters.sqlite.connection import connect
from shifter.adapters.sqlite.errors import NoSpaceError, is_broken, store_error
from shifter.adapters.sqlite.file import FileLock

_MOST_AT_ONCE: Final = 2_000
_CHECKPOINT_TRANSACTIONS: Final = 256
_CHECKPOINT_ROWS: Final = 10_000
_VACUUM_PAGES: Final = 200
_IDLE_S: Final = 2.0
_LINGER_S: Final = 0.02
_LINGERING_MOST: Final = 16

Told: TypeAlias = tuple[asyncio.Future[Any], Any, BaseException | None]
Outcome: TypeAlias = tuple[Any, BaseException | None]


class After:
    """What follows a commit: answers, one call an event loop, and bells to ring."""

    def __init__(self, ringer: Ringer) -> None:
        self._ringer = ringer
        self._told: dict[asyncio.AbstractEventLoop, list[Told]] = {}
        self._bells: set[str] = set()

    def tell(
        self,
        loop: asyncio.AbstractEventLoop,
        future: asyncio.Future[Any],
        result: Any,
        error: BaseException | None,
    ) -> None:
        """Answer a future of a loop."""
        self._told.setdefault(loop, []).append((future, result, error))

    def ring(self, bells: Iterable[str]) -> None:
        """Wake members that wait."""
        self._bells.update(bells)

    def carry_out(self) -> None:
        """Do it all."""
        if self._bells:
            self._ringer.ring(self._bells)
        for loop, told in self._told.items():
            # A loop that ended before its answer came: nobody waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_tell_all, told)


def _tell_all(told: Sequence[Told]) -> None:
    for future, result, error in told:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


class Task(Protocol):
    """Something to be written.

    Attributes:
        may_wait: Whether it may wait some milliseconds for others to go along with.
    """

    may_wait: bool

    def run(self, connection: sqlite3.Connection) -> Any:
        """Write, inside a transaction. May run again from the start."""

    def done(self, result: Any, error: BaseException | None, after: After) -> None:
        """Hear what became of it; on the writer's thread, never raises."""


class Writer:
    """Owns the connection that writes.

    Args:
        path: The file.
        lock: Beside it; held around every transaction and every checkpoint.

    Attributes:
        tasks: What is to be written; ``None`` ends the thread.
        gate: Held while the connection is used.
    """

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self.gate = threading.Lock()
        self._path, self._lock, self._ringer = path, lock, Ringer()
        self._connection: sqlite3.Connection | None = None
        self._transactions = self._rows = 0
        self._is_over = False

    def run(self) -> None:
        """Write until told to end."""
        while not self._is_over:
            tasks = self._gather()
            with self.gate:
                if tasks:
                    self._serve(tasks)
                elif not self._is_over:
                    self._tidy()
        with self.gate:
            self.disconnect()
            self._ringer.close()

    def disconnect(self) -> None:
        """Close the connection; the next transaction opens another. Holds the gate."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error), self._lock.held():
                connection.close()

    def _gather(self) -> list[Task]:
        tasks: list[Task] = []
        is_eager, pause_s = False, _IDLE_S
        while len(tasks) < _MOST_AT_ONCE:
            try:
                task = (
                    self.tasks.get_nowait()
                    if is_eager
                    else self.tasks.get(True, pause_s)
                )
            except queue.Empty:
                break
            if task is None:
                self._is_over = True
                break
            tasks.append(task)
            pause_s = _LINGER_S
            is_eager |= not task.may_wait or len(tasks) >= _LINGERING_MOST
        return tasks

    def _serve(self, tasks: Sequence[Task]) -> None:
        after = After(self._ringer)
        outcomes = self._outcomes(tasks)
        for task, (result, error) in zip(tasks, outcomes, strict=True):
            task.done(result, error, after)
        after.carry_out()
        # After the answers: nobody waits for a checkpoint.
        is_due = self._transactions >= _CHECKPOINT_TRANSACTIONS
        if is_due or self._rows >= _CHECKPOINT_ROWS:
            self._checkpoint()

    def _outcomes(self, tasks: Sequence[Task]) -> list[Outcome]:
        try:
            return self._commit(tasks, apart=False)
        except BaseException as error:  # noqa: BLE001  # answered, whatever it is
            if len(tasks) == 1:
                return [(None, self._translated(error))]
        try:
            return self._commit(tasks, apart=True)
        except BaseException as error:  # noqa: BLE001  # the same
            translated = self._translated(error)
        if isinstance(translated, NoSpaceError):
            # What ends work needs less room than what brings it.
            return [self._outcomes([task])[0] for task in tasks]
        return [(None, translated)] * len(tasks)

    def _commit(self, tasks: Sequence[Task], *, apart: bool) -> list[Outcome]:
        with self._lock.held():
            if self._connection is None:
                self._connection = connect(self._path)
            connection = self._connection
            before = connection.total_changes
            connection.execute("BEGIN IMMEDIATE")
            try:
                if apart:
                    outcomes = [self._apart(connection, task) for task in tasks]
                else:
                    outcomes = [(task.run(connection), None) for task in tasks]
                connection.execute("COMMIT")
            except BaseException:
                # SQLite may have rolled back by itself, as on a full disk.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        self._rows += connection.total_changes - before
        self._transactions += 1
        return outcomes

    def _apart(self, connection: sqlite3.Connection, task: Task) -> Outcome:
        """Run a task so that its failure undoes nothing else."""
        connection.execute("SAVEPOINT task")
        try:
            result = task.run(connection)
        except BaseException as error:
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO task")
            connection.execute("RELEASE task")
            return None, self._translated(error)
        connection.execute("RELEASE task")
        return result, None

    def _checkpoint(self) -> None:
        self._transactions = self._rows = 0
        # The commits before it stand; the next checkpoint tries again.
        with contextlib.suppress(sqlite3.Error), self._lock.held():
            if self._connection is not None:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _tidy(self) -> None:
        """While nothing else is to be done: checkpoint, give free pages back."""
        if self._connection is None or not (self._transactions or self._rows):
            return
        self._checkpoint()
        with contextlib.suppress(sqlite3.Error):
            while self.tasks.empty() and self._vacuum(self._connection):
                self._checkpoint()

    def _vacuum(self, connection: sqlite3.Connection) -> bool:
        """Give some pages back, if a quarter of them is free; whether it did."""
        with self._lock.held():
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            if free <= _VACUUM_PAGES or free * 4 <= pages:
                return False
            # `execute` would free one page only.
            connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        return True

    def _translated(self, error: BaseException) -> BaseException:
        if not isinstance(error, sqlite3.Error):
            return error
        if is_broken(error):
            self.disconnect()
        return store_error(error, self._path, "write")
