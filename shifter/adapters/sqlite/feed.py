"""The draining side of the log in a file: one member of those that share its lanes.

A member has a row with an end that it puts off again and again; what it has leased is
its own for as long. A settled record leaves with the next fetch, or within a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from shifter.adapters.sqlite.lane_table import Taken, place_of
from shifter.adapters.sqlite.log import SqliteLaneLog
from shifter.adapters.sqlite.wake import Doorbell, ring, waiting
from shifter.errors import StoreError, StoreRefusedError
from shifter.model.reason import Reason
from shifter.ports import (
    AppendAnswer,
    Appended,
    Clock,
    Delivery,
    LostRange,
    Record,
    Refused,
    Unknown,
)

T = TypeVar("T")

_ALIVE_MS: Final = 10_000
_BEAT_S: Final = 2.5
_LOOK_S: Final = 0.5
_SETTLE_S: Final = 0.02


class SqliteLaneFeed:
    """`shifter.ports.LaneFeed` in a file. Owned by one event loop.

    Args:
        log: Where the lanes are; also writes successors.
        topics: Lanes to drain.
        clock: Of this machine.
    """

    def __init__(self, log: SqliteLaneLog, topics: Sequence[str], clock: Clock) -> None:
        self._log, self._table, self._database = log, log.table, log.database
        self._topics, self._clock = list(topics), clock
        self._member = 0
        self._owned: dict[tuple[str, int, int], tuple[int, int]] = {}
        self._ended: dict[int, list[int]] = {}
        self._news = asyncio.Event()
        self._bell: Doorbell | None = None
        self._beating: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._is_empty, self._turn = True, 0
        self._next_due_ms: int | None = None

    async def open(self) -> None:
        """Join."""
        self._bell = Doorbell(self._database.path)
        self._member = await self._database.write(self._join)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._bell.socket, self._rung)
        self._beating = loop.create_task(self._beat())

    async def fetch(self, max_records: int, *, wait_s: float) -> list[Delivery]:
        """At most ``max_records`` deliveries; empty when none came within the wait."""
        if self._bell is None:
            return []
        until = self._clock.monotonic() + wait_s
        while True:
            self._news.clear()
            found = await self._write_ended(
                lambda connection: self._take(connection, max_records)
            )
            if found:
                return [self._delivery(taken) for taken in found]
            if not await self._wait_until_something(until):
                return []

    def begin(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those that this process still owns."""
        owned = self._owned
        return [
            one
            for one in deliveries
            if owned.get((one.topic, one.partition, one.offset), (0, 0))[0]
            == one.epoch
            != 0
        ]

    async def hand_over(
        self, pairs: Sequence[tuple[Delivery, Record]], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Write each delivery's successor and end the delivery, in one transaction."""
        kept = [(self._lease_of(delivery), record) for delivery, record in pairs]
        try:
            async with asyncio.timeout(timeout_s):
                answers, members = await self._database.write(
                    lambda connection: self._succeed(connection, kept)
                )
        except TimeoutError:
            return [Unknown("no answer from the file in time")] * len(pairs)
        except StoreError as error:
            is_certain = isinstance(error, StoreRefusedError)
            answer: AppendAnswer = Unknown(str(error))
            if is_certain:
                answer = Refused(Reason.REFUSED_BY_LOG, str(error))
            return [answer] * len(pairs)
        ring(members)
        return answers

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """End deliveries; written with the next fetch, or within a moment."""
        for one in deliveries:
            lease, job_id = self._owned.pop(
                (one.topic, one.partition, one.offset), (0, 0)
            )
            if lease and lease == one.epoch:
                self._ended.setdefault(lease, []).append(job_id)
        if self._ended and self._settling is None:
            loop = asyncio.get_running_loop()
            self._settling = loop.create_task(self._settle_soon())

    def losses(self) -> list[LostRange]:
        """Nothing is ever deleted unread."""
        return []

    def idle(self) -> bool:
        """Whether every owned record was settled and none is known to wait."""
        return self._is_empty and not self._owned

    async def close(self, *, timeout_s: float) -> None:
        """Remember what was settled and leave; closing twice is harmless."""
        bell, self._bell = self._bell, None
        self._owned.clear()
        if bell is None:
            return
        asyncio.get_running_loop().remove_reader(bell.socket)
        for task in (self._beating, self._settling):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        try:
            async with asyncio.timeout(timeout_s):
                ring(await self._write_ended(self._leave))
        finally:
            bell.close()

    # --- inside a transaction -------------------------------------------------------

    def _join(self, connection: sqlite3.Connection) -> int:
        now = self._clock.epoch_ms()
        connection.execute("DELETE FROM member WHERE until_ms <= ?", (now,))
        path = "" if self._bell is None else self._bell.path
        names = "\n".join(self._topics)
        member = connection.execute(
            "INSERT INTO member (until_ms, topics, socket, waiting) "
            "VALUES (?, ?, ?, 0)",
            (now + _ALIVE_MS, names, path),
        ).lastrowid
        return int(member or 0)

    def _take(self, connection: sqlite3.Connection, most: int) -> list[Taken]:
        now = self._clock.epoch_ms()
        self._table.promote(connection, now)
        self._turn += 1
        found = self._table.lease(
            connection, self._topics, self._member, most, now, self._turn
        )
        if not found:
            connection.execute(
                "UPDATE member SET waiting = 1 WHERE id = ? AND waiting = 0",
                (self._member,),
            )
        self._next_due_ms = self._table.next_due_ms(connection)
        return found

    def _succeed(
        self,
        connection: sqlite3.Connection,
        kept: Sequence[tuple[tuple[int, int], Record]],
    ) -> tuple[list[AppendAnswer], list[str]]:
        held = {
            lease: self._table.holds(connection, lease, self._member)
            for lease in {lease for (lease, _), _ in kept}
        }
        records = [record for (lease, _), record in kept if held[lease]]
        written = iter(self._log.write(connection, records))
        gone = Refused(Reason.REFUSED_BY_LOG, "taken over by another worker")
        answers = [next(written) if held[lease] else gone for (lease, _), _ in kept]
        ended: dict[int, list[int]] = {}
        for ((lease, job_id), _), answer in zip(kept, answers, strict=True):
            if isinstance(answer, Appended):
                ended.setdefault(lease, []).append(job_id)
        self._table.settle(connection, ended, self._member)
        return answers, waiting(connection, {record.topic for record in records})

    def _leave(self, connection: sqlite3.Connection) -> list[str]:
        connection.execute("DELETE FROM member WHERE id = ?", (self._member,))
        return waiting(connection, self._topics)

    async def _write_ended(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Write ``fn`` together with all ends that are still to be written."""
        ended, self._ended = self._ended, {}

        def write(connection: sqlite3.Connection) -> T:
            self._table.settle(connection, ended, self._member)
            return fn(connection)

        try:
            return await self._database.write(write)
        except BaseException:
            for lease, job_ids in ended.items():
                self._ended.setdefault(lease, []).extend(job_ids)
            raise

    # --- on the loop ----------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(_BEAT_S)
            with contextlib.suppress(StoreError):
                if not await self._database.write(self._stay):
                    # Everything this member had is somebody else's by now.
                    self._owned.clear()
                    self._ended.clear()
                    self._member = await self._database.write(self._join)
                    self._news.set()

    def _stay(self, connection: sqlite3.Connection) -> bool:
        now = self._clock.epoch_ms()
        kept = connection.execute(
            "UPDATE member SET until_ms = ? WHERE id = ? AND until_ms > ?",
            (now + _ALIVE_MS, self._member, now),
        )
        return kept.rowcount == 1

    async def _wait_until_something(self, until: float) -> bool:
        """Whether to look again before the wait is over."""
        while True:
            self._is_empty = True
            left_s = until - self._clock.monotonic()
            if left_s <= 0:
                return False
            pause_s = min(left_s, _LOOK_S)
            if self._next_due_ms is not None:
                due_s = (self._next_due_ms - self._clock.epoch_ms()) / 1_000
                pause_s = min(pause_s, max(0.0, due_s) + 0.001)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), pause_s)
            if self._news.is_set() or await self._database.read(self._has_work):
                return True

    def _has_work(self, connection: sqlite3.Connection) -> bool:
        now = self._clock.epoch_ms()
        self._next_due_ms = self._table.next_due_ms(connection)
        if self._next_due_ms is not None and self._next_due_ms <= now:
            return True
        marks = ",".join("?" * len(self._topics))
        row = connection.execute(
            "SELECT 1 FROM lane JOIN topic ON topic.id = lane.topic "  # noqa: S608  # marks
            f"WHERE name IN ({marks}) AND live > 0 AND (cur < next OR EXISTS ("
            "SELECT 1 FROM lease WHERE lease.lane = lane.id AND member NOT IN ("
            "SELECT id FROM member WHERE until_ms > ?))) LIMIT 1",
            (*self._topics, now),
        ).fetchone()
        return row is not None

    async def _settle_soon(self) -> None:
        await self._clock.sleep(_SETTLE_S)
        self._settling = None
        with contextlib.suppress(StoreError):
            # What fails is tried again with the next fetch.
            await self._write_ended(_nothing)

    def _rung(self) -> None:
        if self._bell is not None:
            self._bell.drain()
        self._news.set()

    def _delivery(self, taken: Taken) -> Delivery:
        self._is_empty = False
        offset, body = place_of(taken.job_id), taken.body
        self._owned[taken.topic, taken.part, offset] = (taken.lease, taken.job_id)
        return Delivery(
            topic=taken.topic,
            key=body.key,
            value=body.value,
            headers=body.headers,
            appended_ms=body.appended_ms,
            partition=taken.part,
            offset=offset,
            epoch=taken.lease,
        )

    def _lease_of(self, delivery: Delivery) -> tuple[int, int]:
        at = (delivery.topic, delivery.partition, delivery.offset)
        return self._owned.get(at, (0, 0))


def _nothing(_: sqlite3.Connection) -> None:
    return
