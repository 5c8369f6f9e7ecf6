"""The accepting side of the log in a file: one transaction for all appends that wait.

Appends of many tasks and threads are collected while the one before is committed; each
takes part in one sync, and each event loop is woken once. A whole append is a
transaction of its own, which only the newest sender of its name may write.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import shutil
import sqlite3
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from shifter.adapters.inbox import Inbox, Inboxes, Pending
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.file import NoSpaceError
from shifter.adapters.sqlite.lane_table import (
    RecordRow,
    append_rows,
    make_topic,
    row_of,
    topic_id,
)
from shifter.adapters.sqlite.member import waiting, wake_members
from shifter.adapters.sqlite.pruning import NOTHING_KEPT, Pruner
from shifter.errors import StoreRefusedError, StoreUnavailableError
from shifter.model.reason import Reason
from shifter.ports import APPENDED, AppendAnswer, Clock, Record, Refused, Unknown
from shifter.runtime.forking import renew_in_child

KEPT_FREE_BYTES: Final = 64 * 1024 * 1024
"""Below this much free space nothing is accepted, so that draining still works.

A settled record is deleted by a write to the journal, which needs room too.
"""

# Not one of the tables that every file has: it is made when it is first needed, so that
# a file keeps its version.
_DDL: Final = (
    "CREATE TABLE IF NOT EXISTS sender "
    "(name TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID"
)

_CLOSED: Final = Refused(Reason.CLOSED, "the log is closed")
_TOO_LATE: Final = Unknown("no answer from the file in time")


class _Blocked:
    """What a thread wants written while it waits."""

    __slots__ = ("future", "records")

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.future: concurrent.futures.Future[list[AppendAnswer]]
        self.future = concurrent.futures.Future()

    def tell(self, answers: list[AppendAnswer]) -> None:
        """Give the answers; called on the writer's thread."""
        self.future.set_result(answers)


class _Awaited:
    """What a task wants written; `shifter.adapters.inbox.Pending`."""

    __slots__ = ("_answers", "_inbox", "bucket", "future", "records")

    def __init__(
        self, records: Sequence[Record], inbox: Inbox, timeout_s: float
    ) -> None:
        self.records, self._inbox = records, inbox
        self.future: asyncio.Future[list[AppendAnswer]] = inbox.loop.create_future()
        self._answers: list[AppendAnswer] = []
        self.bucket: set[Pending]
        inbox.enroll(self, timeout_s)

    def tell(self, answers: list[AppendAnswer]) -> None:
        """Give the answers; called on the writer's thread, which then wakes all."""
        self._answers = answers
        self._inbox.done.append(self)

    def finish(self) -> None:
        """Answer the caller; called on the loop's thread."""
        self.bucket.discard(self)
        if not self.future.done():
            self.future.set_result(self._answers)

    def give_up(self, detail: str | None) -> None:
        """Answer the caller `Unknown`."""
        if not self.future.done():
            answer = _TOO_LATE if detail is None else Unknown(detail)
            self.future.set_result([answer] * len(self.records))


_Wanted: TypeAlias = _Blocked | _Awaited
"""What one caller wants written."""


