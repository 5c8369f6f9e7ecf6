"""A log that keeps accepting while the log behind it is away.

What the log does not answer in time goes to the spool under the same job id: it may be
in the log already, and the claim store makes the two one effect. While the log is known
to be away records go to the spool at once, without waiting for it; records of a key
stay behind those of their key that wait there.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

from shifter.errors import StoreError, StoreUnavailableError
from shifter.model.lane import Priority, parse_lane
from shifter.model.reason import PASSING, Reason
from shifter.policy.admission.shares import may_spool
from shifter.ports import (
    APPENDED,
    NUMBER_SHIFT,
    AppendAnswer,
    Appended,
    Clock,
    LaneLog,
    Record,
    Refused,
    Spool,
    SpoolEntry,
    Unknown,
)
from shifter.produce.forward import Forwarder, KeyGate
from shifter.produce.observer import SpoolReading
from shifter.runtime.forking import renew_in_child

_SPOOLED: Final = Appended(is_spooled=True)
# Of the caller's patience this much is kept for writing to the spool.
_RESERVE: Final = 0.2
_RESERVE_S: Final = 1.0


class SpoolingLog:
    """`shifter.ports.LaneLog` before another one. Safe to share between threads.

    Args:
        log: The log that is meant.
        spool: Where records wait while it is away.
        clock: Numbers the records.
        is_up: Whether the log answers again; blocks for a second or two.
    """

    def __init__(
        self,
        log: LaneLog,
        spool: Spool,
        *,
        clock: Clock,
        is_up: Callable[[], bool],
    ) -> None:
        self._log, self._spool, self._is_up = log, spool, is_up
        self._clock = clock
        # Calls under way, by themselves: none of their records is numbered below this.
        self._open: dict[object, int] = {}
        self._last = 0
        self._gate, self._is_away = KeyGate(), False
        self._writers: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, _SpoolWriter
        ] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._forwarder: Forwarder | None = None
        renew_in_child(self._after_fork)

    async def append(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Write records to the log, or to the spool where it does not answer."""
        patience_s = timeout_s - min(_RESERVE_S, timeout_s * _RESERVE)
        call, first = self._begin(len(records))
        linger_s = 0.0
        try:
            behind = self._behind(records)
            tried: list[AppendAnswer] = []
            if len(behind) < len(records):
                ahead = _without(records, behind)
                tried = await self._log.append(ahead, timeout_s=patience_s)
                if tried.count(APPENDED) == len(records):
                    return tried
            answers, behind = self._merge(len(records), tried, behind)
            if behind:
                writer = self._writer()
                entries = _entries(records, behind, first)
                kept = await writer.put(entries, timeout_s)
                _fill(answers, behind, kept)
            return [answer for answer in answers if answer is not None]
        except asyncio.CancelledError:
            # What it gave to the writer may be written all the same.
            linger_s = timeout_s
            raise
        finally:
            if linger_s:
                loop = asyncio.get_running_loop()
                loop.call_later(linger_s, self._open.pop, call, None)
            else:
                del self._open[call]

    def append_sync(
        self, records: Sequence[Record], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Append as `append` does, without an event loop; blocks up to the timeout."""
        patience_s = timeout_s - min(_RESERVE_S, timeout_s * _RESERVE)
        call, first = self._begin(len(records))
        try:
            behind = self._behind(records)
            tried: list[AppendAnswer] = []
            if len(behind) < len(records):
                ahead = _without(records, behind)
                tried = self._log.append_sync(ahead, timeout_s=patience_s)
            answers, behind = self._merge(len(records), tried, behind)
            if behind:
                kept = self._keep(_entries(records, behind, first), timeout_s)
                _fill(answers, behind, kept)
            return [answer for answer in answers if answer is not None]
        finally:
            del self._open[call]

    def warm_up(self) -> None:
        """Connect, and forward what an earlier process left behind."""
        self._log.warm_up()
        try:
            first = self._spool.depth().first
        except StoreError:
            return  # raised again by the first record that needs it
        if first is not None:
            # Their keys are not known: all keys wait until they are through.
            self._gate.move(first, floor=_EVERYTHING)
        self._forwarding()

    def read_spool(self) -> SpoolReading:
        """What is in the spool; blocks for a read of its file.

        Raises:
            StoreError: The file cannot be read.
        """
        depth, now_ms = self._spool.depth(), self._clock.epoch_ms()
        oldest_ms = now_ms if depth.oldest_ms is None else depth.oldest_ms
        age_s = max(0, now_ms - oldest_ms) / 1_000
        return SpoolReading(depth.waiting + depth.refused, depth.size_bytes, age_s)

    def close(self, *, timeout_s: float) -> int:
        """Stop; what is spooled stays there. Returns what the log never answered."""
        with self._lock:
            forwarder, self._forwarder = self._forwarder, None
        if forwarder is not None:
            forwarder.stop(timeout_s)
        unanswered = self._log.close(timeout_s=timeout_s)
        self._spool.close()
        return unanswered

    def _behind(self, records: Sequence[Record]) -> list[int]:
        """Which records go to the spool without being tried."""
        if self._is_away:
            return list(range(len(records)))
        if self._gate.is_open:
            return []
        return [i for i, record in enumerate(records) if self._gate.holds(record)]

    def _merge(
        self, count: int, tried: Sequence[AppendAnswer], behind: Sequence[int]
    ) -> tuple[list[AppendAnswer | None], list[int]]:
        """The log's answers in their places, and all that go to the spool now."""
        answers: list[AppendAnswer | None] = [None] * count
        waiting, each = set(behind), iter(tried)
        for index in range(count):
            if index in waiting:
                continue
            answers[index] = answer = next(each)
            if _is_away(answer):
                self._is_away = True
                waiting.add(index)
        return answers, sorted(waiting)

    def _keep(
        self, entries: Sequence[SpoolEntry], timeout_s: float
    ) -> list[AppendAnswer]:
        """Spool records; an answer for each. Blocks."""
        try:
            used = self._spool.depth().used
            kept = [one for one in entries if may_spool(_priority(one.record), used)]
            numbers = self._spool.put(kept, timeout_s=timeout_s) if kept else []
        except StoreUnavailableError as error:
            return [Unknown(str(error))] * len(entries)
        except StoreError as error:
            return [Refused(Reason.SPOOL_FULL, str(error))] * len(entries)
        records = [entry.record for entry in kept]
        self._gate.hold(zip(records, numbers, strict=True))
        self._forwarding().wake()
        full = Refused(Reason.SPOOL_FULL, f"the spool is {used:.0%} full")
        return [
            _SPOOLED if may_spool(_priority(one.record), used) else full
            for one in entries
        ]

    def _begin(self, count: int) -> tuple[object, int]:
        """A call that is under way from now on, and the first of its numbers.

        The numbers are above all that were given out before. Two threads may be given
        the same: the spool takes the next that is free.
        """
        call = object()
        self._open[call] = self._last
        first = max(self._last + 1, self._clock.epoch_ms() << NUMBER_SHIFT)
        self._last = first + count - 1
        return call, first

    def _forwarding(self) -> Forwarder:
        with self._lock:
            if self._forwarder is None:
                self._forwarder = Forwarder(
                    self._spool,
                    self._log,
                    is_up=self._is_up,
                    ready_below=self._ready_below,
                    on_moved=self._gate.move,
                    on_up=self._came_back,
                )
                self._forwarder.start()
            return self._forwarder

    def _ready_below(self) -> int:
        # A caller that still waits for the log may come to the spool with an older
        # record of the same key. Callers of other processes are not known here: one
        # that awaits each answer spools in order, which is all a key can ask.
        coming = max(self._last + 1, self._clock.epoch_ms() << NUMBER_SHIFT)
        return min((coming, *self._open.copy().values()))

    def _came_back(self) -> None:
        self._is_away = False

    def _writer(self) -> _SpoolWriter:
        loop = asyncio.get_running_loop()
        writer = self._writers.get(loop)
        if writer is None:
            writer = self._writers.setdefault(loop, _SpoolWriter(self._keep))
        return writer

    def _after_fork(self) -> None:
        # The thread and the holders of the locks stayed with the parent.
        self._lock, self._forwarder = threading.Lock(), None
        self._open = {}
        self._gate = KeyGate()
        self._gate.move(1, floor=_EVERYTHING)


_EVERYTHING: Final = 1 << 62


_Request: TypeAlias = tuple[list[SpoolEntry], asyncio.Future[list[AppendAnswer]]]


class _SpoolWriter:
    """Collects what one event loop spools meanwhile: one transaction for all of it.

    It has a thread of its own: those that asyncio shares may all be held up by the very
    log that is away, in calls that a service makes without an event loop.
    """

    def __init__(
        self, keep: Callable[[Sequence[SpoolEntry], float], list[AppendAnswer]]
    ) -> None:
        self._keep = keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shifter-spool")
        self._waiting: list[_Request] = []
        self._task: asyncio.Task[None] | None = None

    async def put(
        self, entries: list[SpoolEntry], timeout_s: float
    ) -> list[AppendAnswer]:
        """Spool records with those of others."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[AppendAnswer]] = loop.create_future()
        self._waiting.append((entries, future))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._serve(timeout_s))
        return await future

    async def _serve(self, timeout_s: float) -> None:
        loop, thread = asyncio.get_running_loop(), self._thread
        while self._waiting:
            batch, self._waiting = self._waiting, []
            entries = [entry for part, _ in batch for entry in part]
            kept = await loop.run_in_executor(thread, self._keep, entries, timeout_s)
            answers = iter(kept)
            for part, future in batch:
                mine = [next(answers) for _ in part]
                if not future.done():
                    future.set_result(mine)


def _is_away(answer: AppendAnswer) -> bool:
    if isinstance(answer, Refused):
        return answer.reason in PASSING
    return isinstance(answer, Unknown)


def _priority(record: Record) -> Priority:
    lane = parse_lane(record.topic)
    return Priority.NORMAL if lane is None else lane.priority


def _entries(
    records: Sequence[Record], behind: Sequence[int], first: int
) -> list[SpoolEntry]:
    return [SpoolEntry(first + index, records[index]) for index in behind]


def _without(records: Sequence[Record], behind: Sequence[int]) -> Sequence[Record]:
    if not behind:
        return records
    skipped = set(behind)
    return [record for i, record in enumerate(records) if i not in skipped]


def _fill(
    answers: list[AppendAnswer | None],
    indices: Sequence[int],
    kept: Sequence[AppendAnswer],
) -> None:
    for index, answer in zip(indices, kept, strict=True):
        before = answers[index]
        # Not spooled does not make an unknown outcome a refusal.
        answers[index] = (
            before
            if isinstance(before, Unknown) and isinstance(answer, Refused)
            else answer
        )
