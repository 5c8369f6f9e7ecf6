"""A spool in memory: for tests, and for nothing that has to survive."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from shifter.ports import Clock, Record, SpoolDepth, SpoolEntry


class MemorySpool:
    """`shifter.ports.Spool` that forgets everything with its process.

    Args:
        clock: Dates the records.
        most: Records it takes, > 0.
    """

    def __init__(self, clock: Clock, *, most: int = 1_000) -> None:
        self._clock, self._most = clock, most
        self._lock, self._forwarder = threading.Lock(), threading.Lock()
        self._waiting: dict[int, tuple[int, Record]] = {}
        self.refused: dict[int, tuple[Record, str]] = {}
        self._next = 1

    def put(self, records: Sequence[Record], *, timeout_s: float) -> list[int]:
        """Keep records; returns their numbers."""
        del timeout_s
        with self._lock:
            first, now = self._next, self._clock.epoch_ms()
            self._next += len(records)
            self._waiting |= {
                number: (now, record) for number, record in enumerate(records, first)
            }
            return list(range(first, self._next))

    def take(self, most: int) -> list[SpoolEntry]:
        """The oldest records that wait, in order."""
        with self._lock:
            numbers = list(self._waiting)[:most]
            return [SpoolEntry(number, self._waiting[number][1]) for number in numbers]

    def drop(self, numbers: Sequence[int]) -> None:
        """Forget records."""
        with self._lock:
            for number in numbers:
                self._waiting.pop(number, None)

    def set_aside(self, number: int, detail: str) -> None:
        """Keep a record apart."""
        with self._lock:
            _, record = self._waiting.pop(number)
            self.refused[number] = (record, detail)

    def depth(self) -> SpoolDepth:
        """What is there now."""
        with self._lock:
            first = next(iter(self._waiting), None)
            oldest_ms = None if first is None else self._waiting[first][0]
            used = len(self._waiting) / self._most
            return SpoolDepth(
                len(self._waiting), len(self.refused), oldest_ms, first, used
            )

    @contextmanager
    def forwarding(self) -> Generator[bool]:
        """Be the one who forwards."""
        is_ours = self._forwarder.acquire(blocking=False)
        try:
            yield is_ours
        finally:
            if is_ours:
                self._forwarder.release()

    def close(self) -> None:
        """Do nothing."""