class SqliteLaneLog:
    """`shifter.ports.LaneLog` in a file.

    Args:
        database: Of this process; closed with this log.
        clock: A real one: dates the records, and keeps the callers' patience.
        max_record_bytes: Largest record: value, key, header names and values.
        new_topic: What a topic is made with by its first record: partitions, retention
            in milliseconds, largest record; ``None`` refuses such records.
        kept_free_bytes: Free space below which records are refused.
        kept_ms: Topics whose records are deleted by age, and the age in milliseconds.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        max_record_bytes: int = 1_000_000,
        new_topic: tuple[int, int, int] | None = None,
        kept_free_bytes: int = KEPT_FREE_BYTES,
        kept_ms: Mapping[str, int] = NOTHING_KEPT,
    ) -> None:
        self.database, self._clock = database, clock
        self._limit_bytes, self._new_topic = max_record_bytes, new_topic
        self._kept_free, self._pruner = kept_free_bytes, Pruner(kept_ms, clock)
        self._guard = threading.Lock()
        self._line: list[_Wanted] = []
        self._inboxes = Inboxes(clock)
        self._is_closed = False
        renew_in_child(self._after_fork)

    async def append(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Write records; one answer for each, in order, within the timeout."""
        if not records:
            return []
        inbox = self._inboxes.of(asyncio.get_running_loop())
        wanted = _Awaited(records, inbox, timeout_s)
        self._enqueue(wanted)
        return await wanted.future

    def append_sync(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Append as `append` does, without an event loop; blocks up to the timeout."""
        if not records:
            return []
        wanted = _Blocked(records)
        self._enqueue(wanted)
        try:
            return wanted.future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            return [_TOO_LATE] * len(records)

    def warm_up(self) -> None:
        """Do nothing: there is no connection to open."""

    def close(self, *, timeout_s: float) -> int:  # noqa: ARG002  # what is queued is soon written
        """Write what is queued, then stop; nothing is left without an answer."""
        if not self._is_closed:
            self._is_closed = True
            self.database.close_sync()
        return 0

    def _after_fork(self) -> None:
        # The appends in line, and the holder of the lock, belong to the parent process.
        self._guard, self._line = threading.Lock(), []
        self._inboxes = Inboxes(self._clock)

    def _enqueue(self, wanted: _Wanted) -> None:
        if self._is_closed:
            wanted.tell([_CLOSED] * len(wanted.records))
            self._inboxes.wake()
            return
        with self._guard:
            is_first = not self._line
            self._line.append(wanted)
        if is_first:
            try:
                self._submit_line()
            except StoreUnavailableError:
                # Closed between the check above and here; others may have queued too.
                line = self._take_line()
                self._answer(line, [[_CLOSED] * len(one.records) for one in line])

    def _submit_line(self) -> None:
        """Have all that is in line, when the writer comes to it, written at once."""
        taken: list[list[_Wanted]] = []

        def line() -> list[_Wanted]:
            # The same one if the writer has to come again.
            if not taken:
                taken.append(self._take_line())
            return taken[0]

        def write(
            connection: sqlite3.Connection,
        ) -> tuple[list[list[AppendAnswer]], list[str]]:
            records = [record for wanted in line() for record in wanted.records]
            answers = iter(self.write(connection, records))
            answered = [[next(answers) for _ in wanted.records] for wanted in line()]
            return answered, waiting(connection, {record.topic for record in records})

        def answer(
            result: tuple[list[list[AppendAnswer]], list[str]] | None,
            error: BaseException | None,
        ) -> None:
            if result is not None:
                answered, members = result
                self._answer(line(), answered)
                wake_members(members)
                return
            failed = failure(error)
            self._answer(line(), [[failed] * len(one.records) for one in line()])

        self.database.submit(write, answer)

    def _answer(
        self, line: Sequence[_Wanted], answered: Iterable[list[AppendAnswer]]
    ) -> None:
        """Give every caller its answers; each event loop is woken once."""
        for wanted, answers in zip(line, answered, strict=True):
            wanted.tell(answers)
        self._inboxes.wake()

    def _take_line(self) -> list[_Wanted]:
        """All that callers want written now."""
        with self._guard:
            line, self._line = self._line, []
        return line

    def write(
        self,
        connection: sqlite3.Connection,
        records: Sequence[Record],
        *,
        is_new: bool = True,
    ) -> list[AppendAnswer]:
        """Append inside a transaction; the answers hold once it is committed.

        Args:
            connection: In a transaction.
            records: One answer for each, in order.
            is_new: Whether they come on top; what follows another record is written
                on a nearly full disk too, or the log could not be emptied there.
        """
        if is_new and not self._has_room(connection):
            detail = f"less than {self._kept_free >> 20} MiB are free on the disk"
            return [Refused(Reason.QUEUE_FULL, detail)] * len(records)
        rows: list[RecordRow] = []
        answers: list[AppendAnswer] = []
        now, topics = self._clock.epoch_ms(), {record.topic for record in records}
        # For this transaction only: one that is undone takes its topics back.
        known = {topic for topic in topics if self._is_there(connection, topic)}
        for record in records:
            refused = self._refusal(record, known)
            if refused is None:
                try:
                    rows.append(row_of(record, now))
                except (TypeError, ValueError) as error:
                    # One that cannot be written must not fail those beside it.
                    refused = Refused(Reason.REFUSED_BY_LOG, str(error))
            answers.append(APPENDED if refused is None else refused)
        append_rows(connection, rows)
        self._pruner.prune(connection, topics, now)
        return answers

    def _is_there(self, connection: sqlite3.Connection, topic: str) -> bool:
        """Whether a topic is there, or was made just now."""
        if topic_id(connection, topic) is not None:
            return True
        if (new := self._new_topic) is not None:
            kept_ms = self._pruner.kept_ms.get(topic, new[1])
            make_topic(connection, topic, (new[0], kept_ms, new[2]))
        return self._new_topic is not None

    def _refusal(self, record: Record, known: Collection[str]) -> Refused | None:
        size = len(record.value) + len(record.key or b"")
        for name, value in record.headers:
            size += len(name) + len(value or b"")
        if size > self._limit_bytes:
            detail = f"{size} bytes; at most {self._limit_bytes}"
            return Refused(Reason.TOO_LARGE, detail)
        if record.topic not in known:
            detail = f"no topic {record.topic!r}; shifter topics apply makes it"
            return Refused(Reason.REFUSED_BY_LOG, detail)
        return None

    def _has_room(self, connection: sqlite3.Connection) -> bool:
        # Asked for each transaction: large records fill a disk within a tenth of a
        # second, and the question costs two microseconds.
        free = shutil.disk_usage(self.database.path.parent).free
        if free >= self._kept_free:
            return True
        # What was drained is room too, as long as the disk has some for the journal.
        (pages,) = connection.execute("PRAGMA freelist_count").fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        free_inside = pages * page_bytes
        return free * 4 >= self._kept_free and bool(
            free + free_inside >= self._kept_free
        )


def failure(error: BaseException | None) -> AppendAnswer:
    """The answer to a record whose transaction failed."""
    if isinstance(error, NoSpaceError):
        return Refused(Reason.QUEUE_FULL, str(error))
    if isinstance(error, StoreRefusedError):
        return Refused(Reason.REFUSED_BY_LOG, str(error))
    return Unknown(str(error))


class _NoneWritten(Exception):  # noqa: N818  # undoes a transaction, never seen outside
    """Not all records can be written."""

    def __init__(self, refused: dict[int, Refused]) -> None:
        self.refused = refused
        super().__init__(refused)


class SqliteAtomicLog:
    """`shifter.ports.AtomicLog` in a file.

    Args:
        log: Of the file; closed with this.
        name: Of the sender.
    """

    def __init__(self, log: SqliteLaneLog, name: str) -> None:
        self._log, self._name, self._epoch = log, name, 0

    async def open(self) -> None:
        """Take the name over.

        Raises:
            StoreRefusedError, StoreUnavailableError: The file cannot be written.
        """

        def take(connection: sqlite3.Connection) -> int:
            connection.execute(_DDL)
            (epoch,) = connection.execute(
                "INSERT INTO sender VALUES (?, 1) ON CONFLICT (name) "
                "DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                (self._name,),
            ).fetchone()
            return int(epoch)

        self._epoch = await self._log.database.write(take)

    async def append(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> dict[int, Refused]:
        """Write all of these, or none of them.

        Raises:
            StoreUnavailableError: The outcome is unknown, or another sender has the
                name.
            StoreRefusedError: The file cannot be written.
        """

        def write(connection: sqlite3.Connection) -> list[str]:
            self._check_name(connection)
            answers = self._log.write(connection, records)
            refused = {
                place: answer
                for place, answer in enumerate(answers)
                if isinstance(answer, Refused)
            }
            if refused:
                raise _NoneWritten(refused)
            return waiting(connection, {record.topic for record in records})

        try:
            async with asyncio.timeout(timeout_s):
                wake_members(await self._log.database.write(write))
        except _NoneWritten as none:
            return none.refused
        except TimeoutError:
            raise self._unknown("no answer from the file in time") from None
        return {}

    async def close(self) -> None:
        """Free everything; closing twice is harmless."""
        self._log.close(timeout_s=0)

    def _check_name(self, connection: sqlite3.Connection) -> None:
        (epoch,) = connection.execute(
            "SELECT epoch FROM sender WHERE name = ?", (self._name,)
        ).fetchone()
        if epoch != self._epoch:
            raise self._unknown(f"another process sends as {self._name!r} now")

    def _unknown(self, detail: str) -> StoreUnavailableError:
        store = f"sqlite {self._log.database.path}"
        return StoreUnavailableError(store, "append", detail)
