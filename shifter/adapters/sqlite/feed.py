"""The draining side of the log in a file: one member of those that share its lanes.

A member has a row with an end that it puts off again and again; what it has leased is
its own for as long. A settled record leaves with the next fetch, or within a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence, Set as AbstractSet
from functools import partial
from typing import Final, TypeVar

from shifter.adapters.sqlite.file import NoSpaceError
from shifter.adapters.sqlite.lane_table import next_due_ms, place_of, promote
from shifter.adapters.sqlite.lease_table import Fetch, LeasedRecord, settle
from shifter.adapters.sqlite.log import SqliteLaneLog, failure
from shifter.adapters.sqlite.member import (
    ALIVE_MS,
    MemberTable,
    WakeupSocket,
    is_dead,
    note_waiting,
    take_down,
    waiting,
    wake_members,
)
from shifter.errors import StoreError, StoreUnavailableError
from shifter.model.lane import parse_lane
from shifter.ports import (
    AppendAnswer,
    Appended,
    Clock,
    Delivery,
    FeedCounts,
    LostRange,
    Record,
    Unknown,
)

T = TypeVar("T")

# Four beats in the time that a member counts as alive: one that is lost ends nothing.
_BEAT_S: Final = 2.5
# A datagram that is lost delays a record by so much.
_LOOK_S: Final = 0.5
# A busy member fetches sooner, and its ends are written with the fetch.
_SETTLE_S: Final = 0.02


class SqliteLaneFeed:
    """`shifter.ports.LaneFeed` in a file. Owned by one event loop.

    Args:
        log: Where the lanes are; also writes successors.
        topics: Lanes to drain.
        clock: Of this machine.
    """

    def __init__(self, log: SqliteLaneLog, topics: Sequence[str], clock: Clock) -> None:
        self._log, self._database = log, log.database
        self._topics, self._clock = list(topics), clock
        self._awake = self._topics
        self._members, self._member = MemberTable(clock), 0
        # From here on others may believe us dead.
        self._alive_until, self._is_lost = 0.0, False
        self._owned: dict[tuple[str, int, int], tuple[int, int]] = {}
        self._ended: dict[int, list[int]] = {}
        self._news = asyncio.Event()
        self._bell: WakeupSocket | None = None
        self._opening = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._is_empty, self._turn = True, 0
        # The topics were empty, and every append sends a wake-up.
        self._is_noted = False
        self._next_due_ms: int | None = None
        self._has_mates = False

    async def open(self) -> None:
        """Join; opening twice is harmless."""
        async with self._opening:
            if self._bell is None:
                await self._open()

    async def _open(self) -> None:
        self._bell = bell = WakeupSocket(self._database.path)
        try:
            await self._rejoin()
        except BaseException as error:
            self._bell = None
            bell.close()
            if isinstance(error, StoreError):
                take_down([bell.path])
            else:
                self._take_back(bell.path)
            raise
        loop = asyncio.get_running_loop()
        loop.add_reader(bell.socket, self._rung)
        self._beating = loop.create_task(self._beat())

    async def fetch(self, max_records: int, *, wait_s: float) -> list[Delivery]:
        """At most ``max_records`` deliveries; empty when none came within the wait."""
        if self._bell is None:
            return []
        until = self._clock.monotonic() + wait_s
        while True:
            if self._is_noted and not (self._news.is_set() or self._ended):
                if not await self._wait_until_something(until):
                    return []
                self._is_noted = False
            self._news.clear()
            try:
                found = await self._write_ended(
                    lambda connection: self._take(connection, max_records)
                )
            except (StoreUnavailableError, NoSpaceError):
                # A full disk, or a file that another program holds: it may pass.
                left_s = until - self._clock.monotonic()
                await self._clock.sleep(max(0.0, min(left_s, _LOOK_S)))
                return []
            if found:
                self._is_noted = False
                return [self._delivery(taken) for taken in found]
            self._is_noted = max_records > 0
            if not max_records:
                return []

    def rest(self, topics: AbstractSet[str]) -> None:
        """Hand out nothing of these lanes from now on, and of all others again."""
        self._awake = [topic for topic in self._topics if topic not in topics]
        self._news.set()

    def begin(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """The deliveries that this process still owns."""
        if self._clock.monotonic() >= self._alive_until:
            # The loop stood still for so long that others took over: leave for good.
            self._is_lost = True
            return []
        return [
            one
            for one in deliveries
            if one.epoch and self._lease_of(one)[0] == one.epoch
        ]

    async def hand_over(
        self, pairs: Sequence[tuple[Delivery, Record]], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Write each delivery's successor, in one transaction with the delivery's end.

        A dead letter is no successor that the claim store would ever record: its
        source stays until `settle`, so that a crash before the claim was ended leaves
        a record whose next delivery ends it.
        """
        kept = [(self._lease_of(delivery), record) for delivery, record in pairs]
        try:
            async with asyncio.timeout(timeout_s):
                answers, members = await self._database.write(
                    lambda connection: self._succeed(connection, kept)
                )
        except TimeoutError:
            return [Unknown("no answer from the file in time")] * len(pairs)
        except StoreError as error:
            return [failure(error)] * len(pairs)
        wake_members(members)
        return answers

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """End deliveries; written with the next fetch, or within a moment."""
        for one in deliveries:
            at = (one.topic, one.partition, one.offset)
            lease, job_id = self._owned.get(at, (0, 0))
            # Of an older lease it ends nothing: the record was handed out again.
            if lease and lease == one.epoch:
                del self._owned[at]
                self._ended.setdefault(lease, []).append(job_id)
        if self._ended and self._settling is None:
            loop = asyncio.get_running_loop()
            self._settling = loop.create_task(self._settle_soon())

    def losses(self) -> list[LostRange]:
        """Nothing is ever deleted unread."""
        return []

    def counts(self) -> FeedCounts:
        """Nothing: what is settled is so at once, and no group is rebalanced."""
        return FeedCounts()

    def competes(self) -> bool:
        """Whether another live member drains one of these lanes, as last looked at."""
        return self._has_mates

    def partitions(self) -> dict[str, list[int]]:
        """None: a record belongs to the process that fetches it."""
        return {}

    def idle(self) -> bool:
        """Whether every owned record was settled and none is known to wait."""
        return self._is_empty and not self._owned

    async def close(self, *, timeout_s: float) -> None:
        """Remember what was settled and leave; closing twice is harmless.

        A feed that is being opened is closed once it has joined.
        """
        async with self._opening:
            await self._close(timeout_s)

    async def _close(self, timeout_s: float) -> None:
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
                wake_members(await self._write_ended(self._leave))
            take_down([bell.path])
        finally:
            bell.close()

    def _take_back(self, path: str) -> None:
        """Undo a join whose caller was cancelled, and which may yet be written."""

        def write(connection: sqlite3.Connection) -> None:
            bells = self._members.bells(connection)
            mine = [number for number, bell in bells if bell == path]
            self._members.leave(connection, *mine)

        # The writer does this after the join, since it was queued after it. In a closed
        # database the member is over when its time is.
        with contextlib.suppress(StoreError):
            self._database.submit(write, lambda *_: take_down([path]))

    # --- inside a transaction -------------------------------------------------------

    def _join(
        self, dead: Iterable[int], path: str, connection: sqlite3.Connection
    ) -> int:
        self._members.leave(connection, self._member, *dead)
        return self._members.join(connection, self._topics, path)

    def _stay(
        self, member: int, dead: Iterable[int], connection: sqlite3.Connection
    ) -> bool:
        self._members.leave(connection, *dead)
        return self._members.stay(connection, member)

    def _take(self, connection: sqlite3.Connection, most: int) -> list[LeasedRecord]:
        now = self._clock.epoch_ms()
        promote(connection, now)
        self._turn += 1
        alive = self._members.alive(connection)
        self._has_mates = any(
            one.number != self._member and not one.topics.isdisjoint(self._topics)
            for one in alive
        )
        fetch = Fetch(connection, self._member, alive, now)
        found = fetch.lease(self._awake, most, turn=self._turn)
        if not found:
            note_waiting(connection, self._member)
        self._next_due_ms = next_due_ms(connection)
        return found

    def _succeed(
        self,
        connection: sqlite3.Connection,
        kept: Sequence[tuple[tuple[int, int], Record]],
    ) -> tuple[list[AppendAnswer], list[str]]:
        records = [record for _, record in kept]
        # Also where another member has taken the source over meanwhile: it asks the
        # claim store, which has recorded this successor.
        answers = self._log.write(connection, records, is_new=False)
        ended: dict[int, list[int]] = {}
        for ((lease, job_id), record), answer in zip(kept, answers, strict=True):
            if isinstance(answer, Appended) and parse_lane(record.topic) is not None:
                ended.setdefault(lease, []).append(job_id)
        settle(connection, ended, self._member)
        return answers, waiting(connection, {record.topic for record in records})

    def _leave(self, connection: sqlite3.Connection) -> list[str]:
        self._members.leave(connection, self._member)
        return waiting(connection, self._topics)

    async def _write_ended(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Write ``fn`` together with all ends that are still to be written."""
        ended, self._ended = self._ended, {}

        def write(connection: sqlite3.Connection) -> T:
            settle(connection, ended, self._member)
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
                now, dead = self._clock.monotonic(), await self._dead()
                stay = partial(self._stay, self._member, dead)
                if not self._is_lost and await self._database.write(stay):
                    self._alive_until = now + ALIVE_MS / 1_000
                    take_down(dead.values())
                else:
                    await self._rejoin()
                if dead:
                    self._news.set()

    async def _dead(self) -> dict[int, str]:
        """Drop members that were killed, and their sockets, before their lease ends."""
        bells = await self._database.read(self._members.bells)
        return {number: path for number, path in bells if is_dead(path)}

    async def _rejoin(self) -> None:
        """Become a new member; the leases of the old one are free again."""
        self._owned.clear()
        self._ended.clear()
        now, dead = self._clock.monotonic(), await self._dead()
        path = "" if self._bell is None else self._bell.path
        self._member = await self._database.write(partial(self._join, dead, path))
        self._alive_until, self._is_lost = now + ALIVE_MS / 1_000, False
        take_down(dead.values())
        self._news.set()

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
        self._next_due_ms = next_due_ms(connection)
        if self._next_due_ms is not None and self._next_due_ms <= now:
            return True
        topics = self._awake
        marks = ",".join("?" * len(topics))
        alive = [one.number for one in self._members.alive(connection)]
        row = connection.execute(
            "SELECT 1 FROM lane JOIN topic ON topic.id = lane.topic "  # noqa: S608  # marks
            f"WHERE name IN ({marks}) AND live > 0 AND (cur < next OR EXISTS ("
            "SELECT 1 FROM lease WHERE lease.lane = lane.id "
            f"AND member NOT IN ({','.join('?' * len(alive))}))) LIMIT 1",
            (*topics, *alive),
        ).fetchone()
        return row is not None

    async def _settle_soon(self) -> None:
        await self._clock.sleep(_SETTLE_S)
        self._settling = None
        with contextlib.suppress(StoreError):
            # What fails is tried again with the next fetch.
            await self._write_ended(lambda _: None)

    def _rung(self) -> None:
        if self._bell is not None:
            self._bell.drain()
        self._news.set()

    def _delivery(self, taken: LeasedRecord) -> Delivery:
        self._is_empty = False
        job_id, topic, part, lease, body = taken
        self._owned[topic, part, place_of(job_id)] = (lease, job_id)
        return body.delivery(topic, part, job_id, lease)

    def _lease_of(self, delivery: Delivery) -> tuple[int, int]:
        at = (delivery.topic, delivery.partition, delivery.offset)
        return self._owned.get(at, (0, 0))
