"""Brings spooled records to the log, in the order of their keys, once it answers again.

`Forwarder` sends what is spooled. `KeyGate` decides which new records have to go behind
spooled ones of their key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from shifter.errors import StoreError
from shifter.model.reason import PASSING, Reason
from shifter.ports import (
    Appended,
    LaneLog,
    Record,
    Refused,
    Spool,
    SpoolEntry,
)
from shifter.telemetry import Event, Log

_BATCH: Final = 1_000
_PATIENCE_S: Final = 10.0
"""How long one append may take: no caller waits for it."""
_PAUSE_S: Final = 1.0
"""Between two looks while records wait."""
_IDLE_S: Final = 5.0
"""Between two looks while nothing waits; other processes may spool into the file."""
_AGAIN_S: Final = 15.0
"""Before records are tried again that the log refused for good."""
_RETRIED: Final = PASSING | {Reason.CLOSED}


class Forwarder:
    """Forwards a spool; one process at a time does, the others watch.

    A record leaves the spool when the log has acknowledged it. One that the log refuses
    (too large, a topic that may not be written) is set aside: it must not hold up the
    others. When nothing else waits it is tried again, since a right may be given back.
    Of one key, a record is sent after the one before it arrived.

    Args:
        spool: Where records wait.
        log: Where they go.
        is_up: Whether the log answers; blocks for a second or two.
        ready_below: The number below which no record can still come in.
        on_moved: Called with the number of the oldest record that waits, or ``None``.
        on_up: Called when the log answers again.
    """

    def __init__(
        self,
        spool: Spool,
        log: LaneLog,
        *,
        is_up: Callable[[], bool],
        ready_below: Callable[[], int],
        on_moved: Callable[[int | None], object],
        on_up: Callable[[], object],
    ) -> None:
        self._spool, self._log, self._is_up = spool, log, is_up
        self._ready_below = ready_below
        self._on_moved, self._on_up = on_moved, on_up
        self._news, self._is_stopping = threading.Event(), False
        self._thread = threading.Thread(
            target=self._run, name="shifter-spool", daemon=True
        )

    def start(self) -> None:
        """Begin, on a thread of its own."""
        self._thread.start()

    def wake(self) -> None:
        """Look now: something was spooled."""
        self._news.set()

    def stop(self, timeout_s: float) -> None:
        """End; what waits, waits for the next process. Blocks up to the timeout."""
        self._is_stopping = True
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._is_stopping:
            self._news.clear()
            try:
                pause_s = self._turn()
            except StoreError:
                # The next `put` of a caller raises it where it is handled.
                pause_s = _IDLE_S
            self._news.wait(pause_s)

    def _turn(self) -> float:
        """Forward what can be; returns how long to rest."""
        depth = self._spool.depth()
        is_empty = depth.first is None
        self._on_moved(depth.first)
        if is_empty and not depth.refused:
            return _IDLE_S
        with self._spool.forwarding() as is_ours:
            if is_ours and self._is_up():
                self._on_up()
                if is_empty:
                    self._spool.put_back()
                while not self._is_stopping and self._forward():
                    self._on_moved(self._spool.depth().first)
        self._on_moved(self._spool.depth().first)
        return _AGAIN_S if is_empty else _PAUSE_S

    def _forward(self) -> int:
        return forward(self._spool, self._log, before=self._ready_below())


def forward(spool: Spool, log: LaneLog, *, before: int | None = None) -> int:
    """Forward one batch; returns how many records left the waiting line.

    Args:
        spool: Where records wait.
        log: Where they go.
        before: Only records below this number; by default all.

    Raises:
        StoreUnavailableError, StoreRefusedError: The spool fails; nothing is lost.
    """
    batch = _first_of_each_key(spool.take(_BATCH, before=before))
    if not batch:
        return 0
    answers = log.append_sync([entry.record for entry in batch], timeout_s=_PATIENCE_S)
    arrived = [
        entry.number
        for entry, answer in zip(batch, answers, strict=True)
        if isinstance(answer, Appended)
    ]
    spool.drop(arrived)
    refused = [
        (entry, answer)
        for entry, answer in zip(batch, answers, strict=True)
        if isinstance(answer, Refused) and answer.reason not in _RETRIED
    ]
    for entry, answer in refused:
        spool.set_aside(entry.number, f"{answer.reason}: {answer.detail}")
    if refused:
        entry, answer = refused[0]
        Log().warning(
            Event.APPEND_REFUSED,
            topic=entry.record.topic,
            records=len(refused),
            detail=answer.detail,
        )
    return len(arrived) + len(refused)


def _first_of_each_key(entries: Sequence[SpoolEntry]) -> list[SpoolEntry]:
    seen: set[tuple[str, bytes]] = set()
    batch = []
    for entry in entries:
        if entry.record.key is not None:
            mark = (entry.record.topic, entry.record.key)
            if mark in seen:
                continue
            seen.add(mark)
        batch.append(entry)
    return batch


_MOST_KEYS: Final = 100_000
"""Keys kept in memory; with more, every key is held."""


class KeyGate:
    """Keeps the order of a key while its records wait in a spool.

    A key is held until every record of it that this process spooled was forwarded.
    Records that were there before are not known by key: while one of them waits, every
    key is held. So it is, too, when more keys wait than are kept here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[tuple[str, bytes], int] = {}
        self._floor = 0
        self._first: int | None = None
        self.is_open = True

    def holds(self, record: Record) -> bool:
        """Whether ``record`` would overtake one of its key."""
        if self.is_open or record.key is None:
            return False
        with self._lock:
            first = self._first
            if first is None:
                return False
            last = self._last.get((record.topic, record.key), 0)
            return first <= max(self._floor, last)

    def hold(self, pairs: Iterable[tuple[Record, int]]) -> None:
        """Note spooled records and their numbers."""
        with self._lock:
            for record, number in pairs:
                first = number if self._first is None else self._first
                self._first = min(first, number)
                if record.key is None:
                    continue
                self._last[record.topic, record.key] = number
                if len(self._last) > _MOST_KEYS:
                    self._last.clear()
                    self._floor = number
            self.is_open = self._first is None

    def move(self, first: int | None, *, floor: int | None = None) -> None:
        """Note that nothing below ``first`` waits any more; ``None``: nothing at all.

        Args:
            first: The oldest number that waits.
            floor: Hold every key up to this number.
        """
        with self._lock:
            self._first, self.is_open = first, first is None
            if floor is not None:
                self._floor = max(self._floor, floor)
            if first is None:
                self._last.clear()
                self._floor = 0
