"""A spool in memory, for tests."""

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

    def put(
        self,
        entries: Sequence[SpoolEntry],
        *,
        timeout_s: float,  # noqa: ARG002  # the port's; memory needs no time
    ) -> list[int]:
        """Keep records; returns their numbers."""
        numbers = []
        with self._lock:
            for number, record in entries:
                while number in self._waiting:
                    number += 1  # noqa: PLW2901  # the next that is free
                self._waiting[number] = (self._clock.epoch_ms(), record)
                numbers.append(number)
        return numbers

    def take(self, most: int, *, before: int | None = None) -> list[SpoolEntry]:
        """The oldest records that wait, below a number, in order."""
        with self._lock:
            known = sorted(self._waiting)
            numbers = [n for n in known if before is None or n < before][:most]
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

    def put_back(self) -> int:
        """Let what was refused wait again."""
        with self._lock:
            count, now = len(self.refused), self._clock.epoch_ms()
            for number, (record, _) in self.refused.items():
                self._waiting[number] = (now, record)
            self.refused.clear()
            return count

    def depth(self) -> SpoolDepth:
        """What is there now."""
        with self._lock:
            first = min(self._waiting, default=None)
            oldest_ms = None if first is None else self._waiting[first][0]
            used = len(self._waiting) / self._most
            size_bytes = sum(len(one.value) for _, one in self._waiting.values())
            counts = len(self._waiting), len(self.refused)
            return SpoolDepth(*counts, oldest_ms, first, used, size_bytes)

    @contextmanager
    def forwarding(self) -> Generator[bool]:
        """Be the one that forwards; yields ``False`` while another does."""
        is_ours = self._forwarder.acquire(blocking=False)
        try:
            yield is_ours
        finally:
            if is_ours:
                self._forwarder.release()

    def close(self) -> None:
        """Do nothing."""
